"""The connections that one process may have to one server: who finds none free waits, instead of failing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from graflow.redis.clients import load_redis

_PATIENCE: Final = 20.0  # seconds that a call waits for a connection of its pool
_PAUSE: Final = 0.005


class _Places:
    """The connections of one pool of redis-py."""

    def __init__(self, pool: Any) -> None:
        self._take: Callable[..., Any] = pool.get_connection
        self._most: int = pool.max_connections
        self._error: type[Exception] = load_redis().exceptions.MaxConnectionsError

    def take(self, *args: Any, **options: Any) -> Any:
        """A connection, as soon as one is free.

        Raises:
            redis.exceptions.MaxConnectionsError: When none has been for long.
        """
        begun = time.monotonic()
        while True:
            try:
                return self._take(*args, **options)
            except self._error as error:
                waited = time.monotonic() - begun
                if waited >= _PATIENCE:
                    raise self._error(f"all {self._most} connections were in use for {waited:.0f} s") from error
            time.sleep(_PAUSE)


def wait_for_places(pool: Any) -> None:
    """Have those who ask a pool at its limit (`max_connections`) wait until somebody gives a connection back."""
    pool.get_connection = _Places(pool).take


def connection_apart(pool: Any) -> Any:
    """A connection to the server of a pool that takes no place in it; not open yet, and its maker's to close."""
    return pool.connection_class(**pool.connection_kwargs)
