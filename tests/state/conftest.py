from __future__ import annotations

from collections.abc import Iterator

import pytest

from graflow.state import StateStore, open_store


@pytest.fixture(params=["memory"])
def store(request: pytest.FixtureRequest) -> Iterator[StateStore]:
    """Every kind of store, one after the other."""
    made = open_store("memory://")
    made.initialize()
    yield made
    made.close()
