"""A store as this process uses it: which flows run here, and whose owners are gone."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from graflow.configuration.project import project_settings
from graflow.flows.cache.sharing import Cache
from graflow.flows.recording.identity import LEASE, Leases
from graflow.flows.recording.owner import GRACE
from graflow.flows.recording.recorder import FlowRecorder
from graflow.flows.recording.recovery import Recovery
from graflow.flows.recording.stopping import FlowStopped, Stop
from graflow.processes.per_process import PerProcess
from graflow.runtime import Runtime, this_runtime
from graflow.state.changes import FlowRecord
from graflow.state.statuses import FlowStatus
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_LOOK: Final = 0.02
_UNOWNED: Final = frozenset({FlowStatus.PENDING, FlowStatus.QUEUED})
_OWNED: Final = frozenset({FlowStatus.RUNNING, FlowStatus.CANCELLING})


class Home:
    """The flows of one store that this process runs.

    Args:
        store: The store.
        lease: Seconds without a sign of life after which an owner counts as lost.
        runtime: Whose time passes.

    Attributes:
        cache: Gives kept values again; None where the store keeps none, or the settings say so.
        is_closing: Whether no flow is begun here any more.
        recovery: Looks after flows that nobody runs.
    """

    def __init__(self, store: StateStore, *, lease: float = LEASE, runtime: Runtime | None = None) -> None:
        self.store = store
        self.lease = lease
        self.runtime = runtime or this_runtime()
        self.leases: Leases[int] = Leases(self.runtime.monotonic, lease, self.is_live)
        self.cache = self._cache()
        self.is_closing = False
        self.recovery = Recovery(self)
        self._live: dict[str, FlowRecorder] = {}
        self._lock = threading.Lock()

    def _cache(self) -> Cache | None:
        kept = project_settings().cache
        if self.store.cache is None or not kept.enabled:
            return None
        return Cache(self.store.cache, self.runtime, self.lease, kept.ttl)

    def is_live(self, flow_id: str, epoch: int) -> bool:
        """Whether this process runs the flow at this epoch, or is about to claim it."""
        recorder = self._live.get(flow_id)
        return recorder is not None and recorder.writer.epoch in {None, epoch}

    @property
    def is_idle(self) -> bool:
        """Whether nothing of this process uses the store by itself."""
        return not self._live and self.recovery.is_idle

    def recorder_of(self, flow_id: str) -> FlowRecorder | None:
        """What writes a flow down that runs here."""
        return self._live.get(flow_id)

    def is_free(self, record: FlowRecord) -> bool:
        """Whether a flow may be claimed now: it waits for nothing, and has no owner, or one that is gone."""
        if record.status in _UNOWNED:
            wake_at = record.fields.get("wake_at")
            return wake_at is None or wake_at <= self.runtime.time()
        return record.status in _OWNED and self.leases.is_over(record.flow_id, record.owner, record.epoch, record.beats)

    @contextmanager
    def running(self, recorder: FlowRecorder) -> Iterator[None]:
        """A block in which this process runs a flow, and beats for it.

        Raises:
            FlowStopped: When another thread of it does, or this process takes no more.
        """
        with self._lock:
            if self.is_closing:
                raise FlowStopped(Stop.HAND_OVER, "this process ends")
            if self._live.setdefault(recorder.flow_id, recorder) is not recorder:
                raise FlowStopped(Stop.NOT_OURS, "another thread of this process runs the flow")
        try:
            with self.runtime.pacer.pacing(recorder):
                yield
        finally:
            with self._lock:
                self._live.pop(recorder.flow_id, None)

    def begin_to_leave(self) -> set[str]:
        """Begin no flow any more, since this process ends, and have those that run here stop after their running step.

        Returns:
            Their ids.
        """
        with self._lock:
            self.is_closing = True
            flow_ids = set(self._live)
        self._stop(flow_ids)
        return flow_ids

    def hand_over(self, grace: float = GRACE) -> None:
        """Have every flow that runs here go on elsewhere, since this process ends; none is begun any more."""
        self.hand_over_some(self.begin_to_leave(), grace)

    def _stop(self, flow_ids: Collection[str]) -> None:
        for recorder in self._live_of(flow_ids):
            recorder.end(Stop.HAND_OVER, "its process ends")

    def _live_of(self, flow_ids: Collection[str]) -> list[FlowRecorder]:
        return [recorder for flow_id, recorder in list(self._live.items()) if flow_id in flow_ids]

    def hand_over_some(self, flow_ids: Collection[str], grace: float = GRACE) -> None:
        """Have these flows go on elsewhere: after their running step, or when `grace` seconds are over."""
        self._stop(flow_ids)
        end = self.runtime.monotonic() + grace
        while self._live_of(flow_ids) and self.runtime.monotonic() < end:
            self.runtime.sleep(_LOOK)
        for recorder in self._live_of(flow_ids):
            recorder.give_back()


_homes: Final[PerProcess[str, Home]] = PerProcess()


def home_of(store: StateStore, lease: float = LEASE) -> Home:
    """The one home of a store in this process; the first runner's `lease` holds for all of them."""
    if store.url.startswith("memory:"):  # no other store is the same, and the home lives as long as this one
        return store.__dict__.setdefault("home", Home(store, lease=lease))  # type: ignore[no-any-return]
    return _homes.get(store.url, lambda: Home(store, lease=lease))
