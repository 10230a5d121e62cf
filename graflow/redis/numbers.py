"""Numbers among the connection keys, checked before a client meets them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from graflow.durations import LONGEST, MOST
from graflow.exceptions import ConfigError

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
