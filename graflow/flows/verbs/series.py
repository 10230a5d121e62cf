"""What happened in many flows over the time, in bins that are equally long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import floor, log10
from statistics import quantiles
from typing import Final

from pydantic import BaseModel, Field

from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus

BINS: Final = 48
"""Of a series."""

SHORTEST: Final = 0.001
"""Seconds at which the first bin of a distribution ends; three further ones go on to ten times that, and so on."""

DISTRIBUTION: Final = 25
"""Bins of a distribution: the last one has whatever takes more than 12 hours."""

_FAILED: Final = frozenset({FlowStatus.FAILED, FlowStatus.LOST})
_MEMBERS_GO_ON: Final = frozenset({"pending", "ready", "queued", "running", "waiting", "paused", "retrying"})


class Series(BaseModel):
    """What happened over a time, a number for each bin.

    Attributes:
        begin: Of the first bin, UTC.
        bin_seconds: How long a bin is.
        made: Flows that were made.
        completed: Flows that completed.
        failed: Flows that failed or were lost.
        queue_wait: 95 of 100 flows that were made then waited no longer, seconds; None where there was none.
        members: Members of groups that ended, evenly over the time that their group took.
        retries: Further attempts of steps.
        cached: Kept values that were given.
        missed: Values of tasks with a cache that were computed all the same.
        takeovers: Flows that were taken over from a process that was gone.
    """

    begin: datetime
    bin_seconds: float
    made: list[int] = Field(default_factory=list)
    completed: list[int] = Field(default_factory=list)
    failed: list[int] = Field(default_factory=list)
    queue_wait: list[float | None] = Field(default_factory=list)
    members: list[int] = Field(default_factory=list)
    retries: list[int] = Field(default_factory=list)
    cached: list[int] = Field(default_factory=list)
    missed: list[int] = Field(default_factory=list)
    takeovers: list[int] = Field(default_factory=list)


class Axis:
    """Bins over a time.

    Args:
        begin: Of the first.
        end: Of the last.
    """

    def __init__(self, begin: datetime, end: datetime) -> None:
        self.begin = begin
        self.width = max((end - begin).total_seconds(), 1.0) / BINS

    def place(self, at: datetime) -> int | None:
        """The bin that a time is in; None for one that is before or behind all of them."""
        bin_of_it = floor((at - self.begin).total_seconds() / self.width)
        return min(bin_of_it, BINS - 1) if 0 <= bin_of_it <= BINS else None

    def counted(self, things: Iterable[tuple[datetime | None, int]]) -> list[int]:
        """How many there are in each bin, of things at a time."""
        found = [0] * BINS
        for at, number in things:
            place = None if at is None else self.place(at)
            if place is not None:
                found[place] += number
        return found

    def spread(self, spans: Iterable[tuple[datetime, datetime, int]]) -> list[int]:
        """How many there are in each bin, of things that came evenly from a time to another one."""
        found = [0] * BINS
        for start, end, number in spans:
            seconds = max((end - start).total_seconds(), 0.001)
            before = (self.begin - start).total_seconds()
            shares = [min(1.0, max(0.0, (before + edge * self.width) / seconds)) for edge in range(BINS)]
            places = [*(round(number * share) for share in shares), number]
            for place in range(BINS):
                found[place] += places[place + 1] - places[place]
        return found


def series_of(
    flows: Sequence[FlowState],
    rows: Sequence[FlowStepState],
    takeovers: Sequence[datetime],
    begin: datetime | None,
    end: datetime,
) -> Series:
    """The series of flows, of their steps, and of times of takeovers.

    Args:
        flows: All of a time.
        rows: Visits of steps.
        takeovers: When flows were taken over.
        begin: From when on; that of the first flow when None.
        end: Until when, that is now.
    """
    first = begin or min((flow.created_at for flow in flows if flow.created_at is not None), default=end)
    axis = Axis(first, end)
    own = [row for row in rows if row.status not in {StepStatus.REUSED, StepStatus.CACHED}]
    return Series(
        begin=axis.begin.astimezone(UTC),
        bin_seconds=axis.width,
        made=axis.counted((flow.created_at, 1) for flow in flows),
        completed=axis.counted((flow.completed_at, 1) for flow in flows if flow.status is FlowStatus.COMPLETED),
        failed=axis.counted((flow.completed_at, 1) for flow in flows if flow.status in _FAILED),
        queue_wait=_waits(axis, flows),
        members=axis.spread(
            (row.started_at, row.completed_at or end, ended_members(row)) for row in own if row.started_at is not None
        ),
        retries=axis.counted((row.completed_at or row.started_at, row.attempts - 1) for row in own if row.attempts > 1),
        cached=axis.counted((row.completed_at, _given(row)) for row in rows),
        missed=axis.counted((row.completed_at, int(row.cache is not None and not row.cache["hit"])) for row in own),
        takeovers=axis.counted((at, 1) for at in takeovers),
    )


def ended_members(row: FlowStepState) -> int:
    """How many members of a group have ended, in whatever way."""
    return sum(number for state, number in (row.counts or {}).items() if state not in _MEMBERS_GO_ON)


def distribution(times: Iterable[float]) -> list[int]:
    """How many times, in seconds, are in each bin of a scale that all share: up to 1 ms, 2.2, 4.6, 10 and so on."""
    found = [0] * DISTRIBUTION
    for seconds in times:
        place = 0 if seconds <= SHORTEST else floor(3 * log10(seconds / SHORTEST)) + 1
        found[min(place, DISTRIBUTION - 1)] += 1
    return found if any(found) else []


def _given(row: FlowStepState) -> int:
    return int(row.status is StepStatus.CACHED) + (row.counts or {}).get(StepStatus.CACHED.value, 0)


def _waits(axis: Axis, flows: Sequence[FlowState]) -> list[float | None]:
    waits: list[list[float]] = [[] for _ in range(BINS)]
    for flow in flows:
        place = None if flow.created_at is None else axis.place(flow.created_at)
        if place is not None and flow.created_at is not None and flow.started_at is not None:
            waits[place].append(max(0.0, (flow.started_at - flow.created_at).total_seconds()))
    return [_p95(each) for each in waits]


def _p95(times: Sequence[float]) -> float | None:
    if len(times) < 2:
        return times[0] if times else None
    return quantiles(times, n=20, method="inclusive")[18]
