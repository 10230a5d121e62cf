"""The Redis of record: its client in this process, and whether it is fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis

from graflow.exceptions import ConfigError
from graflow.redis.config import shared_client
from graflow.text.shown import get_logger

_log = get_logger(__name__)

CONNECT_SECONDS: Final = 1.5  # after which a server that does not answer counts as not there


def record_client(connection: Mapping[str, Any]) -> redis.Redis:
    """The one client of this process for the Redis of record, whatever part of it asks; it answers in bytes.

    Args:
        connection: The connection part of settings.
    """
    return shared_client({"socket_connect_timeout": CONNECT_SECONDS, **connection}, decode_responses=False)


def check_server(client: redis.Redis) -> None:
    """Refuse a Redis that cannot hold the record; one that does not tell this user is believed to be fit.

    Raises:
        ConfigError: for a Redis Cluster, and for a server that evicts any key (`allkeys-*`).
    """
    try:
        info: Mapping[str, Any] = {**client.info("memory"), **client.info("cluster")}
    except redis.exceptions.NoPermissionError:
        _log.warning(
            "The user of the Redis of record may not ask how it is set up (INFO): see to it that it is no cluster and "
            "that its maxmemory-policy is noeviction, or grant +info"
        )
        return
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
