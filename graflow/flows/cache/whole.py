"""Flows whose outcome is kept as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graflow.core.nodes.options import CacheOption
from graflow.exceptions import TaskResolutionError
from graflow.flows.cache.keys import ALL, NotKeptError, flow_key
from graflow.flows.cache.reasons import Reason
from graflow.flows.cache.sharing import Cache
from graflow.flows.inputs import InputModel
from graflow.flows.recording.journal import past_of
from graflow.flows.recording.recorder import FlowRecorder
from graflow.flows.recording.resetting import lines_taken, reused_members, reused_steps
from graflow.spells import is_first
from graflow.state.cache import CacheKey
from graflow.state.changes import FlowRecord
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True)
class Keeping:
    """How the outcome of a flow is kept.

    Attributes:
        function: Builds its graph.
        inputs: What it takes.
        cache: Whether it is kept, or what counts of its inputs.
        ttl: For how many seconds.
    """

    function: Callable[..., Any]
    inputs: InputModel
    cache: CacheOption
    ttl: float | None

    def key(self, record: FlowRecord, fingerprint: Mapping[str, Any]) -> CacheKey:
        """What the outcome follows from.

        Raises:
            NotKeptError: It has no canonical form, or the flow's own function of its inputs says so.
        """
        chosen: object = ALL
        if callable(self.cache):
            positional, named = self.inputs.arguments(record.inputs)
            chosen = self.cache(*positional, **named)
        return flow_key(record.flow_name, self.function, fingerprint, record.inputs, chosen)


def kept_outcome(
    cache: Cache,
    store: StateStore,
    keeping: Keeping,
    record: FlowRecord,
    recorder: FlowRecorder,
    fingerprint: Mapping[str, Any],
    run: Callable[[], Any],
    *,
    is_fresh: bool,
) -> Any:
    """The value of a flow: the kept one, with the steps that gave it, or that of its run, which is kept.

    One that goes on with what it has is not asked for: it runs, and what it gives is kept.
    """
    source = {"flow_id": record.flow_id}
    try:
        key = keeping.key(record, fingerprint)
    except NotKeptError as error:
        if is_first(("not kept", keeping.function)):
            _log.warning("Flow '%s' has a cache, and its outcome is not kept: %s", record.flow_name, error)
        recorder.note({"cache": Reason(False, str(error)).data()})
        return run()
    if not is_fresh:
        value = run()
        cache.keep(key, value, ttl=keeping.ttl, source=source)
        return value
    recorder.claim()  # else others would take it for one that nobody runs while it waits
    value, reason = cache.value(key, run, ttl=keeping.ttl, source=source, wait=recorder.check)
    recorder.note({"cache": reason.data()})
    if reason.is_hit:
        _take_steps(store, recorder, str((reason.source or {}).get("flow_id")), reason.text)
    return value


def _take_steps(store: StateStore, recorder: FlowRecorder, flow_id: str, why: str) -> None:
    """Have the steps of another flow on record as this one's, as far as that flow is still there."""
    state = store.get_flow_state(flow_id)
    if state is None or state.status is not FlowStatus.COMPLETED:
        return
    lines = past_of(store.events(flow_id)).lines
    try:
        entries = lines_taken(flow_id, lines, recorder.session_id)
    except TaskResolutionError as error:
        _log.warning("Flow %s has the kept outcome of flow %s without its steps: %s", recorder.flow_id, flow_id, error)
        return
    recorder.take_along(
        entries,
        reused_steps(flow_id, lines, state, StepStatus.CACHED, why),
        reused_members(flow_id, lines, StepStatus.CACHED, why),
    )
