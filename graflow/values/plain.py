"""Values that JSON keeps as they are."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from typing import Any, Final

MAX_DEPTH: Final = 64
MAX_CONTAINERS: Final = 4_000_000
MAX_INT_BITS: Final = 14_000  # below 4,300 digits, the limit of the interpreter's own conversion
TAG: Final = "$t"  # the key of an object that stands for a value of another kind
SCALARS: Final = frozenset((str, int, float, bool, type(None)))
STR_ONLY: Final = frozenset((str,))
_INT_ONLY: Final = frozenset((int,))
_PLAIN: Final = SCALARS | {list, dict}


def is_plain(value: object, max_depth: int = MAX_DEPTH, *, check_numbers: bool = False) -> bool:
    """Whether JSON keeps the value as it is, looked at level by level with few steps in Python per container.

    Args:
        value: Anything.
        max_depth: How many levels of containers there may be.
        check_numbers: Whether numbers that JSON cannot hold count as well.
    """
    level: list[Any] = [[value]]
    count = 0
    for _ in range(max_depth + 1):
        below: list[Any] = []
        for container in level:
            values = container
            if type(container) is dict:
                if container and (not STR_ONLY.issuperset(map(type, container)) or TAG in container):
                    return False
                values = container.values()
            kinds = set(map(type, values))
            if not kinds <= SCALARS:
                if not kinds <= _PLAIN:
                    return False
                below.extend(item for item in values if type(item) is list or type(item) is dict)
            if check_numbers and not kinds <= STR_ONLY and not _all_fit(values, kinds):
                return False
        if not below:
            return True
        count += len(below)
        if count > MAX_CONTAINERS:
            return False
        level = below
    return False


def is_immediate(value: object) -> bool:
    """Whether it is one of the values that JSON keeps as they are whatever there is in them."""
    kind = type(value)
    return kind is str or value is None or kind is bool or (kind is int and value.bit_length() <= MAX_INT_BITS)  # type: ignore[attr-defined]


def _all_fit(values: Collection[Any], kinds: Collection[type]) -> bool:
    """Whether JSON can hold all numbers among values of these types: none is infinite, not a number, or too long."""
    if kinds == _INT_ONLY:  # many of them at a tenth of the price
        return all(extreme.bit_length() <= MAX_INT_BITS for extreme in (min(values), max(values)))
    for value in values:
        kind = type(value)
        if (kind is float and not isfinite(value)) or (kind is int and value.bit_length() > MAX_INT_BITS):
            return False
    return True
