"""What came of many flows: ends, times, retries, members; each figure with how many things it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from statistics import quantiles
from typing import Final

from pydantic import BaseModel, Field

from graflow.flows.verbs.series import Series, distribution, ended_members, series_of
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore

LOOKED_INTO: Final = 1000
"""Flows whose steps are looked into, the newest; ends are counted over all."""

_PAGE: Final = 200
_ELSEWHERE: Final = frozenset({StepStatus.REUSED, StepStatus.CACHED})
_ENDS: Final = (FlowStatus.COMPLETED, FlowStatus.FAILED, FlowStatus.LOST)

_Rows = dict[tuple[str, str], list[FlowStepState]]


class Spread(BaseModel):
    """How times are spread.

    Attributes:
        population: How many times these are.
        p50: Half of them are no longer, seconds; None where there is none.
        p95: 95 of 100 are no longer.
        longest: The longest.
    """

    population: int = 0
    p50: float | None = None
    p95: float | None = None
    longest: float | None = None

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """The spread of these seconds."""
        if not times:
            return cls()
        cuts = quantiles(times, n=20, method="inclusive") if len(times) > 1 else [times[0]] * 19
        return cls(population=len(times), p50=cuts[9], p95=cuts[18], longest=max(times))


class StepStats(BaseModel):
    """One step of all flows of a name.

    Attributes:
        flow_name: The flows.
        step_name: The step.
        population: Visits of it that have begun.
        completed: Of those, how many ended well in their own flow.
        failed: How many failed.
        retries: Further attempts, in all.
        reused: Outcomes that came from another flow.
        cached: Kept values that were given: of the step itself, or of members of it.
        missed: Outcomes of a task with a cache that were computed all the same; those of members are not told apart.
        seconds: From the start of the first attempt to the end, where it ended.
        members: Members of its groups by state.
        distribution: How many of the times are in each bin of a scale that is the same for all steps: up to 1 ms, 2.2,
            4.6, 10 and so on, and longer than 12 hours; empty where there is none.
    """

    flow_name: str
    step_name: str
    population: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0
    reused: int = 0
    cached: int = 0
    missed: int = 0
    seconds: Spread = Field(default_factory=Spread)
    members: dict[str, int] = Field(default_factory=dict)
    distribution: list[int] = Field(default_factory=list)


class FlowStats(BaseModel):
    """What came of flows.

    Attributes:
        flow_name: Of this name; of all names when None.
        since: Made at this time or later, UTC; ever when None.
        population: Flows that this is about.
        flows: Those by state.
        success_rate: Of those that completed, failed or were lost, the share that completed; None where there is none.
        looked_into: The newest of them, whose times and steps the rest is about.
        seconds: From their first claim to their end, where they ended.
        queue_wait: Seconds from their making to their first claim.
        cached: Those of them whose whole outcome was kept; their times do not count.
        takeovers: How often one was taken over from a process that was gone.
        members: Members of groups that have ended.
        members_a_second: Of those of groups that have ended, by the time that these took; None where there is none.
        store_bytes: What the store takes, of its file or of its server's memory; None where nobody knows.
        series: The same over the time: of all flows, and of steps and members of those that are looked into.
        steps: Each step, that with the most time in all first.
    """

    flow_name: str | None = None
    since: datetime | None = None
    population: int = 0
    flows: dict[str, int] = Field(default_factory=dict)
    success_rate: float | None = None
    looked_into: int = 0
    seconds: Spread = Field(default_factory=Spread)
    queue_wait: Spread = Field(default_factory=Spread)
    cached: int = 0
    takeovers: int = 0
    members: int = 0
    members_a_second: float | None = None
    store_bytes: int | None = None
    series: Series | None = None
    steps: list[StepStats] = Field(default_factory=list)


def stats_of(store: StateStore, flow_name: str | None, since: datetime | None, now: datetime) -> FlowStats:
    """Count the flows of a store; those that end meanwhile may count as either."""
    found = list(_listed(store, flow_name, None if since is None else since.timestamp()))
    ends = Counter(flow.status for flow in found)
    ended = sum(ends[end] for end in _ENDS)
    newest = found[:LOOKED_INTO]
    rows = _rows(store, newest)
    every = [row for visits in rows.values() for row in visits]
    takeovers = [at for flow in newest if flow.epoch > 1 for at in _takeovers(store, flow)]
    return FlowStats(
        flow_name=flow_name,
        since=since,
        population=len(found),
        flows={status.value: ends[status] for status in FlowStatus if ends[status]},
        success_rate=ends[FlowStatus.COMPLETED] / ended if ended else None,
        looked_into=len(newest),
        seconds=Spread.of(
            [
                flow.total_execution_time or 0.0
                for flow in newest
                if flow.completed_at is not None and not _is_kept(flow)
            ]
        ),
        cached=sum(map(_is_kept, newest)),
        queue_wait=Spread.of(list(_seconds((flow.created_at, flow.started_at) for flow in newest))),
        takeovers=len(takeovers),
        members=sum(ended_members(row) for row in every if row.status not in _ELSEWHERE),
        members_a_second=_pace(every),
        store_bytes=store.size(),
        series=series_of(found, every, takeovers, since, now),
        steps=_steps(rows),
    )


def _listed(store: StateStore, flow_name: str | None, since: float | None) -> Iterator[FlowState]:
    cursor = None
    while True:
        page = store.list_flows(flow_name=flow_name, since=since, cursor=cursor, limit=_PAGE)
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def _seconds(spans: Iterable[tuple[datetime | None, datetime | None]]) -> Iterator[float]:
    for start, end in spans:
        if start is not None and end is not None:
            yield max(0.0, (end - start).total_seconds())


def _is_kept(flow: FlowState) -> bool:
    return flow.cache is not None and bool(flow.cache.get("hit"))


def _takeovers(store: StateStore, flow: FlowState) -> list[datetime]:
    return [
        datetime.fromtimestamp(line.at, UTC) for line in store.events(flow.flow_id) if line.kind == "flow.taken_over"
    ]


def _rows(store: StateStore, flows: Sequence[FlowState]) -> _Rows:
    """Visits of steps, by flow and step."""
    rows: _Rows = {}
    for listed in flows:
        flow = store.get_flow_state(listed.flow_id)
        for row in flow.steps if flow is not None else ():
            rows.setdefault((listed.flow_name, row.step_name), []).append(row)
    return rows


def _pace(rows: Sequence[FlowStepState]) -> float | None:
    """Members a second of groups that ran here and have ended."""
    groups = [row for row in rows if row.counts and row.execution_time and row.status not in _ELSEWHERE]
    took = sum(row.execution_time or 0.0 for row in groups)
    return sum(map(ended_members, groups)) / took if took else None


def _steps(rows: _Rows) -> list[StepStats]:
    total = {key: sum(row.execution_time or 0.0 for row in visits) for key, visits in rows.items()}
    return [_step(*key, rows[key]) for key in sorted(rows, key=lambda key: (-total[key], key))]


def _step(flow_name: str, step_name: str, rows: Sequence[FlowStepState]) -> StepStats:
    ends = Counter(row.status for row in rows)
    own = [row for row in rows if row.status not in _ELSEWHERE]
    times = [row.execution_time for row in own if row.execution_time is not None]
    members = Counter[str]()
    for row in own:
        members.update(row.counts or {})
    return StepStats(
        flow_name=flow_name,
        step_name=step_name,
        population=sum(row.started_at is not None for row in own),
        completed=ends[StepStatus.COMPLETED],
        failed=ends[StepStatus.FAILED],
        retries=sum(max(0, row.attempts - 1) for row in own),
        reused=ends[StepStatus.REUSED],
        cached=ends[StepStatus.CACHED] + members[StepStatus.CACHED.value],
        missed=sum(row.cache is not None and not row.cache["hit"] for row in own),
        seconds=Spread.of(times),
        distribution=distribution(times),
        members={state: number for state, number in members.items() if number},
    )
