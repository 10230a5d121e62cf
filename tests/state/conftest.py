from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow.state import StateStore, open_store
from tests.support import PrivateRedis

COMMON = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]
KINDS = ["memory", *COMMON]


def address(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store of a kind is."""
    if kind == "redis":
        server: PrivateRedis = request.getfixturevalue("redis_server")
        request.getfixturevalue("redis_client")  # empties it
        return server.url
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/flows.db"}[kind]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    """Every kind of store, one after the other."""
    made = open_store(address(request.param, request, tmp_path))
    made.initialize()
    yield made
    made.close()


@pytest.fixture(params=COMMON)
def common_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    """Every kind of store that several processes can share."""
    made = open_store(address(request.param, request, tmp_path))
    made.initialize()
    yield made
    made.close()
