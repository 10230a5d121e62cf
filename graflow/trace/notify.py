"""How engine and context call a listener: one that raises is logged and does not change the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from graflow.foreign import attempt
from graflow.protocols import Run
from graflow.text.shown import get_logger
from graflow.trace.base import Tracer
from graflow.trace.noop import NoopTracer

_log = get_logger(__name__)


def tell(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a hook of a listener; whatever it raises ends here. Hooks of every task are called without this detour."""
    attempt(
        lambda: hook(*args, **kwargs),
        lambda error: _log.error("Tracing hook %s failed", getattr(hook, "__qualname__", hook), exc_info=error),
    )


def is_silent(tracer: Tracer) -> bool:
    """Whether a listener puts nothing out, so that it may be told of many members at once."""
    return type(tracer) is NoopTracer


def tell_members(tracer: Tracer, group_id: str, member_ids: Sequence[str], context: Run) -> None:
    """Tell of members that have succeeded in another process, and of which nothing else ran there."""
    if isinstance(tracer, NoopTracer) and is_silent(tracer):
        tracer.note_members(group_id, member_ids)
        return
    for member_id in member_ids:
        tell(tracer.on_member_end, group_id, member_id, context, error=None, ran={member_id: True})


def end_workflow(
    tracer: Tracer, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
) -> None:
    """Call `on_workflow_end`, without the error where a listener of the first Graflow does not take it."""
    if _takes_error(type(tracer).on_workflow_end):
        tracer.on_workflow_end(workflow_name, context, result=result, error=error)
    else:
        tracer.on_workflow_end(workflow_name, context, result=result)


@cache
def _takes_error(hook: Callable[..., None]) -> bool:
    parameters = inspect.signature(hook).parameters.values()
    return any(parameter.name == "error" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
