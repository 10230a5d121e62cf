"""Whether the server lives, whether it can work, and what it is."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from graflow.api.http.auth import Asker
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served
from graflow.configuration.project import project_settings
from graflow.exceptions import GraflowError
from graflow.flows.plugged import knows_workers
from graflow.metrics import CONTENT_TYPE, exposition

probes = APIRouter(tags=["server"])
router = APIRouter(tags=["server"])


class Health(BaseModel):
    """That it is well."""

    status: Literal["ok"] = "ok"


@probes.get("/healthz")
async def healthz() -> Health:
    """Whether the server answers at all."""
    return Health()


@probes.get("/readyz", responses=described(503))
def readyz(service: Served) -> Health:
    """Whether it can work: the store answers; flows whose servers died are looked after from then on."""
    service.runner.initialize()
    return Health()


@probes.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """What this server, and whoever counts with it, has counted for Prometheus."""
    if not project_settings().monitoring.counts:
        raise ProblemError(404, "metrics-off", "Metrics are off here: set monitoring.metrics in config.yaml")
    return Response(exposition(), media_type=CONTENT_TYPE)


class StoreHealth(BaseModel):
    """The store of flows.

    Attributes:
        kind: `sqlite`, `redis` or `memory`; its address is told to nobody.
        is_available: Whether it answers now.
        is_persistent: Whether it outlives its own server.
    """

    kind: str
    is_available: bool
    is_persistent: bool


class Server(BaseModel):
    """What answers here.

    Attributes:
        version: Of graflow.
        now: Its time, UTC; ages are counted by it.
        auth: `none`, or `token` where one is needed.
        role: What the asker may do.
        store: Where flows are kept.
        features: What there is beside flows; the page hides the rest.
    """

    version: str
    now: datetime
    auth: Literal["none", "token"]
    role: str
    store: StoreHealth
    features: dict[str, bool]


@router.get("/server")
def server(service: Served, asker: Asker) -> Server:
    """What answers here, and what it can do."""
    store = service.store
    try:
        store.initialize()
        is_available = True
    except (GraflowError, OSError):
        is_available = False
    return Server(
        version=version("graflow-celery"),
        now=service.now(),
        auth="none" if service.auth.is_open else "token",
        role=asker.role.value,
        store=StoreHealth(
            kind=store.url.partition(":")[0], is_available=is_available, is_persistent=store.is_persistent
        ),
        features={"broker": knows_workers(service.runner), "logs": True, "questions": True, "schedules": False},
    )
