"""Clusters that the integration tests share, since starting one takes about a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graflow_celery import LocalCluster

MEMBERS = "tests.integration.members"
BEHAVIOURS = "tests.integration.behaviours"


shared_clusters: set[LocalCluster] = set()
"""Those that run."""


@contextmanager
def _shared(made: LocalCluster) -> Iterator[LocalCluster]:
    with made as running:
        shared_clusters.add(running)
        yield running
        shared_clusters.remove(running)


def secrets_of(cluster: LocalCluster) -> tuple[str, str]:
    """The password of a cluster's Redis and the secret part of its key."""
    password = cluster.redis_url.reveal().partition("//:")[2].partition("@")[0]
    return password, cluster.backend_config["signing_key"].reveal().partition(":")[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Two workers of concurrency 1."""
    with _shared(LocalCluster(workers=2, imports=[MEMBERS, BEHAVIOURS])) as running:
        yield running


@pytest.fixture
def config(cluster: LocalCluster) -> dict[str, Any]:
    return cluster.backend_config


@pytest.fixture(scope="session")
def one_slot() -> Iterator[LocalCluster]:
    """One worker of concurrency 1."""
    with _shared(LocalCluster(workers=1, imports=[MEMBERS])) as running:
        yield running


@pytest.fixture(scope="session")
def no_workers() -> Iterator[LocalCluster]:
    with _shared(LocalCluster(workers=0)) as running:
        yield running
