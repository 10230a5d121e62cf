from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow.state import StateStore, open_store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    """Every kind of store, one after the other."""
    made = open_store({"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/flows.db"}[request.param])
    made.initialize()
    yield made
    made.close()
