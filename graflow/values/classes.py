"""The classes of this process that values may be made of, by exact qualified name.

The table holds what was registered, and what the tasks that this process knows speak of: their annotations, and classes
that their code and their module name. A name that arrives selects an entry, and nothing else: it is never imported and
never looked up as an attribute.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, Reading, parts_of
from graflow.values.records import class_key, record_codec

_Kind = TypeVar("_Kind", bound=type)
_NOT_ROOTS: Final = frozenset({"builtins", "typing", "abc", "collections", "enum", "types", "numbers"})

_table: dict[str, type] = {}
_only_sent: set[str] = set()  # entries that nobody but this process is known to have
_bases: dict[str, type] = {}  # classes without fields of their own that tasks annotate; their subclasses may have some
_makers: dict[type, Callable[[Any], Any]] = {}
_codecs: WeakKeyDictionary[type, Codec] = WeakKeyDictionary()
_learnt: WeakKeyDictionary[Any, Mapping[str, type]] = WeakKeyDictionary()


def register(
    kind: _Kind, *, take: Callable[[Any], Any] | None = None, make: Callable[[Any], Any] | None = None
) -> _Kind:
    """Let values of this class travel and be kept as data; usable as a decorator. Both sides need it.

    Args:
        kind: A dataclass, attrs class, named tuple, pydantic model or Enum; with `take` and `make` any class.
        take: Makes a value that can be kept (a tuple of its parts, for example) from an instance.
        make: Makes an instance from that value.

    Raises:
        TypeError: When it is no class, or a class of another kind without both functions.
    """
    if not isinstance(kind, type):
        raise TypeError(f"Only classes can be registered, not {kind!r}")
    if (take is None) != (make is None):
        raise TypeError(f"register({kind.__name__}) needs both take= and make=, or neither")
    if take is not None and make is not None:
        took = take
        _codecs[kind] = Codec("own", lambda value, writing: [class_key(kind), writing.write(took(value), "")], kind)
        _makers[kind] = make
    elif record_codec(kind) is None:
        raise TypeError(
            f"{kind.__qualname__} is no dataclass, attrs class, named tuple, pydantic model or Enum: say with take= "
            "and make= how it is taken apart and made again"
        )
    _share({class_key(kind): kind})
    return kind


def _share(found: Mapping[str, type]) -> None:
    _table.update(found)
    _only_sent.difference_update(found)


def class_codec(kind: type) -> Codec | None:
    """How instances of a class are taken apart, when it has fields or was registered."""
    found = _codecs.get(kind)
    if found is None:
        found = record_codec(kind)
        if found is not None:
            _codecs[kind] = found
    return found


def make_own(content: object, reading: Reading) -> Any:
    """An instance of a class that was registered with functions of its own."""
    name, data = parts_of(content, 2)
    kind = reading.find_class(name)
    make = _makers.get(kind)
    if make is None:
        raise PayloadError(f"{class_key(kind)!r} is registered without make= here")
    return make(reading.read(data))


def enter(kind: type) -> None:
    """Table a class that this process itself has sent a value of, so that one can come back."""
    key = class_key(kind)
    if _table.get(key) is not kind:
        _table[key] = kind
        _only_sent.add(key)


def is_known(kind: type, near: Mapping[str, type]) -> bool:
    """Whether whoever shares these tasks, or registers the same classes, knows the class."""
    key = class_key(kind)
    return near.get(key) is kind or (_table.get(key) is kind and key not in _only_sent)


def find_class(name: Any, near: Mapping[str, type]) -> type:
    """The class of that name among those nearby, else in the table.

    Raises:
        PayloadError: When neither holds it; the text says what to do.
    """
    kind = near.get(name)
    if kind is not None:
        return kind
    kind = _table.get(name)
    if kind is None:
        kind = _subclasses().get(name)
    if kind is None:
        shown = ascii(str(name)[:120])
        raise PayloadError(
            f"The class {shown} is not known in this process, so its value cannot be made: annotate a parameter or the "
            "result of the task with it, or call graflow.codec.register with it in a module that is imported here"
        )
    return _current(kind)


def _current(kind: type) -> type:
    """The class that stands now where this one was defined: a cell of a notebook may have defined it again."""
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, type | types.ModuleType) else None
    return found if isinstance(found, type) and class_key(found) == class_key(kind) else kind


def _subclasses() -> Mapping[str, type]:
    """Table what has been loaded below known classes, and every Enum class; the last of two of one name counts."""
    waiting: list[type] = [Enum, *_bases.values(), *_table.values()]
    seen: set[type] = set()
    while waiting:
        below: list[type] = waiting.pop().__subclasses__()
        for kind in below:
            if kind not in seen:
                seen.add(kind)
                waiting.append(kind)
                if class_codec(kind) is not None:
                    _table[class_key(kind)] = kind
    return _table


# -- what tasks speak of -----------------------------------------------------------------------------------------------


def learn_from(func: object) -> Mapping[str, type]:
    """Table the classes that a task's function speaks of; returns them by name, as this very function means them."""
    try:
        found = _learnt.get(func)
    except TypeError:  # an object that cannot be hashed or weakly referred to
        return _spoken_of(func)
    if found is None:
        found = _learnt[func] = _spoken_of(func)
    return found


def _spoken_of(func: object) -> Mapping[str, type]:
    found: dict[str, type] = {}
    seen: set[Any] = set()
    waiting = [func]
    while waiting:
        plain = _plain(waiting.pop())
        if plain is None or plain in seen:
            continue
        seen.add(plain)
        _add(found, _hints_of(plain).values())
        named = list(_named_in(plain))
        _add(found, (item for item in named if isinstance(item, type)))
        waiting += [item for item in named if isinstance(item, types.FunctionType)]
    _share(found)
    return found


def _plain(func: object) -> types.FunctionType | None:
    """The function in Python that is behind a partial, a method, a decorator or a callable object."""
    for _ in range(16):
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, types.MethodType):
            func = func.__func__
        elif isinstance(func, types.FunctionType):
            inner = getattr(func, "__wrapped__", None)
            if inner is None:
                return func
            func = inner
        else:
            func = inspect.getattr_static(type(func), "__call__", None)
    return None


def _named_in(func: types.FunctionType) -> Iterator[Any]:
    """Classes and functions that the code names, and the classes of the module that it is defined in."""
    space, home = func.__globals__, func.__module__
    for name in _names_in(func.__code__):
        item = space.get(name)
        if isinstance(item, type) or (isinstance(item, types.FunctionType) and item.__module__ == home):
            yield item
    for item in list(space.values()):
        if isinstance(item, type) and item.__module__ == home:
            yield item
    for cell in func.__closure__ or ():
        try:
            item = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(item, type | types.FunctionType):
            yield item


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _add(found: dict[str, type], hints: Iterable[Any]) -> None:
    """The classes in some annotations, and in the annotations of their fields."""
    waiting = list(hints)
    while waiting:
        hint = waiting.pop()
        origin = typing.get_origin(hint)
        if origin is not None:
            waiting += [origin, *typing.get_args(hint)]
        if origin is not None or not isinstance(hint, type):
            continue
        key = class_key(hint)
        if key in found or hint.__module__ in _NOT_ROOTS:
            continue
        if class_codec(hint) is not None:
            found[key] = hint
            waiting += _hints_of(hint).values()
        elif not issubclass(hint, type):
            _bases[key] = hint


def _hints_of(thing: Any) -> Mapping[str, Any]:
    """Annotations as objects, those left out that cannot be told."""
    with suppress(Exception):  # an annotation may be any expression of a user
        return typing.get_type_hints(thing)
    space = getattr(thing, "__globals__", None) or vars(sys.modules.get(thing.__module__, types))
    found: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(thing).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        with suppress(Exception):  # as above
            found.update(typing.get_type_hints(one, space))
    return found
