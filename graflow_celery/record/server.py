"""Is this Redis fit to hold the record?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from graflow.exceptions import ConfigError


def check_server(client: redis.Redis) -> None:
    """Refuse a Redis that cannot hold the record.

    Raises:
        ConfigError: for a Redis Cluster, and for a server that evicts any key (`allkeys-*`).
    """
    info: Mapping[str, Any] = {**client.info("memory"), **client.info("cluster")}
    if info.get("cluster_enabled"):
        raise ConfigError(
            "The Redis of record is a Redis Cluster, which cannot hold groups: use a single server or Sentinel"
        )
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-"):
        raise ConfigError(
            f"The Redis of record evicts any key (maxmemory-policy {policy}), so that running groups would vanish: "
            "set maxmemory-policy to noeviction, or to one of volatile-*"
        )
