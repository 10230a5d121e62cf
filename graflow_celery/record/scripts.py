"""Loads the Lua scripts of the group record."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import redis
from redis.sentinel import SentinelConnectionPool

LUA = Path(__file__).parent / "lua"
FREE_STANDING = frozenset({"look", "owner", "workers"})
"""Scripts that touch no run and need nothing of lib.lua."""

ALONE = frozenset({"claim", "complete"})
"""Scripts that begin with a short way for one member that nothing has happened to."""

_ROOM: Final = 10  # connections that a pool may have, so that one can be kept

WRAPPED: dict[str, type[redis.exceptions.ResponseError]] = {
    "OOM command not allowed": redis.exceptions.OutOfMemoryError,
    "READONLY You can't write": redis.exceptions.ReadOnlyError,
}
"""Errors of a command whose kind is lost when it runs inside a script of Redis 6.2, by what their text keeps."""


@cache
def source(name: str) -> str:
    """Text of one script with the shared parts in front."""
    shared = [] if name in FREE_STANDING else ["lib"]
    short = [f"{name}_alone"] if name in ALONE else []
    return "\n".join(_text(part) for part in ["time", *short, *shared, name])


@cache
def _text(name: str) -> str:
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


class _Line:
    """A connection that is kept, for one call at a time: none is taken from the pool and looked over for each.

    Calls that come meanwhile go through the pool, and so do those of a forked process, and all when the pool is small.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._kept: Any = None
        self._lock = threading.Lock()
        pool = client.connection_pool
        # Behind Sentinel the pool alone knows when the master is another one.
        is_kept = pool.max_connections >= _ROOM and not isinstance(pool, SentinelConnectionPool)
        self._pid = os.getpid() if is_kept else None

    def send(self, client: Any, *parts: Any) -> Any:
        if os.getpid() != self._pid or not self._lock.acquire(blocking=False):
            return client.execute_command(*parts)
        try:
            if self._kept is None:
                self._kept = client.client()
            return self._kept.execute_command(*parts)
        except redis.exceptions.ResponseError:
            raise
        except BaseException:
            # Whatever else ends a call, an exception of a signal above all, may leave its answer to the next one.
            if self._kept is not None and self._kept.connection is not None:
                self._kept.connection.disconnect()
            raise
        finally:
            self._lock.release()


_lines: WeakKeyDictionary[redis.Redis, _Line] = WeakKeyDictionary()  # one for each client, whatever runs on it


class Scripts:
    """The scripts on one client, sent by digest, and as text to a server that does not know them yet.

    `load` gives the text of a script by name.
    """

    def __init__(self, client: redis.Redis, load: Callable[[str], str] = source) -> None:
        self._client = client
        self._line = _lines.setdefault(client, _Line(client))
        self._load = load
        self._known: dict[str, tuple[str, str]] = {}

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script.

        Raises:
            redis.exceptions.OutOfMemoryError: The server refused the write; nothing was changed.
            redis.exceptions.ReadOnlyError: The server is a replica; nothing was changed.
        """
        text, digest = self._known.get(name) or self._learn(name)
        send = partial(self._line.send, self._client)
        try:
            try:
                return send("EVALSHA", digest, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return send("EVAL", text, len(keys), *keys, *args)
        except tuple(WRAPPED.values()):
            raise
        except redis.exceptions.ResponseError as error:
            for text, kind in WRAPPED.items():
                if text in str(error):
                    raise kind(str(error)) from error
            raise

    def _learn(self, name: str) -> tuple[str, str]:
        """The text of a script and the digest under which servers remember it."""
        text = self._load(name)
        found = self._known[name] = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return found
