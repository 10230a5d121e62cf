"""Members of a group as light rows, read once for what looks at all of them: search, orders, timelines."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from graflow.api.http.columns import moment
from graflow.state.models import FlowStepState
from graflow.state.statuses import StepStatus
from graflow.state.store import StateStore

_AT_ONCE: Final = 2_000
_KEPT: Final = 8  # tables
_LAST: Final = float("inf")

Row = tuple[int, str, int, str | None, str | None, str | None]
"""Number, status, attempts, worker, start and end."""

Key = tuple[str, str, int, int]
"""Flow, step, visit, and the place in the journal up to which a table is true."""


class Member(NamedTuple):
    """One member by its number in the group; times are seconds since the epoch."""

    number: int
    status: str
    attempts: int
    worker: str | None
    started: float | None
    finished: float | None
    error: str | None


class MemberTables:
    """The tables that were read last, by what they are true for."""

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[str, Key], list[Member]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: StateStore, key: Key) -> list[Member]:
        """All members of a group, by index."""
        place = (store.url, key)
        with self._lock:
            known = self._tables.get(place)
            if known is not None:
                self._tables.move_to_end(place)
                return known
        flow_id, step, visit, _ = key
        made = [member_of(row) for row in read_members(store, flow_id, step, visit)]
        with self._lock:
            self._tables[place] = made
            while len(self._tables) > _KEPT:
                self._tables.popitem(last=False)
        return made


def read_members(
    store: StateStore, flow_id: str, step: str, visit: int, status: Sequence[StepStatus] = ()
) -> Iterator[FlowStepState]:
    """The members of a group in one of these states, by index."""
    cursor = None
    while True:
        page = store.list_members(flow_id, step, visit=visit, status=status, cursor=cursor, limit=_AT_ONCE)
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def member_of(row: FlowStepState) -> Member:
    """The light row of a member."""
    return Member(
        row.index or 0,
        row.status.value,
        row.attempts,
        row.worker,
        _seconds(row.started_at),
        _seconds(row.completed_at),
        row.error,
    )


def matching(rows: Sequence[Member], states: Collection[str], search: str) -> list[Member]:
    """Members in one of these states (any if there is none), with a text in worker or error, or of that number."""
    text = search.casefold()
    return [
        row
        for row in rows
        if (not states or row.status in states)
        and (
            not text
            or str(row.number) == text
            or text in (row.worker or "").casefold()
            or text in (row.error or "").casefold()
        )
    ]


def ordered(rows: list[Member], sort: str, now: float) -> list[Member]:
    """Members by `started`, or by `duration` with the longest first; what has not begun comes last."""
    if sort == "started":
        return sorted(rows, key=lambda row: _LAST if row.started is None else row.started)
    if sort == "duration":
        return sorted(rows, key=lambda row: _LAST if row.started is None else row.started - (row.finished or now))
    return rows


def shown_row(row: Member) -> Row:
    """A member as tables have it: number, status, attempts, worker, start and end."""
    return row.number, row.status, row.attempts, row.worker, moment(row.started), moment(row.finished)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
