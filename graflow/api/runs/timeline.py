"""When steps and members ran: bars where they can be told apart, else how busy workers were.

`GET …/timeline?from=&to=&bins=240&by=step|worker`; `from` and `to` are seconds since the run's start::

    {"start": "…Z", "from": 0, "to": 96.4, "now": "…Z", "by": "step", "mode": "bars", "total": 312,
     "bars": {"row": ["load", …], "step": [...], "index": [null, …], "visit": [1, …], "attempt": [1, …],
              "status": ["completed", …], "worker": ["ada-0", …],
              "queued": [null, …], "from": [0.0, …], "to": [1.42, …]}}        seconds; `to` is null while it runs

More than 3,000 bars in the window are put together by row and bin::

    {…, "mode": "bins", "bins": 240, "total": 100000,
     "rows": [{"row": "pages", "busy": [3.2, …], "failed": [0, 1, …]}, …]}    busy: how many ran in each bin

A row is a step, or with `by=worker` a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED, answer, columns_of
from graflow.api.http.etags import is_known, not_modified, tag_of
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.api.runs.listing import record_of, record_tag
from graflow.api.runs.members import members_of
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowState, FlowStepState

router = APIRouter(tags=["timeline"])

MOST_BARS: Final = 3_000
_COLUMNS: Final = ("row", "step", "index", "visit", "attempt", "status", "worker", "queued", "from", "to")
_NOWHERE: Final = "?"  # the row of what has no worker


class Bar(NamedTuple):
    """One execution; times are seconds since the start of the run, `end` is None while it runs."""

    step: str
    member: int | None
    visit: int
    attempt: int
    status: str
    worker: str | None
    queued: float | None
    start: float
    end: float | None


class BinRow(BaseModel):
    """One row in bins: how many ran in each on average, and how many failed in it."""

    row: str
    busy: list[float]
    failed: list[int]


class Timeline(BaseModel):
    """When steps and members ran.

    Attributes:
        start: When the run began, UTC; None before.
        now: The server's time, UTC.
        from_: The begin of the window, seconds since the start.
        to: Its end.
        by: What a row is.
        mode: `bars`, or `bins` where there are too many.
        total: Executions in the window.
        bars: In columns.
        bins: Into how many parts the window is divided.
        rows: What happened in each part.
    """

    start: datetime | None
    now: datetime
    from_: float = Field(alias="from")
    to: float
    by: str
    mode: str
    total: int
    bars: dict[str, list[Any]] | None = None
    bins: int | None = None
    rows: list[BinRow] | None = None


@router.get("/{flow}/flows/{flow_id}/timeline", response_model=Timeline, responses={**NOT_MODIFIED, **described(404)})
def timeline(
    flow: str,
    flow_id: str,
    request: Request,
    service: Served,
    begin: Annotated[float, Query(alias="from", ge=0, le=1e9, description="Seconds since the start.")] = 0.0,
    end: Annotated[float | None, Query(alias="to", ge=0, le=1e9, description="The last one; now when none.")] = None,
    bins: Annotated[int, Query(ge=1, le=1000, description="Parts of the window where there are too many bars.")] = 240,
    by: Annotated[Literal["step", "worker"], Query(description="What a row is.")] = "step",
) -> Response:
    """When steps and members of a run ran."""
    record = record_of(service, flow, flow_id)
    tag = tag_of(record_tag(record), begin, end, bins, by)
    if is_known(request, tag):
        return not_modified(tag)
    state, now = service.runner.get_flow_state(flow_id), service.now()
    start = state.started_at
    last = 0.0 if start is None else max(0.0, ((state.completed_at or now) - start).total_seconds())
    window = begin, last if end is None else end
    if window[1] < window[0]:
        raise ProblemError(422, "request-invalid", f"to is {window[1]:g}, before from, which is {window[0]:g}")
    bars = [] if start is None else list(_bars(service, record, state, start.timestamp(), window, last))
    made: dict[str, Any] = {
        "start": start,
        "now": now,
        "from": window[0],
        "to": window[1],
        "by": by,
        "mode": "bars",
        "total": len(bars),
    }
    if len(bars) <= MOST_BARS:
        made["bars"] = columns_of(_COLUMNS, ([_row_name(bar, by), *bar] for bar in sorted(bars, key=_begun)))
    else:
        made |= {"mode": "bins", "bins": bins, "rows": _binned(bars, by, window, bins, last)}
    return answer(request, tag, made)


def _bars(
    service: Service, record: FlowRecord, state: FlowState, start: float, window: tuple[float, float], last: float
) -> Iterator[Bar]:
    """What ran in a window; a group's own bar, and one for each of its members."""
    begin, end = window
    for row in state.steps:
        for bar in _of_step(row, start):
            if bar.start <= end and (last if bar.end is None else bar.end) >= begin:
                yield bar
        for member in members_of(service, record, row) if row.size else ():
            if member.started is None:
                continue
            first, final = member.started - start, None if member.finished is None else member.finished - start
            if first <= end and (last if final is None else final) >= begin:
                yield Bar(
                    *(row.step_name, member.number, row.visit, member.attempts, member.status, member.worker),
                    *(None, _round(first), None if final is None else _round(final)),
                )


def _of_step(row: FlowStepState, start: float) -> Iterator[Bar]:
    """Its attempts, the last one with the state of the step."""
    queued = None if row.queued_at is None else _round(row.queued_at.timestamp() - start)
    for place, attempt in enumerate(row.attempt_history, 1):
        if attempt.started_at is None:
            continue
        is_last = place == len(row.attempt_history) and attempt.ended_at == row.completed_at
        status = row.status.value if is_last or attempt.ended_at is None else "failed" if attempt.error else "completed"
        ended = None if attempt.ended_at is None else _round(attempt.ended_at.timestamp() - start)
        began = _round(attempt.started_at.timestamp() - start)
        yield Bar(row.step_name, None, row.visit, attempt.number, status, attempt.worker, queued, began, ended)
    if not row.attempt_history and row.started_at is not None:
        ended = None if row.completed_at is None else _round(row.completed_at.timestamp() - start)
        began = _round(row.started_at.timestamp() - start)
        yield Bar(row.step_name, None, row.visit, row.attempts, row.status.value, row.worker, queued, began, ended)


def _binned(bars: list[Bar], by: str, window: tuple[float, float], bins: int, last: float) -> list[dict[str, Any]]:
    begin, width = window[0], max(1e-6, window[1] - window[0]) / bins
    rows: dict[str, tuple[list[float], list[int]]] = {}
    groups = {bar.step for bar in bars if bar.member is not None}
    for bar in bars:
        if bar.member is None and bar.step in groups:
            continue  # its members are told
        name = _row_name(bar, by)
        if name not in rows:
            rows[name] = [0.0] * (bins + 1), [0] * bins
        busy, failed = rows[name]
        first = (bar.start - begin) / width
        final = ((last if bar.end is None else bar.end) - begin) / width
        low, high = max(0, min(bins - 1, int(first))), max(0, min(bins - 1, int(final)))
        if low == high:
            busy[low] += max(0.0, min(final, bins) - max(first, 0.0))
        else:
            busy[low] += low + 1 - max(first, 0.0)
            for place in range(low + 1, high):
                busy[place] += 1.0
            busy[high] += min(final, bins) - high
        if bar.status == "failed":
            failed[high] += 1
    return [
        {"row": name, "busy": [round(share, 3) for share in busy[:-1]], "failed": failed}
        for name, (busy, failed) in sorted(rows.items())
    ]


def _row_name(bar: Bar, by: str) -> str:
    return bar.step if by == "step" else bar.worker or _NOWHERE


def _begun(bar: Bar) -> tuple[float, int]:
    return bar.start, -1 if bar.member is None else bar.member


def _round(seconds: float) -> float:
    return round(seconds, 4)
