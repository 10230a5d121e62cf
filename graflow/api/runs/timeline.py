"""When steps and members ran: bars where they can be told apart, else how busy workers were.

`GET …/timeline?from=&to=&bins=240&by=step|worker`; `from` and `to` are seconds since the run's start::

    {"start": "…Z", "from": 0, "to": 96.4, "now": "…Z", "by": "step", "mode": "bars", "total": 312,
     "bars": {"row": ["load", …], "step": [...], "index": [null, …], "visit": [1, …], "attempt": [1, …],
              "status": ["completed", …], "worker": ["ada-0", …],
              "queued": [null, …], "from": [0.0, …], "to": [1.42, …]}}        seconds; `to` is null while it runs

More than 3,000 bars in the window are put together by row and bin::

    {…, "mode": "bins", "bins": 240, "total": 100000,
     "rows": [{"row": "pages", "busy": [3.2, …], "failed": [0, 1, …]}, …]}    busy: how many ran in each bin

A row is a step, or with `by=worker` a worker. With `by=step` only groups are put together: of steps without members
`bars` has each, unless these alone are too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from graflow.api.runs.member_table import NOWHERE, MemberTable
from graflow.api.runs.members import table_of
from graflow.api.runs.spans import Spans
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowState, FlowStepState

router = APIRouter(tags=["timeline"])

MOST_BARS: Final = 3_000
_COLUMNS: Final = ("row", "step", "index", "visit", "attempt", "status", "worker", "queued", "from", "to")


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
        mode: `bars`, or `bins` where there are too many; with bars of steps without members beside them.
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
    ran = _Ran.of(service, record, state, window, last)
    made: dict[str, Any] = {
        "start": start,
        "now": now,
        "from": window[0],
        "to": window[1],
        "by": by,
        "mode": "bars",
        "total": ran.count(),
    }
    if made["total"] <= MOST_BARS:
        made["bars"] = columns_of(_COLUMNS, ([_row_name(bar, by), *bar] for bar in sorted(ran.bars(), key=_begun)))
    else:
        alone = sorted(ran.alone(), key=_begun)
        if by == "step" and len(alone) <= MOST_BARS:
            made["bars"] = columns_of(_COLUMNS, ([bar.step, *bar] for bar in alone))
            alone = []
        made |= {"mode": "bins", "bins": bins, "rows": ran.binned(by, bins, alone)}
    return answer(request, tag, made)


@dataclass(frozen=True)
class _Ran:
    """What ran in a window; times are seconds since the start of the run.

    Attributes:
        start: Of the run, seconds since the epoch.
        window: Begin and end.
        last: The end of the run, or now.
        steps: Executions of steps, groups themselves among them.
        groups: The visits of groups with their members.
    """

    start: float
    window: tuple[float, float]
    last: float
    steps: list[Bar]
    groups: list[tuple[FlowStepState, MemberTable]]

    @classmethod
    def of(
        cls, service: Service, record: FlowRecord, state: FlowState, window: tuple[float, float], last: float
    ) -> _Ran:
        if state.started_at is None:
            return cls(0.0, window, last, [], [])
        start, (begin, end) = state.started_at.timestamp(), window
        bars = (bar for row in state.steps for bar in _of_step(row, start))
        steps = [bar for bar in bars if bar.start <= end and (last if bar.end is None else bar.end) >= begin]
        groups = [(row, table_of(service, record, row)) for row in state.steps if row.size]
        return cls(start, window, last, steps, groups)

    def count(self) -> int:
        """How many executions."""
        begin, end = (self.start + at for at in self.window)
        tables = (table.spans(by_worker=False).values() for _, table in self.groups)
        return len(self.steps) + sum(spans.count(begin, end) for found in tables for spans in found)

    def bars(self) -> Iterator[Bar]:
        """Each of them: a group's own bar, and one for each of its members."""
        yield from self.steps
        (begin, end), start = self.window, self.start
        for row, table in self.groups:
            for member in table.rows:
                if member.started is None or member.started - start > end:
                    continue
                final = None if member.finished is None else member.finished - start
                if (self.last if final is None else final) >= begin:
                    yield Bar(
                        *(row.step_name, member.number, row.visit, member.attempts, member.status, member.worker),
                        *(None, _round(member.started - start), None if final is None else _round(final)),
                    )

    def alone(self) -> list[Bar]:
        """Executions of steps without members."""
        groups = {row.step_name for row, table in self.groups if table.spans(by_worker=False)}
        return [bar for bar in self.steps if bar.step not in groups]

    def binned(self, by: str, bins: int, alone: Sequence[Bar]) -> list[dict[str, Any]]:
        """How many ran in each part of the window, by row, and how many failed in it: members, and these steps."""
        begin, width = self.start + self.window[0], max(1e-6, self.window[1] - self.window[0]) / bins
        edges, now = [begin + place * width for place in range(bins + 1)], self.start + self.last
        rows: dict[str, tuple[list[float], list[int]]] = {}
        for name, spans in self._spans(by, alone):
            busy, failed = rows.get(name, ([0.0] * bins, [0] * bins))
            rows[name] = (
                [one + other for one, other in zip(busy, spans.busy(edges, now), strict=True)],
                [one + other for one, other in zip(failed, spans.failed(edges), strict=True)],
            )
        return [
            {"row": name, "busy": [round(share, 3) for share in busy], "failed": failed}
            for name, (busy, failed) in sorted(rows.items())
            if any(busy) or any(failed)
        ]

    def _spans(self, by: str, alone: Sequence[Bar]) -> Iterator[tuple[str, Spans]]:
        for row, table in self.groups:
            for worker, spans in table.spans(by_worker=by == "worker").items():
                yield worker or row.step_name, spans
        rows: dict[str, list[Bar]] = {}
        for bar in alone:
            rows.setdefault(_row_name(bar, by), []).append(bar)
        for name, bars in rows.items():
            ran = ((bar.start, bar.end, bar.status == "failed") for bar in bars)
            yield name, Spans((self.start + a, None if b is None else self.start + b, failed) for a, b, failed in ran)


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


def _row_name(bar: Bar, by: str) -> str:
    return bar.step if by == "step" else bar.worker or NOWHERE


def _begun(bar: Bar) -> tuple[float, int]:
    return bar.start, -1 if bar.member is None else bar.member


def _round(seconds: float) -> float:
    return round(seconds, 4)
