"""Numbers and words among the connection keys, checked before a client meets them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from graflow.durations import LONGEST, MOST
from graflow.exceptions import ConfigError
from graflow.redis.urls import truth_of

_LONGEST_ANSWER: Final = 2_000_000  # seconds; sockets reckon in milliseconds of 31 bits
_WHOLE: Final[Mapping[str, tuple[int, int]]] = {
    "port": (1, 65_535),
    "db": (0, MOST),
    "max_connections": (0, MOST),
    "protocol": (2, 3),
}
_SECONDS: Final[Mapping[str, tuple[float, float]]] = {
    "socket_timeout": (0.001, _LONGEST_ANSWER),
    "socket_connect_timeout": (0.001, _LONGEST_ANSWER),
    "health_check_interval": (0, LONGEST),
}
_TEXTS: Final = ("username", "password", "ssl_password", "sentinel_username", "sentinel_password", "client_name")
_TRUTHS: Final = ("ssl", "decode_responses", "socket_keepalive", "ssl_check_hostname")
_CERTIFICATES: Final = frozenset({"none", "optional", "required"})


def check_words(parts: MutableMapping[str, Any]) -> None:
    """Make what is given as a word one that clients know; None, for a default, stays.

    Raises:
        ConfigError: When it is none; names it, and does not show it.
    """
    for name in _TEXTS:
        if not isinstance(parts.get(name, ""), str):
            raise ConfigError(f"The {name} of a Redis must be text, not of type {type(parts[name]).__name__}")
    for name in _TRUTHS:
        if isinstance(parts.get(name), str):
            try:
                parts[name] = truth_of(parts[name])
            except ValueError:
                raise ConfigError(f"The {name} of a Redis must be true or false") from None
    wanted = parts.get("ssl_cert_reqs")
    if isinstance(wanted, str):
        parts["ssl_cert_reqs"] = wanted.upper().removeprefix("CERT_").lower()
        if parts["ssl_cert_reqs"] not in _CERTIFICATES:
            raise ConfigError("The ssl_cert_reqs of a Redis must be none, optional or required")


def check_numbers(parts: MutableMapping[str, Any]) -> None:
    """Make every number that is given one of its kind; None, for a default, stays.

    Raises:
        ConfigError: When one is none, or is beyond what can be used; names it.
    """
    for name in _WHOLE.keys() & parts.keys():
        if parts[name] is not None:
            parts[name] = int(_within(name, parts[name], *_WHOLE[name], is_whole=True))
    for name in _SECONDS.keys() & parts.keys():
        if parts[name] is not None:
            parts[name] = _within(name, parts[name], *_SECONDS[name], is_whole=False)


def _within(name: str, value: object, low: float, high: float, *, is_whole: bool) -> float:
    wanted = "a number"
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
            wanted = f"a {'whole ' if is_whole else ''}number from {low} to {high}"
            if low <= number <= high and (number.is_integer() or not is_whole):
                return number
    raise ConfigError(f"The {name} of a Redis must be {wanted}, not {value!r}")
