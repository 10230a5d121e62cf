"""What came of many runs.

`GET /api/v1/stats?period=1h|24h|7d|30d|all&flow=`: the fields of `runner.stats()` (population, flows by state,
success_rate, seconds and queue_wait with population, p50, p95 and longest, takeovers, looked_into, members,
members_a_second, store_bytes, steps with population, failed, retries, reused, cached, seconds, distribution, members)
and `period`. `series` has the same over the period, 48 numbers each: made, completed, failed, queue_wait, members,
retries, cached, missed, takeovers.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED
from graflow.api.http.etags import tag_of, tagged
from graflow.api.http.service import Served
from graflow.flows.verbs.stats import FlowStats

router = APIRouter(tags=["stats"])

_PERIODS: Final = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}

_OF_NOW: Final = {"since", "store_bytes", "series"}
"""What is another one whenever it is asked for, though nothing has happened: its bins end now."""


class Stats(FlowStats):
    """What came of the runs of a period."""

    period: str


@router.get("/stats", response_model=Stats, responses=NOT_MODIFIED)
def stats(
    request: Request,
    service: Served,
    period: Annotated[
        Literal["1h", "24h", "7d", "30d", "all"], Query(description="Runs that were made within it.")
    ] = "24h",
    flow: Annotated[str | None, Query(max_length=200, description="Of this name.")] = None,
) -> Response:
    """What came of the runs of a period: ends, times, retries, members; each figure with how many it is about."""
    found = service.runner.stats(flow or None, _PERIODS[period])
    made = Stats(**found.model_dump(), period=period)
    return tagged(request, made, tag_of(made.model_dump_json(exclude=_OF_NOW)))
