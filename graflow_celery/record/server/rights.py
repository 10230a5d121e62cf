"""What a user of Redis must be allowed to do for groups, asked before the first one is opened."""

from __future__ import annotations

from typing import Any, Final

import redis

from graflow.exceptions import ConfigError

_KEY: Final = "rights"
ON_A_KEY: Final = (
    *("DEL", "EXISTS", "GET", "GETRANGE", "HDEL a", "HEXISTS a", "HGET a", "HGETALL", "HINCRBY a 1", "HLEN"),
    *("HMGET a", "HSCAN 0", "HSET a 1", "HSETNX a 1", "INCRBY 1", "LLEN", "LPOP", "LRANGE 0 1", "LREM 0 a"),
    *("PERSIST", "PEXPIRE 1", "PTTL", "RPUSH a", "SADD a", "SET 1", "SISMEMBER a", "SMEMBERS", "SREM a"),
    *("STRLEN", "TYPE", "UNLINK", "XADD * a 1", "XRANGE - +", "XREVRANGE + -", "ZADD 1 a", "ZMSCORE a"),
    *("ZRANGE 0 1", "ZRANGEBYSCORE 0 1", "ZREM a", "ZSCORE a"),
)
ON_TWO_KEYS: Final = ("COPY", "RENAME")
ON_NO_KEY: Final = ("EVAL @ 0", "EVALSHA @ 0", "PING", "TIME")
_OF_THE_BROKER: Final = ("LPUSH a", "RPOP")
"""Commands with what follows their key; `@` stands for the text of a script."""


def check_rights(client: redis.Redis, prefix: str, *, is_broker: bool) -> None:
    """Refuse a user that may not do what groups need.

    Each command is queued in a transaction that is given up: Redis says what the user may not, and does nothing.

    Args:
        client: Of the Redis of record.
        prefix: Of the deployment.
        is_broker: Whether messages wait there as well.

    Raises:
        ConfigError: Naming every right that is missing, as `ACL SETUSER` takes it.
    """
    probes = [line.split() for line in (*ON_A_KEY, *(_OF_THE_BROKER if is_broker else ()))]
    commands = [[name, f"{prefix}:{_KEY}", *rest] for name, *rest in probes]
    commands += [[name, f"{prefix}:{_KEY}", f"{prefix}:{_KEY}2"] for name in ON_TWO_KEYS]
    commands += [[part.replace("@", "return 1") for part in line.split()] for line in ON_NO_KEY]
    commands.append(["XREAD", "STREAMS", f"{prefix}:{_KEY}", "0"])
    if is_broker:
        commands += [["BRPOP", f"{prefix}:{_KEY}", "1"], ["PUBLISH", f"{prefix}:{_KEY}", ""]]
    refused = [(command, why) for command, why in _refused(client, commands) if is_broker or command != ["MULTI"]]
    missing = sorted({_right(command, why, prefix) for command, why in refused})
    if missing:
        raise ConfigError(
            f"The user of the Redis lacks rights that groups need: ACL SETUSER {_user_of(client)} {' '.join(missing)}"
        )


def _refused(client: Any, commands: list[list[str]]) -> list[tuple[list[str], str]]:
    """The commands that this user may not use so, with what the server says; asked again as the client's commands are.

    A line that breaks takes its transaction with it.
    """
    with client.client() as held:
        line = held.connection
        found: list[tuple[list[str], str]] = line.retry.call_with_retry(
            lambda: _refused_on(line, commands), lambda _error: None
        )
        return found


def _refused_on(line: Any, commands: list[list[str]]) -> list[tuple[list[str], str]]:
    is_clean = False
    try:
        (begun,) = _answers(line, [["MULTI"]])
        if begun is not None:  # without it the commands would do what they say
            refused = [(["MULTI"], begun)]
        else:
            said = _answers(line, [*commands, ["DISCARD"]])
            refused = [(command, why) for command, why in zip(commands, said, strict=False) if why is not None]
        is_clean = True
    finally:
        if not is_clean:
            line.disconnect()
    return refused


def _answers(line: Any, commands: list[list[str]]) -> list[str | None]:
    """For each command why this user may not use it; None where he may."""
    line.send_packed_command(line.pack_commands(commands))
    said: list[str | None] = []
    for _ in commands:
        try:
            line.read_response()
        except redis.exceptions.NoPermissionError as error:
            said.append(str(error))
        except redis.exceptions.ResponseError:  # what the server refuses for a while is met again where it is needed
            said.append(None)
        else:
            said.append(None)
    return said


def _right(command: list[str], said: str, prefix: str) -> str:
    """What grants a command to the user, by what the server says that it may not."""
    if " key" in said:
        return f"~{prefix}:*"
    return f"&{prefix}:*" if " channel" in said else f"+{command[0].lower()}"


def _user_of(client: redis.Redis) -> str:
    return str(client.get_connection_kwargs().get("username") or "default")
