"""The store in the memory of this process: for tests, and for runs that need not survive."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from weakref import WeakSet

from graflow.exceptions import StaleEpochError
from graflow.state.changes import (
    Appended,
    Change,
    Claimed,
    Created,
    Entry,
    FlowChange,
    FlowChanges,
    FlowRecord,
    Journaled,
    Json,
    NewFlow,
    Request,
    RequestKind,
    StepRow,
)
from graflow.state.groups.members import MemberFacts, MemberQuery, member_facts, member_page
from graflow.state.memory.cache import MemoryCache
from graflow.state.memory.questions import MemoryQuestions
from graflow.state.memory.rows import Flow, kept_members, sleeps, written
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.reading import (
    behind_flow,
    flow_cursor,
    flow_state,
    status_names,
)
from graflow.state.statuses import MOVES, FlowStatus, Move, MoveRule, StepStatus
from graflow.state.store import StateStore
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

__all__ = ["MemoryStore"]


class MemoryStore(MemoryQuestions, StateStore):
    """Keeps flows as Python objects; nothing of them is shared with a caller, and nothing survives the process.

    There is no limit to the size of a value, and a large one is shown where others leave it out. A forked child goes on
    with a copy.
    """

    is_persistent = False

    def __init__(self) -> None:
        super().__init__()
        self.url = f"memory://{secrets.token_hex(4)}"  # no other process may take its own for this one
        self._lock = threading.Lock()
        self._flows: dict[str, Flow] = {}
        self._changes: dict[str, int] = {}  # numbers of the last changes of flows, in their order
        self._last_change = 0
        self.cache: MemoryCache = MemoryCache()
        _stores.add(self)

    def begin_in_child(self) -> None:
        """Let go of a lock that a thread of the parent held."""
        self._lock = threading.Lock()
        self.cache.begin_in_child()

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._flows)} flows)"

    def initialize(self) -> None:
        return

    def close(self) -> None:
        return

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, flow: NewFlow) -> Created:
        made = Flow(flow)
        first = written(flow.entries, flow.steps, flow.members, first_fields(flow))
        made.set_fields(first.fields)
        made.write(first, flow.at, 0)
        with self._lock:
            present = self._flows.setdefault(flow.flow_id, made)
            if present is made:
                self._changed(flow.flow_id)
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
        limit: int | None = None,
    ) -> Claimed:
        made = written(entries, steps, (), flow)
        with self._lock:
            present = self._flow(flow_id)
            if (present.status, present.epoch, present.beats) != (seen.status, seen.epoch, seen.beats):
                return Claimed(None, present.record())
            if present.status not in MOVES[Move.CLAIM].sources:
                raise refusal(flow_id, Move.CLAIM, present.status)
            if limit is not None and present.status not in RUNNING and self._owned(present.flow_name) >= limit:
                return Claimed(None, present.record(), is_full=True)
            if present.status is not FlowStatus.CANCELLING:
                present.status = FlowStatus.RUNNING
            present.epoch += 1
            present.version += 1
            present.beats += 1
            present.owner = owner
            started_at = present.fields.get("started_at") or at
            present.set_fields({"started_at": started_at, "wake_at": None, **made.fields})
            present.write(made, at, present.epoch)
            self._changed(flow_id)
            return Claimed(present.epoch, present.record())

    def append(self, change: Change) -> Appended:
        rule = MOVES[change.move]
        made = written(change.entries, change.steps, change.members, change.flow, change.blocks, is_own=change.is_own)
        with self._lock:
            flow = self._flow(change.flow_id)
            try:
                refuse(change, rule, flow.status, flow.version, flow.epoch)
            except StaleEpochError:
                flow.note(refused_line(change), change.at)
                self._changed(change.flow_id)
                raise
            if rule.target is not None:
                self._move(flow, change, rule, made.fields)
            elif made.fields:
                flow.set_fields(made.fields)
            flow.beats += rule.by_owner
            flow.version += 1
            if change.cut:
                flow.rows.cut(change.cut)
            flow.journal.write(made, change.at, change.guard if rule.by_owner else flow.epoch, flow.generation)
            flow.rows.write(made)
            self._changed(change.flow_id)
            return Appended(flow.journal.seq, flow.version, flow.epoch, flow.requests)

    def _move(self, flow: Flow, change: Change, rule: MoveRule, fields: Mapping[str, Json]) -> None:
        """Bring a flow to another state."""
        status = flow.status = rule.target or flow.status
        flow.set_fields(fields_of(change, status, fields))
        flow.epoch += rule.raises_epoch
        if status not in RUNNING:
            flow.owner = None
        if answers_requests(change.move, status):
            flow.requests = ()
        if status.is_terminal:
            self._end_questions(change.flow_id)

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
                self._changed(flow_id)
            return flow.record()

    def delete(self, flow_id: str) -> bool:
        with self._lock:
            flow = self._flows.get(flow_id)
            if flow is None:
                return False
            refuse_delete(flow_id, flow.status)
            self._forget(flow_id)
            return True

    def cleanup(self, *, older_than: float, keep: int, at: float) -> int:
        self.cache.drop_expired(at)
        with self._lock:
            ended = [flow for flow in self._flows.values() if flow.status.is_terminal]
            ended.sort(key=lambda flow: (flow.fields["completed_at"], flow.flow_id), reverse=True)
            gone = [
                flow
                for place, flow in enumerate(ended)
                if place >= keep or flow.fields["completed_at"] <= at - older_than
            ]
            for flow in gone:
                self._forget(flow.flow_id)
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
            return flow_state(flow.record(), flow.rows.shown(), flow.rows.counts())

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

        def is_asked_for(flow: Flow) -> bool:
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
            visits = [each for name, each in flow.rows.by_visit() if name == step]
            which = max(visits, default=1) if visit is None else visit
            group = flow.rows.group(step, which)
            if group is None:
                return MemberPage([])
            query = MemberQuery.of(cursor, group.size, status, group.strip)
            return member_page(step, which, query, limit, kept_members(group))

    def member_facts(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int,
        first: int = 0,
        end: int | None = None,
        status: Sequence[StepStatus] = (),
    ) -> list[MemberFacts]:
        with self._lock:
            group = self._flow(flow_id).rows.group(step, visit)
            if group is None:
                return []
            query = MemberQuery.between(first, group.size, status, group.strip)
            return member_facts(query, kept_members(group), end)

    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        with self._lock:
            flow = self._flows.get(flow_id)
            if flow is None:
                return []
            return list(flow.journal.read(after, limit))

    def changed_flows(self, after: int | None = None, limit: int = 500) -> FlowChanges:
        with self._lock:
            last, found = self._last_change, []
            for flow_id, number in reversed(self._changes.items()):
                if after is None or number <= after:
                    break
                flow = self._flows[flow_id]
                found.append(FlowChange(number, flow_id, flow.flow_name, flow.status, flow.version, flow.journal.seq))
            return FlowChanges(last, tuple(found[::-1][:limit]))

    def open_flows(self, *, at: float) -> list[FlowRecord]:
        with self._lock:
            found = [flow for flow in self._flows.values() if flow.status in OPEN and not sleeps(flow, at)]
            found.sort(key=lambda flow: (flow.created_at, flow.flow_id))
            return [flow.record() for flow in found]

    def _changed(self, flow_id: str) -> None:
        self._last_change += 1
        self._changes.pop(flow_id, None)
        self._changes[flow_id] = self._last_change

    def _forget(self, flow_id: str) -> None:
        del self._flows[flow_id]
        del self._changes[flow_id]
        self._forget_questions(flow_id)

    def _owned(self, flow_name: str) -> int:
        return sum(flow.status in RUNNING and flow.flow_name == flow_name for flow in self._flows.values())

    def _flow(self, flow_id: str) -> Flow:
        flow = self._flows.get(flow_id)
        if flow is None:
            raise not_found(flow_id)
        return flow


_stores: WeakSet[MemoryStore] = WeakSet()


def _begin_in_child() -> None:
    for store in list(_stores):
        store.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
