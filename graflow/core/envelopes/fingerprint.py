"""What a function or value is made of, as a hash that does not depend on hash seeds, files or the process.

Two runs of one program give the same; other code, defaults, globals that the code names, or state give another. A
pickle is no such thing: the order of sets in it, and marks of classes, are those of one process.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final

from graflow.core.serialization import SCRIPTS
from graflow.foreign import attempt
from graflow.values.plain import is_plain

_SCALARS: Final = (str, bytes, bytearray, int, float, complex, type(None), type(...))
_IMMUTABLE: Final = (tuple, frozenset, types.CodeType)
_NOT_OF_CLASS: Final = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__static_attributes__"})
_NOT_OF_TASK: Final = frozenset(
    {"_task_id", "_execution_context", "lent_context", "_pending_registration", "made_from", "template", "__doc__"}
)


def fingerprint(value: object) -> str:
    """The hash of a value, 32 hexadecimal digits."""
    try:
        return _Fingerprint().of(value).hex()
    except RecursionError:
        return _hash("deep", type(value).__qualname__.encode()).hex()


class _Fingerprint:
    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, object]] = {}  # objects are kept, so that no number is given away again

    def of(self, value: object) -> bytes:
        kind = type(value)
        if kind is bool or isinstance(value, _SCALARS):
            return _hash(kind.__name__, repr(value).encode("utf-8", "surrogatepass"))
        if kind in (list, dict) and is_plain(value, check_numbers=True):
            return _hash("json", json.dumps(value).encode())
        if not isinstance(value, _IMMUTABLE):  # which a compiler may or may not hold once
            if id(value) in self._seen:
                return _hash("seen", str(self._seen[id(value)][0]).encode())
            self._seen[id(value)] = len(self._seen), value
        return _hash(kind.__qualname__, *self._parts(value))

    def _parts(self, value: object) -> Iterable[bytes]:
        if isinstance(value, list | tuple):
            return map(self.of, value)
        if isinstance(value, set | frozenset):
            return sorted(_Fingerprint().of(item) for item in value)
        if isinstance(value, dict):
            return (self.of(part) for pair in value.items() for part in pair)
        if isinstance(value, types.ModuleType):
            return [value.__name__.encode()]
        if isinstance(value, types.CodeType):
            return self._of_code(value)
        if isinstance(value, types.FunctionType | type) and _is_importable(value):
            return [f"{value.__module__}:{value.__qualname__}".encode()]
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, type):
            members = {name: item for name, item in vars(value).items() if name not in _NOT_OF_CLASS}
            return [value.__qualname__.encode(), self.of(value.__bases__), self.of(members)]
        if hasattr(type(value), "task_id") and hasattr(value, "template"):
            own = {name: item for name, item in vars(value).items() if name not in _NOT_OF_TASK}
            return [self.of(own | value.template.facts())]
        return self._of_object(value)

    def _of_code(self, code: types.CodeType) -> Iterator[bytes]:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        yield self.of((code.co_code, names, code.co_flags, code.co_argcount, code.co_kwonlyargcount))
        yield self.of(code.co_consts)

    def _of_function(self, func: types.FunctionType) -> Iterator[bytes]:
        yield self.of(func.__code__)
        yield self.of((func.__defaults__, func.__kwdefaults__))
        for cell in func.__closure__ or ():
            try:
                yield self.of(cell.cell_contents)
            except ValueError:  # not filled yet
                yield b"empty"
        for name in _globals_of(func.__code__):
            if name in func.__globals__:
                yield self.of((name, func.__globals__[name]))

    def _of_object(self, value: object) -> Iterable[bytes]:
        if isinstance(value, functools.partial):
            return [self.of((value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return [self.of((value.__func__, value.__self__))]
        if isinstance(value, staticmethod | classmethod):
            return [self.of(value.__func__)]
        if isinstance(value, property):
            return [self.of((value.fget, value.fset))]
        reduced = attempt(lambda: value.__reduce_ex__(4), lambda _: None)
        if reduced is None:  # what cannot be pickled is told by its class alone
            return [type(value).__module__.encode()]
        if isinstance(reduced, str):
            return [reduced.encode()]
        return [self.of(list(part) if isinstance(part, Iterator) else part) for part in reduced]


def _hash(kind: str, *parts: bytes) -> bytes:
    found = hashlib.sha256(kind.encode())
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.digest()[:16]


def _globals_of(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _is_importable(value: Any) -> bool:
    found: Any = sys.modules.get(value.__module__) if value.__module__ not in SCRIPTS else None
    for part in value.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, type | types.ModuleType) else None
    return found is value
