"""Keys that stay for ever are found on every server that a test uses, when it stops it and when it does not."""

from __future__ import annotations

import pytest
import redis

from graflow_celery import LocalCluster
from tests.lasting_keys import lasting_keys
from tests.support import private_redis

pytestmark = pytest.mark.redis


def test_a_key_without_an_end_is_told_from_one_that_ends_and_from_those_on_the_list(redis_client: redis.Redis) -> None:
    redis_client.set("graflow:run:forgotten", 1)
    redis_client.set("graflow:run:ends", 1, ex=60)
    redis_client.set("graflow:broker:queue", 1)
    assert lasting_keys(redis_client) == ["graflow:run:forgotten"]
    redis_client.flushall()


def test_servers_and_clusters_that_a_test_stops_are_looked_at(every_key_ends: set[str]) -> None:
    with private_redis() as server, server.client() as client:
        client.set("stray", 1)
    assert every_key_ends == {"stray"}
    with LocalCluster(workers=0) as cluster, redis.Redis.from_url(cluster.redis_url.reveal()) as client:
        client.set("astray", 1)
    assert every_key_ends == {"stray", "astray"}
    every_key_ends.clear()
