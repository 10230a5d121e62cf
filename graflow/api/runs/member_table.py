"""Members of a group as light rows, kept for what looks at all of them: search, orders, timelines.

A table is read once. When the run has gone on, only the members are read again that its journal names since then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from graflow.api.http.columns import moment
from graflow.api.runs.spans import Spans
from graflow.encoding.member_blocks import told_members
from graflow.flows.recording.journal import RETRIED
from graflow.state.groups.members import MemberFacts
from graflow.state.store import StateStore

_KEPT: Final = 8  # tables
_FOLLOWED: Final = 40  # lines of a journal behind a table; with more it is read anew
_LAST: Final = float("inf")
NOWHERE: Final = "?"
"""The worker of what has none."""

Row = tuple[int, str, int, str | None, str | None, str | None]
"""Number, status, attempts, worker, start and end."""


class Place(NamedTuple):
    """A visit of a group; the time tells a flow from one of its id that was removed before."""

    flow_id: str
    created_at: float | None
    step: str
    visit: int


class MemberTable:
    """All members of a group, by number, as they were at a place of the journal.

    Attributes:
        rows: The members.
        seq: The place.
    """

    def __init__(self, rows: list[MemberFacts], seq: int) -> None:
        self.rows = rows
        self.seq = seq
        self._orders: dict[str, list[MemberFacts]] = {}
        self._spans: dict[bool, Mapping[str, Spans]] = {}

    def changed(self, rows: Sequence[MemberFacts], seq: int) -> MemberTable:
        """The table with some consecutive rows in the place of those that it has."""
        if not rows:
            self.seq = seq
            return self
        first = rows[0].number
        return MemberTable([*self.rows[:first], *rows, *self.rows[first + len(rows) :]], seq)

    def ordered(self, sort: str, now: float) -> list[MemberFacts]:
        """As `ordered` has them; kept, since what has ended keeps its place."""
        known = self._orders.get(sort)
        if known is None:
            known = ordered(self.rows, sort, now)
            if not any(row.started is not None and row.finished is None for row in self.rows):
                self._orders[sort] = known
        return known

    def spans(self, *, by_worker: bool) -> Mapping[str, Spans]:
        """When members ran: by worker, or all of them under no name."""
        known = self._spans.get(by_worker)
        if known is None:
            ran: dict[str, list[MemberFacts]] = {}
            for row in self.rows:
                if row.started is not None:
                    ran.setdefault((row.worker or NOWHERE) if by_worker else "", []).append(row)
            known = self._spans[by_worker] = {
                name: Spans((row.started or 0.0, row.finished, row.status == "failed") for row in rows)
                for name, rows in ran.items()
            }
        return known


class MemberTables:
    """The tables of each store that were asked for last."""

    def __init__(self) -> None:
        self._stores: WeakKeyDictionary[StateStore, OrderedDict[Place, MemberTable]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, store: StateStore, place: Place, seq: int) -> MemberTable:
        """The members of a group as they are at a place of the journal, or later."""
        with self._lock:
            tables = self._stores.setdefault(store, OrderedDict())
            known = tables.get(place)
        made = known if known is not None and known.seq >= seq else _followed(store, place, known)
        made = made or MemberTable(store.member_facts(place.flow_id, place.step, visit=place.visit), seq)
        with self._lock:
            tables[place] = made
            tables.move_to_end(place)
            while len(tables) > _KEPT:
                tables.popitem(last=False)
        return made


def _followed(store: StateStore, place: Place, table: MemberTable | None) -> MemberTable | None:
    """A table brought to the end of the journal; None where that takes as long as reading it anew.

    One without members is of a group that had not begun, and no line tells of those that wait.
    """
    flow_id, step, visit = place.flow_id, place.step, place.visit
    if table is None or not table.rows:
        return None
    lines = store.events(flow_id, table.seq, _FOLLOWED + 1)
    if not lines or len(lines) > _FOLLOWED or lines[0].seq != table.seq + 1:
        return None
    changed: list[int] = []
    for line in lines:
        if line.kind == RETRIED:
            return None
        if line.kind == "group.members" and (line.step, line.visit) == (step, visit):
            changed += [told["index"] for told in told_members(line.data)]
    first, end = min(changed, default=0), max(changed, default=-1) + 1
    if end > len(table.rows) or (end - first) * 2 > len(table.rows):
        return None
    rows = store.member_facts(flow_id, step, visit=visit, first=first, end=end) if changed else []
    return table.changed(rows, lines[-1].seq) if len(rows) == end - first else None


def matching(rows: Sequence[MemberFacts], states: Collection[str], search: str) -> list[MemberFacts]:
    """Members in one of these states (any if there is none), with a text in worker or error, or of that number."""
    chosen = [row for row in rows if row.status in states] if states else list(rows)
    text = search.casefold()
    if not text:
        return chosen
    on = {worker for worker in {row.worker for row in chosen} if text in (worker or "").casefold()}
    return [
        row
        for row in chosen
        if row.worker in on or (row.error is not None and text in row.error.casefold()) or str(row.number) == text
    ]


def ordered(rows: list[MemberFacts], sort: str, now: float) -> list[MemberFacts]:
    """Members by `started`, or by `duration` with the longest first; what has not begun comes last."""
    if sort == "started":
        return sorted(rows, key=lambda row: _LAST if row.started is None else row.started)
    if sort == "duration":
        return sorted(rows, key=lambda row: _LAST if row.started is None else row.started - (row.finished or now))
    return rows


def shown_row(row: MemberFacts) -> Row:
    """A member as tables have it: number, status, attempts, worker, start and end."""
    return row.number, row.status, row.attempts, row.worker, moment(row.started), moment(row.finished)
