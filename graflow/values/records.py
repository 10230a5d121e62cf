"""Instances of classes with fields: dataclasses, attrs classes, named tuples, pydantic models; and members of enums.

They are made again as pickle does it, from their state: no constructor and no validator runs.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag
from functools import cached_property, partial
from typing import Any, Final

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, NoCodecError, Reading, Writing, parts_of

_NO_DEFAULT: Final = object()
_OF_OTHER_STATE: Final = (BaseException, dict, list, set, frozenset, tuple, str, bytes, bytearray, int, float, complex)
_ATTRS_HASH: Final = "_attrs_cached_hash"  # holds for one process


def class_key(kind: type) -> str:
    """`module:qualname`, under which a class is found in the table of a process."""
    return f"{kind.__module__}:{kind.__qualname__}"


def record_codec(kind: type) -> Codec | None:
    """How instances of a class with fields are taken apart; None for any other class."""
    if issubclass(kind, Enum):
        return Codec("enum", _take_member, kind)
    if issubclass(kind, tuple):
        return Codec("namedtuple", _take_namedtuple, kind) if _is_namedtuple(kind) else None
    if issubclass(kind, _OF_OTHER_STATE):
        return None
    if _is_model(kind):
        return Codec("model", _take_model, kind)
    names = field_names(kind)
    if names is None:
        return None
    return Codec("record", lambda value, writing: _take_record(value, names, writing), kind)


def field_names(kind: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass or attrs class."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    attributes = vars(kind).get("__attrs_attrs__")
    return None if attributes is None else tuple(attribute.name for attribute in attributes)


def _is_namedtuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return type(fields) is tuple and all(type(name) is str for name in fields)


def _is_model(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


# -- out ---------------------------------------------------------------------------------------------------------------


def _take_member(value: Enum, _writing: Writing) -> Any:
    return [class_key(type(value)), value.value if isinstance(value, Flag) else value.name]


def _take_namedtuple(value: Any, writing: Writing) -> Any:
    kind = type(value)
    if getattr(value, "__dict__", None) or len(value) != len(kind._fields):
        raise NoCodecError("a named tuple with more than its fields")
    return [class_key(kind), _written(zip(kind._fields, value, strict=True), writing)]


def _take_record(value: object, names: tuple[str, ...], writing: Writing) -> Any:
    unset = next((name for name in names if not hasattr(value, name)), None)
    if unset is not None:
        raise NoCodecError(f"its field {unset!r} is not set")
    held = {name: getattr(value, name) for name in names}
    more = {name: item for name, item in getattr(value, "__dict__", {}).items() if name not in names}
    content = [class_key(type(value)), _written(held.items(), writing)]
    extra = {name: item for name, item in more.items() if not _is_derived(type(value), name)}
    if hasattr(value, _ATTRS_HASH):
        extra[_ATTRS_HASH] = None
    return [*content, _written(extra.items(), writing)] if extra else content


def _is_derived(kind: type, name: str) -> bool:
    """Whether an attribute is made again when it is asked for, or is the interpreter's own."""
    return name.startswith("__") or isinstance(getattr(kind, name, None), cached_property)


def _take_model(value: Any, writing: Writing) -> Any:
    kind = type(value)
    unset = next((name for name in kind.model_fields if name not in vars(value)), None)
    if unset is not None:
        raise NoCodecError(f"its field {unset!r} is not set")
    fields = [(name, item) for name, item in vars(value).items() if name in kind.model_fields]
    extra, private = (
        None if more is None else _written(more.items(), writing)
        for more in (value.__pydantic_extra__, value.__pydantic_private__)
    )
    return [class_key(kind), _written(fields, writing), sorted(value.__pydantic_fields_set__), extra, private]


def _written(items: Iterable[tuple[str, Any]], writing: Writing) -> dict[str, Any]:
    return {name: writing.write(item, f".{name}") for name, item in items}


# -- back --------------------------------------------------------------------------------------------------------------


def make_member(content: object, reading: Reading) -> Enum:
    name, member = parts_of(content, 2)
    kind = reading.find_class(name)
    if not issubclass(kind, Enum):
        raise PayloadError(f"{class_key(kind)!r} is no Enum class here")
    return kind(member) if isinstance(member, int) and issubclass(kind, Flag) else kind.__members__[member]


def make_namedtuple(content: object, reading: Reading) -> Any:
    name, data = parts_of(content, 2)
    kind: Any = reading.find_class(name)
    if not (issubclass(kind, tuple) and _is_namedtuple(kind)):
        raise PayloadError(f"{class_key(kind)!r} is no named tuple here")
    defaults = getattr(kind, "_field_defaults", {})
    held = _read(kind, data, kind._fields, reading, lambda field: defaults.get(field, _NO_DEFAULT))
    return tuple.__new__(kind, [held[field] for field in kind._fields])


def make_record(content: object, reading: Reading) -> Any:
    name, data, *more = parts_of(content, 2, 3)
    kind = reading.find_class(name)
    names = None if issubclass(kind, _OF_OTHER_STATE) else field_names(kind)
    if names is None:
        raise PayloadError(f"{class_key(kind)!r} is neither a dataclass nor an attrs class here")
    defaults = _defaults_of(kind)
    held = _read(kind, data, names, reading, lambda field: defaults.get(field, lambda: _NO_DEFAULT)())
    extra = {field: reading.read(item) for field, item in _fields_in(more[0]).items()} if more else {}
    made: Any = object.__new__(kind)
    for field, item in {**held, **extra}.items():
        if field.startswith("__"):
            raise PayloadError(f"A {class_key(kind)!r} has no field {field[:80]!r}")
        object.__setattr__(made, field, item)  # also where the class is frozen
    return made


def make_model(content: object, reading: Reading) -> Any:
    name, data, given, extra, private = parts_of(content, 5)
    kind = reading.find_class(name)
    if not _is_model(kind):
        raise PayloadError(f"{class_key(kind)!r} is no pydantic model here")
    known = kind.model_fields  # type: ignore[attr-defined]  # a model has it

    def default(field: str) -> Any:
        return _NO_DEFAULT if known[field].is_required() else known[field].get_default(call_default_factory=True)

    state = {
        "__dict__": _read(kind, data, tuple(known), reading, default),
        "__pydantic_fields_set__": set(given),
        "__pydantic_extra__": None if extra is None else {key: reading.read(item) for key, item in extra.items()},
        "__pydantic_private__": None if private is None else {key: reading.read(item) for key, item in private.items()},
    }
    made: Any = object.__new__(kind)
    for field, item in state.items():
        object.__setattr__(made, field, item)
    return made


def _read(
    kind: type, data: object, names: tuple[str, ...], reading: Reading, default: Callable[[str], Any]
) -> dict[str, Any]:
    """The fields of an instance, in the order of the class; those that the sender's version did not have by default."""
    data = _fields_in(data)
    unknown = data.keys() - set(names)
    if unknown:
        raise PayloadError(
            f"The class {class_key(kind)!r} has no field {min(unknown)[:80]!r} here; the sender has another version"
        )
    held: dict[str, Any] = {}
    for name in names:
        held[name] = reading.read(data[name]) if name in data else default(name)
        if held[name] is _NO_DEFAULT:
            raise PayloadError(f"A {class_key(kind)!r} came without its field {name!r}, which has no default here")
    return held


def _fields_in(data: object) -> dict[str, Any]:
    if type(data) is not dict:
        raise PayloadError("Fields must be an object")
    return data


def _given(value: object) -> Any:
    return value


def _defaults_of(kind: type) -> Mapping[str, Callable[[], Any]]:
    """What makes the default of each field that has one."""
    found: dict[str, Callable[[], Any]] = {}
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory
            elif field.default is not dataclasses.MISSING:
                found[field.name] = partial(_given, field.default)
        return found
    attr = sys.modules["attr"]  # which has made the class
    for attribute in vars(kind)["__attrs_attrs__"]:
        default = attribute.default
        if isinstance(default, attr.Factory):
            if not default.takes_self:
                found[attribute.name] = default.factory
        elif default is not attr.NOTHING:
            found[attribute.name] = partial(_given, default)
    return found
