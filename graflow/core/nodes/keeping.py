"""Tasks whose values are kept: how their function is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from graflow.core.nodes.templates import TaskTemplate
from graflow.protocols import Run
from graflow.shown import get_logger
from graflow.spells import is_first

_log = get_logger(__name__)


class TaskCache(Protocol):
    """Keeps what tasks of one flow gave."""

    def function_of(self, task: Any, context: Run, frame: Any) -> Callable[..., Any]:
        """What is called instead of the function of a task: it gives the kept value, or calls that."""


def asking_cache(task: Any, context: Any, frame: Any) -> Callable[..., Any]:
    """What to call for a task with a cache: its function where there is none, which is told once."""
    cache: TaskCache | None = getattr(context.root.flow, "cache", None)
    if cache is not None:
        return cache.function_of(task, context, frame)
    template: TaskTemplate = task.template
    name = (task.made_from or task).task_id
    if is_first(("cache", template.func, name)):
        _log.warning(
            "Task '%s': cache does nothing here, and the task runs each time. Values are kept for flows that a "
            "FlowRunner with a store runs, of tasks in its own process, unless the setting cache.enabled is off",
            name,
        )
    return template.func
