"""kombu's Redis transport with one client per channel, which outlives a failover.

The stock channel builds a new client object for every operation, which costs more than the operation itself on a fast
network. The client is only a handle on the channel's connection pool, so one is enough.
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import redis as kombu_redis


class KeptClientChannel(kombu_redis.Channel):
    """A channel that keeps its pooled client; clients of the event loop stay as they are."""

    _kept: Any = None
    _kept_pool: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._pool is None and self.connection.client is None:
            # A line that broke is closed twice, the second time without its settings; the worker must not die of that.
            raise ConnectionError("the connection of this channel is closed")
        pool = self.pool
        if self._kept is None or self._kept_pool is not pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
            self._kept_pool = pool
        return self._kept


class Transport(kombu_redis.Transport):
    """Also connects again after a server that became a replica, or ran out of memory, refused to write."""

    Channel = KeptClientChannel
    connection_errors = (
        *kombu_redis.Transport.connection_errors,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self.connection_errors = type(self).connection_errors
