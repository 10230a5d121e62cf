"""Starting flows: `execute-async` answers at once, `execute` when the flow rests."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from graflow.api.http.bodies import IdempotencyKey, Start
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.exceptions import FlowConflictError
from graflow.flows.recording.stopping import rests
from graflow.state.models import FlowState, json_of

router = APIRouter(tags=["flows"])

_NAPS: Final = (0.01, 0.02, 0.05, 0.1)  # seconds between looks at a flow that somebody waits for
_LAST_NAP: Final = 0.25
_LONGEST_WAIT: Final = 3600.0

_REPLAYED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": FlowState,
        "description": "It exists already, with the same inputs; `Idempotency-Replayed: true` where a key says so",
    },
    202: {"model": FlowState, "description": "It is on record, and runs"},
}


@dataclass(frozen=True)
class _Begun:
    """A flow that a request has started, or found."""

    flow_id: str
    is_new: bool
    is_replay: bool

    def headers(self, service: Service, flow: str) -> dict[str, str]:
        place = {"Location": service.address(f"{quote(flow, safe='')}/status/{quote(self.flow_id, safe='')}")}
        return {**place, "Idempotency-Replayed": "true"} if self.is_replay else place


@router.post(
    "/{flow}/execute-async",
    status_code=202,
    response_model=FlowState,
    responses={**_REPLAYED, **described(404, 409)},
)
def execute_async(
    flow: str, service: Served, start: Start | None = None, idempotency_key: IdempotencyKey = None
) -> Response:
    """Start a flow, and answer when it is on record; `Location` tells where its state is."""
    begun = _begin(service, flow, start or Start(), idempotency_key)
    return _told(service, flow, begun, 202 if begun.is_new else 200)


@router.post("/{flow}/execute", response_model=FlowState, responses={**_REPLAYED, **described(404, 409)})
async def execute(
    flow: str,
    service: Served,
    request: Request,
    start: Start | None = None,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for it.")] = 300.0,
) -> Response:
    """Start a flow, and answer when it rests, however it ended; 202 when it goes on for longer than `wait`."""
    begun = await run_in_threadpool(_begin, service, flow, start or Start(), idempotency_key)
    if begun.is_replay and not await run_in_threadpool(_rests, service, begun.flow_id):
        raise ProblemError(
            *(409, "in-progress", f"Flow '{begun.flow_id}', which this key started, still runs"),
            headers=begun.headers(service, flow),
        )
    is_done = await _rests_in_time(service, begun.flow_id, wait, request)
    return await run_in_threadpool(_told, service, flow, begun, 200 if is_done else 202)


def _begin(service: Service, flow: str, start: Start, key: str | None) -> _Begun:
    flow_id = start.flow_id
    if flow_id is None and key is not None:
        flow_id = _id_of_key(flow, key)
    try:
        created = service.runner.enqueue(flow, start.inputs, flow_id, start.metadata)
    except FlowConflictError as error:
        if key is None:
            raise
        raise ProblemError(422, "idempotency-key-reused", f"This key came with other inputs before: {error}") from None
    record = created.record
    if key is not None and not created.is_new and dict(record.fields.get("metadata") or {}) != start.metadata:
        raise ProblemError(422, "idempotency-key-reused", "This key came with other metadata before")
    return _Begun(record.flow_id, created.is_new, key is not None and not created.is_new)


def _id_of_key(flow: str, key: str) -> str:
    """The id that a key stands for, so that no server need remember it."""
    digest = hashlib.sha256(f"{flow}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _told(service: Service, flow: str, begun: _Begun, status: int) -> Response:
    state = service.runner.get_flow_state(begun.flow_id)
    return Response(json_of(state), status, headers=begun.headers(service, flow), media_type="application/json")


def _rests(service: Service, flow_id: str) -> bool:
    record = service.store.get_record(flow_id)
    return record is None or rests(record.status)


async def _rests_in_time(service: Service, flow_id: str, wait: float, request: Request) -> bool:
    """Wait for a flow until it rests, its time is over, or nobody waits any more."""
    end, naps = service.clock() + wait, _naps()
    while not await run_in_threadpool(_rests, service, flow_id):
        left = end - service.clock()
        if left <= 0 or await request.is_disconnected():
            return False
        await asyncio.sleep(min(next(naps), left))
    return True


def _naps() -> Iterator[float]:
    return chain(_NAPS, repeat(_LAST_NAP))
