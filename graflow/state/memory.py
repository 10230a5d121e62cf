"""The store in the memory of this process: for tests, and for runs that need not survive."""

from __future__ import annotations

import os
import secrets
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from graflow.state.changes import (
    Appended,
    Change,
    Claimed,
    Created,
    Entry,
    FlowRecord,
    Journaled,
    Json,
    MemberRow,
    NewFlow,
    Request,
    RequestKind,
    StepRow,
)
from graflow.state.encoding import is_small, to_text
from graflow.state.errors import StaleEpochError
from graflow.state.members import Fetch, MemberQuery, Row, member_page
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.reading import (
    behind_flow,
    flow_cursor,
    flow_state,
    listed_state,
    searched_text,
    status_names,
    step_state,
)
from graflow.state.statuses import MOVES, FlowStatus, Move, StepStatus
from graflow.state.store import StateStore
from graflow.state.strips import begun, count, move_member
from graflow.state.transitions import (
    OPEN,
    RUNNING,
    answers_requests,
    fields_of,
    first_fields,
    not_found,
    refusal,
    refuse,
    refuse_delete,
    refuse_request,
    refused_line,
    request_line,
)

_PENDING: Final = StepStatus.PENDING.value
_MEMBERS: Final = 500  # that are copied at once
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def copied(value: Any) -> Any:
    """A copy of plain JSON that shares nothing with it.

    Raises:
        TypeError: It is no plain JSON.
    """
    kind = type(value)
    if kind is dict:
        made = value.copy()
        for key, item in value.items():
            if type(item) not in _SCALARS:
                made[key] = copied(item)
        return made
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else copied(item) for item in value]
    if isinstance(value, Mapping):
        return copied(dict(value))
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"A {kind.__qualname__} is no plain JSON and cannot be recorded")


_Line = tuple[str, str | None, int | None, int | None, int | None, dict[str, Any], float, int, int]
"""Kind, step, visit, index, attempt and data of a line; time, epoch and generation."""


class _Written(NamedTuple):
    """Copies of what a change writes, made before anything is changed."""

    entries: Sequence[tuple[Entry, dict[str, Any]]]
    steps: Sequence[tuple[StepRow, dict[str, Any]]]
    members: Sequence[tuple[MemberRow, dict[str, Any]]]
    fields: dict[str, Any]

    @classmethod
    def of(
        cls,
        entries: Iterable[Entry],
        steps: Iterable[StepRow],
        members: Iterable[MemberRow],
        fields: Mapping[str, Json] | None,
    ) -> _Written:
        return cls(
            [(entry, copied(entry.data)) for entry in entries],
            [(row, copied(row.fields)) for row in steps] if steps else (),
            [(row, copied(row.fields)) for row in members] if members else (),
            copied(fields) if fields else {},
        )


class _Group:
    """Members by index, and how far they are."""

    __slots__ = ("counts", "members", "size", "strip")

    def __init__(self, size: int) -> None:
        self.size = size
        self.counts, self.strip = begun(size)
        self.members: dict[int, dict[str, Any]] = {}

    def set_member(self, index: int, fields: dict[str, Any]) -> None:
        member = self.members.get(index)
        if member is None:
            member = self.members[index] = {"status": _PENDING}
        old = member["status"]
        member.update(fields)
        move_member(self.counts, self.strip, self.size, index, old, member["status"])


class _Row:
    """One visit of a step, with its members where it is a group."""

    __slots__ = ("fields", "group")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.group: _Group | None = None

    def shown(self) -> dict[str, Any]:
        if self.group is None or not self.group.size:
            return self.fields
        return {**self.fields, "counts": self.group.counts, "strip": self.group.strip}


class _Flow:
    __slots__ = (
        *("beats", "counts", "created_at", "epoch", "fields", "flow_id", "flow_name", "generation", "input_digest"),
        *("inputs", "journal", "owner", "requests", "rows", "searched", "shows_inputs", "status", "version"),
    )

    def __init__(self, new: NewFlow) -> None:
        self.flow_id, self.flow_name, self.status = new.flow_id, new.flow_name, FlowStatus(new.status)
        self.version, self.epoch, self.generation, self.beats = 1, 0, 0, 0
        self.owner: str | None = None
        self.inputs, self.input_digest = copied(new.inputs), new.input_digest
        self.created_at = new.at
        self.searched = searched_text(new.flow_id, new.flow_name, self.inputs)
        self.shows_inputs = is_small(to_text(self.inputs))
        self.fields: dict[str, Any] = {}
        self.requests: tuple[Request, ...] = ()
        self.journal: list[_Line] = []
        self.rows: dict[tuple[str, int], _Row] = {}
        self.counts: dict[str, int] = {}

    def record(self) -> FlowRecord:
        return FlowRecord(
            self.flow_id,
            self.flow_name,
            self.status,
            self.version,
            self.epoch,
            self.generation,
            self.owner,
            self.beats,
            copied(self.inputs),
            self.input_digest,
            copied(self.fields),
            self.requests,
        )

    def listed(self) -> FlowState:
        return listed_state(
            {
                **copied(self.fields),
                "flow_id": self.flow_id,
                "flow_name": self.flow_name,
                "status": self.status,
                "version": self.version,
                "epoch": self.epoch,
                "generation": self.generation,
                "owner": self.owner,
                "inputs": copied(self.inputs) if self.shows_inputs else {},
                "counts": dict(self.counts),
            }
        )

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        present = self.fields
        for name, value in fields.items():
            if name == "generation":
                self.generation = value
            elif value is None:
                present.pop(name, None)
            else:
                present[name] = value

    def note(self, entry: Entry, at: float) -> None:
        self.write(_Written.of((entry,), (), (), None), at, self.epoch)

    def write(self, written: _Written, at: float, epoch: int) -> None:
        journal, generation = self.journal, self.generation
        for each, data in written.entries:
            journal.append((each.kind, each.step, each.visit, each.index, each.attempt, data, at, epoch, generation))
        for row, fields in written.steps:
            self.set_row((row.step, row.visit), fields)
        for member, fields in written.members:
            self.set_member(member, fields)

    def set_row(self, key: tuple[str, int], fields: dict[str, Any]) -> _Row:
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = _Row(fields)
            new = fields.setdefault("status", _PENDING)
            self.counts[new] = self.counts.get(new, 0) + 1
        else:
            present = row.fields
            old = present["status"]
            present.update(fields)
            new = present["status"]
            if new != old:
                count(self.counts, old, new)
        if "size" in fields and fields["size"] and (row.group is None or not row.group.size):
            earlier, row.group = row.group, _Group(fields["size"])
            if earlier is not None:
                row.group.members = earlier.members
        return row

    def set_member(self, member: MemberRow, fields: dict[str, Any]) -> None:
        key = (member.step, member.visit)
        row = self.rows.get(key) or self.set_row(key, {})
        if row.group is None:
            row.group = _Group(0)
        row.group.set_member(member.index, fields)

    def cut(self, key: tuple[str, int]) -> None:
        row = self.rows.pop(key, None)
        if row is not None:
            count(self.counts, row.fields["status"], None)


class MemoryStore(StateStore):
    """Keeps flows as Python objects; nothing of them is shared with a caller, and nothing survives the process.

    There is no limit to the size of a value, and a large one is shown where others leave it out. A forked child goes on
    with a copy.
    """

    is_persistent = False

    def __init__(self) -> None:
        self.url = f"memory://{secrets.token_hex(4)}"  # no other process may take its own for this one
        self._lock = threading.Lock()
        self._flows: dict[str, _Flow] = {}
        _stores.add(self)

    def begin_in_child(self) -> None:
        """Let go of a lock that a thread of the parent held."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._flows)} flows)"

    def initialize(self) -> None:
        return

    def close(self) -> None:
        return

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, flow: NewFlow) -> Created:
        made = _Flow(flow)
        written = _Written.of(flow.entries, flow.steps, flow.members, first_fields(flow))
        made.set_fields(written.fields)
        made.write(written, flow.at, 0)
        with self._lock:
            present = self._flows.setdefault(flow.flow_id, made)
            return Created(present.record(), is_new=present is made)

    def claim(
        self,
        flow_id: str,
        owner: str,
        *,
        seen: FlowRecord,
        at: float,
        entries: Sequence[Entry] = (),
        steps: Sequence[StepRow] = (),
        flow: Mapping[str, Json] | None = None,
    ) -> Claimed:
        written = _Written.of(entries, steps, (), flow)
        with self._lock:
            present = self._flow(flow_id)
            if (present.status, present.epoch, present.beats) != (seen.status, seen.epoch, seen.beats):
                return Claimed(None, present.record())
            if present.status not in MOVES[Move.CLAIM].sources:
                raise refusal(flow_id, Move.CLAIM, present.status)
            if present.status is not FlowStatus.CANCELLING:
                present.status = FlowStatus.RUNNING
            present.epoch += 1
            present.version += 1
            present.beats += 1
            present.owner = owner
            started_at = present.fields.get("started_at") or at
            present.set_fields({"started_at": started_at, "wake_at": None, **written.fields})
            present.write(written, at, present.epoch)
            return Claimed(present.epoch, present.record())

    def append(self, change: Change) -> Appended:
        rule = MOVES[change.move]
        written = _Written.of(change.entries, change.steps, change.members, change.flow)
        with self._lock:
            flow = self._flow(change.flow_id)
            try:
                refuse(change, rule, flow.status, flow.version, flow.epoch)
            except StaleEpochError:
                flow.note(refused_line(change), change.at)
                raise
            status = flow.status = rule.target or flow.status
            fields = fields_of(change, status, written.fields)
            if fields:
                flow.set_fields(fields)
            if rule.raises_epoch:
                flow.epoch += 1
            if rule.by_owner:
                flow.beats += 1
            flow.version += 1
            if status not in RUNNING:
                flow.owner = None
            if flow.requests and answers_requests(change.move, status):
                flow.requests = ()
            for step, visit in change.cut:
                flow.cut((step, visit))
            flow.write(written, change.at, change.guard if rule.by_owner else flow.epoch)
            return Appended(len(flow.journal), flow.version, flow.epoch, flow.requests)

    def beat(self, flow_id: str, epoch: int) -> tuple[Request, ...]:
        with self._lock:
            flow = self._flow(flow_id)
            if flow.epoch != epoch:
                raise StaleEpochError(flow_id, epoch, flow.epoch)
            if flow.status in RUNNING:
                flow.beats += 1
            return flow.requests

    def request(self, flow_id: str, request: Request) -> FlowRecord:
        with self._lock:
            flow = self._flow(flow_id)
            refuse_request(flow_id, request, flow.status)
            if all(request.kind is not each.kind for each in flow.requests):
                flow.requests = (*flow.requests, request)
                flow.note(request_line(request), request.at)
                if request.kind is RequestKind.CANCEL and flow.status is FlowStatus.RUNNING:
                    flow.status = FlowStatus.CANCELLING
                    flow.version += 1
            return flow.record()

    def delete(self, flow_id: str) -> bool:
        with self._lock:
            flow = self._flows.get(flow_id)
            if flow is None:
                return False
            refuse_delete(flow_id, flow.status)
            del self._flows[flow_id]
            return True

    def cleanup(self, *, older_than: float, keep: int, at: float) -> int:
        with self._lock:
            ended = [flow for flow in self._flows.values() if flow.status.is_terminal]
            ended.sort(key=lambda flow: (flow.fields["completed_at"], flow.flow_id), reverse=True)
            gone = [
                flow
                for place, flow in enumerate(ended)
                if place >= keep or flow.fields["completed_at"] <= at - older_than
            ]
            for flow in gone:
                del self._flows[flow.flow_id]
            return len(gone)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get_record(self, flow_id: str) -> FlowRecord | None:
        with self._lock:
            flow = self._flows.get(flow_id)
            return flow.record() if flow is not None else None

    def get_flow_state(self, flow_id: str) -> FlowState | None:
        with self._lock:
            flow = self._flows.get(flow_id)
            if flow is None:
                return None
            steps = [step_state(step, visit, copied(row.shown())) for (step, visit), row in flow.rows.items()]
            return flow_state(flow.record(), steps, dict(flow.counts))

    def list_flows(
        self,
        *,
        flow_name: str | None = None,
        status: Sequence[FlowStatus] = (),
        search: str | None = None,
        since: float | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> FlowPage:
        behind, statuses, text = behind_flow(cursor), status_names(status), (search or "").casefold()

        def is_asked_for(flow: _Flow) -> bool:
            return (
                (flow_name is None or flow.flow_name == flow_name)
                and (not statuses or flow.status in statuses)
                and (since is None or flow.created_at >= since)
                and (behind is None or (flow.created_at, flow.flow_id) < behind)
                and text in flow.searched
            )

        with self._lock:
            found = [flow for flow in self._flows.values() if is_asked_for(flow)]
            found.sort(key=lambda flow: (flow.created_at, flow.flow_id), reverse=True)
            page = found[: max(1, limit)]
            states = [flow.listed() for flow in page]
        last = page[-1] if len(found) > len(page) else None
        return FlowPage(states, flow_cursor(last.created_at, last.flow_id) if last else None)

    def list_members(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int | None = None,
        status: Sequence[StepStatus] = (),
        cursor: str | None = None,
        limit: int = 100,
    ) -> MemberPage:
        with self._lock:
            flow = self._flow(flow_id)
            visits = [each for name, each in flow.rows if name == step]
            which = max(visits, default=1) if visit is None else visit
            row = flow.rows.get((step, which))
            group = row.group if row is not None else None
            if group is None:
                return MemberPage([])
            query = MemberQuery.of(cursor, group.size, status, group.strip)
            return member_page(step, which, query, limit, _fetching(group.members))

    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        with self._lock:
            flow = self._flows.get(flow_id)
            if flow is None:
                return []
            end = None if limit is None else after + limit
            return [_journaled(seq, line) for seq, line in enumerate(flow.journal[after:end], after + 1)]

    def open_flows(self, *, at: float) -> list[FlowRecord]:
        with self._lock:
            found = [flow for flow in self._flows.values() if flow.status in OPEN and not _sleeps(flow, at)]
            found.sort(key=lambda flow: (flow.created_at, flow.flow_id))
            return [flow.record() for flow in found]

    def _flow(self, flow_id: str) -> _Flow:
        flow = self._flows.get(flow_id)
        if flow is None:
            raise not_found(flow_id)
        return flow


def _sleeps(flow: _Flow, at: float) -> bool:
    return flow.status is FlowStatus.QUEUED and (flow.fields.get("wake_at") or 0.0) > at


def _journaled(seq: int, line: _Line) -> Journaled:
    kind, step, visit, index, attempt, data, at, epoch, generation = line
    return Journaled(
        kind, step, visit, index, attempt, copied(data), seq=seq, at=at, epoch=epoch, generation=generation
    )


def _fetching(members: dict[int, dict[str, Any]]) -> Fetch:
    order = sorted(members)

    def fetch(start: int, end: int) -> tuple[list[Row], int]:
        first = bisect_left(order, start)
        chosen = order[first : min(bisect_left(order, end, lo=first), first + _MEMBERS)]
        stop = chosen[-1] + 1 if len(chosen) == _MEMBERS else end
        return [(index, copied(members[index])) for index in chosen], stop

    return fetch


_stores: WeakSet[MemoryStore] = WeakSet()


def _begin_in_child() -> None:
    for store in list(_stores):
        store.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
