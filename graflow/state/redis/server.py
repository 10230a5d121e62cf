"""The server behind a store of flows: its scripts, its connections, and whether it is fit."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Any, Final
from urllib.parse import urlencode

from graflow.exceptions import StoreError, StoreUnavailableError
from graflow.processes.per_process import PerProcess
from graflow.redis.clients import load_redis
from graflow.redis.config import connection_of, create_redis_client, describe_server, redis_url
from graflow.redis.kept_connections import kept_connection
from graflow.redis.refusals import RefusedForNowError
from graflow.redis.scripts import Script
from graflow.secret import revealed
from graflow.state.redis.keys import Keys
from graflow.text.shown import get_logger

_log = get_logger(__name__)

FORMAT: Final = 2
DEFAULT_PREFIX: Final = "graflow"
CONNECTIONS: Final = 32  # of one store in one process
_TIMES: Final = {"socket_timeout": 10.0, "socket_connect_timeout": 5.0}
_FREE_STANDING: Final = frozenset(
    {"flows", "events", "changed", "questions_write", "questions_list"}
    | {"cache_begin", "cache_fill", "cache_go_on", "cache_newest", "cache_drop"}
)


@cache
def _script(name: str) -> Script:
    folder = files(__package__) / "lua"
    parts = [name] if name in _FREE_STANDING else ["lib", name]
    return Script(lambda: "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts))


class _Connected:
    """What one process has of a server."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        parts = connection_of(config)
        self.client = create_redis_client({**_TIMES, **parts, "max_connections": CONNECTIONS + 2})
        self.kept = kept_connection(self.client)
        self.room = threading.BoundedSemaphore(CONNECTIONS)
        self.name = f"{os.getpid():x}x{secrets.token_hex(4)}x"
        self.numbers = count()


class Server:
    """Calls of one store; connected at the first of them, and again after a fork.

    Args:
        config: Which server.
        keys: The store's.
    """

    def __init__(self, config: Mapping[str, Any], keys: Keys) -> None:
        self._config = config
        self._keys = keys
        self._where = describe_server(config)
        self._connected: PerProcess[None, _Connected] = PerProcess()
        self._is_checked = False
        self._is_persistent = True

    def token(self) -> str:
        """A name for one call, made of letters and digits, that no other call of any process gets."""
        here = self._here()
        return f"{here.name}{next(here.numbers):x}"

    def run(self, name: str, keys: Sequence[str], *arguments: object) -> Any:
        """The answer of a script.

        Raises:
            StoreUnavailableError: The server does not answer, or takes no writes now.
            StoreError: It refuses.
        """
        if not self._is_checked:
            self.check()
        script = _script(name)
        return self._explained(lambda execute: script.run(execute, keys, *arguments))

    def call(self, *command: object) -> Any:
        """The answer of a command, texts as bytes; raises what `run` raises."""
        if not self._is_checked:
            self.check()
        return self._explained(lambda execute: execute(*command, NEVER_DECODE=True))

    def subscription(self, channel: str) -> Any:
        """What gets the messages of a channel, by a connection of its own."""
        subscription = self._here().client.pubsub()  # type: ignore[no-untyped-call]
        subscription.subscribe(channel)
        return subscription

    def close(self) -> None:
        for each in self._connected.take_all():
            each.client.close()

    def is_persistent(self) -> bool:
        """Whether the server keeps what it has over its own end."""
        if not self._is_checked:
            self.check()
        return self._is_persistent

    def size(self) -> int | None:
        """Bytes that the server's data take in memory, whosever they are; None where one may not ask."""
        used = self._explained(self._info).get("used_memory")
        return None if used is None else int(used)

    def check(self) -> None:
        """Refuse a server that is not fit, and one that holds a newer format.

        Raises:
            StoreError: It evicts, is a cluster, or holds what this version cannot read.
            StoreUnavailableError: It does not answer.
        """
        self._explained(self._look)
        self._is_checked = True

    def _here(self) -> _Connected:
        return self._connected.get(None, lambda: _Connected(self._config))

    def _look(self, execute: Callable[..., Any]) -> None:
        info = self._info(execute)
        if info.get("cluster_enabled"):
            raise StoreError(f"The Redis at {self._where} is a cluster; flows need a single server or Sentinel")
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            raise StoreError(
                f"The Redis at {self._where} may throw flows away when its memory is full (maxmemory-policy {policy}): "
                "set maxmemory-policy to noeviction, or name another server for flows"
            )
        self._is_persistent = bool(info.get("aof_enabled")) or self._saves(execute)
        if not self._is_persistent:
            _log.warning(
                "The Redis at %s keeps nothing over its own end: set appendonly, or flows go with it", self._where
            )
        execute("SET", self._keys.format, FORMAT, "NX")
        held = int(execute("GET", self._keys.format))
        if held > FORMAT:
            raise StoreError(
                f"The Redis at {self._where} holds format {held} of flows, and this version of graflow reads up to "
                f"{FORMAT}: upgrade graflow"
            )
        if held < FORMAT:  # of which this version reads everything as it is
            execute("SET", self._keys.format, FORMAT)

    @staticmethod
    def _info(execute: Callable[..., Any]) -> dict[str, Any]:
        """How the server is set up; where one may not ask, it is believed to be fit for flows."""
        try:
            return {**execute("INFO", "memory"), **execute("INFO", "cluster"), **execute("INFO", "persistence")}
        except load_redis().exceptions.NoPermissionError:
            return {"aof_enabled": 1}

    def _saves(self, execute: Callable[..., Any]) -> bool:
        """Whether snapshots are made; where one may not ask, they are believed to be."""
        try:
            found = execute("CONFIG GET", "save")
        except load_redis().exceptions.ResponseError:
            return True
        return any(bool(value) for value in dict(found).values())

    def _explained(self, call: Callable[[Callable[..., Any]], Any]) -> Any:
        here = self._here()
        errors = load_redis().exceptions

        def execute(*command: Any, **options: Any) -> Any:
            return here.kept.execute_command(here.client, *command, **options)

        try:
            with here.room:
                return call(execute)
        except errors.AuthenticationError as error:
            raise StoreError(f"The Redis at {self._where} does not let this program in: {error}") from error
        except RefusedForNowError as error:
            raise StoreUnavailableError(f"The Redis at {self._where} {error.why}") from error
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            raise StoreUnavailableError(f"The Redis at {self._where} does not answer: {error}") from error
        except (errors.RedisError, UnicodeEncodeError) as error:
            raise StoreError(f"The Redis at {self._where} refuses: {error}") from error


def shown_address(settings: Mapping[str, Any], key_prefix: str) -> str:
    """The address without user, passwords and what does not say which store it is."""
    named = ("host", "port", "db", "ssl", "unix_socket_path", "sentinels", "master_name")
    url: str = revealed(redis_url({name: value for name, value in connection_of(settings).items() if name in named}))
    if key_prefix == DEFAULT_PREFIX:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'key_prefix': key_prefix})}"
