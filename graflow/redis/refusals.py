"""What a Redis may refuse for a while: one table, for everything here that talks to one.

A server that is busy, full, loading or without its replicas answers with an error and is well again later. redis-py has
a type of its own for some of these answers only. On our connections, and from our scripts on any connection, each is a
`RefusedForNowError` besides what redis-py calls it, so that whoever waits has one thing to wait for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from graflow.redis.clients import load_redis

REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "BUSY": ("is busy with a script", "wait until it has ended, or end it by SCRIPT KILL"),
    "CLUSTERDOWN": ("is a cluster that is down", "name a single server, or the Sentinels that know it"),
    "LOADING": ("is still loading its data", "wait until it has"),
    "MASTERDOWN": ("is a replica that has lost its master", "name its master, or the Sentinels that know it"),
    "MISCONF": ("takes no writes, because it cannot save", "see in its log why; is its disk full?"),
    "NOREPLICAS": ("takes no writes, because too few replicas follow it", "start them, or lower min-replicas-to-write"),
    "OOM": ("is out of memory", "raise maxmemory, or wait for older results to expire"),
    "READONLY": ("is a replica, which nobody may write to", "name its master, or the Sentinels that know it"),
    "TRYAGAIN": ("is moving the keys elsewhere", "wait until it has"),
    "UNBLOCKED": ("has become a replica", "name its master, or the Sentinels that know it"),
}
"""Codes with which a server refuses what it may accept a moment later: what each says of it, and what to do."""

_KINDS: Final[Mapping[str, str]] = {
    "CLUSTERDOWN": "ClusterDownError",
    "LOADING": "BusyLoadingError",
    "MASTERDOWN": "MasterDownError",
    "OOM": "OutOfMemoryError",
    "READONLY": "ReadOnlyError",
    "TRYAGAIN": "TryAgainError",
}
# At the head of an answer; and after a dash, where Redis 6.2 quotes the answer that a command got inside a script.
_CODE: Final = re.compile(rf"(?:^|^(?:ERR )?Error running script.*-)({'|'.join(REFUSALS)}) ", re.DOTALL)


class RefusedForNowError(Exception):
    """The server refuses a command now and may accept it later; nothing was changed by it.

    Each instance is also of the type that redis-py has for the code, a `redis.exceptions.ResponseError` at least.

    Attributes:
        code: One of `REFUSALS`.
    """

    code: str = ""

    @property
    def why(self) -> str:
        """What is the matter with the server, and what to do; the end of a sentence that begins with it."""
        return "; ".join(REFUSALS[self.code])

    def __reduce__(self) -> tuple[Any, ...]:
        return refused, (self.code, str(self))


@cache
def _kind_of(code: str) -> type[RefusedForNowError]:
    like: type[Exception] = getattr(load_redis().exceptions, _KINDS.get(code, "ResponseError"))
    return type(f"{code.capitalize()}Refusal", (RefusedForNowError, like), {"code": code, "__module__": __name__})


def refused(code: str, text: str = "") -> RefusedForNowError:
    """The error that stands for an answer with this code.

    Raises:
        KeyError: For a code that is none of `REFUSALS`.
    """
    return _kind_of(code)(text or f"{code} The server {REFUSALS[code][0]}")


def in_answer(text: str) -> RefusedForNowError | None:
    """What a server's error answer refuses for now, from its text; None for every other error."""
    found = _CODE.search(text)
    return None if found is None else refused(found[1], text)


def for_now(error: BaseException) -> RefusedForNowError | None:
    """The error of a client that is not ours as ours; None when it is not in the table."""
    if isinstance(error, RefusedForNowError):
        return error
    errors = load_redis().exceptions
    for code, name in _KINDS.items():  # whose text has lost its code
        if type(error) is getattr(errors, name):
            return refused(code, str(error))
    return in_answer(str(error)) if isinstance(error, errors.ResponseError) else None


def in_a_word(error: BaseException) -> str:
    """An error in a line of log, without its text, which may hold a URL with its password."""
    return error.code if isinstance(error, RefusedForNowError) else type(error).__name__


@cache
def unreachable() -> tuple[type[Exception], type[Exception], type[OSError]]:
    """Errors of a server that does not answer."""
    errors = load_redis().exceptions
    return errors.ConnectionError, errors.TimeoutError, OSError


@cache
def try_again() -> tuple[type[Exception], type[Exception], type[OSError], type[RefusedForNowError]]:
    """Errors of a server that may be well again in a moment."""
    return *unreachable(), RefusedForNowError


@cache
def parser() -> Any:
    """redis-py's own parser of answers, with our types for what is refused for now: `parser_class` of a connection."""
    base: Any = load_redis().connection.DefaultParser

    class RefusalParser(base):  # type: ignore[misc]
        @classmethod
        def parse_error(cls, response: str) -> Exception:
            return in_answer(response) or super().parse_error(response)

    return RefusalParser
