"""Questions in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from graflow.state.changes import Json
from graflow.state.memory.rows import Flow, copied
from graflow.state.questions import (
    LISTED,
    OPEN,
    QuestionPage,
    QuestionQuery,
    QuestionRow,
    QuestionStore,
    QuestionWrite,
    RowKind,
    ended_error,
)
from graflow.state.reading import behind_flow, flow_cursor


class MemoryQuestions(QuestionStore):
    """The part of a store in memory that keeps questions.

    Attributes:
        clock: Gives the time by which deadlines are decided.
    """

    _lock: threading.Lock
    _flow: Callable[[str], Flow]

    def __init__(self) -> None:
        self.clock: Callable[[], float] = time.time
        self._questions: dict[str, tuple[QuestionRow, list[Json]]] = {}

    def now(self) -> float:
        return self.clock()

    def write_questions(self, writes: Sequence[QuestionWrite]) -> bool:
        made = [(replace(each.row, data=copied(each.row.data)), copied(list(each.lines))) for each in writes]
        with self._lock:
            if not all(map(self._may_be_written, writes)):
                return False
            for row, lines in made:
                _, present = self._questions.get(row.id, (None, []))
                self._questions[row.id] = row, [*present, *lines]
            return True

    def _may_be_written(self, write: QuestionWrite) -> bool:
        status = self._flow(write.row.flow_id).status
        if status.is_terminal and not write.ends:
            raise ended_error(write.row.flow_id, status)
        present, _ = self._questions.get(write.row.id, (None, None))
        is_as_seen = write.row.version == (1 if present is None else present.version + 1)
        return is_as_seen and (write.before is None or self.clock() < write.before)

    def get_questions(self, ids: Sequence[str]) -> list[QuestionRow | None]:
        with self._lock:
            found = [self._questions.get(each) for each in ids]
            return [None if each is None else _own(each[0]) for each in found]

    def list_questions(self, query: QuestionQuery) -> QuestionPage:
        behind, limit = behind_flow(query.cursor), max(1, min(query.limit, LISTED))
        with self._lock:
            rows = [
                row
                for row, _ in self._questions.values()
                if row.kind is RowKind.QUESTION
                and (query.flow_id is None or row.flow_id == query.flow_id)
                and (query.is_open is None or (row.state == OPEN) is query.is_open)
                and (behind is None or (row.at, row.id) < behind)
            ]
            rows.sort(key=lambda row: (row.at, row.id), reverse=True)
            page = list(map(_own, rows[:limit]))
        return QuestionPage(page, flow_cursor(page[-1].at, page[-1].id) if len(rows) > limit else None)

    def due_questions(self, at: float, limit: int = 100) -> list[QuestionRow]:
        with self._lock:
            due = [row for row, _ in self._questions.values() if row.due is not None and row.due <= at]
            due.sort(key=lambda row: (row.due, row.id))
            return list(map(_own, due[:limit]))

    def question_lines(self, question_id: str) -> list[Json]:
        with self._lock:
            _, lines = self._questions.get(question_id, (None, []))
            found: list[Json] = copied(lines)
            return found

    def _end_questions(self, flow_id: str) -> None:
        """A flow has ended: what it waited for is to be looked at."""
        for row_id, (row, lines) in self._questions.items():
            if row.flow_id == flow_id and row.state == OPEN:
                self._questions[row_id] = replace(row, due=0.0), lines

    def _forget_questions(self, flow_id: str) -> None:
        self._questions = {key: each for key, each in self._questions.items() if each[0].flow_id != flow_id}


def _own(row: QuestionRow) -> QuestionRow:
    return replace(row, data=copied(row.data))
