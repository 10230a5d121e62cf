"""Coroutines and time limits: how a task that is async, or may not take too long, is run from the engine's thread."""

from __future__ import annotations

import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Self

from graflow.exceptions import TaskTimeoutError
from graflow.per_process import PerProcess
from graflow.protocols import Run

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)
_GRACE = 5.0  # seconds that what async tasks left running has to end
_LOOK = 0.5  # seconds after which a waiting thread takes a step, so that an error raised in it from outside gets there


class EventLoopThread:
    """One event loop in a daemon thread, shared by all async tasks of an engine.

    It is started by the first coroutine and ends with the last block that uses it. In a process that keeps its loop
    (`keep_event_loop`) one loop serves every engine and stays; so it does where threads are green (gevent, eventlet),
    as all of them are one to asyncio, which allows one loop per thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with self._lock:
            self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            is_used = self._users > 0
        if not is_used:
            self.close()

    def close(self) -> None:
        """End the loop, if one was started; the next coroutine starts another."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            _stop(loop, thread)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine on the loop with the caller's context variables and wait for its value.

        A coroutine that calls an async task gets that task's coroutine, to be awaited.
        """
        here = threading.current_thread()
        if here is self._thread:
            return coroutine
        kept = _kept_loop()
        if kept is None:
            return self._wait_for(coroutine)
        if here is not kept._thread:
            token = _lender.set(self)
            try:
                return kept._wait_for(coroutine)
            finally:
                _lender.reset(token)
        if _lender.get() is self or _threads_are_green():
            return coroutine
        return self._wait_for(coroutine)  # of a run inside a coroutine, which holds the kept loop up meanwhile

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # noqa: PLC0415 - workflows without async tasks do not pay for it

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="graflow-async", daemon=True)
                self._thread.start()
            loop = self._loop
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            while not future.done():
                with suppress(TimeoutError):  # raised by the coroutine as well; then it is done
                    future.exception(_LOOK)
            return future.result()
        finally:
            future.cancel()  # where the wait was interrupted; one that is done stays as it is


_lender: ContextVar[EventLoopThread | None] = ContextVar("graflow_lender", default=None)
"""Whose coroutine it is that runs on the loop which the process keeps."""
_kept: Final[PerProcess[None, EventLoopThread]] = PerProcess()
_keeps = False


def keep_event_loop() -> None:
    """Have all engines of this process, and of those that it forks, share one loop per process, which stays.

    What is bound to a loop, such as the connections of an async client, then serves the next run as well.
    """
    global _keeps  # noqa: PLW0603 - a process either keeps its loop or does not
    _keeps = True


def end_event_loop() -> None:
    """End the loop that this process keeps, with what is left on it, and keep none any more."""
    global _keeps  # noqa: PLW0603 - as above
    _keeps = False
    for loop in _kept.take_all():
        loop.close()


def _kept_loop() -> EventLoopThread | None:
    return _kept.get(None, EventLoopThread) if _keeps or _threads_are_green() else None


@cache
def _threads_are_green() -> bool:
    """Whether a thread that is started here runs in the thread of the system that starts it."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(threading.get_native_id()), name="graflow-look")
    thread.start()
    thread.join()
    return found == [threading.get_native_id()]


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Cancel what the tasks left running on the loop, and end it."""
    import asyncio  # noqa: PLC0415 - as above

    async def finish() -> None:
        left = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await loop.shutdown_asyncgens()
        loop.stop()

    asyncio.run_coroutine_threadsafe(finish(), loop)
    thread.join(_GRACE)
    if thread.is_alive():
        _log.warning("An async task blocks its event loop; it is left behind")
    else:
        loop.close()


def run_coroutine(coroutine: Coroutine[Any, Any, Any], context: Run) -> Any:
    """Run a coroutine on the event loop of the context's engine, or on a loop of its own outside any engine."""
    engine = getattr(context, "engine", None)
    if engine is not None:
        return engine.event_loop.run(coroutine)
    with EventLoopThread() as alone:
        return alone.run(coroutine)


def run_with_timeout(
    task_id: str,
    timeout: float,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: Run,
    frame: Any = None,
) -> Any:
    """Call `func` and wait at most `timeout` seconds; `frame` is the task context of the execution.

    A coroutine over time is cancelled. A thread cannot be stopped: a sync function over time is abandoned, its value
    is thrown away.

    Raises:
        TaskTimeoutError: When the time is over.
    """
    if inspect.iscoroutinefunction(func):
        return run_coroutine(_limited(func(*args, **kwargs), timeout, TaskTimeoutError(task_id, timeout)), context)
    end = time.monotonic() + timeout
    outcome: list[tuple[bool, Any]] = []

    def call() -> None:
        try:
            outcome.append((True, func(*args, **kwargs)))
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            outcome.append((False, error))

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(call,), name=f"graflow-{task_id}", daemon=True
    )
    thread.start()
    thread.join(timeout)
    if not outcome:
        if frame is not None:
            frame.abandon()
        raise TaskTimeoutError(task_id, timeout)
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    if type(value) is CoroutineType:  # of a function that wraps an async one
        left = end - time.monotonic()
        return run_coroutine(_limited(value, left, TaskTimeoutError(task_id, timeout)), context)
    return value


async def _limited(coroutine: Coroutine[Any, Any, Any], seconds: float, over: TaskTimeoutError) -> Any:
    import asyncio  # noqa: PLC0415 - as above

    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if not limit.expired():
            raise  # the task's own
        raise over from None
