"""Signals to flows: kept in order until a step waits for them, and given to one wait each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from graflow.exceptions import FlowConflictError, FlowNotFoundError
from graflow.questions import rules
from graflow.questions.answers import check_answer
from graflow.questions.asks import check_signal_name
from graflow.questions.drafts import Draft, digest_of
from graflow.questions.models import Question, WaitKind
from graflow.state.questions import QuestionQuery, QuestionRow, QuestionWrite, RowKind
from graflow.state.store import StateStore

BUFFERED: Final = 100
"""Signals of one name that a flow may have and not have taken."""

_REMEMBERED: Final = 10_000  # ids of signals of one name
_TRIES: Final = 100

Settle = Callable[[Draft, Sequence[QuestionWrite]], bool]


class Mailboxes:
    """The signals of the flows of one store.

    Args:
        store: The store.
        settle: Writes a wait that is settled, with what else has to be written.
    """

    def __init__(self, store: StateStore, settle: Settle) -> None:
        self._store = store
        self._settle = settle

    def signal(self, flow_id: str, name: str, value: Any, signal_id: str, by: str) -> bool:
        """Keep a signal for a flow, and give it to a step that waits; whether it is one that had not come before.

        Raises:
            FlowNotFoundError: There is no such flow.
            FlowConflictError: It has ended, or has too many that it has not taken.
            AnswerInvalidError: The value is no plain JSON, or too large.
        """
        check_signal_name(name)
        check_answer({}, value, f"signal {name}")
        if self._store.get_record(flow_id) is None:
            raise FlowNotFoundError(f"Flow {flow_id} not found")
        for _ in range(_TRIES):
            box = self._box(flow_id, name)
            arrived = box.data["arrived"]
            if any(each["id"] == signal_id for each in arrived):
                self.deliver(flow_id, name)
                return False
            if sum(each["for"] is None for each in arrived) >= BUFFERED or len(arrived) >= _REMEMBERED:
                raise FlowConflictError(
                    f"Flow '{flow_id}' has {BUFFERED} signals '{name}' that no step has waited for; it takes no more"
                )
            now = self._store.now()
            came = {"id": signal_id, "value": value, "at": now, "by": by, "for": None}
            kept = replace(box, due=now, version=box.version + 1, data={**box.data, "arrived": [*arrived, came]})
            if self._store.write_questions([QuestionWrite(kept)]):
                self.deliver(flow_id, name)
                return True
        raise _too_busy(flow_id, name)

    def deliver(self, flow_id: str, name: str) -> None:
        """Give signals that have come to waits that are open, the first to the first."""
        for _ in range(_TRIES):
            box = self._box(flow_id, name)
            if box.version == 0:
                return
            wait = self._open_wait(flow_id, name)
            arrived = list(box.data["arrived"])
            place = next((place for place, each in enumerate(arrived) if each["for"] is None), None)
            if wait is None or place is None:
                if box.due is None or self._store.write_questions([QuestionWrite(_seen(box))]):
                    return
                continue
            came = arrived[place]
            arrived[place] = {**came, "value": None, "for": wait.id}
            now = self._store.now()
            if wait.deadline is not None and now >= wait.deadline:
                draft, besides = rules.attended(wait, now), []
            else:
                draft = rules.signalled(wait, came["value"], came["by"], came["id"], now)
                taken = replace(box, version=box.version + 1, data={**box.data, "arrived": arrived})
                besides = [QuestionWrite(taken)]
            self._settle(draft, besides)
        raise _too_busy(flow_id, name)

    def see_to(self, box: QuestionRow) -> None:
        """Deliver what somebody has left undone."""
        flow = self._store.get_record(box.flow_id)
        if flow is None or flow.status.is_terminal:
            self._store.write_questions([QuestionWrite(_seen(box), ends=True)])
        else:
            self.deliver(box.flow_id, box.data["name"])

    def _box(self, flow_id: str, name: str) -> QuestionRow:
        box_id = f"m-{digest_of([flow_id, name])[:24]}"
        (row,) = self._store.get_questions([box_id])
        if row is not None:
            return row
        data = {"v": 1, "name": name, "arrived": []}
        return QuestionRow(box_id, flow_id, RowKind.MAILBOX, "kept", self._store.now(), None, 0, data)

    def _open_wait(self, flow_id: str, name: str) -> Question | None:
        """The oldest open wait of a flow for a signal."""
        found: Question | None = None
        cursor = None
        while True:
            page = self._store.list_questions(QuestionQuery(flow_id, is_open=True, cursor=cursor, limit=200))
            for question in map(Question.of_row, page):
                if question.kind is WaitKind.SIGNAL and question.prompt == name:
                    found = question
            cursor = page.next_cursor
            if cursor is None:
                return found


def _seen(box: QuestionRow) -> QuestionRow:
    return replace(box, due=None, version=box.version + 1)


def _too_busy(flow_id: str, name: str) -> FlowConflictError:
    return FlowConflictError(f"Signals '{name}' of flow '{flow_id}' come all the time; try again")
