"""Members of groups: pages of light rows, one member, and the strip of all of them.

`GET …/steps/{step}/members?status=failed&search=&sort=index|duration|started&offset=0&limit=100&visit=`::

    {"rows": [[417, "failed", 3, "bor-2", "2026-…Z", "2026-…Z"], …],   index, status, attempts, worker, start, end
     "total": 75, "size": 10000, "offset": 0}                          how many there are like this, and in all

Members that workers run are `running` from when they are taken, also before the flow has heard of them.

`duration` is the longest first, `started` the first first; what has not begun comes last. `search` looks into worker
and error, and finds a member by its number.

`GET …/steps/{step}/members/{index}?visit=`: one member with the fields of a step; one that runs has its `progress`.

`GET …/steps/{step}/strip?buckets=60&visit=`::

    {"size": 10000, "counts": {"completed": 6484, …}, "buckets": [{"d": 160, "f": 2, "p": 5}, …]}     letters of states
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED, answer, moment
from graflow.api.http.etags import is_known, not_modified, tag_of
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.api.runs.listing import record_of, record_tag
from graflow.api.runs.member_table import MemberTable, MemberTables, Place, Row, matching, ordered, shown_row
from graflow.api.runs.steps import Visit, graph_of, visit_of
from graflow.exceptions import FlowNotFoundError
from graflow.flows.claims import Claims, claims_of, counted_over, laid_over
from graflow.secret import masked
from graflow.state.changes import FlowRecord
from graflow.state.groups.members import MemberFacts
from graflow.state.groups.strips import BUCKETS, LETTERS, Strip, first_of
from graflow.state.models import FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus

router = APIRouter(tags=["members"])

MOST_ROWS: Final = 500
_TIMES: Final = ("queued_at", "started_at")
_SUCCESSES: Final = frozenset(each for each in StepStatus if each.is_success)
_ENDS: Final = _SUCCESSES | {StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED}
"""States in which no member is that a worker runs."""
_tables: Final = MemberTables()

Statuses = Annotated[
    list[str] | None, Query(alias="status", description="In one of these states: repeated, or with commas.")
]


class MemberRows(BaseModel):
    """A part of the members of a group.

    Attributes:
        rows: Index, status, attempts, worker, start and end of each.
        total: How many there are like this.
        size: How many there are in all.
        offset: How many of those like this come before.
    """

    rows: list[Row]
    total: int
    size: int
    offset: int


class StripAnswer(BaseModel):
    """Members in order, put together in buckets: letters of states to how many are in them."""

    size: int
    counts: dict[str, int]
    buckets: list[dict[str, int]]


@router.get(
    "/{flow}/flows/{flow_id}/steps/{step:path}/members",
    response_model=MemberRows,
    responses={**NOT_MODIFIED, **described(404)},
)
def members(
    flow: str,
    flow_id: str,
    step: str,
    request: Request,
    service: Served,
    status: Statuses = None,
    search: Annotated[str | None, Query(max_length=1000, description="In worker or error, or a number.")] = None,
    sort: Annotated[Literal["index", "duration", "started"], Query(description="In which order.")] = "index",
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    visit: Visit = None,
) -> Response:
    """A part of the members of a group."""
    record = record_of(service, flow, flow_id)
    wanted = statuses_of(status)
    group, claims = _running(service, record, step, visit)
    tag = tag_of(record_tag(record), step, visit, wanted, search, sort, offset, limit, claims)
    if is_known(request, tag):
        return not_modified(tag)
    group = group or group_of(service, record, step, visit)
    size = group.size or 0
    if sort == "index" and not search and not wanted:
        first, end = offset, offset + limit
        found = laid_over(service.store.member_facts(flow_id, step, visit=group.visit, first=first, end=end), claims)
        total = size
    elif wanted and sort == "index" and not search and group.strip and (not claims or _ENDS.issuperset(wanted)):
        first, end, before = _range_of(group.strip, size, {status.letter for status in wanted}, offset, limit)
        rows = service.store.member_facts(flow_id, step, visit=group.visit, first=first, end=end, status=wanted)
        found = rows[offset - before :][:limit]
        total = sum((group.counts or {}).get(status.value, 0) for status in wanted)
    else:
        table, now = table_of(service, record, group), service.clock()
        if wanted or search or claims:
            rows = laid_over(table.rows, claims)
            rows = ordered(matching(rows, {status.value for status in wanted}, search or ""), sort, now)
        else:
            rows = table.ordered(sort, now)
        found, total = rows[offset : offset + limit], len(rows)
    made = {"rows": [shown_row(row) for row in found], "total": total, "size": size, "offset": offset}
    return answer(request, tag, made)


@router.get(
    "/{flow}/flows/{flow_id}/steps/{step:path}/members/{index}",
    response_model=FlowStepState,
    responses={**NOT_MODIFIED, **described(404)},
)
def member(
    flow: str, flow_id: str, step: str, index: int, request: Request, service: Served, visit: Visit = None
) -> Response:
    """One member of a group."""
    record = record_of(service, flow, flow_id)
    _, claims = _running(service, record, step, visit, with_progress=True)
    claim = claims.get(index, {})
    tag = tag_of(record_tag(record), step, visit, index, claim)
    if is_known(request, tag):
        return not_modified(tag)
    found = member_at(service, record, step, visit, index)
    runs = claim if found.status is StepStatus.PENDING else {}  # what has ended since then stays so
    told = {name: moment(value) if name in _TIMES else value for name, value in runs.items()}
    return answer(request, tag, {"step": step, **found.model_dump(mode="json"), **told, "inputs": masked(found.inputs)})


@router.get(
    "/{flow}/flows/{flow_id}/steps/{step:path}/strip",
    response_model=StripAnswer,
    responses={**NOT_MODIFIED, **described(404)},
)
def strip(
    flow: str,
    flow_id: str,
    step: str,
    request: Request,
    service: Served,
    buckets: Annotated[int, Query(ge=1, le=1000, description="Into how many parts members are divided.")] = BUCKETS,
    visit: Visit = None,
) -> Response:
    """How far all members of a group are, in their order."""
    record = record_of(service, flow, flow_id)
    group, claims = _running(service, record, step, visit)
    tag = tag_of(record_tag(record), step, visit, buckets, sorted(claims))
    if is_known(request, tag):
        return not_modified(tag)
    group = group or group_of(service, record, step, visit)
    size, kept = group.size or 0, group.strip or []
    wanted = min(buckets, size)
    counts, found = counted_over(group.counts or {}, kept, size, claims)
    if wanted != len(kept):
        found = _divided(laid_over(table_of(service, record, group).rows, claims), size, wanted)
    return answer(request, tag, {"size": size, "counts": counts, "buckets": found})


# -- parts -------------------------------------------------------------------------------------------------------------


def _running(
    service: Service, record: FlowRecord, step: str, visit: int | None, *, with_progress: bool = False
) -> tuple[FlowStepState | None, Claims]:
    """A group of a run that goes on, with its members that workers run; None, without being read, of another one."""
    if record.status is not FlowStatus.RUNNING:
        return None, {}
    group = group_of(service, record, step, visit)
    return group, claims_of(service.runner, group, with_progress=with_progress)


def group_of(service: Service, record: FlowRecord, step: str, visit: int | None) -> FlowStepState:
    """A visit of a group, the last one when None.

    Raises:
        FlowNotFoundError: When there is none, or it is a single step.
    """
    state = service.runner.get_flow_state(record.flow_id)
    found = visit_of(state, graph_of(service, state), step, visit)
    if not found.size:
        raise FlowNotFoundError(f"Step '{step}' of flow '{record.flow_id}' has no members: it is no group")
    return found


def member_at(service: Service, record: FlowRecord, step: str, visit: int | None, index: int) -> FlowStepState:
    """One member of a group.

    Raises:
        FlowNotFoundError: When there is none.
    """
    group = group_of(service, record, step, visit)
    if not 0 <= index < (group.size or 0):
        raise FlowNotFoundError(f"Group '{step}' of flow '{record.flow_id}' has no member {index}; it has {group.size}")
    cursor = str(index - 1) if index else None
    page = service.store.list_members(record.flow_id, step, visit=group.visit, cursor=cursor, limit=1)
    return page[0] if page else FlowStepState(step_name=step, visit=group.visit, index=index)


def table_of(service: Service, record: FlowRecord, group: FlowStepState) -> MemberTable:
    """All members of a group as light rows."""
    place = Place(record.flow_id, record.fields.get("created_at"), group.step_name, group.visit)
    return _tables.of(service.store, place, record.seq)


def _range_of(strip: Strip, size: int, letters: Collection[str], offset: int, limit: int) -> tuple[int, int, int]:
    """Between which members a part of those in some states is, and how many of them come before: by the strip."""
    begin, before, counted = 0, 0, 0
    for bucket, counts in enumerate(strip):
        counted += sum(counts.get(letter, 0) for letter in letters)
        if counted <= offset:
            begin, before = bucket + 1, counted
        elif counted >= offset + limit:
            return first_of(begin, size), first_of(bucket + 1, size), before
    return first_of(begin, size), size, before


def _divided(rows: Sequence[MemberFacts], size: int, buckets: int) -> list[dict[str, int]]:
    found: list[Counter[str]] = [Counter() for _ in range(buckets)]
    for row in rows:
        if row.number < size:
            found[min(row.number * buckets // size, buckets - 1)][LETTERS.get(row.status, row.status)] += 1
    return [dict(counts) for counts in found]


def statuses_of(given: list[str] | None) -> list[StepStatus]:
    """The states that a question names.

    Raises:
        ProblemError: For what is none.
    """
    names = [name.strip() for each in given or () for name in each.split(",") if name.strip()]
    known = {status.value for status in StepStatus}
    for name in names:
        if name not in known:
            raise ProblemError(422, "request-invalid", f"status is one of {', '.join(sorted(known))}, not {name!r}")
    return [StepStatus(name) for name in dict.fromkeys(names)]
