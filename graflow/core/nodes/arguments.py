"""How a task function gets its arguments: channel < bound < injected context < caller."""

from __future__ import annotations

import inspect
import logging
import types
from collections.abc import Callable, Mapping
from typing import Any

_log = logging.getLogger(__name__)
_ABSENT = object()
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

RESULT_SUFFIX = ".__result__"


def keyword_parameters(func: Callable[..., Any], positional: int = 0) -> tuple[str, ...]:
    """Names that can be passed by keyword when the first `positional` arguments are not; never `*args`, `**kwargs`."""
    if isinstance(func, types.FunctionType) and not func.__dict__:
        code, names = func.__code__, func.__code__.co_varnames
        by_position = names[max(positional, code.co_posonlyargcount) : code.co_argcount]
        return by_position + names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return ()
    taken = [parameter for parameter in parameters if parameter.kind in _BY_POSITION][:positional]
    return tuple(p.name for p in parameters if p.kind in _BY_KEYWORD and p not in taken)


def takes_any_keyword(func: Callable[..., Any]) -> bool:
    """Whether a function has `**kwargs`, or does not say what it takes."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


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
        value = channel.view(name + RESULT_SUFFIX, _ABSENT)
        # The stored exception of a failed task is no result; a task that returned an exception has completed.
        if value is _ABSENT or (isinstance(value, BaseException) and not has_completed(name)):
            value = channel.view(name, _ABSENT)
            if value is _ABSENT:
                continue
            _log.debug("Task %s: the channel key %r fills the parameter of that name", task_id, name)
        found[name] = value
    return found


def free_parameters(func: Callable[..., Any], *, inject_context: bool, bound: Mapping[str, Any]) -> list[str]:
    """Parameters that items of a fan-out go to: neither the injected context nor bound already."""
    return [name for name in keyword_parameters(func, 1 if inject_context else 0) if name not in bound]
