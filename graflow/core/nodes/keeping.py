"""Tasks whose values are kept: how their function is called, and what is kept of those that run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from graflow.core.nodes.templates import TaskTemplate
from graflow.protocols import Run
from graflow.spells import is_first
from graflow.text.shown import get_logger

_log = get_logger(__name__)

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came of asking for the value of a member before it is sent elsewhere.

    Attributes:
        facts: What is to be recorded of the member: why a value is given, or is not.
        is_hit: Whether one is given.
        value: That one.
        keep: Keeps what the member gave in the end, or says why not; returns the facts then. None where nothing is to
            be kept of it.
    """

    facts: Facts
    is_hit: bool = False
    value: Any = None
    keep: Callable[[object, str | None], Facts] | None = None


class TaskCache(Protocol):
    """Keeps what tasks of one flow gave."""

    def function_of(self, task: Any, context: Run, frame: Any) -> Callable[..., Any]:
        """What is called instead of the function of a task: it gives the kept value, or calls that."""

    def recalled(self, task: Any, context: Run, index: int, kwargs: Mapping[str, Any]) -> Recalled:
        """What is kept of a member, with these arguments, that is to run elsewhere."""


def cache_of(context: Any) -> TaskCache | None:
    """What keeps values in a run; None where nothing does."""
    return getattr(context.root.flow, "cache", None)


def asking_cache(task: Any, context: Any, frame: Any) -> Callable[..., Any]:
    """What to call for a task with a cache: its function where there is none, which is told once."""
    cache = cache_of(context)
    if cache is not None:
        return cache.function_of(task, context, frame)
    tell_no_cache(context, task)
    template: TaskTemplate = task.template
    return template.func


def tell_no_cache(context: Any, task: Any) -> None:
    """Say, once, that there is nothing here that could keep what a task gives."""
    name, flow = name_of(task), context.root.flow
    if flow is not None and flow.is_elsewhere:
        return  # whoever sent the member has asked, or told why not
    if is_first(("cache", task.template.func, name)):
        _log.warning(
            "Task '%s': cache does nothing here, and the task runs each time. Values are kept for flows that a "
            "FlowRunner with a store runs, unless the setting cache.enabled is off",
            name,
        )


def tell_not_kept(task: Any, why: str) -> None:
    """Say, once, why nothing is kept of what a task gives."""
    name = name_of(task)
    if is_first(("not kept", task.template.func, name)):
        _log.warning("Task '%s' has a cache, and what it gives is not kept: %s", name, why)


def name_of(task: Any) -> str:
    """What the values of a task are kept under: those of all its instances together."""
    while task.made_from is not None:  # the instance that a fan-out is made of has an id of its own
        task = task.made_from
    name: str = task.task_id
    return name
