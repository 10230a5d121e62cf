"""Fixtures of flows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow.flows import FlowRunner
from graflow.state import MemoryStore, SqliteStore, StateStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    """A store of either kind."""
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "flows.db")
    yield made
    made.close()


@pytest.fixture
def runner(store: StateStore) -> Iterator[FlowRunner]:
    """A runner of flows in either kind of store."""
    with FlowRunner(store) as made:
        yield made
