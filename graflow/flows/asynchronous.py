"""`AsyncFlowRunner`: the same runner for programs with an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from graflow.flows.runner import FlowRunner

_THREADS: Final = 64  # calls that wait at once; a flow that is executed, or waited for, is one

P = ParamSpec("P")
R = TypeVar("R")


class _Awaitable(Generic[P, R]):
    """A method of `FlowRunner`, awaitable: it runs in a thread of the runner's own."""

    def __init__(self, method: Callable[Concatenate[FlowRunner, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: AsyncFlowRunner, _: type) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(self._method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = functools.partial(self._method, owner.runner, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(owner.threads, bound)

        return call


class AsyncFlowRunner:
    """`FlowRunner` with the same names, awaitable; `register` is called without waiting.

    A call that is cancelled is no longer waited for; what it began goes on, as `cancel_flow` ends a flow.

    Args:
        *args: As for `FlowRunner`.
        **kwargs: As for `FlowRunner`.

    Attributes:
        runner: The one that does it.
        threads: Where its calls wait.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.runner = FlowRunner(*args, **kwargs)
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="graflow-async")

    @property
    def store(self) -> Any:
        """Where flows are kept."""
        return self.runner.store

    def register(self, *args: Any, **kwargs: Any) -> None:
        """As `FlowRunner.register`."""
        self.runner.register(*args, **kwargs)

    initialize = _Awaitable(FlowRunner.initialize)
    execute = _Awaitable(FlowRunner.execute)
    run = _Awaitable(FlowRunner.run)
    submit = _Awaitable(FlowRunner.submit)
    wait = _Awaitable(FlowRunner.wait)
    result = _Awaitable(FlowRunner.result)
    resume_flow = _Awaitable(FlowRunner.resume_flow)
    retry_failed_step = _Awaitable(FlowRunner.retry_failed_step)
    fork_flow = _Awaitable(FlowRunner.fork_flow)
    pause_flow = _Awaitable(FlowRunner.pause_flow)
    cancel_flow = _Awaitable(FlowRunner.cancel_flow)
    plan_resume = _Awaitable(FlowRunner.plan_resume)
    plan_retry = _Awaitable(FlowRunner.plan_retry)
    plan_fork = _Awaitable(FlowRunner.plan_fork)
    plan_pause = _Awaitable(FlowRunner.plan_pause)
    plan_cancel = _Awaitable(FlowRunner.plan_cancel)
    get_flow_state = _Awaitable(FlowRunner.get_flow_state)
    get_flow_graph = _Awaitable(FlowRunner.get_flow_graph)
    list_flows = _Awaitable(FlowRunner.list_flows)
    list_members = _Awaitable(FlowRunner.list_members)
    events = _Awaitable(FlowRunner.events)
    stats = _Awaitable(FlowRunner.stats)
    explain_step = _Awaitable(FlowRunner.explain_step)
    clear_cache = _Awaitable(FlowRunner.clear_cache)
    cleanup = _Awaitable(FlowRunner.cleanup)

    async def close(self) -> None:
        """As `FlowRunner.close`."""
        await asyncio.get_running_loop().run_in_executor(self.threads, self.runner.close)
        self.threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()
