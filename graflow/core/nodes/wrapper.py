"""Tasks made from functions: `TaskWrapper`, the value of `@task`."""

from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from graflow.coordination.backend_keys import QUEUE_NAME, is_queue_name
from graflow.core.graph import current_scope
from graflow.core.nodes.aio import run_coroutine, run_with_timeout
from graflow.core.nodes.arguments import free_parameters, from_channel, keyword_parameters, takes_any_keyword
from graflow.core.nodes.executable import Executable, ParallelGroup, running_frame
from graflow.core.nodes.mapped import MappedGroup
from graflow.core.retry import RetryPolicy
from graflow.core.serialization import pickles_by_value
from graflow.exceptions import ConfigError
from graflow.protocols import Run, upward

if TYPE_CHECKING:
    import typing_extensions

    # With defaults, `TaskWrapper` alone may be written for a task of any function.
    P = typing_extensions.ParamSpec("P", default=...)
    R = typing_extensions.TypeVar("R", default=Any)
else:
    P, R = ParamSpec("P"), TypeVar("R")

_OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "queue": (QUEUE_NAME, is_queue_name),
    "priority": ("a whole number from 0 to 9", lambda value: _is_number(value, int) and 0 <= value <= 9),
    "time_limit": ("seconds above 0", lambda value: _is_number(value, int | float) and value > 0),
    "soft_time_limit": ("seconds above 0", lambda value: _is_number(value, int | float) and value > 0),
    "max_attempts": ("a whole number above 0", lambda value: _is_number(value, int) and value > 0),
}
_TAKEN_FROM_FUNCTION = ("_wanted", "__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class TaskWrapper(Executable, Generic[P, R]):
    """A function as a node of a graph.

    Calling it runs it when an execution context is set or no argument is given; with keyword arguments and no context
    it makes a new task with those arguments bound: `double(task_id="twice_7", x=7)`.
    """

    _bound_kwargs: Mapping[str, Any]

    def __init__(
        self,
        task_id: str,
        func: Callable[P, R],
        inject_context: bool = False,
        *,
        register_to_context: bool = True,
        handler_type: str | None = None,
        resolve_keyword_args: bool = True,
        max_cycles: int | None = None,
        max_retries: int | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout: float | None = None,
        cache: Any = None,
        ttl: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._task_id = task_id
        self.func: Callable[P, R] = func
        self.inject_context = inject_context
        self.handler_type = handler_type or "direct"
        self.resolve_keyword_args = resolve_keyword_args
        self.max_cycles = max_cycles
        if retry_policy is not None and not isinstance(retry_policy, RetryPolicy):
            raise ConfigError(f"Task '{task_id}': retry_policy must be a RetryPolicy, not {retry_policy!r}")
        self.max_retries = retry_policy.max_retries if retry_policy is not None else max_retries
        self.retry_policy = retry_policy
        self.timeout = _checked_seconds(task_id, "timeout", timeout)
        self.cache = cache
        self.ttl = _checked_seconds(task_id, "ttl", ttl)
        self.options = None if options is None else _checked_options(task_id, options)
        self._bound_kwargs = {}
        self.made_in = _module_outside()
        self._take_after_function()
        if register_to_context:
            self._register_on_creation()

    @property
    def bound_arguments(self) -> Mapping[str, Any]:
        """The arguments that this instance was made with, by parameter."""
        return self._bound_kwargs

    @property
    def task_id(self) -> str:
        return self._task_id

    def __repr__(self) -> str:
        return f"TaskWrapper({self._task_id})"

    def _take_after_function(self) -> None:
        func = self.func
        # Parameters to fill, by number of positional arguments, and the function that they are of: tests replace it.
        self._wanted: tuple[Callable[P, R], dict[int, tuple[str, ...]]] = (func, {})
        self.__module__ = getattr(func, "__module__", None) or type(self).__module__
        self.__name__ = getattr(func, "__name__", self._task_id)
        self.__qualname__ = getattr(func, "__qualname__", self.__name__)
        self.__doc__ = func.__doc__
        self.__annotations__ = getattr(func, "__annotations__", {})

    # -- running ---------------------------------------------------------------------------------------------------

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._context_or_none() is not None:
            return self.run(*args, **kwargs)
        if args:
            raise TypeError(
                f"Task '{self._task_id}' does not support positional arguments when it is called outside a run; "
                "bind by keyword to make a task instance, or call .run(...) or .func(...)"
            )
        if not kwargs:
            return self.run()
        return self._bind(**kwargs)

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Execute the function; arguments that the caller leaves out come from bound values and the channel."""
        frame = running_frame.get()
        if frame is not None and frame.task is self:
            return self.invoke(frame.execution_context, frame, args, kwargs)
        context = self._context_or_none()
        if context is not None and not self.inject_context:
            return self.invoke(context, None, args, kwargs)
        alone = context is None
        if alone:
            context = upward.context()
        try:
            with context.executing_task(self) as frame:
                return self.invoke(context, frame, args, kwargs)
        finally:
            if alone:
                self._execution_context = None

    def invoke(self, context: Run, frame: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function; `frame` is the task context that is injected where the task asks for one."""
        bound = self._bound_kwargs
        if bound and args:
            bound = self._without_positional(bound, len(args))
        if self.inject_context:
            args = (frame, *args)
        func, known = self._wanted
        if func is not self.func:
            func, known = self._wanted = (self.func, {})
        wanted = known.get(len(args))
        if wanted is None:
            wanted = known[len(args)] = keyword_parameters(func, len(args))
        if wanted or bound:
            kwargs = self._filled(wanted, {**bound, **kwargs} if bound else kwargs, context)
        if self.timeout is not None:
            return run_with_timeout(self._task_id, self.timeout, func, args, kwargs, context, frame)
        value: Any = func(*args, **kwargs)
        if type(value) is CoroutineType:
            return run_coroutine(value, context)
        return value

    def _without_positional(self, bound: Mapping[str, Any], positional: int) -> Mapping[str, Any]:
        """Bound arguments whose parameters the caller did not fill by position."""
        first = 1 if self.inject_context else 0
        left = keyword_parameters(self.func, first + positional)
        by_position = set(keyword_parameters(self.func, first)).difference(left)
        return {name: value for name, value in bound.items() if name not in by_position}

    def _filled(self, wanted: tuple[str, ...], given: dict[str, Any], context: Run) -> dict[str, Any]:
        """The given arguments, and what the channel holds for the others that are wanted."""
        if not self.resolve_keyword_args:
            return given
        found = from_channel(self._task_id, wanted, given, context.channel_for_reading, context.has_completed)
        return {**found, **given} if found else given

    # -- instances and fan-out -------------------------------------------------------------------------------------

    def instance(self, task_id: str, bound: Mapping[str, Any]) -> TaskWrapper:
        """A new, unregistered task with the same function and options and its own bound arguments."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._task_id = task_id
        made._bound_kwargs = bound
        made._execution_context = None
        made._pending_registration = True
        return made

    def _bind(self, /, *, task_id: str | None = None, **bound: Any) -> TaskWrapper:
        name = getattr(self.func, "__name__", self._task_id)
        made = self.instance(task_id or f"{name}_{uuid.uuid4().hex[:8]}", bound)
        scope = current_scope()
        if scope is not None and scope.registers_on_creation:
            scope.graph.add_node(made)
            made._pending_registration = False
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
        known = keyword_parameters(self.func, 1 if self.inject_context else 0)
        free = free_parameters(self.func, inject_context=self.inject_context, bound=self._bound_kwargs)

        def arguments(item: object) -> dict[str, Any]:
            if isinstance(item, Mapping):
                self._check_names(item, known)
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

    def _check_names(self, item: Mapping[str, Any], known: tuple[str, ...]) -> None:
        unknown = [name for name in item if name not in known]
        if unknown and not takes_any_keyword(self.func):
            raise TypeError(
                f"Task '{self._task_id}' has no parameter {', '.join(map(repr, unknown))}, which an item of starmap() "
                f"names; its parameters are {', '.join(known)}"
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
        state["_bound_kwargs"] = dict(self._bound_kwargs)
        state["_pending_registration"] = False
        reference = _reference_to(self.func)
        if reference is not None:
            state["func"] = None
            state["_func_reference"] = reference
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        reference = state.pop("_func_reference", None)
        self.__dict__.update(state)
        if reference is not None:
            self.func = _function_at(*reference)
        self._take_after_function()


def _module_outside() -> str:
    """The module whose code makes a task, where the task of a library's function can be found."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("graflow."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def _checked_options(task_id: str, options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ConfigError(f"Task '{task_id}': options must be a mapping, not {options!r}")
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise ConfigError(
            f"Task '{task_id}' has unknown options {', '.join(map(repr, unknown))}; known are {', '.join(_OPTIONS)}"
        )
    for name, value in options.items():
        wanted, fits = _OPTIONS[name]
        if value is not None and not fits(value):
            raise ConfigError(f"Task '{task_id}': the option {name} must be {wanted}, not {value!r}")
    return dict(options)


def _checked_seconds(task_id: str, name: str, value: float | None) -> float | None:
    if value is not None and not (_is_number(value, int | float) and value > 0):
        raise ConfigError(f"Task '{task_id}': {name} must be seconds above 0, not {value!r}")
    return value


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


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
