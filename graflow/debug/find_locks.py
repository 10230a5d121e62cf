"""Where in this object is the lock, or whatever else keeps it from being pickled?"""

from __future__ import annotations

import _thread
import logging
import sys
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import cloudpickle

from graflow.foreign import attempt
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_MAX_OBJECTS: Final = 200_000
_MAX_ITEMS: Final = 10_000  # of one container
_LOCK_TYPES: Final = (
    type(threading.Lock()),
    type(threading.RLock()),
    _thread.LockType,
    threading.Condition,
    threading.Semaphore,
    threading.Event,
    threading.Barrier,
)
_LEAVES: Final = (str, bytes, bytearray, int, float, complex, type(None), type, types.ModuleType, logging.Logger)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)


def find_thread_locks(root: object, max_depth: int = 8) -> list[tuple[str, Any]]:
    """Every lock, condition, semaphore and event below an object, with the path to it.

    Walks mappings, sequences, attributes, closures, defaults and globals that functions refer to.

    Returns:
        Pairs like `("root._graph._node['g']['task'].lock", <lock>)`; empty when there is none within `max_depth` steps.
    """
    return [(path, value) for path, value in _walk(root, max_depth) if isinstance(value, _LOCK_TYPES)]


def find_unpicklable_objects(root: object, max_depth: int = 8) -> list[tuple[str, Any, str]]:
    """The innermost objects that cloudpickle refuses, with path and reason; empty when the root can be pickled."""
    found: list[tuple[str, Any, str]] = []
    seen: set[int] = set()

    def visit(path: str, value: object, depth: int) -> bool:
        """Whether something below, or the value itself, was found to be the reason."""
        if id(value) in seen or len(seen) > _MAX_OBJECTS:
            return False
        seen.add(id(value))
        reason = _refusal(value)
        if reason is None:
            return False
        below = False
        for step, item in _parts(value) if depth < max_depth else ():
            below = visit(path + step, item, depth + 1) or below
        if not below:
            found.append((path, value, reason))
        return True

    visit("root", root, 0)
    return found


def debug_taskgraph_for_locks(graph: object) -> None:
    """Log every lock in a task graph, and what else of it cannot be pickled; says so when there is nothing."""
    locks = find_thread_locks(graph, max_depth=12)
    for path, lock in locks:
        _log.warning("Lock in the task graph at %s: %s", path, type(lock).__qualname__)
    others = find_unpicklable_objects(graph, max_depth=12)
    for path, value, reason in others:
        _log.warning("Not picklable in the task graph at %s: %s: %s", path, type(value).__qualname__, reason)
    if not locks and not others:
        _log.info("No lock in the task graph, and all of it can be pickled")


def _refusal(value: object) -> str | None:
    told = attempt(lambda: cloudpickle.dumps(value), lambda error: f"{type(error).__name__}: {error}")
    return told if isinstance(told, str) else None


def _walk(root: object, max_depth: int) -> Iterator[tuple[str, Any]]:
    """Each object once, by its shortest path."""
    kept: dict[int, Any] = {id(root): root}  # keeps temporary objects alive, so that no id is used twice
    level: list[tuple[str, Any]] = [("root", root)]
    for depth in range(max_depth + 1):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            yield path, value
            if depth == max_depth or isinstance(value, _LOCK_TYPES):
                continue
            for step, item in _parts(value):
                if id(item) not in kept and not isinstance(item, _LEAVES) and len(kept) < _MAX_OBJECTS:
                    kept[id(item)] = item
                    below.append((path + step, item))
        level = below


def _parts(value: object) -> Iterator[tuple[str, Any]]:
    """What an object is made of, each part with the step that leads to it."""
    if isinstance(value, _LEAVES):
        return
    if isinstance(value, Mapping):
        yield from _items(value)
    elif isinstance(value, _SEQUENCES):
        for index, item in zip(range(_MAX_ITEMS), tuple(value), strict=False):
            yield f"[{index}]", item
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    else:
        yield from _attributes(value)


def _items(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in attempt(lambda: list(value.items()), lambda _: [])[:_MAX_ITEMS]:
        yield f"[{key!r}]", item
        if not isinstance(key, _LEAVES):
            yield f".keys()[{key!r}]", key


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".<closure {name}>", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for index, default in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", default
    for name in _global_names(function.__code__) if _is_users(function) else ():
        if name in function.__globals__:
            yield f".<global {name}>", function.__globals__[name]
    yield from _attributes(function)


def _is_users(function: types.FunctionType) -> bool:
    """Whether a function is the user's own; libraries keep locks of their own, and are never pickled by value."""
    package = (function.__module__ or "").partition(".")[0]
    return (
        package not in {"graflow", "graflow_celery"}
        and package not in sys.stdlib_module_names
        and "-packages" not in function.__code__.co_filename
    )


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_global_names(constant))
    return names


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    """What pickling would store of an object: its own reduction or state where it has one, else dict and slots."""
    kind = type(value)
    if _is_own(kind, "__reduce_ex__") or _is_own(kind, "__reduce__"):
        reduced = attempt(lambda: value.__reduce_ex__(4), lambda _: None)
        if reduced is not None:
            parts = reduced[1:] if isinstance(reduced, tuple) else ()
            yield from ((f".__reduce__()[{index}]", part) for index, part in enumerate(parts, 1))
            return
    state: Any = _stored(value)
    if _is_own(kind, "__getstate__"):
        state = attempt(value.__getstate__, lambda _: state)
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from ((f".{name}", item) for name, item in list(part.items()))
        elif part is not None:
            yield ".__getstate__()", part


def _is_own(kind: type, name: str) -> bool:
    """Whether a method was written for this class, in Python."""
    return isinstance(getattr(kind, name, None), types.FunctionType)


def _stored(value: object) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", None) or {})
    for kind in type(value).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, types.MemberDescriptorType) and kind.__module__ != "builtins":
                with suppress(AttributeError):  # not set
                    found[name] = slot.__get__(value, kind)
    return found
