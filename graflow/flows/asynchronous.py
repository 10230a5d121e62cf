"""`AsyncFlowRunner`: the same runner for programs with an event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from graflow.flows.runner import FlowRunner

_THREADS: Final = 64  # calls that wait at once; a flow that is executed, or waited for, is one

P = ParamSpec("P")
R = TypeVar("R")


class _Threads(Executor):
    """Threads, so many at once, for which the end of the program does not wait: its flows are handed over then."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Make a call in a thread."""
        future: Future[R] = Future()
        with self._lock:
            self._calls.append((future, functools.partial(fn, *args, **kwargs)))
            if self._count >= self._size:
                return future
            self._count += 1
        threading.Thread(target=self._work, name="graflow-async", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._count -= 1
                    return
                future, call = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
                future.set_exception(error)


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

    A call that is cancelled is no longer waited for; what it began goes on, as `cancel_flow` ends a flow, until the
    program ends: then its flows are handed over.

    Args:
        *args: As for `FlowRunner`.
        **kwargs: As for `FlowRunner`.

    Attributes:
        runner: The one that does it.
        threads: Where its calls wait.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.runner = FlowRunner(*args, **kwargs)
        self.threads = _Threads(_THREADS)

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()
