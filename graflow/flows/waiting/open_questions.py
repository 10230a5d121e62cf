"""The questions of a store that nobody has answered yet, for whoever watches over them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from graflow.observing import Level, Measured, observers, watches
from graflow.questions.models import Question, WaitKind
from graflow.state.questions import LISTED, QuestionQuery
from graflow.state.store import StateStore

_PAGES: Final = 50  # that are looked at


def open_questions(store: StateStore) -> list[Question]:
    """What people were asked and have not answered, newest first; 10,000 at most."""
    found: list[Question] = []
    cursor = None
    for _ in range(_PAGES):
        page = store.list_questions(QuestionQuery(is_open=True, cursor=cursor, limit=LISTED))
        found += [each for each in map(Question.of_row, page) if each.kind is WaitKind.ASK]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


class QuestionWatch:
    """Measures how many questions of a store are open, and for how long.

    Args:
        store: The store.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def begin(self) -> None:
        """Have it measured, where anything is counted."""
        if observers and self not in watches:
            watches.append(self)

    def end(self) -> None:
        if self in watches:
            watches.remove(self)

    def measured(self) -> Iterable[Measured]:
        """Their number, and the age of the oldest in seconds: 0 without any."""
        asked = [question.asked_at for question in open_questions(self._store)]
        kind = self._store.url.partition(":")[0]
        yield Measured(Level.QUESTIONS_OPEN, len(asked), (kind,))
        yield Measured(Level.OLDEST_QUESTION, max(0.0, self._store.now() - min(asked)) if asked else 0.0, (kind,))
