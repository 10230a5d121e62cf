"""How a task function gets its arguments: channel < bound < injected context < caller."""

from __future__ import annotations

import difflib
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from graflow.text.shown import get_logger

_log = get_logger(__name__)
_ABSENT = object()
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (*_BY_POSITION, inspect.Parameter.KEYWORD_ONLY)

RESULT_SUFFIX = ".__result__"


# The one parameter of a callable that does not say what it takes, such as `int`, or is `*args`; no keyword can be meant
# by this name.
UNNAMED = "<item>"


def fillable_parameters(func: Callable[..., Any], positional: int = 0) -> tuple[str, ...]:
    """Names of the parameters that can be filled by name when the first `positional` arguments are given.

    Never `*args`, `**kwargs`, nor what a `functools.partial` has given already.
    """
    if _is_bare(func):
        code = func.__code__
        if not (code.co_argcount or code.co_kwonlyargcount):
            return ()
        names = code.co_varnames
        return names[positional : code.co_argcount] + names[code.co_argcount :][: code.co_kwonlyargcount]
    parameters = parameters_of(func)
    if parameters is None:
        return ()
    given = func.keywords if isinstance(func, functools.partial) else ()
    taken = [parameter for parameter in parameters if parameter.kind in _BY_POSITION][:positional]
    return tuple(p.name for p in parameters if p.kind in _NAMED and p not in taken and p.name not in given)


def _is_bare(func: Callable[..., Any]) -> TypeGuard[types.FunctionType]:
    """Whether the code of a function says what it takes, so that nobody has to make a signature."""
    return type(func) is types.FunctionType and not func.__dict__


def parameters_of(func: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """What a callable takes, or None when it does not say."""
    try:
        return list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        return None


class Plan:
    """How arguments are handed to a function when the first `positional` of them are given by position.

    Attributes:
        func: The function.
        wanted: Parameters that results and channel keys may fill.
        moves: Whether arguments that are found by name have to be passed by position.
    """

    __slots__ = ("_by_position", "func", "moves", "wanted")

    def __init__(self, func: Callable[..., Any], positional: int) -> None:
        self.func = func
        self.wanted = fillable_parameters(func, positional)
        self._by_position = _positional_only(func, positional)
        self.moves = bool(self._by_position)

    def placed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments, those of positional-only parameters by position."""
        placed, named = list(args), dict(kwargs)
        skipped: list[Any] = []
        lacking = None
        for name, default in self._by_position:
            if name in named and lacking is not None:
                raise TypeError(f"{self.func.__name__}() missing 1 required positional argument: {lacking!r}")
            if name in named:
                placed += [*skipped, named.pop(name)]
                skipped = []
            elif default is inspect.Parameter.empty:
                lacking = lacking or name
            else:
                skipped.append(default)
        return tuple(placed), named


def _positional_only(func: Callable[..., Any], positional: int) -> list[tuple[str, Any]]:
    """Names and defaults of the parameters that no keyword can fill, after the first `positional` ones."""
    if _is_bare(func) and not (func.__code__.co_posonlyargcount or func.__code__.co_flags & inspect.CO_VARARGS):
        return []
    parameters = parameters_of(func)
    if parameters is None or _takes_unnamed(parameters[positional:]):
        return [(UNNAMED, inspect.Parameter.empty)]
    kinds = _BY_POSITION if _wraps_by_position(func, parameters) else (inspect.Parameter.POSITIONAL_ONLY,)
    only = [p for p in parameters if p.kind in kinds]
    return [(p.name, p.default) for p in only[positional:]]


def _takes_unnamed(parameters: Iterable[inspect.Parameter]) -> bool:
    """Whether what is given goes to `*args`: neither a name by position nor one that has to be given is left."""
    kinds = {p.kind for p in parameters if p.kind is not p.KEYWORD_ONLY or p.default is p.empty}
    return inspect.Parameter.VAR_POSITIONAL in kinds and kinds.isdisjoint(_NAMED)


def _wraps_by_position(func: Callable[..., Any], shown: Sequence[inspect.Parameter]) -> bool:
    """Whether a function that shows the parameters of the one it wraps has to be given them by position.

    So has one that knows some of them by no name, as with `*args` alone, and one of `functools.singledispatch`, which
    looks at the first argument; but none that has the others in another place than it shows.
    """
    inner = func
    while isinstance(inner, functools.partial | types.MethodType):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
    if not isinstance(inner, types.FunctionType) or "__wrapped__" not in inner.__dict__:
        return False
    if "register" in inner.__dict__:
        return True
    try:
        own = inspect.signature(func, follow_wrapped=False).parameters.values()
    except ValueError:  # a partial with arguments that the wrapper does not take
        return False
    kinds = {p.kind for p in own}
    if inspect.Parameter.VAR_KEYWORD in kinds or kinds.isdisjoint((*_BY_POSITION, inspect.Parameter.VAR_POSITIONAL)):
        return False
    names, own_names = [p.name for p in shown], {p.name for p in own}
    in_place = [p.name for p in own if p.kind in _BY_POSITION]
    is_aligned = all(name not in names or names[at : at + 1] == [name] for at, name in enumerate(in_place))
    return is_aligned and not own_names.issuperset(names)


def _unknown_names(
    func: Callable[..., Any], given: Iterable[str], *, inject_context: bool
) -> tuple[list[str], list[str]]:
    """Which of the given names are no parameter that can be bound, and those that there are."""
    parameters = parameters_of(func)
    if parameters is None:
        return [], []
    known = [p.name for p in parameters if p.kind in _NAMED]
    if inject_context and parameters and parameters[0].kind in _BY_POSITION:
        del known[0]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return [], known
    return [name for name in given if name not in known], known


def refuse_unknown(task: Any, given: Mapping[str, Any], which: str) -> None:
    """Raise for arguments that no parameter of a task takes.

    Raises:
        TypeError: Naming them, the nearest parameter and all others.
    """
    unknown, known = _unknown_names(task.func, given, inject_context=task.inject_context)
    if not unknown:
        return
    near = difflib.get_close_matches(str(unknown[0]), known, 1)
    raise TypeError(
        f"Task '{task.task_id}' has no parameter {', '.join(map(repr, unknown))}, {which}; "
        + (f"did you mean '{near[0]}'? " if near else "")
        + (f"its parameters are {', '.join(known)}" if known else "it has none")
    )


def without_positional(template: Any, bound: Mapping[str, Any], positional: int) -> Mapping[str, Any]:
    """Bound arguments whose parameters the caller of a task's function did not fill by position."""
    first = 1 if template.inject_context else 0
    left = fillable_parameters(template.func, first + positional)
    by_position = set(fillable_parameters(template.func, first)).difference(left)
    return {name: value for name, value in bound.items() if name not in by_position}


def filled(task_id: str, wanted: Iterable[str], given: dict[str, Any], context: Any) -> dict[str, Any]:
    """The given arguments, and what the channel of a run holds for the others that are wanted."""
    open_names = [name for name in wanted if name not in given] if given else wanted
    if not open_names:
        return given
    found = from_channel(task_id, open_names, context.channel_for_reading, context.has_completed)
    return {**found, **given} if found else given


def from_channel(
    task_id: str, wanted: Iterable[str], channel: Any, has_completed: Callable[[str], bool]
) -> dict[str, Any]:
    """Values that the channel holds for parameters, which nobody else fills.

    The result of a task of that name comes first, then a plain key; existence counts, so None is a value.
    """
    found: dict[str, Any] = {}
    for name in wanted:
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
    first = 1 if inject_context else 0
    parameters = parameters_of(func)
    names = fillable_parameters(func, first)
    if parameters is None or _takes_unnamed(parameters[first:]):
        names = (UNNAMED, *names)
    return [name for name in names if name not in bound]
