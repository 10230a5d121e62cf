"""Runs as they are: lists of them, the state of one, and its summary with what may be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.bodies import Search, Since, Statuses, names_of, since_of, statuses_of
from graflow.api.http.etags import is_known, not_modified, tag_of, tagged
from graflow.api.http.paging import Cursor, Limit, Page
from graflow.api.http.problems import described
from graflow.api.http.service import Served, Service
from graflow.api.runs.allowed import Allowed, allowed_actions
from graflow.exceptions import FlowNotFoundError
from graflow.flows.registry import near
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowPage, FlowState, json_of
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.text.shown import one_line

router = APIRouter(tags=["runs"])

_HEADLINE: Final = 200  # characters of an error
_NOW: Final = 3  # running steps that a row names
_WAITING: Final = StepStatus.WAITING.value  # of runs: some step waits, and none runs
_PAGES: Final = 20  # of the store that are looked through for one of runs that wait
_LOOKED_INTO: Final = frozenset({FlowStatus.RUNNING, FlowStatus.CANCELLING})
_ACTIVE: Final = tuple(status for status in FlowStatus if not status.is_terminal)
_NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "As the tag says that you have it"}}
_ONE: Final = {**_NOT_MODIFIED, **described(404)}
_MANY: Final = {**_NOT_MODIFIED, **described(404)}


class StepNow(BaseModel):
    """A step that runs.

    Attributes:
        step: Its name.
        status: Where it is.
        size: For a group, how many members it has.
        done: For a group, how many of these have ended.
    """

    step: str
    status: StepStatus
    size: int | None = None
    done: int | None = None


class RunRow(BaseModel):
    """A run in a list: what is small.

    Attributes:
        flow_id: Its id.
        flow_name: Its flow.
        status: Where it is.
        counts: Its steps by state.
        now: Up to three steps that run.
        error: The first 200 characters of what it failed with.
        created_at: UTC.
        started_at: When it was first claimed, UTC.
        completed_at: When it ended, UTC.
        total_execution_time: Seconds from its first claim to its end, or until now.
        degraded: Whether a part of it ran without being recorded.
        parent_flow_id: The run that it was forked from, or that started it.
        parent_step: The step of that run.
        wake_at: When it goes on by itself, UTC.
    """

    flow_id: str
    flow_name: str
    status: FlowStatus
    counts: dict[str, int] = Field(default_factory=dict)
    now: list[StepNow] = Field(default_factory=list)
    error: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    total_execution_time: float | None = None
    degraded: bool = False
    parent_flow_id: str | None = None
    parent_step: str | None = None
    wake_at: datetime | None = None


class RunPage(Page[RunRow]):
    """One page of runs, newest first.

    Attributes:
        now: The server's time, UTC.
    """

    now: datetime | None = None


class Lineage(BaseModel):
    """Where a run comes from.

    Attributes:
        parent_flow_id: The run that it was forked from, or that started it.
        parent_flow_name: The flow of that run, where it is still there.
        parent_step: The step of that run.
    """

    parent_flow_id: str
    parent_flow_name: str | None = None
    parent_step: str | None = None


class RunSummary(RunRow):
    """A run without its steps, and what may be asked of it.

    Attributes:
        inputs: As given; values under keys that look secret are masked.
        metadata: As the caller gave it.
        durability: `required`, `best_effort` or `off`.
        version: Counts changes.
        epoch: Counts owners.
        generation: Counts sessions: retry and fork begin a new one.
        owner: The process that runs it.
        takeovers: How often in a row it was taken over at its current step.
        error_data: What it failed with, with its traceback and causes.
        lineage: Where it comes from; None for one that was started by itself.
        allowed_actions: Each action with whether it may be asked for, and why not.
        cursor: The place in its journal of which this is the picture: events behind it are news.
        seen_at: The server's time, UTC.
    """

    inputs: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    durability: str = "best_effort"
    version: int = 0
    epoch: int = 0
    generation: int = 0
    owner: str | None = None
    takeovers: int = 0
    error_data: dict[str, Any] | None = None
    lineage: Lineage | None = None
    allowed_actions: dict[str, Allowed] = Field(default_factory=dict)
    cursor: int = 0
    seen_at: datetime | None = None


@router.get("/runs", response_model=RunPage, responses=_NOT_MODIFIED)
def runs(
    request: Request,
    service: Served,
    status: Statuses = None,
    flow: Annotated[str | None, Query(max_length=200, description="Of this name.")] = None,
    search: Search = None,
    since: Since = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Runs of all flows, newest first, as light rows.

    Beside states `status` may be `waiting`: those queued ones that rest for a person or a time.
    """
    found = _found(service, status, flow, search, since_of(since, service.now()), cursor, limit)
    page = RunPage(items=[row_of(service, state) for state in found], next_cursor=found.next_cursor)
    tag = tag_of(json_of(page, exclude={"items": {"__all__": {"total_execution_time"}}}))
    return tagged(request, page, tag, now=service.now())


@router.get("/{flow}/flows", response_model=Page[FlowState], responses=_MANY)
def flows(
    flow: str,
    request: Request,
    service: Served,
    status: Statuses = None,
    search: Search = None,
    since: Since = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Runs of one flow, newest first, without their steps and outputs."""
    return _listed(request, service, flow, statuses_of(status), search, since, cursor, limit)


@router.get("/{flow}/active-flows", response_model=Page[FlowState], responses=_MANY)
def active_flows(
    flow: str,
    request: Request,
    service: Served,
    status: Statuses = None,
    search: Search = None,
    since: Since = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Runs of one flow that have not ended, newest first."""
    wanted = statuses_of(status)
    active = [each for each in wanted or _ACTIVE if each in _ACTIVE]
    if not active:
        return tagged(request, Page[FlowState](items=[]))
    return _listed(request, service, flow, active, search, since, cursor, limit)


@router.get("/{flow}/status/{flow_id}", response_model=FlowState, responses=_ONE)
def status(flow: str, flow_id: str, request: Request, service: Served) -> Response:
    """The state of a run with its steps."""
    record = record_of(service, flow, flow_id)
    tag = record_tag(record)
    if is_known(request, tag):
        return not_modified(tag)
    return tagged(request, service.runner.get_flow_state(flow_id), tag)


@router.get("/runs/{flow_id}", response_model=RunSummary, responses=_ONE)
def run(flow_id: str, request: Request, service: Served) -> Response:
    """A run without its steps, for those who know its id and not its flow."""
    record = service.store.get_record(flow_id)
    if record is None:
        raise FlowNotFoundError(f"Flow {flow_id} not found")
    return _summary(request, service, record)


@router.get("/{flow}/flows/{flow_id}", response_model=RunSummary, responses=_ONE)
def summary(flow: str, flow_id: str, request: Request, service: Served) -> Response:
    """A run without its steps: how far it is, where it comes from, and what may be asked of it."""
    return _summary(request, service, record_of(service, flow, flow_id))


def _summary(request: Request, service: Service, record: FlowRecord) -> Response:
    flow_id = record.flow_id
    is_registered = service.registry.find(record.flow_name) is not None
    tag = tag_of(record_tag(record), is_registered)
    if is_known(request, tag):
        return not_modified(tag)
    state = service.runner.get_flow_state(flow_id)
    shared = state.model_dump(include=set(RunSummary.model_fields) - {"error"})
    made = RunSummary(
        **shared,
        error=_headline(state),
        now=_steps_now(state),
        lineage=_lineage(service, state),
        allowed_actions=allowed_actions(service, state),
        cursor=state.seq,
        seen_at=service.now(),
    )
    return tagged(request, made, tag)


# -- parts -------------------------------------------------------------------------------------------------------------


def record_of(service: Service, flow: str, flow_id: str) -> FlowRecord:
    """The row of a run of a flow.

    Raises:
        FlowNotFoundError: When there is none of this id, or it is one of another flow.
    """
    record = service.store.get_record(flow_id)
    if record is None:
        raise FlowNotFoundError(f"Flow {flow_id} not found")
    if record.flow_name != flow:
        raise FlowNotFoundError(f"Flow {flow_id} not found: it is one of '{record.flow_name}', not of '{flow}'")
    return record


def record_tag(record: FlowRecord) -> str:
    """The tag of what is made from a run alone."""
    return tag_of(record.flow_id, record.version, record.epoch, record.status, record.seq, record.requests)


def row_of(service: Service, state: FlowState) -> RunRow:
    """A run as a list shows it; one that runs is looked into for its steps."""
    now: list[StepNow] = []
    if state.status in _LOOKED_INTO:
        whole = service.store.get_flow_state(state.flow_id)
        now = [] if whole is None else _steps_now(whole)
    shared = state.model_dump(include=set(RunRow.model_fields) - {"error"})
    return RunRow(**shared, error=_headline(state), now=now)


def _steps_now(state: FlowState) -> list[StepNow]:
    running = set(state.current_steps)
    rows = [step for step in state.steps if step.step_name in running and step.completed_at is None]
    return [
        StepNow(
            step=step.step_name,
            status=step.status,
            size=step.size,
            done=None if step.counts is None else _ended(step.counts),
        )
        for step in rows[-_NOW:]
    ]


def _ended(counts: dict[str, int]) -> int:
    ends = {StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED}
    return sum(counts.get(status.value, 0) for status in StepStatus if status.is_success or status in ends)


def _headline(state: FlowState) -> str | None:
    return None if state.error is None else one_line(state.error)[:_HEADLINE]


def _lineage(service: Service, state: FlowState) -> Lineage | None:
    if state.parent_flow_id is None:
        return None
    parent = service.store.get_record(state.parent_flow_id)
    return Lineage(
        parent_flow_id=state.parent_flow_id,
        parent_flow_name=None if parent is None else parent.flow_name,
        parent_step=state.parent_step,
    )


def _listed(
    request: Request,
    service: Service,
    flow: str,
    wanted: Sequence[FlowStatus],
    search: str | None,
    since: str | None,
    cursor: str | None,
    limit: int,
) -> Response:
    earliest = since_of(since, service.now())
    found = service.runner.list_flows(flow, wanted, search, cursor, limit, since=earliest)
    if not found and service.registry.find(flow) is None and not service.runner.list_flows(flow, limit=1):
        raise FlowNotFoundError(f"Flow {flow} not found: no flow has this name{near(flow, service.registry.names())}")
    return tagged(request, _page(found), _page_tag(found))


def _found(
    service: Service,
    status: list[str] | None,
    flow: str | None,
    search: str | None,
    since: float | None,
    cursor: str | None,
    limit: int,
) -> FlowPage:
    """A page of runs, which is short where few of many queued ones wait."""
    names = names_of(status)
    wanted = statuses_of(names, _WAITING)
    if _WAITING not in names or FlowStatus.QUEUED in wanted:
        return service.runner.list_flows(flow, wanted, search, cursor, limit, since=since)
    items: list[FlowState] = []
    for _ in range(_PAGES):
        page = service.runner.list_flows(
            flow, [*wanted, FlowStatus.QUEUED], search, cursor, limit - len(items), since=since
        )
        items += [each for each in page if each.status is not FlowStatus.QUEUED or each.counts.get(_WAITING)]
        cursor = page.next_cursor
        if cursor is None or len(items) == limit:
            break
    return FlowPage(items=items, next_cursor=cursor)


def _page(found: FlowPage) -> Page[FlowState]:
    return Page[FlowState](items=found.items, next_cursor=found.next_cursor)


def _page_tag(found: FlowPage) -> str:
    rows = [(each.flow_id, each.version, each.epoch, each.status, each.seq) for each in found]
    return tag_of(rows, found.next_cursor)
