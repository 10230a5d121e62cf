"""Tasks made from functions: `TaskWrapper`, the value of `@task`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from graflow.core.graph import current_scope
from graflow.core.nodes.aio import run_coroutine, run_with_timeout
from graflow.core.nodes.arguments import (
    Plan,
    fillable_parameters,
    free_parameters,
    from_channel,
    parameters_of,
    unknown_names,
)
from graflow.core.nodes.entering import running_frame
from graflow.core.nodes.executable import Executable, ParallelGroup
from graflow.core.nodes.mapped import MappedGroup
from graflow.core.nodes.missing import explained
from graflow.core.nodes.options import (
    checked_flag,
    checked_handler,
    checked_id,
    checked_limit,
    checked_options,
    checked_policy,
    checked_seconds,
    refuse_reuse,
)
from graflow.core.retry import RetryPolicy
from graflow.core.serialization import pickles_by_value
from graflow.protocols import Run, upward

if TYPE_CHECKING:
    import typing_extensions

    # With defaults, `TaskWrapper` alone may be written for a task of any function.
    P = typing_extensions.ParamSpec("P", default=...)
    R = typing_extensions.TypeVar("R", default=Any)
else:
    P, R = ParamSpec("P"), TypeVar("R")

_TAKEN_FROM_FUNCTION = ("_plans", "__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class _FunctionSignature:
    """What `inspect.signature` says of a task: the signature of its function; of the class, its own."""

    def __get__(self, made: TaskWrapper | None, owner: type) -> inspect.Signature:
        if made is not None:
            with suppress(TypeError, ValueError):
                return inspect.signature(made.func)
        raise AttributeError("__signature__")


class TaskWrapper(Executable, Generic[P, R]):
    """A function as a node of a graph.

    Calling it runs it when an execution context is set or no argument is given; with keyword arguments and no context
    it makes a new task with those arguments bound: `double(task_id="twice_7", x=7)`.
    """

    _bound_kwargs: Mapping[str, Any]
    template: TaskWrapper | None = None  # what an instance was made from
    _attribute: str | None = None  # the name of a method that is a task, in its class
    __signature__ = _FunctionSignature()

    def __init__(
        self,
        task_id: str,
        func: Callable[..., R],
        inject_context: bool = False,
        *,
        register_to_context: bool = True,
        handler_type: str | None = None,
        resolve_keyword_args: bool = True,
        max_cycles: int | None = None,
        max_retries: int | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout: float | None = None,
        cache: object = None,
        ttl: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._task_id = checked_id(task_id)
        if not callable(func):
            raise TypeError(f"Task '{task_id}' needs a function, not {func!r}")
        self.func: Callable[..., Any] = func
        self.inject_context = checked_flag(task_id, "inject_context", inject_context)
        self.handler_type = checked_handler(task_id, handler_type)
        self.resolve_keyword_args = checked_flag(task_id, "resolve_keyword_args", resolve_keyword_args)
        self.max_cycles = checked_limit(task_id, "max_cycles", max_cycles)
        self.retry_policy, self.max_retries = checked_policy(task_id, retry_policy, max_retries)
        self.timeout = checked_seconds(task_id, "timeout", timeout)
        refuse_reuse(task_id, cache, ttl)
        self.cache, self.ttl = cache, ttl
        self.options = checked_options(task_id, options)
        self._bound_kwargs = {}
        self.made_in = _module_outside()
        self._take_after_function()
        if register_to_context:
            self._register_on_creation()

    # -- methods ---------------------------------------------------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        qualname = str(getattr(self.func, "__qualname__", ""))
        if qualname.rpartition(".")[0] == owner.__qualname__ and not isinstance(self.func, staticmethod):
            self._attribute = name
            self._leave_graph_when_unconnected()

    def __get__(self, owner: object, kind: type | None = None) -> Self:
        """The task of an object, where this one is made of a method: the same one each time."""
        if owner is None or self._attribute is None:
            return self
        made = self.instance(self._task_id, self._bound_kwargs)
        made.func = MethodType(self.func, owner)
        made._plans, made._attribute, made.template = {}, None, None
        with suppress(AttributeError):  # of an object without a namespace
            vars(owner)[self._attribute] = made
        return made

    @property
    def bound_arguments(self) -> Mapping[str, Any]:
        """The arguments that this instance was made with, by parameter."""
        return self._bound_kwargs

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function, which leaves its thread nothing to do but to wait."""
        return inspect.iscoroutinefunction(self.func)

    def __repr__(self) -> str:
        return f"TaskWrapper({self._task_id})"

    def _take_after_function(self) -> None:
        func = self.func
        self._plans: dict[int, Plan] = {}  # by number of positional arguments
        self.__module__ = getattr(func, "__module__", None) or type(self).__module__
        self.__name__ = getattr(func, "__name__", self._task_id)
        self.__qualname__ = getattr(func, "__qualname__", self.__name__)
        self.__doc__ = func.__doc__
        self.__annotations__ = getattr(func, "__annotations__", {})

    # -- running ---------------------------------------------------------------------------------------------------

    @overload
    def __call__(self, /) -> R: ...
    @overload
    def __call__(self, /, *, task_id: str, **bound: Any) -> TaskWrapper[..., R]: ...
    @overload
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        is_inside = self._execution_context is not None or (
            running_frame.get() is not None and kwargs.get("task_id") is None
        )
        if is_inside:
            return self.run(*args, **kwargs)
        if args:
            raise TypeError(
                f"Task '{self._task_id}' does not support positional arguments when it is called outside a run; "
                "bind by keyword to make a task instance, or call .run(...) or .func(...)"
            )
        if not kwargs:
            return self.run(*args, **kwargs)
        return self._bind(**kwargs)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Execute the function; arguments that the caller leaves out come from bound values and the channel."""
        frame = running_frame.get()
        is_running = frame is not None and frame.task is self
        if is_running:
            return self.invoke(frame.execution_context, frame, args, kwargs)
        context = self._context_or_none()
        if context is not None and not self.inject_context:
            return self.invoke(context, None, args, kwargs)
        if context is None:
            context = upward.context()
        with context.executing_task(self) as frame:
            return self.invoke(context, frame, args, kwargs)

    def invoke(self, context: Run, frame: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        """Call the function; `frame` is the task context that is injected where the task asks for one."""
        bound = self._bound_kwargs
        if bound and args:
            bound = self._without_positional(bound, len(args))
        if self.inject_context:
            args = (frame, *args)
        func = self.func
        plan = self._plans.get(len(args))
        if plan is None or plan.func is not func:
            plan = self._plans[len(args)] = Plan(func, len(args))
        if plan.wanted or bound:
            kwargs = self._filled(plan.wanted, {**bound, **kwargs} if bound else kwargs, context)
        if plan.moves:
            args, kwargs = plan.placed(args, kwargs)
        value: Any
        try:
            if self.timeout is not None:
                value = run_with_timeout(self._task_id, self.timeout, func, args, kwargs, context, frame)
            else:
                value = func(*args, **kwargs)
        except TypeError as error:
            told = explained(error, self._task_id, func, args, kwargs, context)
            if told is error:
                raise
            raise told from None
        if type(value) is CoroutineType:
            value = run_coroutine(value, context)
        return value  # type: ignore[no-any-return]  # of the function, or what its coroutine returned

    def _without_positional(self, bound: Mapping[str, Any], positional: int) -> Mapping[str, Any]:
        """Bound arguments whose parameters the caller did not fill by position."""
        first = 1 if self.inject_context else 0
        left = fillable_parameters(self.func, first + positional)
        by_position = set(fillable_parameters(self.func, first)).difference(left)
        return {name: value for name, value in bound.items() if name not in by_position}

    def _filled(self, wanted: tuple[str, ...], given: dict[str, Any], context: Run) -> dict[str, Any]:
        """The given arguments, and what the channel holds for the others that are wanted."""
        if not self.resolve_keyword_args:
            return given
        found = from_channel(self._task_id, wanted, given, context.channel_for_reading, context.has_completed)
        return {**found, **given} if found else given

    # -- instances and fan-out -------------------------------------------------------------------------------------

    def instance(self, task_id: str, bound: Mapping[str, Any]) -> Self:
        """A new, unregistered task with the same function and options and its own bound arguments."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__, _execution_context=None, lent_context=None)
        made._task_id = task_id
        made._bound_kwargs = bound
        made.template = self
        made._pending_registration = True
        return made

    def _bind(self, /, *, task_id: str | None = None, **bound: object) -> TaskWrapper:
        parameters = parameters_of(self.func) or ()
        if task_id is not None and any(parameter.name == "task_id" for parameter in parameters):
            bound["task_id"] = task_id  # a parameter of the function's own gets the id
        self._check_names(bound, "which is bound")
        if task_id is not None:
            checked_id(task_id)
        name = getattr(self.func, "__name__", self._task_id)
        made = self.instance(task_id or f"{name}_{uuid.uuid4().hex[:8]}", bound)
        made._pending_registration = False
        made._register_on_creation()
        return made

    def map(
        self, items: Iterable[Any], *, name: str | None = None, key: Callable[[Any], Any] | None = None
    ) -> ParallelGroup:
        """A group with one member per item; the item goes to the first free parameter.

        Members are `<name>[<index>]`, or `<name>[<key(item)>]`; the name defaults to the function's name. The group's
        result is the list of its members' values in item order.

        Raises:
            TypeError: When the function has no free parameter.
        """
        free = free_parameters(self.func, inject_context=self.inject_context, bound=self._bound_kwargs)
        if not free:
            raise TypeError(f"Task '{self._task_id}' has no free parameter that an item of map() could go to")
        bound = self._bound_kwargs
        return self._fan_out(items, lambda item: {**bound, free[0]: item}, name, key)

    def starmap(
        self, items: Iterable[Any], *, name: str | None = None, key: Callable[[Any], Any] | None = None
    ) -> ParallelGroup:
        """Like `map`, but each item is a mapping of keyword arguments or a tuple of positional ones.

        Raises:
            TypeError: For an item that is neither, or that the function cannot take.
        """
        free = free_parameters(self.func, inject_context=self.inject_context, bound=self._bound_kwargs)

        def arguments(item: object) -> dict[str, Any]:
            if isinstance(item, Mapping):
                self._check_names(item, "which an item of starmap() names")
                return {**self._bound_kwargs, **item}
            if isinstance(item, str | bytes) or not isinstance(item, Iterable):
                raise TypeError(
                    f"An item of starmap() is a tuple or a mapping, not {item!r}; map() takes single values"
                )
            values = tuple(item)
            if len(values) > len(free):
                raise TypeError(
                    f"Task '{self._task_id}' takes {len(free)} free arguments ({', '.join(free)}), "
                    f"but an item of starmap() has {len(values)}"
                )
            return {**self._bound_kwargs, **dict(zip(free, values, strict=False))}

        return self._fan_out(items, arguments, name, key)

    def _check_names(self, given: Mapping[str, Any], which: str) -> None:
        unknown, known = unknown_names(self.func, given, inject_context=self.inject_context)
        if unknown:
            near = difflib.get_close_matches(str(unknown[0]), known, 1)
            raise TypeError(
                f"Task '{self._task_id}' has no parameter {', '.join(map(repr, unknown))}, {which}; "
                + (f"did you mean '{near[0]}'? " if near else "")
                + (f"its parameters are {', '.join(known)}" if known else "it has none")
            )

    def _fan_out(
        self,
        items: Iterable[Any],
        arguments: Callable[[Any], dict[str, Any]],
        name: str | None,
        key: Callable[[Any], Any] | None,
    ) -> ParallelGroup:
        group_id = name or str(getattr(self.func, "__name__", self._task_id))
        members: list[Executable] = [
            self.instance(f"{group_id}[{index if key is None else key(item)}]", arguments(item))
            for index, item in enumerate(items)
        ]
        self._leave_graph_when_unconnected()
        return MappedGroup(members, name=group_id)

    def _leave_graph_when_unconnected(self) -> None:
        """A task that is only a template of members is no step of its own."""
        self._pending_registration = False
        scope = current_scope()
        if scope is None:
            return
        graph = scope.graph
        if (
            graph.task_at(self._task_id) is self
            and not graph.succ[self._task_id]
            and not graph.pred[self._task_id]
            and not graph.groups_of(self._task_id)
        ):
            graph.remove_node(self._task_id)

    # -- pickling --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in _TAKEN_FROM_FUNCTION:
            state.pop(name, None)
        state.pop("template", None)
        state["_bound_kwargs"] = dict(self._bound_kwargs)
        state["_pending_registration"] = False
        reference = _reference_to(getattr(self.func, "__func__", self.func))
        if reference is not None:
            state["func"] = None
            state["_func_reference"] = reference
            if isinstance(self.func, MethodType):
                state["_func_owner"] = self.func.__self__
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        reference, owner = state.pop("_func_reference", None), state.pop("_func_owner", None)
        super().__setstate__(state)
        if reference is not None:
            func = _function_at(*reference)
            self.func = func if owner is None else MethodType(func, owner)
        self._take_after_function()


def _module_outside() -> str:
    """The module whose code makes a task, where the task of a library's function can be found."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("graflow."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def _reference_to(func: Callable[..., Any]) -> tuple[str, str] | None:
    """Where a function can be found again, when a module attribute (or the task around it) is that very function.

    A decorated function cannot be pickled by its own name, since the module attribute is the wrapper.
    """
    module_name, qualname = str(getattr(func, "__module__", None)), getattr(func, "__qualname__", None)
    module = sys.modules.get(module_name)
    if module is None or qualname is None or "<" in qualname or pickles_by_value(module_name):
        return None
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is func or (isinstance(found, TaskWrapper) and found.func is func):
        return module_name, qualname
    return None


def _function_at(module_name: str, qualname: str) -> Callable[..., Any]:
    found: Any = importlib.import_module(module_name)
    for part in qualname.split("."):
        found = getattr(found, part)
    func: Callable[..., Any] = found.func if isinstance(found, TaskWrapper) else found
    return func
