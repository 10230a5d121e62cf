"""What the handlers of requests work with: one runner, its store and its flows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from graflow.api.http.auth import Auth
from graflow.flows.registry import FlowRegistry
from graflow.flows.runner import FlowRunner
from graflow.state.store import StateStore


@dataclass(frozen=True)
class Service:
    """What one application serves; it keeps nothing of flows itself.

    Attributes:
        runner: Runs flows, and reads them.
        auth: Who may do what.
        root_path: The prefix under which a proxy shows the application, without a slash at its end.
        clock: Seconds since the epoch.
    """

    runner: FlowRunner
    auth: Auth
    root_path: str = ""
    clock: Callable[[], float] = field(default=time.time)

    @property
    def store(self) -> StateStore:
        """Where flows are kept."""
        return self.runner.store

    @property
    def registry(self) -> FlowRegistry:
        """The flows that can be started here."""
        return self.runner.player.registry

    def now(self) -> datetime:
        """The server's time, UTC, by which clients count."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def address(self, path: str) -> str:
        """A path of the API as a client finds it, behind whatever proxy."""
        return f"{self.root_path}/api/v1/{path}"


def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(service_of)]
"""The annotation by which a handler asks for the service."""
