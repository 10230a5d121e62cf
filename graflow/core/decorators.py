"""`@task`: functions become nodes of a workflow."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Literal, Protocol, overload

from graflow.core.nodes.mapped import R
from graflow.core.nodes.options import CacheOption, policy_of
from graflow.core.nodes.wrapper import P, TaskWrapper
from graflow.core.retry import ErrorFilter, RetryPolicy
from graflow.exceptions import ConfigError


class _Decorator(Protocol):
    """`@task(...)`: what makes a task of a function, whose value for an `async def` is what that returns."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> TaskWrapper[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> TaskWrapper[P, R]: ...


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
        raise TypeError(f"@task takes a function or an id, not {id_or_func!r}")
    if isinstance(id_or_func, str) and task_id is not None and task_id != id_or_func:
        raise ConfigError(f"@task was given two ids, {id_or_func!r} and {task_id!r}; give one of them")
    return id_or_func if task_id is None and isinstance(id_or_func, str) else task_id
