"""Flows that steps of others start and wait for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from graflow.exceptions import FlowConflictError, VersionConflictError
from graflow.flows.home import Home
from graflow.flows.recording.calls import AWAIT_AGAIN
from graflow.flows.recording.journal import past_of
from graflow.flows.recording.stopping import rests
from graflow.flows.registry import FlowRegistry
from graflow.state.changes import Change, Created, Entry, FlowRecord
from graflow.state.models import FlowState
from graflow.state.statuses import MOVES, FlowStatus, Move
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_TRIES: Final = 5


class Flows(Protocol):
    """Makes flows, and has them run."""

    @property
    def store(self) -> StateStore: ...

    def create(
        self,
        flow_id: str,
        flow_name: str,
        stored: Mapping[str, Any],
        *,
        status: FlowStatus,
        durability: str,
        metadata: Mapping[str, Any] | None,
        parent: tuple[str, str] | None,
    ) -> Created:
        """Record a flow, or find the one of this id."""

    def begin(self, record: FlowRecord) -> None:
        """Have a free flow run in the background."""

    def record(self, flow_id: str) -> FlowRecord:
        """The row of a flow."""

    def state(self, flow_id: str) -> FlowState:
        """A flow with its steps."""


class Children:
    """Starts children, and tells their parents when they have ended.

    Args:
        flows: Makes flows, and has them run.
        registry: Whose inputs are checked.
        home: The store, and what runs here.
    """

    def __init__(self, flows: Flows, registry: FlowRegistry, home: Home) -> None:
        self._flows = flows
        self._registry = registry
        self._home = home
        self._runtime = home.runtime

    # -- for a step ------------------------------------------------------------------------------------------------

    def start(self, flow_id: str, flow_name: str, inputs: Mapping[str, Any], parent: tuple[str, str]) -> None:
        """Have a flow run, unless there is one of this id.

        Raises:
            FlowNotFoundError: For an unknown name.
            FlowInputError: When inputs do not fit.
        """
        stored = self._registry.get(flow_name).inputs.stored(inputs)
        durability = self._flows.record(parent[0]).fields.get("durability", "best_effort")
        self._flows.create(
            *(flow_id, flow_name, stored),
            status=FlowStatus.QUEUED,
            durability=durability,
            metadata=None,
            parent=parent,
        )
        self.see_to(self._flows.record(flow_id))

    def state(self, flow_id: str) -> FlowState:
        """How far it is; one that nobody runs is run on."""
        self.see_to(self._flows.record(flow_id))
        return self._flows.state(flow_id)

    def resume(self, flow_id: str) -> None:
        """Have one go on that failed or was lost."""
        entry = Entry("flow.resumed", data={"by": "its parent"})
        resumed = self._moved(flow_id, Move.RESUME, lambda _: True, [entry], {"takeovers": 0})
        if resumed is not None:
            self.see_to(resumed)

    # -- for parents -----------------------------------------------------------------------------------------------

    def ended(self, child: FlowRecord) -> None:
        """Have the parent go on that waits for this flow, which has ended."""
        parent_id = child.fields.get("parent_flow_id")
        if parent_id is not None:
            self._wake(parent_id, child.flow_id)

    def awaited(self, parent: FlowRecord) -> bool:
        """Whether a parent still waits; it is put away for a while again then, else it can be run."""
        child_id = parent.fields.get("awaits")
        if child_id is None or parent.status is not FlowStatus.QUEUED:
            return False
        child = self._flows.store.get_record(child_id)
        if child is None or child.status.is_terminal:
            self._wake(parent.flow_id, child_id)
            return False
        now, deadline = self._runtime.time(), parent.fields.get("deadline") or math.inf
        if deadline <= now:
            return False  # it has taken too long, which its owner finds
        self.see_to(child)
        if (parent.fields.get("wake_at") or 0.0) <= now:
            later = {"wake_at": min(now + AWAIT_AGAIN, deadline)}
            self._moved(parent.flow_id, Move.WAKE, lambda record: record.version == parent.version, [], later)
        return True

    def _wake(self, parent_id: str, child_id: str) -> None:
        woken = self._moved(
            *(parent_id, Move.WAKE, lambda record: record.fields.get("awaits") == child_id),
            [Entry("flow.woken", data={"by": child_id})],
            {"wake_at": None, "awaits": None},
        )
        if woken is not None:
            self.go_on(woken)

    def see_to(self, record: FlowRecord) -> bool:
        """Have a flow run, if it is free and can be run from here; whether it can."""
        if rests(record.status) or not self._home.is_free(record) or not self._registry.find(record.flow_name):
            return False
        self._flows.begin(record)
        return True

    def go_on(self, record: FlowRecord) -> None:
        """Have a flow run that is free from now on, here or elsewhere."""
        if not self.see_to(record):
            self._home.store.hints.tell()

    def _moved(
        self,
        flow_id: str,
        move: Move,
        is_due: Callable[[FlowRecord], bool],
        entries: list[Entry],
        fields: Mapping[str, Any],
    ) -> FlowRecord | None:
        """Make a move, whoever else moves the flow meanwhile; None when it is not to be made any more."""
        for _ in range(_TRIES):
            record = self._flows.store.get_record(flow_id)
            if record is None or record.status not in MOVES[move].sources or not is_due(record):
                return None
            try:
                self._flows.store.append(
                    Change(flow_id, move, record.version, self._runtime.time(), entries, flow=fields)
                )
            except (VersionConflictError, FlowConflictError):
                continue
            return self._flows.store.get_record(flow_id)
        _log.warning("Flow %s is moved by others all the time; it is looked at again later", flow_id)
        return None

    def running_of(self, parent_id: str) -> list[FlowRecord]:
        """Children of a flow that have not ended."""
        calls = past_of(self._flows.store.events(parent_id)).calls
        started = dict.fromkeys(call.data["child"] for call in calls if "child" in call.data)
        found = map(self._flows.store.get_record, started)
        return [child for child in found if child is not None and not child.status.is_terminal]
