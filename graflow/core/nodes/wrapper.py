"""Tasks made from functions: `TaskWrapper`, the value of `@task`."""

from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, overload

from graflow.core.building.entering import running_frame
from graflow.core.nodes.aio import call_with_timeout, run_coroutine
from graflow.core.nodes.arguments import filled, parameters_of, refuse_unknown, without_positional
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.fan_out import leave_unless_connected, mapped, starmapped
from graflow.core.nodes.keeping import asking_cache
from graflow.core.nodes.mapped import MappedGroup, R
from graflow.core.nodes.missing import explained
from graflow.core.nodes.options import CacheOption, checked_id
from graflow.core.nodes.templates import CLASS_METHOD, DIRECT, TaskTemplate
from graflow.core.retry import RetryPolicy
from graflow.encoding.sharing import require_rereadable
from graflow.protocols import Run, upward

if TYPE_CHECKING:
    import typing_extensions

    # With a default, `TaskWrapper` alone may be written for a task of any function.
    P = typing_extensions.ParamSpec("P", default=...)
else:
    P = ParamSpec("P")
Rest = ParamSpec("Rest")  # of a method, what is behind `self`

_NOT_KEPT = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "made_from", "template", "_method")


def _of_template(name: str) -> Any:
    """An attribute of the template; a task that it is set on has a template of its own from then on."""

    def change(task: TaskWrapper, value: object) -> None:
        task.template = task.template.changed(**{name: value})

    return property(attrgetter(f"template.{name}"), change)


class _FunctionSignature:
    """What `inspect.signature` says of a task: the signature of its function; of the class, its own."""

    def __get__(self, made: TaskWrapper | None, owner: type) -> inspect.Signature:
        if made is not None:
            with suppress(TypeError, ValueError):
                return inspect.signature(made.func)
        raise AttributeError("__signature__")


class _Function:
    """What `inspect`, `typing` and `doctest` look into a task for: its function; the class has none."""

    def __get__(self, made: TaskWrapper | None, owner: type) -> Callable[..., Any]:
        if made is None:
            raise AttributeError("__wrapped__")
        return made.template.func


class TaskWrapper(Executable, Generic[P, R]):
    """A function as a node of a graph.

    Calling it runs it when an execution context is set or no argument is given; with keyword arguments and no context
    it makes a new task with those arguments bound: `double(task_id="twice_7", x=7)`.
    """

    template: TaskTemplate
    made_from: TaskWrapper | None = None  # the task that this one is an instance of
    _bound_kwargs: Mapping[str, Any] = {}
    _attribute: str | None = None  # the name of a method that is a task, in its class
    _method: MethodType | None = None  # what the task of an object was made of, whatever its `func` is now
    __signature__ = _FunctionSignature()
    __wrapped__ = _Function()

    task_id: str = property(attrgetter("_task_id"))  # type: ignore[assignment]  # asked for a dozen times a step

    func: Callable[..., Any] = _of_template("func")
    made_in: str = _of_template("made_in")
    inject_context: bool = _of_template("inject_context")
    resolve_keyword_args: bool = _of_template("resolve_keyword_args")
    handler_type: str = _of_template("handler_type")
    max_cycles: int | None = _of_template("max_cycles")
    max_retries: int | None = _of_template("max_retries")
    retry_policy: RetryPolicy | None = _of_template("retry_policy")
    timeout: float | None = _of_template("timeout")
    cache: CacheOption | None = _of_template("cache")
    ttl: float | None = _of_template("ttl")
    options: Mapping[str, Any] | None = _of_template("options")
    version: str | int | None = _of_template("version")

    def __init__(
        self,
        task_id: str,
        func: Callable[..., R] | TaskTemplate,
        inject_context: bool = False,
        *,
        register_to_context: bool = True,
        handler_type: str | None = None,
        resolve_keyword_args: bool = True,
        max_cycles: int | None = None,
        max_retries: int | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout: float | None = None,
        cache: CacheOption | None = None,
        ttl: float | None = None,
        options: Mapping[str, Any] | None = None,
        version: str | int | None = None,
    ) -> None:
        self._task_id = checked_id(task_id)
        if isinstance(func, TaskTemplate):
            self.template = func
        else:
            how = (inject_context, resolve_keyword_args, DIRECT if handler_type is None else handler_type)
            self.template = TaskTemplate(
                func,
                _module_outside(),
                *how,
                max_cycles,
                max_retries,
                retry_policy,
                timeout,
                cache,
                ttl,
                options,
                version,
            )
            self.template.check(task_id)
        self._look_like_function()
        if register_to_context:
            self._register_on_creation()

    # -- methods ---------------------------------------------------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        qualname = str(getattr(self.func, "__qualname__", ""))
        if qualname.rpartition(".")[0] == owner.__qualname__ and not isinstance(self.func, staticmethod):
            self._attribute = name
            leave_unless_connected(self)

    @overload
    def __get__(self, owner: None, kind: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: TaskWrapper[Concatenate[Any, Rest], R], owner: object, kind: type | None = None
    ) -> TaskWrapper[Rest, R]: ...
    def __get__(self, owner: object, kind: type | None = None) -> TaskWrapper[..., R]:
        """The task of an object, where this one is made of a method: the same one each time."""
        if owner is None or self._attribute is None:
            if owner is kind:  # as `@classmethod` asks
                raise TypeError(CLASS_METHOD)
            return self
        # Not under the name of the attribute: what a base class has under it, and a copy of the object, have their own.
        key, method = getattr(self.func, "__qualname__", self._attribute), MethodType(self.func, owner)
        kept = getattr(owner, "__dict__", {})  # an object without a namespace has another task each time
        found = kept.get(key)
        if isinstance(found, type(self)) and found._method == method:
            return found
        made = self.instance(self._task_id, self._bound_kwargs)
        made.func, made.made_from, made._method = method, None, method
        kept[key] = made
        return made

    @property
    def bound_arguments(self) -> Mapping[str, Any]:
        """The arguments that this instance was made with, by parameter."""
        return self._bound_kwargs

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function, which leaves its thread nothing to do but to wait."""
        return self.template.is_async

    def __repr__(self) -> str:
        return f"TaskWrapper({self._task_id})"

    def take_function(self, func: Callable[..., Any]) -> None:
        """Have another function, and look like it."""
        self.func = func
        self._look_like_function()

    def _look_like_function(self) -> None:
        func = self.template.func
        self.__module__ = getattr(func, "__module__", None) or type(self).__module__
        self.__name__ = getattr(func, "__name__", self._task_id)
        self.__qualname__ = getattr(func, "__qualname__", self.__name__)
        self.__doc__ = func.__doc__
        self.__annotations__ = getattr(func, "__annotations__", {})
        if getattr(func, "__isabstractmethod__", None) is True:
            self.__isabstractmethod__ = True

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
        if context is not None and not self.template.inject_context:
            return self.invoke(context, None, args, kwargs)
        if context is None:
            context = upward.context()
        with context.executing_task(self) as frame:
            return self.invoke(context, frame, args, kwargs)

    def invoke(
        self, context: Run, frame: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_awaited: bool = False
    ) -> R:
        """Call the function; `frame` is the task context that is injected where the task asks for one.

        A coroutine is run, unless the caller is going to await it.
        """
        template, bound = self.template, self._bound_kwargs
        if bound and args:
            bound = without_positional(template, bound, len(args))
        if template.inject_context:
            args = (frame, *args)
        func = template.func
        plans = template.plans
        plan = plans[len(args)] if plans is not None and len(args) in plans else template.plan(len(args))
        if plan.wanted or bound:
            given = {**bound, **kwargs} if bound else kwargs
            kwargs = filled(self._task_id, plan.wanted, given, context) if template.resolve_keyword_args else given
        if kwargs and frame is not None and frame.keeps_given:
            frame.given = kwargs
        if plan.moves:
            args, kwargs = plan.placed(args, kwargs)
        if template.cache is not None and frame is not None:
            func = asking_cache(self, context, frame)
        value: Any
        try:
            if template.timeout is not None:
                value = call_with_timeout(self._task_id, template.timeout, func, args, kwargs, frame)
            else:
                value = func(*args, **kwargs)
        except TypeError as error:
            told = explained(error, self._task_id, template.func, args, kwargs, context)
            if told is error:
                raise
            raise told from None
        if type(value) is CoroutineType and not is_awaited:
            value = run_coroutine(value, context)
        return value  # type: ignore[no-any-return]  # of the function, or what its coroutine returned

    # -- instances and fan-out -------------------------------------------------------------------------------------

    def instance(self, task_id: str, bound: Mapping[str, Any]) -> Self:
        """A new, unregistered task with the same function and options and its own bound arguments."""
        made = type(self)(task_id, self.template, register_to_context=False)
        made._bound_kwargs = bound
        made.made_from = self  # type: ignore[assignment]  # which mypy takes for a method
        if self.is_copy:
            made.is_copy = True
        made._pending_registration = True
        return made

    def siblings(self, members: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Self]:
        """Tasks that differ from this one in id and bound arguments alone."""
        kind, state = type(self), self.__dict__
        for task_id, bound in members:
            made = kind.__new__(kind)
            made.__dict__ = own = state.copy()  # at half of the price of an update
            own["_task_id"], own["_bound_kwargs"] = task_id, bound
            yield made

    def _bind(self, /, *, task_id: str | None = None, **bound: object) -> TaskWrapper:
        parameters = parameters_of(self.func) or ()
        if task_id is not None and any(parameter.name == "task_id" for parameter in parameters):
            bound["task_id"] = task_id  # a parameter of the function's own gets the id
        refuse_unknown(self, bound, "which is bound")
        require_rereadable(f"Task '{self._task_id}': the bound argument", bound)
        name = getattr(self.func, "__name__", self._task_id)
        made = self.instance(f"{name}_{uuid.uuid4().hex[:8]}" if task_id is None else task_id, bound)
        made._pending_registration = False
        made._register_on_creation()
        return made

    def map(
        self, items: Iterable[Any], *, name: str | None = None, key: Callable[[Any], Any] | None = None
    ) -> MappedGroup[R]:
        """A group with one member per item; the item goes to the first free parameter.

        Members are `<name>[<index>]`, or `<name>[<key(item)>]`; the name defaults to the function's name. The group's
        result is the list of its members' values in item order; without a `name` the id of the task stands for it too.

        Raises:
            TypeError: When the function has no free parameter.
        """
        return mapped(self, items, name, key)

    def starmap(
        self, items: Iterable[Any], *, name: str | None = None, key: Callable[[Any], Any] | None = None
    ) -> MappedGroup[R]:
        """Like `map`, but each item is a mapping of keyword arguments or a tuple of positional ones.

        Raises:
            TypeError: For an item that is neither, or that the function cannot take.
        """
        return starmapped(self, items, name, key)

    # -- pickling --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in _NOT_KEPT:
            state.pop(name, None)
        own = {"_bound_kwargs": dict(self._bound_kwargs), "_pending_registration": False}
        return state | self.template.saved() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.template = TaskTemplate.from_saved(state)
        super().__setstate__(state)
        self._look_like_function()


def _module_outside() -> str:
    """The module whose code makes a task, where the task of a library's function can be found."""
    frame = sys._getframe(2)
    name = frame.f_globals.get("__name__")
    while frame.f_back is not None and str(name).startswith("graflow."):
        frame = frame.f_back
        name = frame.f_globals.get("__name__")
    return str(name)
