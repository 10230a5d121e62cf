"""Questions that steps of flows ask: put to people, settled once, and their flows told to go on.

Whoever asks writes the question, puts the flow away, and looks again; whoever answers writes the answer, and then looks
for a flow to wake. So whichever is second sees the other, and what dies between the two is seen to by `sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from graflow.exceptions import (
    FlowConflictError,
    FlowNotFoundError,
    GraflowError,
    QuestionChangedError,
    QuestionNotFoundError,
    VersionConflictError,
)
from graflow.flows.home import Home
from graflow.flows.waiting.limits import check_open
from graflow.flows.waiting.mailboxes import Mailboxes
from graflow.flows.waiting.outbox import Channel, Outbox
from graflow.questions import rules
from graflow.questions.asks import Place, Wait
from graflow.questions.drafts import Ballot, Draft
from graflow.questions.models import Question, QuestionState, WaitKind, wake_time
from graflow.state.changes import Change, Entry, FlowRecord
from graflow.state.questions import LISTED, QuestionQuery, QuestionRow, QuestionWrite, RowKind
from graflow.state.statuses import FlowStatus, Move
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_TRIES: Final = 100
_LOOK_AGAIN: Final = 2.0  # seconds after which a flow is looked at again that is about to be put away
_LONGEST_LOOK: Final = 60.0  # seconds; each is twice as late as the one before, up to this
_PAGES: Final = 10  # of due questions in one sweep
_UNDONE: Final = frozenset({rules.RUN, rules.ANEW})
_UNANSWERED: Final = frozenset({QuestionState.EXPIRED, QuestionState.WITHDRAWN})


class Flows(Protocol):
    """Has flows run."""

    def go_on(self, record: FlowRecord) -> None:
        """Have a flow run that is free from now on, here or elsewhere."""


class Questions:
    """The questions of the flows of one store.

    Args:
        home: The store, and what runs here.
        flows: Has flows run.
        notifiers: Channels by name.
    """

    def __init__(self, home: Home, flows: Flows, notifiers: Mapping[str, Channel]) -> None:
        self._home = home
        self._store = home.store
        self._flows = flows
        self._outbox = Outbox(notifiers, home.store.now, partial(self._change, ends=True))
        self.mailboxes = Mailboxes(home.store, self.settle)

    # -- for a step ----------------------------------------------------------------------------------------------------

    def ask(self, waits: Sequence[Wait], places: Sequence[Place], *, any_of: bool) -> list[Question]:
        """The questions of a step in these places, asked if they have not been yet; `any_of`: one is enough.

        Raises:
            QuestionChangedError: Another one was asked there.
            FlowConflictError: The flow has ended.
        """
        for _ in range(_TRIES):
            now = self._store.now()
            asked = zip(waits, places, strict=True)
            present = [self._in_place(wait, place, now, any_of=any_of) for wait, place in asked]
            ids = [question.id for question in present]
            writes = []
            for wait, question in zip(waits, present, strict=True):
                if question.version == 0:
                    rivals = [each for each in ids if each != question.id] if any_of else []
                    draft = rules.opened(question.model_copy(update={"rivals": rivals}), wait.reminders(), now)
                    writes.append(QuestionWrite(draft.question.row(), draft.lines))
            check_open(self._store, places[0].flow_id, len(writes))
            if not writes or self._store.write_questions(writes):
                break
        for name in {question.prompt for question in present if question.kind is WaitKind.SIGNAL}:
            self.mailboxes.deliver(places[0].flow_id, name)
        return self.read(ids)

    def _in_place(self, wait: Wait, place: Place, now: float, *, any_of: bool) -> Question:
        """What is asked in a place: as it is kept, or a new one, which has no version.

        A retry that asks people again leaves what signals and times have come to, but where these stood beside people:
        the answer of one of them was the end of all.
        """
        number = place.first
        while True:
            (row,) = self._store.get_questions([place.id(number)])
            asks = wait.draft(place, number, now)
            if row is None:
                return asks
            question = Question.of_row(row)
            if question.generation < place.since and (any_of or question.kind is WaitKind.ASK):
                self._ask_anew(row)
                number += 1
                continue
            is_earlier = question.state in _UNANSWERED and question.generation < place.generation
            if is_earlier or (question.state is QuestionState.WITHDRAWN and question.settled_by in _UNDONE):
                number += 1
                continue
            if question.digest != asks.digest:
                raise QuestionChangedError(question.id, _described(question), _described(asks))
            return question

    def next_number(self, place: Place) -> int:
        """The number under which something is asked anew in a place; what is still asked there is withdrawn."""
        number = place.first
        while True:
            (row,) = self._store.get_questions([place.id(number)])
            if row is None:
                return number
            self._ask_anew(row)
            number += 1

    def _ask_anew(self, row: QuestionRow) -> None:
        """Withdraw a question that is still open, since another one takes its place."""
        if row.state == QuestionState.OPEN:
            self._note(row.id, partial(rules.withdrawn, by=rules.ANEW, reason="asked anew", via=""))

    def take(self, questions: Sequence[Question], attempt: int) -> None:
        """Note that a step has its answers."""
        for question in questions:
            if question.taken_at is None and question.settled_by != rules.RIVAL:
                self._change(question.id, partial(rules.taken, attempt=attempt))

    def await_for_ever(self, ids: Sequence[str]) -> list[Question]:
        """Questions whose step ends only with their answers from now on; fewer where they are not kept here."""
        for question in self.read(ids):
            self._change(question.id, rules.awaited_for_ever, ends=True)
        return self.read(ids)

    # -- for people ----------------------------------------------------------------------------------------------------

    def answer(self, question_id: str, ballot: Ballot) -> tuple[Question, bool]:
        """Count an answer; the question afterwards, and whether it had been counted before.

        Raises:
            QuestionNotFoundError: There is no such question.
            NotAskedError: It is not asked of this person.
            AnswerInvalidError: The answer is not what was asked for.
            AnswerRefusedError: Somebody was first, or it is asked no more.
        """
        self._end_with_flow(question_id)
        while True:
            try:
                draft = self._change(question_id, partial(rules.voted, ballot=ballot))
            except FlowConflictError:
                if not self._end_with_flow(question_id) and self.question(question_id).is_open:
                    raise
                continue
            if draft.refusal is not None:
                raise draft.refusal
            if not draft.is_late:
                return draft.question, draft.is_replay

    def refuse(self, question_id: str, ballot: Ballot, refusal: GraflowError) -> None:
        """Log an answer that was found not to fit before it was counted."""
        self._note(question_id, partial(rules.refused, ballot=ballot, refusal=refusal))

    def view(self, question_id: str, person: str, via: str, *, verified: bool) -> Question:
        """One question for somebody who looks at it, which its log tells of each person once.

        Raises:
            QuestionNotFoundError: There is no such question.
        """
        self._note(question_id, partial(rules.viewed, person=person, via=via, verified=verified))
        return self.question(question_id)

    def misuse(self, question_id: str, claimed: str, why: str) -> None:
        """Log that somebody had a link to a question that did not hold; of what is no question, nothing."""
        with suppress(QuestionNotFoundError):
            self._note(question_id, partial(rules.misused, claimed=claimed, why=why))

    def withdraw(self, question_id: str, by: str, reason: str, via: str) -> Question:
        """Take a question back.

        Raises:
            QuestionNotFoundError: There is no such question.
            AnswerRefusedError: It is settled.
        """
        draft = self._change(question_id, partial(rules.withdrawn, by=by, reason=reason, via=via), ends=True)
        if draft.refusal is not None:
            raise draft.refusal
        return draft.question

    def remind(self, question_id: str, by: str, via: str) -> Question:
        """Tell the channels of an open question once more.

        Raises:
            QuestionNotFoundError: There is no such question.
            AnswerRefusedError: It is settled.
        """
        draft = self._change(question_id, partial(rules.reminded, by=by, via=via))
        if draft.refusal is not None:
            raise draft.refusal
        return draft.question

    def reassign(self, question_id: str, of: Sequence[str], by: str, reason: str, via: str) -> Question:
        """Ask other people instead.

        Raises:
            QuestionNotFoundError: There is no such question.
            AnswerRefusedError: It is settled.
            ConfigError: They are too few.
        """
        draft = self._change(question_id, partial(rules.reassigned, of=of, by=by, reason=reason, via=via))
        if draft.refusal is not None:
            raise draft.refusal
        return draft.question

    def question(self, question_id: str) -> Question:
        """One question.

        Raises:
            QuestionNotFoundError: There is no such question.
        """
        (row,) = self._store.get_questions([question_id])
        if row is None or row.kind is not RowKind.QUESTION:
            raise QuestionNotFoundError(f"Question {question_id} not found")
        return Question.of_row(row)

    def read(self, ids: Sequence[str]) -> list[Question]:
        return [Question.of_row(row) for row in self._store.get_questions(ids) if row is not None]

    # -- for flows -----------------------------------------------------------------------------------------------------

    def awaited(self, flow: FlowRecord) -> bool:
        """Whether a flow still waits for answers; it is put away again then, else it can be run."""
        asks = flow.fields.get("asks")
        if not asks or flow.status is not FlowStatus.QUEUED:
            return False
        deadline = flow.fields.get("deadline")
        if deadline is not None and deadline <= self._home.runtime.time():
            return False  # it has taken too long, which its owner finds
        questions = [self._attended(question) for question in self.read(asks)]
        still = [question for question in questions if question.is_awaited(self._home.runtime.time())]
        if not still:
            if questions and not any(question.is_open for question in questions):
                self.wake(questions[0])
            return False
        if (flow.fields.get("wake_at") or 0.0) <= self._home.runtime.time():
            wake_at = min([wake_time(still), *([] if deadline is None else [deadline])])
            self._moved(flow, [], {"wake_at": wake_at})
        return True

    def withdraw_all(self, flow_id: str) -> None:
        """Withdraw what a flow that has ended still asks."""
        while page := self._store.list_questions(QuestionQuery(flow_id, is_open=True)):
            for row in page:
                self._end_with_flow(row.id)

    def withdraw_earlier(self, flow_id: str, step: str, visit: int, generation: int) -> None:
        """Withdraw what a visit of a step still asks people since before this generation of its flow."""
        cursor = None
        while True:
            page = self._store.list_questions(QuestionQuery(flow_id, is_open=True, cursor=cursor, limit=LISTED))
            for row in page:
                question = Question.of_row(row)
                is_of_it = (question.step, question.visit, question.kind) == (step, visit, WaitKind.ASK)
                if is_of_it and question.generation < generation:
                    self._ask_anew(row)
            cursor = page.next_cursor
            if cursor is None:
                return

    def settle(self, draft: Draft, besides: Sequence[QuestionWrite] = ()) -> bool:
        """Write a draft with what else has to be written; a flow goes on whose question is settled now."""
        question = draft.question
        writes = [QuestionWrite(question.row(), draft.lines, draft.before), *besides]
        if draft.settles:
            for rival in self.read(question.rivals):
                lost = rules.withdrawn(rival, rules.RIVAL, f"{question.id} was settled", "", draft.at)
                if not lost.is_replay:
                    writes.append(QuestionWrite(lost.question.row(), lost.lines))
        if not self._store.write_questions(writes):
            return False
        if draft.settles:
            self.wake(question)
        return True

    def wake(self, question: Question) -> None:
        """Have the flow go on that waited for a question, if it was the last that it waited for."""
        flow = self._store.get_record(question.flow_id)
        if flow is None:
            return
        again_in: float | None = None
        if flow.status is FlowStatus.QUEUED and question.id in (flow.fields.get("asks") or ()):
            if not any(each.is_open for each in self.read(flow.fields["asks"])):
                entry = Entry("flow.woken", data={"by": question.id, "asks": [question.id]})
                if not self._moved(flow, [entry], {"wake_at": None, "asks": None}):
                    self.wake(question)
                    return
                self._note(question.id, rules.woken)
                woken = self._store.get_record(question.flow_id)
                if woken is not None:
                    self._flows.go_on(woken)
                return
        elif flow.status is FlowStatus.RUNNING and question.taken_at is None:
            # It is about to be put away, or has died before that.
            again_in = min(_LONGEST_LOOK, _LOOK_AGAIN * 2**question.looks)
        self._note(question.id, partial(rules.looked, again_in=again_in))

    def _moved(self, flow: FlowRecord, entries: Sequence[Entry], fields: Mapping[str, Any]) -> bool:
        change = Change(flow.flow_id, Move.WAKE, flow.version, self._home.runtime.time(), entries, flow=fields)
        try:
            self._store.append(change)
        except (VersionConflictError, FlowConflictError, FlowNotFoundError):
            return False
        return True

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """See to all that is due: deadlines, notices, flows that were not woken, questions of flows that ended."""
        for _ in range(_PAGES):
            rows = self._store.due_questions(self._store.now())
            for row in rows:
                try:
                    self._see_to(row)
                except (FlowConflictError, FlowNotFoundError, QuestionNotFoundError) as error:
                    _log.info("Question %s is looked at later: %s", row.id, error)
            if not rows:
                return

    def _see_to(self, row: QuestionRow) -> None:
        if row.kind is RowKind.MAILBOX:
            self.mailboxes.see_to(row)
            return
        if self._end_with_flow(row.id):
            return
        question = self._attended(Question.of_row(row))
        self._outbox.deliver(question)
        if any(what == rules.WAKE for _, what in question.timers):
            self.wake(question)

    def _attended(self, question: Question) -> Question:
        """A question after what time has made of it."""
        if not question.is_open or not question.timers or question.timers[0][0] > self._store.now():
            return question
        return self._change(question.id, rules.attended).question

    def _end_with_flow(self, question_id: str) -> bool:
        """Withdraw an open question of a flow that has ended."""
        question = self.question(question_id)
        if not question.is_open:
            return False
        flow = self._store.get_record(question.flow_id)
        if flow is not None and not flow.status.is_terminal:
            return False
        why = f"its flow is {'gone' if flow is None else flow.status.value}"
        self._change(question_id, partial(rules.withdrawn, by=rules.RUN, reason=why, via=""), ends=True)
        return True

    # -- writing -------------------------------------------------------------------------------------------------------

    def _note(self, question_id: str, decide: Callable[..., Draft]) -> None:
        """Write what changes nothing for anybody who waits."""
        self._change(question_id, decide, ends=True)

    def _change(self, question_id: str, decide: Callable[..., Draft], *, ends: bool = False) -> Draft:
        """Decide on a question, and write that, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            draft = decide(self.question(question_id), at=self._store.now())
            if draft.is_replay:
                return draft
            if not (ends or draft.refusal is not None):
                if self.settle(draft):
                    return draft.set(version=draft.question.version + 1)
            elif self._store.write_questions([QuestionWrite(draft.question.row(), draft.lines, ends=True)]):
                if draft.question.timers and draft.settles:
                    self.wake(draft.question)
                return draft
        raise FlowConflictError(f"Question {question_id} is changed by others all the time; try again")


def _described(question: Question) -> str:
    what = {"ask": "", "signal": "the signal ", "time": "a time "}[question.kind]
    needs = f", of {question.needs} people" if question.needs > 1 else ""
    return f"{what}'{question.prompt}' about {question.about[:8] or 'nothing else'}{needs}"
