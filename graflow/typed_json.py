"""Python values as JSON data and back.

Strings, numbers, booleans, None, lists and dictionaries with string keys stay what they are. Other kinds become objects
of the form `{"$t": kind, "v": content}`; a dictionary that itself has the key `$t` becomes its list of pairs. What has
no kind is refused: nothing is ever turned into its text. Reading builds objects of the kinds below only: no name that
arrives is imported or looked up with `getattr`.
"""

from __future__ import annotations

import base64
import math
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from graflow.errors_as_data import RemoteError, describe_error, rebuild_error
from graflow.exceptions import PayloadError

MAX_DEPTH: Final = 64
TAG: Final = "$t"
SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_MAX_CONTAINERS: Final = 4_000_000
_PLAIN: Final = SCALARS | {list, dict}
_AS_IS: Final = frozenset((str, bool, type(None)))
_STR_ONLY: Final = frozenset((str,))


# -- out ---------------------------------------------------------------------------------------------------------------


def to_jsonable(value: object, *, where: str = "value", max_depth: int = MAX_DEPTH) -> Any:
    """The value as JSON data; a plain value is returned itself, not copied.

    Raises:
        TypeError: When a part of it cannot be kept; the text names its place and type.
    """
    if is_plain(value, max_depth, check_numbers=True):
        return value
    return _Writer(where, max_depth).write(value, where, 0)


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
                if container and (not _STR_ONLY.issuperset(map(type, container)) or TAG in container):
                    return False
                values = container.values()
            kinds = set(map(type, values))
            if not kinds <= SCALARS:
                if not kinds <= _PLAIN:
                    return False
                below.extend(item for item in values if type(item) is list or type(item) is dict)
            if check_numbers and not kinds <= _STR_ONLY and not _all_fit(values):
                return False
        if not below:
            return True
        count += len(below)
        if count > _MAX_CONTAINERS:
            return False
        level = below
    return False


def _all_fit(values: Iterable[Any]) -> bool:
    """Whether JSON can hold all numbers among the values: none is infinite, not a number, or too long."""
    for value in values:
        kind = type(value)
        if (kind is float and not isfinite(value)) or (kind is int and value.bit_length() > _MAX_INT_BITS):
            return False
    return True


_MAX_INT_BITS: Final = 14_000  # below 4,300 digits, the limit of the interpreter's own conversion


class _Writer:
    """Writes one value; refuses cycles, depth and size before memory does."""

    def __init__(self, where: str, max_depth: int) -> None:
        self._root = where
        self._max_depth = max_depth
        self._open: set[int] = set()
        self._count = 0

    def write(self, value: Any, where: str, depth: int) -> Any:
        kind = type(value)
        if kind in _AS_IS:
            return value
        if kind is int:
            return value if value.bit_length() <= _MAX_INT_BITS else {TAG: "int", "v": hex(value)}
        if kind is float:
            return value if isfinite(value) else {TAG: "float", "v": repr(value)}
        scalar = _SCALAR_KINDS.get(kind)
        if scalar is not None:
            return {TAG: scalar[0], "v": scalar[1](value, where)}
        if isinstance(value, Enum):
            return {TAG: "enum", "v": [_enum_key(kind), value.value if isinstance(value, Flag) else value.name]}
        if isinstance(value, BaseException):
            return {TAG: "error", "v": describe_error(value).to_dict()}
        if isinstance(value, Path):
            return {TAG: "path", "v": str(value)}
        if kind in _SEQUENCE_KINDS or kind in _MAPPING_KINDS:
            return self._container(value, where, depth)
        raise TypeError(_refusal(value, where))

    def _container(self, value: object, where: str, depth: int) -> Any:
        self._count += 1
        if id(value) in self._open:
            raise TypeError(f"{where} of type {type(value).__qualname__} contains itself and cannot be kept as JSON")
        if depth >= self._max_depth:
            raise TypeError(f"{self._root} is nested deeper than {self._max_depth} levels and cannot be kept as JSON")
        if self._count > _MAX_CONTAINERS:
            raise TypeError(f"{self._root} holds more than {_MAX_CONTAINERS} containers and cannot be kept as JSON")
        self._open.add(id(value))
        try:
            return self._mapping(value, where, depth) if isinstance(value, dict) else self._items(value, where, depth)
        finally:
            self._open.discard(id(value))

    def _items(self, value: Any, where: str, depth: int) -> Any:
        items = [
            item if type(item) in _AS_IS else self.write(item, f"{where}[{index}]", depth + 1)
            for index, item in enumerate(value)
        ]
        tag = _SEQUENCE_KINDS[type(value)]
        if tag is None:
            return items
        if isinstance(value, set | frozenset):
            items.sort(key=repr)  # what is written must not depend on hashes
        return {TAG: tag, "v": [value.maxlen, items] if isinstance(value, deque) else items}

    def _mapping(self, value: dict[Any, Any], where: str, depth: int) -> Any:
        tag = _MAPPING_KINDS[type(value)]
        if tag == "dict" and _STR_ONLY.issuperset(map(type, value)) and TAG not in value:
            return {
                key: item if type(item) in _AS_IS else self.write(item, f"{where}[{key!r}]", depth + 1)
                for key, item in value.items()
            }
        pairs = []
        for key, item in value.items():
            kept = self.write(key, f"key of {where}", depth + 1)
            pairs.append([kept, self.write(item, f"{where}[{key!r}]", depth + 1)])
        return {TAG: tag, "v": pairs}


def _refusal(value: object, where: str) -> str:
    kind = type(value)
    base = next((name for name in (str, int, float, bytes, list, tuple, dict, set) if isinstance(value, name)), None)
    remedy = f"convert it with {base.__name__}(...)" if base else "convert it to plain data"
    return f"{where} of type {kind.__module__}.{kind.__qualname__} cannot be kept as JSON; {remedy} first"


def _zoned(value: datetime, where: str) -> Any:
    zone = value.tzinfo
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return [value.isoformat(), zone.key]
    if zone is not None and value.utcoffset() is None:
        raise TypeError(f"{where}: a datetime whose tzinfo gives no offset cannot be kept as JSON")
    return value.isoformat()


def _clock(value: time, where: str) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise TypeError(f"{where}: a time of day whose offset depends on the date cannot be kept as JSON")
    return value.isoformat()


_SCALAR_KINDS: Final[dict[type, tuple[str, Callable[[Any, str], Any]]]] = {
    bytes: ("bytes", lambda value, _: base64.b64encode(value).decode("ascii")),
    bytearray: ("bytearray", lambda value, _: base64.b64encode(value).decode("ascii")),
    datetime: ("datetime", _zoned),
    date: ("date", lambda value, _: value.isoformat()),
    time: ("time", _clock),
    timedelta: ("timedelta", lambda value, _: [value.days, value.seconds, value.microseconds]),
    Decimal: ("decimal", lambda value, _: str(value)),
    UUID: ("uuid", lambda value, _: value.hex),
    complex: ("complex", lambda value, _: [repr(value.real), repr(value.imag)]),
    range: ("range", lambda value, _: [value.start, value.stop, value.step]),
    RemoteError: ("remote", lambda value, _: value.to_dict()),
}
_SEQUENCE_KINDS: Final[dict[type, str | None]] = {
    list: None,
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
}
_MAPPING_KINDS: Final[dict[type, str]] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}


_CONTAINER_TAGS: Final = frozenset(tag for tag in (*_SEQUENCE_KINDS.values(), *_MAPPING_KINDS.values()) if tag)


# -- back --------------------------------------------------------------------------------------------------------------


def from_jsonable(data: Any, *, max_depth: int = MAX_DEPTH) -> Any:
    """The value that `to_jsonable` wrote.

    Raises:
        PayloadError: When the data is too deep or holds an unknown kind.
    """
    kind = type(data)
    if kind in SCALARS:
        return data
    if max_depth <= 0 and not _is_leaf(data):
        raise PayloadError(f"A value nested deeper than {MAX_DEPTH} levels is refused")
    below = max_depth - 1
    if kind is list:
        return [item if type(item) in SCALARS else from_jsonable(item, max_depth=below) for item in data]
    if kind is not dict:
        raise PayloadError(f"A {kind.__qualname__} is not JSON data")
    if TAG not in data:
        return {
            key: item if type(item) in SCALARS else from_jsonable(item, max_depth=below) for key, item in data.items()
        }
    tag = data[TAG]
    reader = _READERS.get(tag) if isinstance(tag, str) else None
    if reader is None or len(data) != 2 or "v" not in data:
        raise PayloadError(f"Unknown kind of value {str(tag)[:40]!r}; the sender may be of a newer version")
    try:
        return reader(data["v"], below)
    except PayloadError:
        raise
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        raise PayloadError(f"A value of kind '{tag}' is malformed: {type(error).__name__}") from error


def _is_leaf(data: object) -> bool:
    """Whether data stands for a value that has no values inside."""
    tag = data.get(TAG) if type(data) is dict else None
    return isinstance(tag, str) and tag not in _CONTAINER_TAGS


def _list_of(data: object, below: int) -> list[Any]:
    if type(data) is not list:
        raise TypeError("not a list")
    return [from_jsonable(item, max_depth=below) for item in data]


def _pairs_of(data: Any, below: int) -> list[tuple[Any, Any]]:
    return [(from_jsonable(key, max_depth=below), from_jsonable(item, max_depth=below)) for key, item in data]


def _bytes_of(data: Any, _below: int) -> bytes:
    return base64.b64decode(data, validate=True)


def _datetime_of(data: Any, _below: int) -> datetime:
    text, zone = data if type(data) is list else (data, None)
    moment = datetime.fromisoformat(text)
    return moment.astimezone(zoneinfo.ZoneInfo(zone)) if zone in _zones() else moment


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _int_of(data: Any, _below: int) -> int:
    return int(data, 16)


def _float_of(data: Any, _below: int) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[data]


def _timedelta_of(data: Any, _below: int) -> timedelta:
    days, seconds, microseconds = data
    return timedelta(days, seconds, microseconds)


def _complex_of(data: Any, _below: int) -> complex:
    real, imaginary = data
    return complex(float(real), float(imaginary))


def _deque_of(data: Any, below: int) -> deque[Any]:
    limit, items = data
    return deque(_list_of(items, below), maxlen=limit)


_enums: dict[str, type[Enum]] = {}


def _enum_key(kind: type[Enum]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _enum_of(data: Any, _below: int) -> Enum:
    name, member = data
    kind = _enums.get(name) or _loaded_enums().get(name)
    if kind is None:
        raise PayloadError(f"The Enum class {str(name)[:80]!r} is not loaded in this process; import its module first")
    return kind(member) if isinstance(member, int) and issubclass(kind, Flag) else kind.__members__[member]


def _loaded_enums() -> dict[str, type[Enum]]:
    waiting: list[type[Enum]] = [Enum]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting.extend(below)
        _enums.update({_enum_key(kind): kind for kind in below})
    return _enums


_READERS: Final[dict[str, Callable[[Any, int], Any]]] = {
    "bytearray": lambda data, below: bytearray(_bytes_of(data, below)),
    "bytes": _bytes_of,
    "complex": _complex_of,
    "counter": lambda data, below: Counter(dict(_pairs_of(data, below))),
    "date": lambda data, _: date.fromisoformat(data),
    "datetime": _datetime_of,
    "decimal": lambda data, _: Decimal(data),
    "deque": _deque_of,
    "dict": lambda data, below: dict(_pairs_of(data, below)),
    "enum": _enum_of,
    "error": lambda data, _: rebuild_error(RemoteError.from_dict(data)),
    "float": _float_of,
    "frozenset": lambda data, below: frozenset(_list_of(data, below)),
    "int": _int_of,
    "ordered": lambda data, below: OrderedDict(_pairs_of(data, below)),
    "path": lambda data, _: Path(data),
    "range": lambda data, _: range(*data),
    "remote": lambda data, _: RemoteError.from_dict(data),
    "set": lambda data, below: set(_list_of(data, below)),
    "time": lambda data, _: time.fromisoformat(data),
    "timedelta": _timedelta_of,
    "tuple": lambda data, below: tuple(_list_of(data, below)),
    "uuid": lambda data, _: UUID(hex=data),
}
