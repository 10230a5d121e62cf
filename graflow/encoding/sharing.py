"""What may be shared between tasks: results that can be read more than once, and copies where a value is private."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from graflow.encoding.packing import deep_copied
from graflow.exceptions import ConfigError, PayloadError
from graflow.foreign import attempt
from graflow.values.classes import class_codec
from graflow.values.plain import SCALARS, is_plain

_SCALARS: Final = SCALARS | {bytes}
_CONTAINERS: Final = frozenset({list, dict, set, bytearray, tuple})
_LIBRARIES: Final = frozenset({"collections", "numpy", "pandas", "polars", "pyarrow"})
_OF_PYTHON: Final = frozenset({"builtins", "itertools"})
_LOOKED_AT: Final = 1000  # items of a result


def require_repeatable(task_id: str, value: object) -> None:
    """Refuse a result that can be read only once, or a container with one among its first 1,000 items.

    Raises:
        PayloadError: A retry, or a second consumer, would find the rest of it only; the text says what to return.
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if _iterates(kind) and _is_own_iterator(value):
        raise _one_shot(task_id, kind, "")
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        iterators = {inner for inner in set(map(type, islice(items, _LOOKED_AT))) - _SCALARS if _iterates(inner)}
        for item in islice(items, _LOOKED_AT) if iterators else ():
            if type(item) in iterators and _is_own_iterator(item):
                raise _one_shot(task_id, type(item), f" inside a {kind.__name__}")


def _iterates(kind: type) -> bool:
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def _is_own_iterator(value: Any) -> bool:
    """Whether reading a value uses it up; a mock has the methods of an iterator, and is read anew each time."""
    begin = iter if hasattr(type(value), "__next__") else aiter
    return attempt(lambda: begin(value), lambda _: value) is value


def require_rereadable(what: str, values: Mapping[str, object]) -> None:
    """Refuse generators and iterators of Python's own among values that attempts, runs and tasks share.

    Handles that are iterators besides, such as files and cursors, pass.

    Raises:
        ConfigError: For the first of them, with the remedy.
    """
    for name, value in values.items():
        if _is_used_up(type(value)):
            raise _used_up(f"{what} {name!r}", type(value))


def require_rereadable_items(what: str, items: Iterable[object]) -> None:
    """`require_rereadable` for what the members of a group are given."""
    for kind in set(map(type, items)) - _SCALARS:
        if _is_used_up(kind):
            raise _used_up(what, kind)


def _is_used_up(kind: type) -> bool:
    return kind.__module__ in _OF_PYTHON and _iterates(kind)


def _used_up(what: str, kind: type) -> ConfigError:
    return ConfigError(
        f"{what} is a {kind.__qualname__}, which can be read only once: what reads it next, such as a retry, another "
        "task or another run, would find nothing. Give list(...) of it"
    )


def _one_shot(task_id: str, kind: type, where: str) -> PayloadError:
    error = PayloadError(
        f"Task '{task_id}' returned a {kind.__qualname__}{where}, which can be read only once: a retry or a second "
        "task that reads it would get what is left. Return list(...) of it, or a path or key to where its items are"
    )
    error.is_final = True
    return error


def own_copy(value: Any) -> Any:
    """A deep copy of what travels as data, as if it had been written and read; anything else itself."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_plain(value):
        return marshal.loads(marshal.dumps(value))  # noqa: S302 - several times faster; the bytes never leave this line
    if kind in _CONTAINERS or kind.__module__.partition(".")[0] in _LIBRARIES or class_codec(kind) is not None:
        return deep_copied(value, {})
    return value
