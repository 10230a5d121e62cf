"""`@task` and `@question`: functions become nodes of a workflow."""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Concatenate, Literal, Protocol, overload

from graflow.core.nodes.mapped import R
from graflow.core.nodes.options import CacheOption, policy_of
from graflow.core.nodes.templates import no_function
from graflow.core.nodes.wrapper import P, TaskWrapper
from graflow.core.retry import ErrorFilter, RetryPolicy
from graflow.durations import Deadline, Duration
from graflow.exceptions import ConfigError
from graflow.protocols import MISSING


class _Decorator(Protocol):
    """`@task(...)`: what makes a task of a function, whose value for an `async def` is what that returns."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> TaskWrapper[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> TaskWrapper[P, R]: ...


class _QuestionDecorator(Protocol):
    """`@question(...)`: what makes a node of a function that builds a prompt."""

    def __call__(self, func: Callable[P, str], /) -> TaskWrapper[P, Any]: ...


class _InjectingDecorator(Protocol):
    """`@task(inject_context=True, ...)`: callers do not give the first parameter."""

    @overload
    def __call__(self, func: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> TaskWrapper[P, R]: ...
    @overload
    def __call__(self, func: Callable[Concatenate[Any, P], R], /) -> TaskWrapper[P, R]: ...


@overload
def task(id_or_func: Callable[P, Coroutine[Any, Any, R]]) -> TaskWrapper[P, R]: ...
@overload
def task(id_or_func: Callable[P, R]) -> TaskWrapper[P, R]: ...
@overload
def task(
    id_or_func: str | None = None,
    *,
    id: str | None = None,
    inject_context: Literal[True],
    handler: str | None = None,
    resolve_keyword_args: bool = True,
    max_cycles: int | None = None,
    max_retries: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
    options: Mapping[str, Any] | None = None,
    retry_on: ErrorFilter | None = None,
    give_up_on: ErrorFilter | None = None,
    version: str | int | None = None,
) -> _InjectingDecorator: ...
@overload
def task(
    id_or_func: str | None = None,
    *,
    id: str | None = None,
    inject_context: Literal[False] = False,
    handler: str | None = None,
    resolve_keyword_args: bool = True,
    max_cycles: int | None = None,
    max_retries: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
    options: Mapping[str, Any] | None = None,
    retry_on: ErrorFilter | None = None,
    give_up_on: ErrorFilter | None = None,
    version: str | int | None = None,
) -> _Decorator: ...
def task(
    id_or_func: Callable[..., Any] | str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - public name
    inject_context: bool = False,
    handler: str | None = None,
    resolve_keyword_args: bool = True,
    max_cycles: int | None = None,
    max_retries: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
    options: Mapping[str, Any] | None = None,
    retry_on: ErrorFilter | None = None,
    give_up_on: ErrorFilter | None = None,
    version: str | int | None = None,
) -> TaskWrapper | Callable[[Callable[..., Any]], TaskWrapper]:
    """Make a task of a function: `@task`, `@task("id")`, `@task(max_retries=3)`.

    Args:
        id_or_func: The function, or the id of the task.
        id: The id of the task; the function's name by default.
        inject_context: Pass the `TaskExecutionContext` as the first argument.
        handler: Type of the handler that runs the task.
        resolve_keyword_args: Fill parameters from results and channel keys of the same name.
        max_cycles: Executions by iteration.
        max_retries: Attempts after the first; beside a `retry_policy` that names none, how many it has.
        retry_policy: Attempts after the first, with the waits between them.
        timeout: Seconds for one execution. A sync task over time is reported and abandoned, not stopped.
        cache: For flows: keep what the task gives in the flow's store, and give it again for the same code and
            arguments. A function of the same arguments gives what counts of them instead, such as the content of a
            file; None from it means that this call is not kept.
        ttl: Seconds after which a kept value is computed again; never by default.
        options: For members on workers: `queue`, `priority`, `time_limit`, `soft_time_limit`, `max_attempts`.
        retry_on: Which errors `max_retries` is for: a type, a tuple of types, or a function of the error.
        give_up_on: Which errors it is not for, given likewise; it beats `retry_on`.
        version: For durable flows: tells what the function does beyond its own code, such as in helpers. With another
            version it is other code, which a flow that goes on does not take for the same.

    Raises:
        ConfigError: For an option of a wrong type or out of range, or two that exclude each other.

    Example:
        >>> from graflow import task, workflow
        >>> with workflow("lengths") as wf:
        ...
        ...     @task(max_retries=2)
        ...     def load() -> list[str]:
        ...         return ["a", "bcd"]
        ...
        ...     @task
        ...     def total(load: list[str]) -> int:
        ...         return sum(map(len, load))
        ...
        ...     load >> total
        SequentialTask([load >> total])
        >>> wf.execute()
        4
    """
    given = _given_id(id_or_func, id)

    def wrap(func: Callable[..., Any]) -> TaskWrapper:
        named = given
        if named is None:
            named = getattr(func, "__name__", None) or f"task_{uuid.uuid4().hex[:8]}"
        return TaskWrapper(
            named,
            func,
            inject_context,
            handler_type=handler,
            resolve_keyword_args=resolve_keyword_args,
            max_cycles=max_cycles,
            max_retries=max_retries,
            retry_policy=policy_of(named, retry_policy, max_retries, retry_on, give_up_on),
            timeout=timeout,
            cache=cache,
            ttl=ttl,
            options=options,
            version=version,
        )

    return wrap(id_or_func) if callable(id_or_func) else wrap


def _given_id(id_or_func: object, task_id: str | None) -> str | None:
    if not (id_or_func is None or isinstance(id_or_func, str) or callable(id_or_func)):
        raise no_function("@task takes a function or an id", id_or_func)
    if isinstance(id_or_func, str) and task_id is not None and task_id != id_or_func:
        raise ConfigError(f"@task was given two ids, {id_or_func!r} and {task_id!r}; give one of them")
    return id_or_func if task_id is None and isinstance(id_or_func, str) else task_id


def question(
    answer: Any = bool,
    *,
    id: str | None = None,  # noqa: A002 - as that of `task`
    of: Sequence[str] = (),
    needs: int = 1,
    veto: bool = True,
    revisable: bool = False,
    deadline: Deadline | None = None,
    default: Any = MISSING,
    on_deadline: str | None = None,
    remind: Sequence[Duration] = (),
    escalate: tuple[Duration, Sequence[str]] | None = None,
    notify: Sequence[str] = (),
    hold: float = 0.0,
) -> _QuestionDecorator:
    """Make a node of a durable flow that asks people: the function builds the prompt, the node's result is the answer.

    The flow is put away while it waits, and the function is called again when it goes on. So it only builds the prompt,
    which follows from its arguments: results and channel keys of the same name, as those of a task.

    Args:
        answer: What they may answer: `bool`, `str`, `int`, a `Literal`, a pydantic model, or a JSON Schema.
        id: The id of the node; the function's name by default.
        of: Who is asked; this and all that follows as in `graflow.questions.Ask`.
        needs: How many of them have to answer.
        veto: Whether one rejection ends it.
        revisable: Whether people may change their answer until it is settled.
        deadline: Seconds, a timedelta, or a datetime with a time zone.
        default: The answer when there is none by the deadline.
        on_deadline: `"default"`, `"fail"` or `"escalate"`.
        remind: When to tell its channels again, in seconds or timedeltas.
        escalate: `(after, people)`: who is asked besides when nobody has answered.
        notify: Names of channels that are told.
        hold: Seconds to wait in place before the flow is put away.

    Raises:
        ConfigError: For what cannot be right, where it is written.

    Example:
        >>> from typing import Literal
        >>> from graflow.hitl import question
        >>> @question(Literal["stable", "beta"], of=["ann"], deadline=3600, default="beta")
        ... def choose(draft: str) -> str:
        ...     return f"Where does {draft} go?"
    """
    if inspect.isfunction(answer) or isinstance(answer, TaskWrapper):
        raise ConfigError("Write @question() with parentheses: its first argument is the type of the answer")
    options: dict[str, Any] = {
        "of": of,
        "needs": needs,
        "veto": veto,
        "revisable": revisable,
        "deadline": deadline,
        "default": default,
        "on_deadline": on_deadline,
        "remind": remind,
        "escalate": escalate,
        "notify": notify,
        "hold": hold,
    }
    from graflow.questions.asks import Ask  # noqa: PLC0415 - a program that asks nobody does not pay for it

    Ask("What?", answer, **options)  # refused where it is written

    def wrap(func: Callable[..., str], /) -> TaskWrapper[..., Any]:
        return task(id=id, inject_context=True)(_asking(func, answer, options))

    return wrap  # type: ignore[return-value]  # the P of a decorator is that of each function


def _asking(func: Callable[..., str], answer: Any, options: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of the task's context and the arguments of `func` that asks what `func` returns."""
    if isinstance(func, TaskWrapper) or not callable(func) or inspect.iscoroutinefunction(func):
        raise ConfigError(f"@question takes a plain function that returns the prompt, not {func!r}")

    @functools.wraps(func)
    def ask(context: Any, /, *args: Any, **kwargs: Any) -> Any:
        return context.ask(func(*args, **kwargs), answer, **options)

    taken = inspect.signature(func)
    injected = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY)
    while injected.name in taken.parameters:
        injected = injected.replace(name=f"_{injected.name}")
    ask.__signature__ = taken.replace(parameters=[injected, *taken.parameters.values()])  # type: ignore[attr-defined]
    return ask
