"""What flows wait for from outside, as rows of a store: the questions of steps, and the letter boxes of signals.

A store compares and sets, and knows no rules: whoever changes a row has read it, and names the version that was read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from graflow.exceptions import FlowConflictError
from graflow.state.changes import Json
from graflow.state.statuses import FlowStatus

OPEN: Final = "open"
"""The state of a row whose flow waits."""

LISTED: Final = 200
"""Rows on one page at most."""


class RowKind(StrEnum):
    """What a row is about."""

    QUESTION = "question"
    MAILBOX = "mailbox"


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """One row.

    Attributes:
        id: Its name, of letters, digits and `-`.
        flow_id: The flow that it belongs to, and ends with.
        kind: Whether lists have it: mailboxes are in none.
        state: `"open"`, or how it was settled.
        at: When it was made, seconds since the epoch.
        due: When somebody has to look at it, seconds since the epoch; None for never.
        version: Counts its changes, from 1.
        data: The rest: plain JSON.
    """

    id: str
    flow_id: str
    kind: RowKind
    state: str
    at: float
    due: float | None
    version: int
    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class QuestionWrite:
    """A row as it shall be.

    Attributes:
        row: The row; its version is the one behind that which was read, 1 for a row that was not there.
        lines: Lines for its log, which is only ever added to.
        before: The store's time from which on it must not be written any more.
        ends: Whether it may also be written when its flow has ended.
    """

    row: QuestionRow
    lines: Sequence[Json] = ()
    before: float | None = None
    ends: bool = False


class QuestionPage(list[QuestionRow]):
    """One page of a list, newest first.

    Attributes:
        next_cursor: Gives the next page; None on the last one.
    """

    def __init__(self, items: list[QuestionRow], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


@dataclass(frozen=True, slots=True)
class QuestionQuery:
    """Which rows a list has.

    Attributes:
        flow_id: Those of this flow; of all when None.
        is_open: Open ones, or settled ones; both when None.
        cursor: `next_cursor` of the page before.
        limit: At most so many.
    """

    flow_id: str | None = None
    is_open: bool | None = None
    cursor: str | None = None
    limit: int = field(default=50)


class QuestionStore(ABC):
    """Keeps questions beside the flows that ask them.

    When a flow ends, its open rows become due at once, in the same transition; from then on only writes that say `ends`
    are taken. The rows of a flow go with it.
    """

    @abstractmethod
    def now(self) -> float:
        """The time by which deadlines are decided, seconds since the epoch."""

    @abstractmethod
    def write_questions(self, writes: Sequence[QuestionWrite]) -> bool:
        """Write all of these rows, or none; whether every one was as it had been read, and in time.

        Raises:
            FlowNotFoundError: There is no such flow.
            FlowConflictError: A flow has ended.
        """

    @abstractmethod
    def get_questions(self, ids: Sequence[str]) -> list[QuestionRow | None]:
        """Rows by id, in this order."""

    @abstractmethod
    def list_questions(self, query: QuestionQuery) -> QuestionPage:
        """Questions, newest first; what open ones cost does not depend on how many were settled.

        Raises:
            InvalidCursorError: The cursor is none of this store's.
        """

    @abstractmethod
    def due_questions(self, at: float, limit: int = 100) -> list[QuestionRow]:
        """Rows that somebody has to look at by now, the first due first."""

    @abstractmethod
    def question_lines(self, question_id: str) -> list[Json]:
        """The log of a row, in order."""


def ended_error(flow_id: str, status: FlowStatus) -> FlowConflictError:
    """What a write is refused with whose flow has ended."""
    return FlowConflictError(
        f"Flow '{flow_id}' is {status.value}: nothing is asked there any more, and nothing answered"
    )
