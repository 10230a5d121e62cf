"""Workers, queues and groups on them, as a plug-in tells; without one, or without its servers, nothing and the reason.

`GET /api/v1/workers`::

    {"items": [{"name": "ada-0", "status": "running", "queues": ["graflow"], "slots": 4, "busy": 2,
                "now": [{"run_id": "…", "name": "pages", "index": 417}], "beat": "…Z", "version": "0.1.0",
                "done": 1200, "lost": 1, "is_same_code": true}],
     "reason": null}

`done` counts members that it has ended since it was started, `lost` those that died with a process of it, and
`is_same_code` is false for one whose tasks, or sources of them, are not those of most with the same modules.

`GET /api/v1/queues`::

    {"items": [{"name": "graflow", "messages": 12, "workers": 2, "slots": 8, "oldest": "…Z", "done": 4800}],
     "reason": null}

`oldest` is since when members wait there, null when no message does; `done` counts what workers that live have ended.

Groups outside of flows, that is of `submit` and of workflows on workers, the newest first:
`GET /api/v1/groups?status=&cursor=&limit=50`::

    {"items": [{"run_id": "…", "name": "pages", "status": "running", "size": 100, "counts": {"completed": 20, …},
                "started_at": "…Z", "completed_at": null, "queue": "graflow", "reason": null}],
     "next_cursor": "50" or null, "reason": null}

`GET /api/v1/groups/{run_id}` has one, with `parent_run`, `executions`, `losses` and `retries`; `…/members` and
`…/members/{index}` are as those of steps; one that runs has its `progress`: `{"done": 62, "total": 100, "message": …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED, answer, moment
from graflow.api.http.etags import tag_of
from graflow.api.http.paging import Limit
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.api.runs.member_table import matching, ordered, shown_row
from graflow.api.runs.members import MOST_ROWS, MemberRows, Statuses
from graflow.exceptions import ConfigError, GraflowError, GroupNotFoundError
from graflow.flows.plugged import ClusterViews, views_of
from graflow.state.groups.members import MemberFacts

router = APIRouter(tags=["cluster"])

_TIMES: Final = ("queued_at", "started_at", "completed_at", "beat")

Facts = Mapping[str, Any]


class Told(BaseModel):
    """What there is, or why nothing can be told."""

    items: list[dict[str, Any]]
    reason: str | None = None


class GroupPage(Told):
    """One page of groups."""

    next_cursor: str | None = None


@router.get("/workers", response_model=Told, responses=NOT_MODIFIED)
def workers(request: Request, service: Served) -> Response:
    """The workers that live, and what they run."""
    return _told(request, *_asked(service, ClusterViews.workers.__name__))


@router.get("/queues", response_model=Told, responses=NOT_MODIFIED)
def queues(request: Request, service: Served) -> Response:
    """Queues, how many messages are in them, and how many workers listen."""
    return _told(request, *_asked(service, ClusterViews.queues.__name__))


@router.get("/groups", response_model=GroupPage, responses=NOT_MODIFIED)
def groups(
    request: Request,
    service: Served,
    status: Annotated[str | None, Query(max_length=50, description="In this state.")] = None,
    cursor: Annotated[int, Query(ge=0, lt=2**31, description="`next_cursor` of the page before.")] = 0,
    limit: Limit = 50,
) -> Response:
    """Groups on workers that belong to no recorded flow, the newest first."""
    found, reason = _asked(service, ClusterViews.groups.__name__)
    mine = [row for row in found if (not status or row["status"] == status) and not _is_of_flow(service, row["run_id"])]
    following = str(cursor + limit) if len(mine) > cursor + limit else None
    return _told(request, mine[cursor : cursor + limit], reason, next_cursor=following)


@router.get("/groups/{run_id}", responses={**NOT_MODIFIED, **described(404)}, response_model=dict[str, Any])
def group(run_id: str, request: Request, service: Served) -> Response:
    """One group on workers."""
    made = _timed(_one(service, run_id))
    return answer(request, tag_of(made), made)


@router.get("/groups/{run_id}/members", response_model=MemberRows, responses={**NOT_MODIFIED, **described(404)})
def group_members(
    run_id: str,
    request: Request,
    service: Served,
    status: Statuses = None,
    search: Annotated[str | None, Query(max_length=1000, description="In worker or error, or a number.")] = None,
    sort: Annotated[Literal["index", "duration", "started"], Query(description="In which order.")] = "index",
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
) -> Response:
    """A part of the members of a group on workers."""
    size = int(_one(service, run_id)["size"])
    known = {row["index"]: row for row in views_of(service.runner).members(run_id)}
    states = {name.strip() for each in status or () for name in each.split(",") if name.strip()}
    rows = matching([_member(index, known.get(index, {})) for index in range(size)], states, search or "")
    part = ordered(rows, sort, service.clock())[offset : offset + limit]
    made = {"rows": [shown_row(row) for row in part], "total": len(rows), "size": size, "offset": offset}
    return answer(request, tag_of(made), made)


@router.get(
    "/groups/{run_id}/members/{index}",
    response_model=dict[str, Any],
    responses={**NOT_MODIFIED, **described(404)},
)
def group_member(run_id: str, index: int, request: Request, service: Served) -> Response:
    """One member of a group on workers."""
    size = int(_one(service, run_id)["size"])
    if not 0 <= index < size:
        raise ProblemError(404, "not-found", f"Group run '{run_id}' has no member {index}; it has {size}")
    found = next((row for row in views_of(service.runner).members(run_id) if row["index"] == index), None)
    made = _timed(found or {"index": index, "status": "pending", "attempts": 0})
    return answer(request, tag_of(made), made)


# -- parts -------------------------------------------------------------------------------------------------------------


def _asked(service: Service, what: str) -> tuple[list[dict[str, Any]], str | None]:
    """What the views tell, or why they cannot."""
    try:
        return getattr(views_of(service.runner), what)(), None
    except GraflowError as error:
        return [], str(error)


def _one(service: Service, run_id: str) -> dict[str, Any]:
    try:
        return views_of(service.runner).group(run_id)
    except (ConfigError, GroupNotFoundError) as error:
        raise ProblemError(404, "not-found", str(error)) from error


def _told(request: Request, items: list[dict[str, Any]], reason: str | None, **more: Any) -> Response:
    made = {"items": [_timed(item) for item in items], "reason": reason, **more}
    return answer(request, tag_of(made), made)


def _timed(facts: Facts) -> dict[str, Any]:
    """Facts with times as texts."""
    return {
        name: moment(value) if name in _TIMES and isinstance(value, int | float) else value
        for name, value in facts.items()
    }


def _member(index: int, facts: Facts) -> MemberFacts:
    return MemberFacts(
        index,
        facts.get("status", "pending"),
        facts.get("attempts", 0),
        facts.get("worker"),
        facts.get("started_at"),
        facts.get("completed_at"),
        facts.get("error"),
    )


def _is_of_flow(service: Service, run_id: str) -> bool:
    """Whether a flow opened a group: its key begins with that of the flow's session, `<flow>.<generation>:`."""
    flow_id, dot, generation = run_id.partition(":")[0].rpartition(".")
    return bool(dot) and generation.isdecimal() and service.store.get_record(flow_id) is not None
