"""An application over a store in memory, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient

from graflow.api.app import create_app
from graflow.flows import FlowRunner
from tests.api.flows import Flows

Clients = Callable[..., TestClient]


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Makes clients of applications, which are closed after the test."""
    with ExitStack() as stack:

        def make(runner: Any = "memory://", *, headers: dict[str, str] | None = None, **settings: Any) -> TestClient:
            client = TestClient(create_app(runner, **settings), base_url="http://127.0.0.1", headers=headers)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def runner() -> FlowRunner:
    return FlowRunner("memory://")


@pytest.fixture
def flows(runner: FlowRunner) -> Iterator[Flows]:
    """The flows of the fixture's runner; what waits in them is let go after the test."""
    made = Flows(runner)
    yield made
    made.gate.set()


@pytest.fixture
def client(clients: Clients, runner: FlowRunner, flows: Flows) -> TestClient:
    """A client of an application whose runner is the fixture's."""
    return clients(runner)
