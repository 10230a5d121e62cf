"""A channel in Redis, shared by every process that knows its name."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from graflow.channels.base import NOT_A_LIST, NOT_A_NUMBER, Channel, checked_ttl, require_number
from graflow.channels.branch import ChannelWrite
from graflow.channels.channel_text import ChannelText
from graflow.channels.locks import KeyLocks
from graflow.channels.redis_lock import RedisLock, RedisLockBlock
from graflow.channels.redis_server import ChannelServer, Command
from graflow.codec import encode
from graflow.durations import checked_seconds
from graflow.redis.clients import load_redis
from graflow.redis.config import (
    CONNECTION_KEYS,
    connection_of,
    describe_server,
    normalize_redis_config,
)
from graflow.redis.scripts import Script
from graflow.signing import SigningKeys
from graflow.text.shown import get_logger
from graflow.values.pickles import Pickles

_log = get_logger(__name__)

_get = Script.of(__package__, "get")
_push = Script.of(__package__, "push")
_convert = Script.of(__package__, "convert")
_add = Script.of(__package__, "add")
_swap = Script.of(__package__, "swap")
_limit = Script.of(__package__, "limit")
_publish = Script.of(__package__, "publish")

DEFAULT_PREFIX = "graflow"
_BATCH = 500
_REMEMBERED = 60_000  # milliseconds; whoever waits for a server gives up sending an operation again long before
_RESULT_TTL = 86400.0
_MARK_TTL = 7 * 86_400_000  # milliseconds that it is remembered which values were published
_GLOB = re.compile(r"[*?\[\]\\^]")
_T = TypeVar("_T")


class RedisChannel(Channel):
    """Keeps values as JSON text under `<key_prefix>:channel:<name>:<key>`, for any process that reaches the server.

    What JSON does not know (tuples, dates, exceptions, …) is kept by tags and comes back as the same type; what cannot
    be kept is refused before anything is written. A lock lives as long as its holder's process renews it.

    A name that continues another one after a colon (`a` and `a:b`) lies inside it: `keys` and `clear` of `a` reach it.

    Pickling keeps name and connection parameters, never a client or a password.

    Raises:
        ValueError: The parameters name no server, or `redis_client` is none.

    Args:
        name: Of the channel.
        redis_client: A live client to use in this process; its parameters are read for others.
        host: Of the server, unless a client, `url` or `unix_socket_path` names it.
        port: Of the server, likewise.
        db: Number of the database, unless a client or `url` names it.
        connection: Further ones (`url`, `username`, `password`, `ssl`, `unix_socket_path`, …), `key_prefix`, the
            deployment that it belongs to (`graflow` by default), and `result_ttl`, how many seconds the keys live on
            when the run ends (86,400 by default); others are ignored. With `signing_keys`, or a `signing_key` as in
            the settings of a deployment, or one in the environment, values are signed for this channel and their key,
            numbers excepted, and nothing else is read; values that have no other form are kept as signed pickles.
    """

    lock_lease: ClassVar[float] = 30.0
    """Seconds after which a lock is free when its holder's process has died."""

    def __init__(
        self,
        name: str,
        redis_client: Any = None,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        **connection: Any,
    ) -> None:
        super().__init__(name)
        keys = connection.pop("signing_keys", None) or SigningKeys.given(connection.pop("signing_key", None))
        given = {**connection, "redis_client": redis_client, "host": host, "port": port, "db": db}
        self._config = {key: item for key, item in normalize_redis_config(given).items() if key in CONNECTION_KEYS}
        self._config["key_prefix"] = str(connection.get("key_prefix") or DEFAULT_PREFIX)
        self._config["result_ttl"] = checked_ttl(float(connection.get("result_ttl") or _RESULT_TTL))
        connection_of(self._config)  # refuses settings that name no server before anything is done with them
        self._attach(redis_client, keys)

    @property
    def key_prefix(self) -> str:
        """The namespace that its keys lie in: that of a deployment."""
        return str(self._config.get("key_prefix", DEFAULT_PREFIX))

    @property
    def is_signed(self) -> bool:
        """Whether values are signed, and nothing is believed that is not."""
        return self._text.is_signed

    @property
    def redis_client(self) -> Any:
        """The client of this process, opened when it is first needed."""
        return self._server.client

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        self._server.execute(*self._set_command(key, value, ttl))

    def get(self, key: str, default: object = None) -> Any:
        reply = _get.run(self._server.execute, (self._at(key),))
        if reply is None:
            return default
        return self._text.decoded(key, reply)

    def delete(self, key: str) -> bool:
        return bool(self._server.execute("DEL", self._at(key)))

    def exists(self, key: str) -> bool:
        return bool(self._server.execute("EXISTS", self._at(key)))

    def keys(self) -> list[str]:
        start = len(self._at("").encode())
        return sorted({found[start:].decode() for batch in self._scan() for found in batch})

    def clear(self) -> None:
        for batch in self._scan():
            self._server.execute("UNLINK", *batch)

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._add_element("RPUSH", key, value, ttl)

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._add_element("LPUSH", key, value, ttl)

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        amount = require_number(amount, "the amount")
        at, amount_text, described = self._at(key), encode(amount), self._text.described(key)
        operation = self._operation()
        while True:
            reply = _add.run(self._server.execute, (at, operation), amount_text, _REMEMBERED)
            if reply == 0:
                raise TypeError(f"{described} is something else: {NOT_A_NUMBER}")
            if type(reply) is not list:
                return require_number(self._text.decoded(key, reply), described)
            present = self._text.decoded(key, reply[0]) if reply else 0
            total = require_number(present, described) + amount
            if _swap.run(self._server.execute, (at, operation), self._text.encoded(key, total), _REMEMBERED, *reply):
                return total

    def lock(self, key: str, timeout: float = 10.0) -> RedisLockBlock:
        lock = RedisLock(self._server.execute, f"{self.key_prefix}:lock:{self.name}:{key}", self.lock_lease)
        return RedisLockBlock(lock, self._key_locks, self.name, key, checked_seconds("timeout", timeout))

    def set_many(self, values: Mapping[str, Any], ttl: float | None = None) -> None:
        """Store several values in few round trips; when one of them cannot be kept, none is written."""
        commands = [self._set_command(key, value, ttl) for key, value in values.items()]
        for batch in _batches(commands):
            self._server.execute_all(batch)

    def set_missing(self, values: Mapping[str, Any], ttl: float) -> None:
        """Store those of several values whose keys are absent, in few round trips."""
        for batch in _batches([(*self._set_command(key, value, ttl), "NX") for key, value in values.items()]):
            self._server.execute_all(batch)

    def drop(self, keys: Sequence[str]) -> None:
        """Remove some keys, in few round trips."""
        for batch in _batches(keys):
            self._server.execute("UNLINK", *map(self._at, batch))

    def expire(self, ttl_seconds: float, keys: Sequence[str] | None = None) -> int:
        """Give every key of this channel, or some keys, a time to live from now; a key that has less left keeps it.

        Returns:
            How many keys were given one.
        """
        limit = _milliseconds(ttl_seconds)
        batches = self._scan() if keys is None else _batches([self._at(key).encode() for key in keys])
        return sum(_limit.run(self._server.execute, batch, limit) for batch in batches)

    def time_to_live(self, key: str) -> float | None:
        """Seconds that a key has left; None for a key without a limit, or an absent one."""
        left = int(self._server.execute("PTTL", self._at(key)))
        return left / 1000 if left >= 0 else None

    def publish(self, write: ChannelWrite, marks: Sequence[str], *, once: bool) -> None:
        """Do a write that several processes know of, and tell the others by its mark.

        Args:
            write: The write.
            marks: Its mark, then those of writes that it stands in for.
            once: Whether it is left out when another process has done it already.
        """
        deleting: Command = ("DEL", self._at(write.key))
        command = deleting if write.deleted else self._set_command(write.key, write.value, write.ttl)
        name, at, *arguments = command
        keys = (str(at), *map(self._mark, marks))
        _publish.run(self._server.execute, keys, _MARK_TTL, int(once), name, *arguments)

    def is_published(self, mark: str) -> bool:
        """Whether the write with this mark has been done."""
        return bool(self._server.execute("EXISTS", self._mark(mark)))

    def _mark(self, mark: str) -> str:
        return f"{self.key_prefix}:published:{self.name}:{mark}"

    def run_ended(self) -> None:
        try:
            self.expire(self._config["result_ttl"])
        except load_redis().RedisError as error:
            _log.warning("Keys of channel %s could not be given a time to live: %s", self.name, error)

    def check(self, key: str, value: object) -> None:
        """Raise `TypeError` when a value cannot be kept; the text names place and type."""
        self._text.check(key, value)

    def pickles_of(self, key: str) -> Pickles:
        """Takes, for this key, values that have no other form; with keys alone."""
        return self._text.pickles_of(key)

    def ping(self) -> bool:
        """Whether the server answers; a connection that fails raises an error of redis-py's own type."""
        return bool(self._server.execute("PING"))

    def close(self) -> None:
        """Let go of the client, whose connections belong to others too; the next operation opens one again."""
        self._server.let_go()

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "config": self._config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self._config = state["config"]
        self._attach(None, None)  # keys are never kept: they are those of the process

    def __repr__(self) -> str:
        return f"RedisChannel({self.name!r}, {describe_server(self._config)})"

    def _attach(self, client: object, keys: SigningKeys | None) -> None:
        self._text = ChannelText(self.key_prefix, self.name, keys)
        self._server = ChannelServer(f"The Redis of channel {self.name}", self._config, client)
        self._key_locks = KeyLocks()
        self._prefix = f"{self.key_prefix}:channel:{self.name}:"

    def _at(self, key: str) -> str:
        if not isinstance(key, str):
            raise TypeError(f"A key of channel {self.name!r} must be str, not {type(key).__name__}")
        return self._prefix + key

    def _operation(self) -> str:
        """A key that stands for one operation, which the client may send again when its reply got lost."""
        return f"{self.key_prefix}:operation:{self.name}:{secrets.token_hex(8)}"

    def _set_command(self, key: str, value: object, ttl: float | None) -> Command:
        at, text = self._at(key), self._text.encoded(key, value)
        if ttl is None:
            return "SET", at, text
        milliseconds = _milliseconds(ttl)
        return ("SET", at, text, "PX", milliseconds) if milliseconds else ("DEL", at)

    def _add_element(self, command: str, key: str, value: object, ttl: float | None) -> int:
        at, element = self._at(key), self._text.encoded_element(key, value)
        limit = "" if ttl is None else _milliseconds(ttl)
        operation = self._operation()
        while True:
            reply = _push.run(self._server.execute, (at, operation), command, element, limit, _REMEMBERED)
            if isinstance(reply, int) and reply:
                return reply
            if isinstance(reply, int):
                raise TypeError(f"{self._text.described(key)} is something else: {NOT_A_LIST}")
            # Taken apart as JSON, not as values, so that every element stays what it is to the letter.
            texts = self._text.elements(key, reply)
            texts.insert(len(texts) if command == "RPUSH" else 0, element)
            if _convert.run(self._server.execute, (at,), reply, limit, *texts):
                return len(texts)

    def _scan(self) -> Iterator[Sequence[bytes]]:
        """The keys of this channel in Redis, in batches; a key may come twice."""
        pattern = _GLOB.sub(r"\\\g<0>", self._prefix) + "*"
        cursor = 0
        while True:
            cursor, found = self._server.execute("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH, NEVER_DECODE=True)
            if found:
                yield found
            if not cursor:
                return


def _milliseconds(ttl: float) -> int:
    """Whole milliseconds; 0 only for a time that is over."""
    return 0 if checked_ttl(ttl) <= 0 else max(1, round(ttl * 1000))


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
