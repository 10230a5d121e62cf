"""Live: server-sent events of one run, and of all; and the journal as pages.

`GET /api/v1/{flow}/flows/{id}/events?after=` and `GET /api/v1/events?after=` with `Accept: text/event-stream` (or
none). Ids are positions in the persisted log; `after`, else the header `Last-Event-ID`, names the one to go on behind;
without either a stream begins now. At most one `change` in 100 ms, with the last state of each step::

    event: change   id: 18231
    data: {"seq": 18231, "at": "…Z", "run": {"status": "running", "version": 412, …what changed of it},
           "steps": [{"step": "merge", "status": "running", "visit": 1, "visits": 1, "started_at": …, "worker": …, …}],
           "groups": {"pages": {"size": 10000, "counts": {…}, "strip": {"39": {"d": 140, "f": 2}}}}}
    event: graph    data: {"seq": …, "fingerprint": "…"}          nodes were added: read `/graph` again
    event: question data: {"seq": …, "step": "ask", "ids": [...]}  asked, or answered: read them
    event: log      data: {"seq": …, "steps": ["pages", …]}        these have said something: read `/logs`
    event: action   data: {"seq": …, "kind": "request.cancel", "by": "http"}
    event: beat     data: {"now": "…Z"}                           at once, then every 15 s; no id
    event: reset    data: {"reason": "…", "cursor": 18240}        read all again; the stream goes on behind the cursor
    event: end      data: {"status": "completed"}                 the run has ended, and so does the stream

Steps have the fields of `/steps` except `counts` and `strip`, which are in `groups`: there only buckets that changed.
`/api/v1/events` tells of all runs: `{"seq": …, "at": …, "runs": [{"flow_id", "flow_name", "status", "version"}, …]}`.

With `Accept: application/json` the first gives the journal itself, `?after=0&limit=500`::

    {"items": [{"seq": 1, "at": "…Z", "kind": "step.started", "step": "load", "visit": 1, "index": null, "attempt": 1,
                "epoch": 1, "data": {"node": "load"}}, …], "cursor": 500, "next_cursor": 500 or null}
"""

from __future__ import annotations

import random
import time
from asyncio import wait_for
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from graflow.api.http.auth import Identity, identity_of
from graflow.api.http.columns import answer, moment
from graflow.api.http.etags import tag_of
from graflow.api.http.gate import session_in
from graflow.api.http.problems import described
from graflow.api.http.service import Served, Service
from graflow.api.live.messages import Message
from graflow.api.live.tail import Listener, Tail
from graflow.api.runs.listing import record_of, record_tag
from graflow.encoding.member_blocks import told_count
from graflow.secret import masked
from graflow.state.changes import Journaled

router = APIRouter(tags=["events"])

BEAT: Final = 15.0  # seconds
_CHECKED: Final = 60.0  # seconds after which it is looked again whether a session still holds
_LONG_GONE: Final = (1.0, 5.0)  # seconds within which clients of a server that ends come back, each at another time
_LEFT_OUT: Final = frozenset({"blocks", "outcome", "outcomes"})
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Events as they happen", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    **described(404, 429),
}

After = Annotated[int | None, Query(ge=0, lt=2**53, description="The position to go on behind.")]
LastEventId = Annotated[str | None, Header(max_length=100, description="The same, as browsers send it.")]


class JournalLine(BaseModel):
    """One line of a journal; `data` without the outcomes of steps and members."""

    seq: int
    at: str
    kind: str
    step: str | None
    visit: int | None
    index: int | None
    attempt: int | None
    epoch: int
    data: dict[str, Any]


class Journal(BaseModel):
    """A page of a journal.

    Attributes:
        items: Lines in order.
        cursor: The last of them.
        next_cursor: `after` of the next page; None on the last one.
    """

    items: list[JournalLine]
    cursor: int
    next_cursor: int | None


@router.get("/{flow}/flows/{flow_id}/events", response_model=Journal, responses=_STREAM)
async def run_events(
    flow: str,
    flow_id: str,
    request: Request,
    service: Served,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Lines on a page of the journal.")] = 500,
    last_event_id: LastEventId = None,
) -> Response:
    """What happens to a run, as it happens; its journal in pages for `Accept: application/json`."""
    record = await run_in_threadpool(record_of, service, flow, flow_id)
    if _wants_json(request):
        lines = await run_in_threadpool(service.store.events, flow_id, after or 0, limit)
        return answer(request, tag_of(record_tag(record), after, limit), _page(lines, after or 0, limit))
    return await _stream(request, service, flow_id, _position(after, last_event_id))


@router.get("/events", responses=_STREAM, response_class=StreamingResponse)
async def all_events(
    request: Request, service: Served, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Which runs change, as they do."""
    return await _stream(request, service, None, _position(after, last_event_id))


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/event-stream" not in accepted


def _position(after: int | None, last_event_id: str | None) -> int | None:
    if after is not None or last_event_id is None:
        return after
    return int(last_event_id) if last_event_id.isascii() and last_event_id.isdecimal() else None


def _page(lines: list[Journaled], after: int, limit: int) -> dict[str, Any]:
    last = lines[-1].seq if lines else after
    items = [
        {
            "seq": line.seq,
            "at": moment(line.at),
            "kind": line.kind,
            "step": line.step,
            "visit": line.visit,
            "index": line.index,
            "attempt": line.attempt,
            "epoch": line.epoch,
            "data": _told(line.data),
        }
        for line in lines
    ]
    return {"items": items, "cursor": last, "next_cursor": last if len(lines) == limit else None}


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in masked(data).items() if name not in _LEFT_OUT and value is not None}
    if "outcomes" in data:
        told["members"] = told_count(data)
    error = data.get("error")
    if isinstance(error, Mapping):
        told["error"] = f"{error.get('type')}: {error.get('message')}"
    return told


# -- streams -----------------------------------------------------------------------------------------------------------


async def _stream(request: Request, service: Service, flow_id: str | None, after: int | None) -> Response:
    tail: Tail = request.app.state.tail
    listener = await tail.join(flow_id, after)
    return StreamingResponse(_sent(tail, listener, service, request), media_type="text/event-stream", headers=_HEADERS)


async def _sent(tail: Tail, listener: Listener, service: Service, request: Request) -> AsyncIterator[bytes]:
    """The bytes of a stream until its run ends, its session is over, or nobody reads it."""
    asker, checked = identity_of(request), time.monotonic()
    try:
        yield _beat(service)
        while True:
            try:
                message = await wait_for(listener.messages.get(), BEAT)
            except TimeoutError:
                yield _beat(service)
            else:
                if message is None:
                    yield _come_back()
                    return
                yield message.encoded()
            if time.monotonic() - checked >= _CHECKED:
                checked = time.monotonic()
                if not _is_let_in(asker, service, request):
                    return
    finally:
        tail.leave(listener)


def _come_back() -> bytes:
    pause = random.uniform(*_LONG_GONE)  # noqa: S311 - spreads clients over time
    return f"retry: {pause * 1000:.0f}\n\n".encode()


def _beat(service: Service) -> bytes:
    return Message.of("beat", {"now": service.now()}).encoded()


def _is_let_in(asker: Identity, service: Service, request: Request) -> bool:
    """Whether a session that opened a stream holds still."""
    if not asker.is_session:
        return True
    session = session_in(request.headers)
    return session is not None and service.auth.of_session(session, service.clock()) is not None
