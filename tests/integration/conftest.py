from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from tests.cluster_support import cluster, config, no_workers, one_slot, shared_clusters
from tests.lasting_keys import lasting_keys
from tests.record_support import clock, record, record_server, record_world
from tests.support import PrivateRedis

__all__ = ["clock", "cluster", "config", "no_workers", "one_slot", "record", "record_server", "record_world"]


@pytest.fixture(autouse=True)
def _every_key_ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look at the servers that run after the test, and at those that it stops, just before."""
    if "redis_client" in request.fixturenames:
        request.getfixturevalue("redis_client")  # it empties its server at the end, which then comes after the look
    found: set[str] = set()
    stop = PrivateRedis.stop

    def look(server: PrivateRedis) -> None:
        with server.client(retry=None, socket_timeout=5) as client, suppress(redis.RedisError):  # some are not well
            found.update(lasting_keys(client))

    def look_and_stop(server: PrivateRedis) -> None:
        look(server)
        stop(server)

    monkeypatch.setattr(PrivateRedis, "stop", look_and_stop)
    yield
    for server in PrivateRedis.running:
        look(server)
    for shared in shared_clusters:
        with redis.Redis.from_url(shared.redis_url.reveal()) as client:
            found.update(lasting_keys(client))
    assert not found, f"keys that stay for ever and are not on the list of tests/lasting_keys.py: {sorted(found)}"
