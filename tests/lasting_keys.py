"""After every test with a server: each key that is left has a time to live, or is on the list below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
import redis

from graflow.exceptions import GraflowRuntimeError
from graflow_celery import LocalCluster
from graflow_celery.record.keys import GLOBAL_KEYS, RUN_KEYS
from tests.cluster_support import shared_clusters
from tests.support import PrivateRedis

LIST: Final = {
    "a deployment's own keys": rf".+:({'|'.join(GLOBAL_KEYS)})",
    "what Celery's broker keeps: bindings of its queues, and messages that nobody has taken": r".+:broker:.+",
    "values that a test puts into a channel of its own, with a short name": r"graflow:channel:[^:]{1,9}:[^:]+",
    "which flows of a store changed last": r"\{.+:flows\}:chang(ed|es)",
    "which format the flows of a store are kept in": r"\{.+:flows\}:format",
    "the time of clocked scripts": r"test:now",
    "what plain Celery keeps, which some faults compare with": r"_kombu\..+|unacked.*|plain",
}
"""Why a key may stay, and what it looks like. A run that is open has its keys as well."""

_ALLOWED: Final = re.compile("|".join(LIST.values()))


def lasting_keys(client: redis.Redis) -> list[str]:
    """Keys without a time to live that are not on the list."""
    keys: Any = [key for key in client.scan_iter(count=1000) if client.pttl(key) == -1]
    allowed = set(_of_open_runs(client, keys))
    # A run may end while it is looked at, so what is found has to be there still.
    names = [key.decode(errors="replace") for key in keys if client.pttl(key) == -1]
    return sorted(name for name in names if name not in allowed and not _ALLOWED.fullmatch(name))


def _of_open_runs(client: redis.Redis, keys: list[bytes]) -> Iterator[str]:
    for key in keys:
        prefix, _, name = key.decode(errors="replace").rpartition(":")
        if name == "runs" and client.type(key) == b"zset":
            runs: Any = client.zrange(key, 0, -1)
            yield from (f"{prefix}:{run.decode()}:{kind}" for run in runs for kind in RUN_KEYS)
            for run in runs:
                names: Any = client.smembers(f"{prefix}:{run.decode()}:blobs")
                yield from (f"{prefix}:{run.decode()}:blob:{name.decode()}" for name in names)


@pytest.fixture(autouse=True)
def every_key_ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Look at the servers and clusters that run after the test, and at those that it stops, just before.

    Gives the keys that were found so far.
    """
    if "redis_client" in request.fixturenames:
        request.getfixturevalue("redis_client")  # it empties its server at the end, which then comes after the look
    found: set[str] = set()
    stop_server, stop_cluster = PrivateRedis.stop, LocalCluster.stop

    def look(client: redis.Redis) -> None:
        with client, suppress(redis.RedisError):  # some servers are not well
            found.update(lasting_keys(client))

    def look_and_stop(server: PrivateRedis) -> None:
        look(server.client(retry=None, socket_timeout=5))
        stop_server(server)

    def look_and_stop_cluster(cluster: LocalCluster) -> None:
        with suppress(GraflowRuntimeError):  # it has ended, or never began
            look(redis.Redis.from_url(cluster.redis_url.reveal(), retry=None, socket_timeout=5))
        stop_cluster(cluster)

    monkeypatch.setattr(PrivateRedis, "stop", look_and_stop)
    monkeypatch.setattr(LocalCluster, "stop", look_and_stop_cluster)
    yield found
    for server in PrivateRedis.running:
        look(server.client(retry=None, socket_timeout=5))
    for shared in shared_clusters:
        look(redis.Redis.from_url(shared.redis_url.reveal()))
    assert not found, f"keys that stay for ever and are not on the list of tests/lasting_keys.py: {sorted(found)}"
