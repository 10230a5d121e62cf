"""Members of a group as light rows, read once for what looks at all of them: search, orders, timelines."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from graflow.state.models import FlowStepState
from graflow.state.statuses import StepStatus
from graflow.state.store import StateStore

_AT_ONCE: Final = 2_000
_KEPT: Final = 8  # tables

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
        self._tables: OrderedDict[tuple[int, Key], list[Member]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: StateStore, key: Key) -> list[Member]:
        """All members of a group, by index."""
        place = (id(store), key)
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


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
