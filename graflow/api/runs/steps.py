"""The steps of a run: all of them in columns, and one of them with its attempts.

`GET /api/v1/{flow}/flows/{id}/steps`: one row for each step, of its last visit; steps that have not begun as well::

    {"steps": {"step": ["load", "pages", …], "status": ["completed", "running", …], "visit": [1, …],
               "visits": [1, …],                        how often it was executed so far
               "size": [null, 10000, …], "counts": [null, {"completed": 6484, …}, …],
               "strip": [null, [{"d": 160, "f": 2}, …], …],                  letters of states to members, by bucket
               "worker": […], "attempts": […], "queued_at": […], "started_at": […], "completed_at": […],
               "error": ["ValueError: …", …],           its first 200 characters
               "output_size": [12, …], "source": [null, …], "after": [[], ["load"], …]},
     "cursor": 18231, "now": "…Z"}                      events behind the cursor are what happens from here on

`GET …/steps/{step}?visit=`: one visit, the last one when none is named: the fields above, `inputs`, `outputs` (small
ones), `error_data` (type, message, traceback, cause), `attempt_history` (number, started_at, ended_at, worker, error),
`execution_time`, `run_key`, `before`, `waits` (`queue`: seconds until it began) and `links`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED, answer, columns_of
from graflow.api.http.etags import is_known, not_modified, tag_of, tagged
from graflow.api.http.problems import described
from graflow.api.http.service import Served, Service
from graflow.api.runs.listing import record_of, record_tag
from graflow.exceptions import FlowNotFoundError
from graflow.flows.recording.flow_graph import FlowGraph
from graflow.flows.registry import near
from graflow.state.models import FlowState, FlowStepState
from graflow.text.shown import one_line

router = APIRouter(tags=["steps"])

_HEADLINE: Final = 200  # characters of an error
_ROW: Final = (
    *("status", "visit", "visits", "size", "counts", "strip", "worker", "attempts", "queued_at", "started_at"),
    *("completed_at", "error", "output_size", "source", "progress"),
)

Visit = Annotated[int | None, Query(ge=1, lt=2**31, description="Which execution of the step; the last one if none.")]


class Steps(BaseModel):
    """All steps of a run.

    Attributes:
        steps: A list of values for each name, one for each step.
        cursor: Events behind it are what happens from here on.
        now: The server's time, UTC.
    """

    steps: dict[str, list[Any]]
    cursor: int
    now: datetime


class Waits(BaseModel):
    """How long it waited: seconds from when it was ready until it began."""

    queue: float | None = None


class StepDetail(FlowStepState):
    """One visit of a step.

    Attributes:
        step: Its name.
        visits: How often it was executed so far.
        after: The steps that it follows.
        before: The steps that follow it.
        waits: How long it waited.
        links: Addresses of what belongs to it.
    """

    step: str
    visits: int = 1
    after: list[str] = Field(default_factory=list)
    before: list[str] = Field(default_factory=list)
    waits: Waits = Field(default_factory=Waits)
    links: dict[str, str] = Field(default_factory=dict)


@router.get("/{flow}/flows/{flow_id}/steps", response_model=Steps, responses={**NOT_MODIFIED, **described(404)})
def steps(flow: str, flow_id: str, request: Request, service: Served) -> Response:
    """All steps of a run, in columns."""
    record = record_of(service, flow, flow_id)
    tag = record_tag(record)
    if is_known(request, tag):
        return not_modified(tag)
    state = service.runner.get_flow_state(flow_id)
    graph = graph_of(service, state)
    last = last_visits(state)
    before = _before(graph)
    rows = [
        [node, *_row(last.get(node), size), before.get(node, [])]
        for node, size in zip(graph.nodes, graph.sizes, strict=True)
    ]
    made = {"steps": columns_of(("step", *_ROW, "after"), rows), "cursor": record.seq, "now": service.now()}
    return answer(request, tag, made)


@router.get(
    "/{flow}/flows/{flow_id}/steps/{step:path}", response_model=StepDetail, responses={**NOT_MODIFIED, **described(404)}
)
def step(flow: str, flow_id: str, step: str, request: Request, service: Served, visit: Visit = None) -> Response:
    """One step of a run, with its attempts."""
    record = record_of(service, flow, flow_id)
    state = service.runner.get_flow_state(flow_id)
    graph = graph_of(service, state)
    row = visit_of(state, graph, step, visit)
    visits = max((each.visit for each in state.steps if each.step_name == step), default=0)
    after = [graph.nodes[b] for a, b in graph.edges if graph.nodes[a] == step]
    base = service.address(f"{quote(flow, safe='')}/flows/{quote(flow_id, safe='')}/steps/{quote(step, safe='')}")
    links = {"self": base, **{name: f"{base}/payload/{name}" for name in ("inputs", "outputs", "error")}}
    if row.size:
        links |= {"members": f"{base}/members", "strip": f"{base}/strip"}
    waited = (row.started_at - row.queued_at).total_seconds() if row.started_at and row.queued_at else None
    made = StepDetail(
        **row.model_dump(),
        step=step,
        visits=visits,
        after=_before(graph).get(step, []),
        before=after,
        waits=Waits(queue=waited),
        links=links,
    )
    return tagged(request, made, tag_of(record_tag(record), step, row.visit))


def graph_of(service: Service, state: FlowState) -> FlowGraph:
    """The graph of a run whose steps were read."""
    return FlowGraph.of(service.runner.player.planned(state.flow_id), state.steps)


def last_visits(state: FlowState) -> dict[str, FlowStepState]:
    """The last visit of each step that has begun."""
    found: dict[str, FlowStepState] = {}
    for row in state.steps:
        known = found.get(row.step_name)
        if known is None or row.visit >= known.visit:
            found[row.step_name] = row
    return found


def visit_of(state: FlowState, graph: FlowGraph, step: str, visit: int | None) -> FlowStepState:
    """A visit of a step, the last one when None; a row of its own for one that has not begun.

    Raises:
        FlowNotFoundError: When there is none.
    """
    rows = [row for row in state.steps if row.step_name == step and visit in {None, row.visit}]
    if rows:
        return max(rows, key=lambda row: row.visit)
    if step in graph.nodes and visit in {None, 1}:
        return FlowStepState(step_name=step, size=graph.sizes[list(graph.nodes).index(step)])
    which = f"visit {visit} of step {one_line(step)!r}" if visit is not None else f"step {one_line(step)!r}"
    raise FlowNotFoundError(f"Flow '{state.flow_id}' has no {which}{near(step, sorted(graph.nodes))}")


def row_of(row: FlowStepState) -> dict[str, Any]:
    """The fields of a step that tables and events have."""
    return dict(zip(_ROW, _row(row, row.size), strict=True))


def _row(row: FlowStepState | None, size: int | None) -> list[Any]:
    if row is None:
        return ["pending", 1, 0, size, *[None] * 3, 0, *[None] * 7]
    error = None if row.error is None else one_line(row.error)[:_HEADLINE]
    return [
        *(row.status.value, row.visit, row.visit, row.size or size, row.counts, row.strip, row.worker, row.attempts),
        *(row.queued_at, row.started_at, row.completed_at, error, row.output_size, row.source),
        row.progress,
    ]


def _before(graph: FlowGraph) -> Mapping[str, list[str]]:
    """By step, those that it follows."""
    found: dict[str, list[str]] = {}
    for source, target in graph.edges:
        found.setdefault(graph.nodes[target], []).append(graph.nodes[source])
    return found
