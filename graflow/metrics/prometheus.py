"""The counts themselves: the one module that imports prometheus-client."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from graflow.exceptions import StoreError
from graflow.metrics.sharing import SharedCounts, shared_folder
from graflow.observing import Happening, Level, watches

_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)

_METRICS: Final[dict[Happening, Counter | Histogram]] = {
    Happening.FLOW_WAITED: Histogram(
        "graflow_flow_wait_seconds", "From the making of a flow to its first claim", ["flow"], buckets=_SECONDS
    ),
    Happening.FLOW_ENDED: Histogram(
        "graflow_flow_run_seconds", "Executions of flows in one process", ["flow", "end"], buckets=_SECONDS
    ),
    Happening.RUN_ENDED: Histogram(
        "graflow_run_seconds", "Executions of workflows that are not recorded", ["workflow", "end"], buckets=_SECONDS
    ),
    Happening.FLOW_TAKEN_OVER: Counter(
        "graflow_flow_takeovers", "Flows taken over from processes that were gone", ["flow"]
    ),
    Happening.MEMBERS_ENDED: Counter("graflow_members", "Members of groups that ended on workers", ["end"]),
    Happening.BATCH_ENDED: Histogram(
        "graflow_batch_seconds", "Messages with members, from claim to end", buckets=_SECONDS
    ),
    Happening.MESSAGE_WAITED: Histogram(
        "graflow_queue_lag_seconds", "Messages with members, from publishing to claim", buckets=_SECONDS
    ),
    Happening.MEMBERS_LOST: Counter("graflow_members_lost", "Members whose worker was lost", ["then"]),
    Happening.LEASE_LOST: Counter("graflow_leases_lost", "Leases that were over before their work", ["of"]),
    Happening.STORE_FAILED: Counter("graflow_store_errors", "Calls of a store that did not answer", ["store"]),
}
_LEVELS: Final[dict[Level, tuple[str, str, list[str]]]] = {
    Level.QUESTIONS_OPEN: ("graflow_questions_open", "Questions to people that are open", ["store"]),
    Level.OLDEST_QUESTION: ("graflow_questions_open_seconds", "For how long the oldest has been open", ["store"]),
}


class _GatheredHistogram(Histogram):
    """A histogram that takes many observations at the price of a few: where processes count together, one is 10 µs."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """The same as to observe each."""
        bounds = self._upper_bounds
        self._sum.inc(sum(amounts))
        for place, number in Counts(bisect_left(bounds, amount) for amount in amounts).items():
            self._buckets[place].inc(number)


# Of steps there are many and they are short, so they are gathered. Their names are no labels: a flow may make them up.
_STEPS: Final = _GatheredHistogram(
    "graflow_step_seconds", "Executions of steps of flows", ["flow", "end"], buckets=_SECONDS
)
_GATHERED: Final = 256
_gathered: Final[dict[tuple[str, ...], deque[float]]] = {}
_counting: Final = threading.Lock()
_notes: Final[dict[tuple[Happening, tuple[str, ...]], Callable[[float], None]]] = {}


def record(what: Happening, value: float, labels: tuple[str, ...]) -> None:
    """Count one happening."""
    if what is Happening.STEP_ENDED:
        seconds = _gathered.get(labels)
        if seconds is None:
            seconds = _gathered.setdefault(labels, deque())
        seconds.append(value)
        if len(seconds) >= _GATHERED:
            _count_steps()
        return
    if what is Happening.FLOW_ENDED:
        _count_steps()
    note = _notes.get((what, labels))
    if note is None:
        metric = _METRICS[what]
        child = metric.labels(*labels) if labels else metric
        note = _notes[what, labels] = child.inc if isinstance(child, Counter) else child.observe
    note(value)


def _count_steps() -> None:
    with _counting:
        for labels, seconds in list(_gathered.items()):
            amounts = [seconds.popleft() for _ in range(len(seconds))]  # others add to it meanwhile
            if amounts:
                _STEPS.labels(*labels).observe_all(amounts)


class _Levels(Collector):
    """What is measured when somebody asks."""

    def describe(self) -> Iterable[Metric]:
        """The names; nobody is asked for these."""
        return [GaugeMetricFamily(name, text, labels=labels) for name, text, labels in _LEVELS.values()]

    def collect(self) -> Iterable[Metric]:
        """What they are now; of two watches with the same labels the higher one."""
        found: dict[tuple[Level, tuple[str, ...]], float] = {}
        for watch in list(watches):
            with suppress(StoreError):  # what cannot be had is not shown
                for what, value, labels in watch.measured():
                    found[what, labels] = max(value, found.get((what, labels), 0.0))
        families = {what: GaugeMetricFamily(*told[:2], labels=told[2]) for what, told in _LEVELS.items()}
        for (what, labels), value in found.items():
            families[what].add_metric(labels, value)
        return list(families.values())


def text() -> bytes:
    """What was counted, in the text format."""
    _count_steps()
    return generate_latest(_registry())


def serve(host: str, port: int) -> None:
    """Show the counts over HTTP, on threads that end with the process.

    Raises:
        OSError: When the address cannot be had.
    """
    start_http_server(port, host, registry=_registry())


def _registry() -> CollectorRegistry:
    folder = shared_folder()
    if folder is None:
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(SharedCounts(folder))
    registry.register(_levels)
    return registry


_levels: Final = _Levels()
REGISTRY.register(_levels)
