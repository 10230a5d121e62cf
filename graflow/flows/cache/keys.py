"""What a value follows from, as a key: canonical digests of code and inputs, by the kind of each value."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from graflow.core.durable.graph_fingerprint import code_digest
from graflow.core.nodes.keeping import name_of
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.encoding.typed_json import to_jsonable
from graflow.foreign import attempt
from graflow.state.cache import CacheKey
from graflow.values.plain import is_plain

_LENGTH: Final = 32  # of a digest, in hex digits
_DEPTH: Final = 8  # of functions that others close over
_encode: Final = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


class NotKeptError(Exception):
    """No value is kept of a call; the text says why."""


def canonical_digest(value: object, what: str) -> str:
    """Tells a value from all that differ from it, in kind as well: 1, 1.0, True and "1" are four.

    The order in which a dictionary or set was filled does not count.

    Args:
        value: Any value that a flow can record.
        what: What it is called.

    Raises:
        NotKeptError: It has no such form.
    """
    if is_plain(value, check_numbers=True):
        data: Any = value
    else:
        data = _ordered(attempt(lambda: to_jsonable(value, where=what), lambda error: _refuse(what, value, error)))
    return _digest(_encode(data))


def _refuse(what: str, value: object, error: Exception) -> Any:
    kind = type(value)
    raise NotKeptError(f"{what}, of type {kind.__module__}.{kind.__qualname__}, has no canonical form") from error


def _ordered(data: Any) -> Any:
    """Data in which the pairs of dictionaries with other keys than text are sorted."""
    if type(data) is list:
        return [_ordered(item) for item in data]
    if type(data) is not dict:
        return data
    if data.get("$t") == "dict" and type(data.get("v")) is list:
        return {"$t": "dict", "v": sorted(map(_ordered, data["v"]), key=_encode)}
    return {name: _ordered(item) for name, item in data.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


# -- keys --------------------------------------------------------------------------------------------------------------


def task_key(task: TaskWrapper[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> CacheKey:
    """The key of one call of a task.

    Raises:
        NotKeptError: An input has no canonical form, or the task's own function of them says so.
    """
    template = task.template
    name = name_of(task)
    parts = _code_parts(template.func)
    if template.version is not None:
        parts["version"] = repr(template.version)
    if callable(template.cache):
        parts |= _chosen(template.cache(*args, **kwargs))
    else:
        parts |= _inputs(template.func, args, kwargs)
    return _key("task", name, parts)


def flow_key(
    name: str, function: Callable[..., Any], fingerprint: Mapping[str, Any], inputs: Mapping[str, Any], chosen: object
) -> CacheKey:
    """The key of a whole flow.

    Args:
        name: The flow.
        function: What builds its graph.
        fingerprint: Of the graph.
        inputs: In their stored form.
        chosen: What counts of the inputs, as the flow's own function says; `ALL` where there is none.

    Raises:
        NotKeptError: Something has no canonical form, or the flow's own function says so.
    """
    if chosen is ALL:
        parts = {f"input '{each}'": canonical_digest(value, f"input '{each}'") for each, value in inputs.items()}
    else:
        parts = _chosen(chosen)
    steps = canonical_digest(fingerprint, "the graph")
    return _key("flow", name, {**parts, **_code_parts(function), "steps": steps})


ALL: Final = object()
"""All inputs count."""


def inputs_digest(key: CacheKey) -> str:
    """A digest of the inputs of a key alone."""
    return _digest(_encode({part: digest for part, digest in key.parts.items() if part.startswith("input")}))


def _key(kind: str, name: str, parts: dict[str, str]) -> CacheKey:
    return CacheKey(_digest(_encode([kind, name, parts])), name, parts)


def _chosen(what_counts: object) -> dict[str, str]:
    if what_counts is None:
        raise NotKeptError("its cache function gave None")
    return {"inputs": canonical_digest(what_counts, "what its cache function gave")}


def _inputs(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each argument, defaults included."""
    signature, defaults = _signature_of(func)
    given: Mapping[str, Any]
    if signature is None:
        given = {**{str(place): value for place, value in enumerate(args, 1)}, **kwargs}
    elif defaults is not None and not args and len(given := {**defaults, **kwargs}) == len(signature.parameters):
        pass  # each parameter has its argument, by name
    else:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise NotKeptError(str(error)) from error
        bound.apply_defaults()
        given = bound.arguments
    return {f"input '{name}'": canonical_digest(value, f"argument '{name}'") for name, value in given.items()}


@functools.lru_cache(maxsize=1024)
def _signature_of(func: Callable[..., Any]) -> tuple[inspect.Signature | None, dict[str, Any] | None]:
    """The signature of a function, where it tells, and its defaults, where all parameters may be given by name."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return None, None
    parameters = signature.parameters.values()
    if any(each.kind not in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY} for each in parameters):
        return signature, None
    return signature, {each.name: each.default for each in parameters if each.default is not each.empty}


# -- code --------------------------------------------------------------------------------------------------------------


def _code_parts(func: Callable[..., Any]) -> dict[str, str]:
    """The function by name and code, and what it holds besides that."""
    if isinstance(func, FunctionType) and func.__closure__ is None and not func.__dict__:
        return {**_plain_code_parts(func)}
    return _all_code_parts(func)


@functools.lru_cache(maxsize=1024)
def _plain_code_parts(func: Callable[..., Any]) -> dict[str, str]:
    """The same of a function that holds nothing, which stays what it is."""
    return _all_code_parts(func)


def _all_code_parts(func: Callable[..., Any]) -> dict[str, str]:
    parts = {"function": f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', type(func).__qualname__)}"}
    while isinstance(func, functools.partial | MethodType):
        if isinstance(func, MethodType):
            parts["its object"] = canonical_digest(func.__self__, "the object that the method is of")
            func = func.__func__
        else:
            given = [list(func.args), dict(func.keywords)]
            parts["its given arguments"] = canonical_digest(given, "what functools.partial was given")
            func = func.func
    code = code_digest(func)
    if code is None:
        raise NotKeptError(f"the code of {func!r} cannot be read")
    parts["code"] = code
    for name, digest in _held_digests(func, _DEPTH).items():
        parts[f"variable '{name}'"] = digest
    return parts


def _held_digests(func: Callable[..., Any], depth: int) -> dict[str, str]:
    """Digests of what a function uses of functions around it, as far as that tells what it does.

    Lists and other containers that change, and what has no canonical form, are left out: like global variables, they
    are what the function may work on.
    """
    found = {name: _held_digest(value, depth) for name, value in _held(func)}
    return {name: digest for name, digest in found.items() if digest is not None}


def _held(func: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    inner = inspect.unwrap(func)
    if not isinstance(inner, FunctionType):
        return
    for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it is not set yet
            continue


def _held_digest(value: Any, depth: int) -> str | None:
    if isinstance(value, TaskWrapper):
        value = value.func
    if isinstance(value, FunctionType):
        return _digest(_encode([code_digest(value), _held_digests(value, depth - 1)])) if depth else None
    if isinstance(value, ModuleType | type):
        return f"{value.__name__} of {getattr(value, '__module__', '')}"
    if isinstance(value, MutableSequence | MutableMapping | MutableSet):
        return None
    try:
        return canonical_digest(value, "a variable")
    except NotKeptError:
        return None


__all__ = ["ALL", "NotKeptError", "canonical_digest", "flow_key", "inputs_digest", "task_key"]
