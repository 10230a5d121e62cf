"""The flows that can be started here, with what they take."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.etags import tagged
from graflow.api.http.problems import described
from graflow.api.http.service import Served, Service
from graflow.api.runs.listing import RunRow, row_of
from graflow.api.schemas import input_schema
from graflow.exceptions import ConfigError
from graflow.flows.registry import FlowDefinition, FlowRegistry

router = APIRouter(tags=["flows"])

_RECENT: Final = 200
_TAKEN: Final = frozenset(
    {
        *("runs", "flows", "active-flows", "server", "session", "workers", "queues", "groups", "events", "stats"),
        *("questions", "states"),
    }
)
"""Names that the API has for itself where a flow's name would stand."""


class FlowFacts(BaseModel):
    """A flow that can be started.

    Attributes:
        name: Its name.
        description: What its function says of itself.
        source: Module and name of its function.
        inputs: JSON Schema of what it takes.
        timeout: Seconds after which it has failed; None for no limit.
        concurrency: How many of its runs run at once; None for no limit.
        last_run: The newest one.
    """

    name: str
    description: str
    source: str
    inputs: dict[str, Any]
    timeout: float | None = None
    concurrency: int | None = None
    last_run: RunRow | None = None


class FlowDetails(FlowFacts):
    """A flow with what came of it lately.

    Attributes:
        population: Of how many runs, the newest, the counts are.
        counts: Those by state.
    """

    population: int = 0
    counts: dict[str, int] = Field(default_factory=dict)


class FlowList(BaseModel):
    """All flows that can be started, by name."""

    items: list[FlowFacts]


def check_names(registry: FlowRegistry) -> None:
    """Refuse flows that no address can have.

    Raises:
        ConfigError: Naming the first.
    """
    for name in registry.names():
        if name in _TAKEN:
            raise ConfigError(f"A flow called '{name}' cannot be served: the API has this name; give it another one")
        if name in {".", ".."} or "/" in name or not name.isprintable():
            raise ConfigError(f"A flow called {name!r} cannot be served: its name stands in addresses, without / in it")


@router.get("/flows", response_model=FlowList)
def flows(request: Request, service: Served) -> Response:
    """The flows that this server can start."""
    found = [_facts(service, service.registry.get(name)) for name in service.registry.names()]
    return tagged(request, FlowList(items=[FlowFacts(**facts) for facts in found]))


@router.get("/flows/{name}", response_model=FlowDetails, responses=described(404))
def flow(name: str, request: Request, service: Served) -> Response:
    """A flow, with the ends of its newest 200 runs."""
    definition = service.registry.get(name)
    page = service.runner.list_flows(name, limit=_RECENT)
    counts = Counter(state.status.value for state in page)
    return tagged(request, FlowDetails(**_facts(service, definition), population=len(page), counts=dict(counts)))


def _facts(service: Service, definition: FlowDefinition) -> dict[str, Any]:
    newest = service.runner.list_flows(definition.name, limit=1)
    return {
        "name": definition.name,
        "description": inspect.getdoc(definition.function) or "",
        "source": ".".join(definition.place()),
        "inputs": input_schema(definition),
        "timeout": definition.timeout,
        "concurrency": definition.concurrency,
        "last_run": row_of(service, newest[0]) if newest else None,
    }
