"""What is known of a task's function and options, once for all tasks that are made of it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, Self

from graflow.core.nodes.arguments import Plan
from graflow.core.nodes.options import (
    CacheOption,
    checked_cache,
    checked_flag,
    checked_handler,
    checked_injection,
    checked_limit,
    checked_options,
    checked_policy,
    checked_seconds,
    checked_version,
)
from graflow.core.retry import RetryPolicy
from graflow.core.serialization import pickles_by_value

if TYPE_CHECKING:
    from graflow.core.graph import TaskGraph

DIRECT: Final = "direct"  # the handler of tasks that ask for none
CLASS_METHOD: Final = (
    "A class method does not go with @task, above or below @classmethod: make the task of the one that has its class, "
    "as in load = task(Loader.load)"
)


@dataclass(slots=True, eq=False)
class TaskTemplate:
    """A function and the options of `@task`; shared by the task of the decorator and all instances made of that.

    Nothing of it changes: a task that is given another function or option has a template of its own from then on.

    Attributes:
        func: The function.
        made_in: The module that made the task, where that of a library's function can be found.
        plans: How arguments are handed to the function, by how many of them are given by position; see `plan`.
    """

    func: Callable[..., Any]
    made_in: str
    inject_context: bool = False
    resolve_keyword_args: bool = True
    handler_type: str = DIRECT
    max_cycles: int | None = None
    max_retries: int | None = None
    retry_policy: RetryPolicy | None = None
    timeout: float | None = None
    cache: CacheOption | None = None
    ttl: float | None = None
    options: Mapping[str, Any] | None = None
    version: str | int | None = None
    plans: dict[int, Plan] | None = field(default=None, init=False, repr=False)
    _is_async: bool | None = field(default=None, init=False, repr=False)

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        if self._is_async is None:
            # An object whose class has `async def __call__` is no coroutine function to `inspect`.
            self._is_async = any(map(inspect.iscoroutinefunction, (self.func, type(self.func).__call__)))
        return self._is_async

    def plan(self, positional: int) -> Plan:
        """How arguments are handed over when so many are given by position."""
        plan = None if self.plans is None else self.plans.get(positional)
        if plan is None:
            plan = Plan(self.func, positional)
            self.plans = {positional: plan} if self.plans is None else {**self.plans, positional: plan}
        return plan

    def changed(self, **changes: object) -> Self:
        """The same with changes."""
        return replace(self, **changes)  # type: ignore[arg-type]  # each of the type that its attribute has

    def check(self, task_id: str) -> None:
        """Make sure that a task can be made of these; what is left out costs nothing.

        Raises:
            TypeError: The function is none.
            ConfigError: An option is of a wrong type or out of range.
        """
        if not callable(self.func):
            raise no_function(f"Task '{task_id}' needs a function", self.func)
        if self.inject_context is not False:
            checked_injection(task_id, self.inject_context, self.func)
        if self.resolve_keyword_args is not True:
            checked_flag(task_id, "resolve_keyword_args", self.resolve_keyword_args)
        if self.handler_type is not DIRECT:
            self.handler_type = checked_handler(task_id, self.handler_type)
        if self.max_cycles is not None:
            checked_limit(task_id, "max_cycles", self.max_cycles)
        if self.retry_policy is not None or self.max_retries is not None:
            self.retry_policy, self.max_retries = checked_policy(task_id, self.retry_policy, self.max_retries)
        if self.timeout is not None:
            checked_seconds(task_id, "timeout", self.timeout)
        if self.cache is not None or self.ttl is not None:
            self.cache, self.ttl = checked_cache(f"Task '{task_id}'", self.cache, self.ttl)
        if self.options is not None:
            self.options = checked_options(task_id, self.options)
        if self.version is not None:
            checked_version(task_id, self.version)

    # -- keeping ---------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """The function and the options by name."""
        return {name: getattr(self, name) for name in FACTS}

    def saved(self) -> dict[str, Any]:
        """The same for a pickle: the function by where it can be imported, if it can.

        A decorated function cannot be pickled by its own name, since the module attribute is the task.
        """
        facts, func = self.facts(), self.func
        reference = _reference_to(getattr(func, "__func__", func))
        if reference is not None:
            facts["func"], facts["_func_reference"] = None, reference
            if isinstance(func, MethodType):
                facts["_func_owner"] = func.__self__
        return facts

    @classmethod
    def from_saved(cls, state: dict[str, Any]) -> Self:
        """The template whose `saved` is in a state; takes it out of there."""
        facts = {name: state.pop(name) for name in FACTS if name in state}
        reference, owner = state.pop("_func_reference", None), state.pop("_func_owner", None)
        if reference is not None:
            func = _function_at(*reference)
            facts["func"] = func if owner is None else MethodType(func, owner)
        return cls(**facts)


FACTS: Final = tuple(name for name, fact in TaskTemplate.__dataclass_fields__.items() if fact.init)


def no_function(wanted: str, given: object) -> TypeError:
    """The error for what no task can be made of; `wanted` says what can."""
    if isinstance(given, classmethod):
        return TypeError(CLASS_METHOD)
    if hasattr(type(given), "__get__"):  # such as partialmethod, singledispatchmethod and property
        remedy = "make the task of what an object has of it, as in load = task(loader.load)"
    else:
        remedy = "write @task above a def, or give what can be called"
    return TypeError(f"{wanted}, not {given!r}; {remedy}")


def _reference_to(func: Callable[..., Any]) -> tuple[str, str] | None:
    """Where a function can be found again, when a module attribute (or the task around it) is that very function."""
    module_name, qualname = str(getattr(func, "__module__", None)), getattr(func, "__qualname__", None)
    module = sys.modules.get(module_name)
    if module is None or qualname is None or "<" in qualname or pickles_by_value(module_name):
        return None
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return (module_name, qualname) if _inside(found) is func else None


def _function_at(module_name: str, qualname: str) -> Callable[..., Any]:
    found: Any = importlib.import_module(module_name)
    for part in qualname.split("."):
        found = getattr(found, part)
    func: Callable[..., Any] = _inside(found)
    return func


def _inside(found: Any) -> Any:
    """The function of a task; anything else itself."""
    template = getattr(found, "template", None)
    return template.func if isinstance(template, TaskTemplate) else found


def starting_steps(graph: TaskGraph) -> list[str]:
    """The start nodes, but for unconnected tasks that only served to make other nodes: those are no steps."""
    starts = graph.get_start_nodes()
    if len(starts) < 2:
        return starts
    makers = (getattr(graph.task_at(name), "made_from", None) for name in graph.nodes)
    made_from = {id(maker) for maker in makers if maker is not None}
    steps = [name for name in starts if graph.succ[name] or id(graph.task_at(name)) not in made_from]
    return steps or starts
