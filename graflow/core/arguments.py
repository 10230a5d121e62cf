"""How a task function gets its arguments: channel < bound < injected context < caller."""

from __future__ import annotations

import inspect
import logging
import types
from collections.abc import Callable, Mapping
from typing import Any

_log = logging.getLogger(__name__)
_ABSENT = object()
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

RESULT_SUFFIX = ".__result__"


def keyword_parameters(func: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters that can be passed by keyword, positional ones first; never `*args` or `**kwargs`."""
    if isinstance(func, types.FunctionType) and not hasattr(func, "__wrapped__"):
        code = func.__code__
        return code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(parameter.name for parameter in parameters if parameter.kind in _BY_KEYWORD)


def positional_parameters(func: Callable[..., Any]) -> list[str]:
    """Names of the parameters that take positional arguments, in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(func).parameters.values() if p.kind in kinds]


def from_channel(
    task_id: str, wanted: tuple[str, ...], taken: Mapping[str, Any], channel: Any, has_completed: Callable[[str], bool]
) -> dict[str, Any]:
    """Values that the channel holds for parameters which nobody else fills.

    The result of a task of that name comes first, then a plain key; existence counts, so None is a value.
    """
    found: dict[str, Any] = {}
    for name in wanted:
        if name in taken:
            continue
        value = channel.get(name + RESULT_SUFFIX, _ABSENT)
        # The stored exception of a failed task is no result; a task that returned an exception has completed.
        if value is _ABSENT or (isinstance(value, BaseException) and not has_completed(name)):
            value = channel.get(name, _ABSENT)
            if value is _ABSENT:
                continue
            _log.debug("Task %s: the channel key %r fills the parameter of that name", task_id, name)
        found[name] = value
    return found


def free_parameters(func: Callable[..., Any], *, inject_context: bool, bound: Mapping[str, Any]) -> list[str]:
    """Parameters that items of a fan-out go to: neither the injected context nor bound already."""
    names = positional_parameters(func)
    return [name for name in (names[1:] if inject_context else names) if name not in bound]
