"""The containers of the standard library: their kinds, and how they are made again."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final

from graflow.exceptions import PayloadError
from graflow.values.base import Make, Reading

SEQUENCES: Final[Mapping[type, str | None]] = {
    list: None,
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
}
_ALIKE: Final = 64
_RANDOMLY_HASHED: Final = frozenset({str, bytes})
MAPPINGS: Final[Mapping[type, str]] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}


def _items_of(data: object, reading: Reading) -> list[Any]:
    if type(data) is not list:
        raise TypeError("not a list")
    return [reading.read(item) for item in data]


def _pairs_of(data: Any, reading: Reading) -> list[tuple[Any, Any]]:
    pairs = [(reading.read(key), reading.read(item)) for key, item in data]
    check_spread([key for key, _ in pairs])
    return pairs


def _members_of(data: object, reading: Reading) -> list[Any]:
    members = _items_of(data, reading)
    check_spread(members)
    return members


def check_spread(keys: list[Any]) -> None:
    """Return when the hashes of keys tell them apart; made up ones that do not would take hours to enter.

    Raises:
        PayloadError: When too many have the same hash.
    """
    if len(keys) <= _ALIKE or _RANDOMLY_HASHED.issuperset(map(type, keys)):
        return
    if max(Counter(map(hash, keys)).values()) > _ALIKE:
        raise PayloadError(f"More than {_ALIKE} keys of one table have the same hash")


def _make_deque(data: Any, reading: Reading) -> deque[Any]:
    limit, items = data
    return deque(_items_of(items, reading), maxlen=limit)


READERS: Final[Mapping[str, Make]] = {
    "counter": lambda data, reading: Counter(dict(_pairs_of(data, reading))),
    "deque": _make_deque,
    "dict": lambda data, reading: dict(_pairs_of(data, reading)),
    "frozenset": lambda data, reading: frozenset(_members_of(data, reading)),
    "ordered": lambda data, reading: OrderedDict(_pairs_of(data, reading)),
    "set": lambda data, reading: set(_members_of(data, reading)),
    "tuple": lambda data, reading: tuple(_items_of(data, reading)),
}
