"""The applications of `graflow.api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from graflow.api import cluster, health, session, stats
from graflow.api.endpoints import feedback
from graflow.api.feedback import create_feedback_api, create_feedback_api_with_redis
from graflow.api.http import states
from graflow.api.http.assets import mount
from graflow.api.http.auth import Auth
from graflow.api.http.gate import BODY_LIMIT, Gate
from graflow.api.http.limits import RateLimit
from graflow.api.http.openapi import describe
from graflow.api.http.problems import add_problems, described
from graflow.api.http.service import Service
from graflow.api.live import events
from graflow.api.live.tail import Tail
from graflow.api.plain import inbox, links
from graflow.api.plain.links import LINK_ANSWERS
from graflow.api.questions import ANSWERS
from graflow.api.questions import router as questions_router
from graflow.api.runs import actions, catalogue, graph, logs, members, payloads, starting, steps, timeline
from graflow.api.runs import listing as runs
from graflow.exceptions import StoreError
from graflow.flows.runner import FlowRunner
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

__all__ = ["create_app", "create_feedback_api", "create_feedback_api_with_redis"]

_log = get_logger(__name__)

_API: Final = "/api/v1"
_ROUTERS: Final = (
    health.router,
    session.router,
    catalogue.router,
    runs.router,
    questions_router,
    starting.router,
    actions.router,
    states.router,
    graph.router,
    members.router,
    payloads.router,
    steps.router,  # behind those of its parts: the name of a step may have slashes
    logs.router,
    timeline.router,
    stats.router,
    cluster.router,
    events.router,
)
_AT_THE_TOP: Final = (health.probes, links.router, inbox.router, feedback.router)
_COMMON: Final = described(400, 401, 403, 413, 415, 421, 422, 429, 503)


def create_app(
    runner: FlowRunner | StateStore | str | Path | None = None,
    *,
    auth: Auth | None = None,
    root_path: str = "",
    allowed_hosts: Collection[str] = (),
    body_limit: int = BODY_LIMIT,
) -> FastAPI:
    """The application: REST, events and the page, for the flows that this process has registered.

    It keeps nothing: what it starts is on record first, and goes on elsewhere when its process dies. The runner is
    closed with it.

    Args:
        runner: Runs the flows; or a store, or its address, for a runner of its own.
        auth: The tokens; none when None, so that whoever reaches it may do everything.
        root_path: The prefix under which a proxy shows it, such as `/graflow`.
        allowed_hosts: Host names under which it is reached, beside those of loopback.
        body_limit: Bytes of a request.

    Raises:
        ConfigError: For a setting that cannot be right.
    """
    root = root_path.rstrip("/")
    service = Service(runner if isinstance(runner, FlowRunner) else FlowRunner(runner), auth or Auth(), root)
    catalogue.check_names(service.registry)
    tail = Tail(service)
    app = FastAPI(
        title="graflow",
        version=version("graflow-celery"),
        description="Durable flows: start, watch and repair them.",
        lifespan=partial(_lifespan, service, tail),
        docs_url=None,  # both would load scripts of other sites
        redoc_url=None,
        responses=_COMMON,
    )
    app.state.service, app.state.tail = service, tail
    app.state.tries = RateLimit(session.FAILED_LOGINS, "logins failed")
    app.state.answers = RateLimit(ANSWERS, "answers came")
    app.state.link_answers = RateLimit(LINK_ANSWERS, "answers came")
    app.state.feedback_manager = service.runner.feedback_manager(via="rest", verified=not service.auth.is_open)
    describe(app, service.registry)
    add_problems(app)
    for router in _AT_THE_TOP:
        app.include_router(router)
    for router in _ROUTERS:
        app.include_router(router, prefix=_API)
    mount(app, root)
    app.add_middleware(Gate, service=service, allowed_hosts=allowed_hosts, body_limit=body_limit)
    return app


@asynccontextmanager
async def _lifespan(service: Service, tail: Tail, _: FastAPI) -> AsyncIterator[None]:
    try:
        await run_in_threadpool(service.runner.initialize)
    except StoreError as error:
        _log.error("The store of flows does not answer yet; /readyz tells when it does: %s", error)
    yield
    await tail.close()
    await run_in_threadpool(service.runner.close)
