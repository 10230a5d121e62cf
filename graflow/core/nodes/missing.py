"""What is said when a function lacks an argument that nobody fills."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.exceptions import named
from graflow.protocols import Run

_CONTEXT = "TaskExecutionContext"
_USUAL_NAMES = frozenset({"ctx", "context"})
_SHOWN = 20


def explained(
    error: TypeError,
    task_id: str,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: Run,
) -> TypeError:
    """The error of a call, with the reason why a parameter was not filled where that is what it is about."""
    try:
        signature = inspect.signature(func)
        given = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return error
    lacking = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        and parameter.name not in given
    ]
    if not lacking:
        return error
    return TypeError(f"{error}. {_reason(lacking[0], task_id, context)}")


def _reason(parameter: inspect.Parameter, task_id: str, context: Run) -> str:
    name = parameter.name
    if _is_context(parameter.annotation):
        return f"The parameter '{name}' is annotated as the task context, which @task(inject_context=True) passes"
    if name in _USUAL_NAMES:
        return f"Where '{name}' is meant to be the task context, @task(inject_context=True) passes it"
    failure = context.channel.get(name + RESULT_SUFFIX)
    if isinstance(failure, BaseException):
        return (
            f"The task '{name}' has no value for it: it failed, and its group went on ({named(failure)}). "
            f"Give '{name}' a default, such as None"
        )
    if name == "self":
        return "A method becomes a task of its object: use it as <object>.<method>"
    return (
        f"A parameter is filled by a bound argument, by the result of the task of its name, or by the channel key of "
        f"its name; {_names_in(context, task_id)}"
    )


def _is_context(annotation: object) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return text.strip("'\"").rpartition(".")[2] == _CONTEXT


def _names_in(context: Run, task_id: str) -> str:
    channel = context.channel
    names = [
        name
        for key in list(channel.keys())
        if (name := key.removesuffix(RESULT_SUFFIX)) != task_id and not isinstance(channel.get(key), BaseException)
    ]
    if not names:
        return "there is no result or key yet"
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(dict.fromkeys(names[:_SHOWN]))}{more}"
