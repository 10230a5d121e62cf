"""Pages of the members of a group, found by seeking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from graflow.exceptions import InvalidCursorError
from graflow.state.groups.blocks import Fetch, KeptMembers, Row
from graflow.state.groups.strips import LETTERS, Strip, bucket_of, first_of
from graflow.state.models import MemberPage
from graflow.state.reading import member_state
from graflow.state.statuses import StepStatus

_END: Final = 1 << 62


class MemberFacts(NamedTuple):
    """A member, by its number, as far as whole groups are looked at; times are seconds since the epoch."""

    number: int
    status: str
    attempts: int
    worker: str | None
    started: float | None
    finished: float | None
    error: str | None


def behind_member(cursor: str | None) -> int:
    """The first index behind a cursor of members, which is the index of the last one shown.

    Raises:
        InvalidCursorError: It is no such number.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise InvalidCursorError(f"No page of members has given the cursor {cursor!r}")
    return int(cursor) + 1


@dataclass(frozen=True, slots=True)
class MemberQuery:
    """Which members of a group are asked for.

    Attributes:
        start: The first index.
        size: Of the group; 0 where nobody has told it.
        statuses: Names of states; empty for all.
        strip: Of the group, which tells where there is nothing to find.
    """

    start: int
    size: int
    statuses: frozenset[str]
    strip: Strip

    @classmethod
    def between(cls, first: int, size: int, status: Sequence[StepStatus], strip: Strip) -> MemberQuery:
        return cls(first, size, frozenset(StepStatus(each).value for each in status), strip)

    @classmethod
    def of(cls, cursor: str | None, size: int, status: Sequence[StepStatus], strip: Strip) -> MemberQuery:
        return cls.between(behind_member(cursor), size, status, strip)

    def ranges(self) -> Iterable[tuple[int, int]]:
        """Where members may be that are asked for: ranges of indices, without their ends."""
        if not self.size:
            yield self.start, _END
            return
        if not self.statuses:
            if self.start < self.size:
                yield self.start, self.size
            return
        if self.start >= self.size:
            return
        letters = [LETTERS[name] for name in self.statuses]
        for bucket in range(bucket_of(self.start, self.size), len(self.strip)):
            if any(letter in self.strip[bucket] for letter in letters):
                yield max(self.start, first_of(bucket, self.size)), first_of(bucket + 1, self.size)

    def takes(self, status: str) -> bool:
        return not self.statuses or status in self.statuses

    @property
    def written(self) -> frozenset[str]:
        """States of the rows that have to be fetched; empty for all."""
        return frozenset() if self.takes_unwritten else self.statuses

    @property
    def takes_unwritten(self) -> bool:
        """Whether members that nothing was written about are asked for."""
        return self.size > 0 and self.takes(StepStatus.PENDING.value)


def member_page(step: str, visit: int, query: MemberQuery, limit: int, kept: KeptMembers) -> MemberPage:
    """One page of a group."""
    limit = max(1, limit)
    fetch = kept.fetching(query.written, with_values=True, most=limit + 1)
    rows = list(islice(_found(query, fetch), limit + 1))
    states = [member_state(step, visit, index, fields) for index, fields in rows[:limit]]
    return MemberPage(states, str(states[-1].index) if len(rows) > len(states) else None)


def member_facts(query: MemberQuery, kept: KeptMembers, end: int | None) -> list[MemberFacts]:
    """The members of a group up to an index, as light rows."""
    fetch = kept.fetching(query.written, with_values=False)
    found: list[MemberFacts] = []
    for rows, start, stop in _fetched(query, fetch, _END if end is None else end):
        is_whole = len(rows) == stop - start and not query.statuses
        found += [_facts(index, fields) for index, fields in (rows if is_whole else _merged(query, rows, start, stop))]
    return found


def _facts(index: int, fields: Mapping[str, Any]) -> MemberFacts:
    told = fields.get
    worker, started, finished = told("worker"), told("started_at"), told("completed_at")
    return MemberFacts(index, fields["status"], told("attempts", 0), worker, started, finished, told("error"))


def _found(query: MemberQuery, fetch: Fetch) -> Iterator[Row]:
    for rows, start, stop in _fetched(query, fetch, _END):
        yield from _merged(query, rows, start, stop)


def _fetched(query: MemberQuery, fetch: Fetch, last: int) -> Iterator[tuple[Sequence[Row], int, int]]:
    """The rows that were written about ranges of indices, with the first of each and the one behind it."""
    for first, end in query.ranges():
        start, until = first, min(end, last)
        while start < until:
            rows, stop = fetch(start, until)
            yield rows, start, stop
            start = stop


def _merged(query: MemberQuery, rows: Sequence[Row], start: int, stop: int) -> Iterator[Row]:
    unwritten: Mapping[str, Any] = {"status": StepStatus.PENDING.value}
    position, takes_unwritten = start, query.takes_unwritten
    for index, fields in rows:
        if takes_unwritten and index > position:
            yield from ((each, unwritten) for each in range(position, index))
        if query.takes(fields["status"]):
            yield index, fields
        position = index + 1
    if takes_unwritten:
        yield from ((each, unwritten) for each in range(position, stop))
