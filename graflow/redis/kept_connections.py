"""One connection of a client's pool that is kept, for callers to whom taking one for each call costs too much."""

from __future__ import annotations

import os
import threading
from typing import Any, Final
from weakref import WeakKeyDictionary

from graflow.redis.clients import load_redis

_ROOM: Final = 10  # connections that a pool may have, so that one can be kept
_TURN: Final = (
    0.002  # seconds that a call waits for the one before it, which on a near server is less than a connection
)


class KeptConnection:
    """A connection that is kept, for one call at a time: none is taken from the pool and looked over for each.

    Calls that come during a long one go through the pool, and so do those of a forked process, and all when the pool is
    small.
    """

    def __init__(self, client: Any) -> None:
        self._kept: Any = None
        self._owing: Any = None  # the socket that an answer which nobody waits for is still to come from
        self._lock = threading.Lock()
        pool = client.connection_pool
        # Behind Sentinel the pool alone knows when the master is another one.
        is_kept = pool.max_connections >= _ROOM and not isinstance(pool, load_redis().sentinel.SentinelConnectionPool)
        self._pid = os.getpid() if is_kept else None
        self._reply_errors = load_redis().exceptions.ResponseError
        self._line_errors = (load_redis().exceptions.ConnectionError, load_redis().exceptions.TimeoutError, OSError)

    def execute_command(self, client: Any, *parts: Any, **options: Any) -> Any:
        """What `client.execute_command` does; the client is the one that this was made for."""
        if os.getpid() != self._pid or not self._lock.acquire(timeout=_TURN):
            return client.execute_command(*parts, **options)
        try:
            return self._answer(client, parts, options)
        finally:
            self._lock.release()

    def tell(self, *parts: Any) -> bool:
        """Send a command without waiting for its answer, which the next call drops, an error too.

        Returns:
            Whether it was sent; False where that takes a connection that is not there or is in use.
        """
        if os.getpid() != self._pid or not self._lock.acquire(blocking=False):
            return False
        try:
            connection = None if self._kept is None else self._kept.connection
            if connection is None or connection._sock is None or self._owing is not None:
                return False
            is_sent = False
            try:
                connection.send_command(*parts)
                self._owing, is_sent = connection._sock, True
            except self._line_errors:
                return False
            finally:
                if not is_sent:
                    connection.disconnect()
            return True
        finally:
            self._lock.release()

    def rest(self) -> None:
        """Close the connection unless it is in use; the next call opens it again."""
        if os.getpid() != self._pid or not self._lock.acquire(blocking=False):
            return
        try:
            if self._kept is not None and self._kept.connection is not None:
                self._kept.connection.disconnect()
        finally:
            self._lock.release()

    def _answer(self, client: Any, parts: tuple[Any, ...], options: dict[str, Any]) -> Any:
        is_answered = False
        try:
            if self._kept is None:
                self._kept = client.client()
            self._drop_answer()
            answer = self._kept.execute_command(*parts, **options)
            is_answered = True
        except self._reply_errors:
            is_answered = True
            raise
        finally:
            # Whatever else ends a call, an exception of a signal above all, may leave its answer to the next one.
            if not is_answered and self._kept is not None and self._kept.connection is not None:
                self._kept.connection.disconnect()
        return answer

    def _drop_answer(self) -> None:
        """Take in the answer to what was told, so that the next one is that of the next command."""
        owing, self._owing = self._owing, None
        if owing is None or owing is not self._kept.connection._sock:
            return  # with a line that was closed its answers are gone
        try:
            self._kept.connection.read_response()
        except self._reply_errors:
            pass
        except self._line_errors:
            self._kept.connection.disconnect()


_connections: WeakKeyDictionary[Any, KeptConnection] = WeakKeyDictionary()


def kept_connection(client: object) -> KeptConnection:
    """The one of this client, whatever runs on it; it does not keep the client alive."""
    return _connections.setdefault(client, KeptConnection(client))
