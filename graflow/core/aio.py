"""Coroutines and time limits: how a task that is async, or may not take too long, is run from the engine's thread."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from graflow.exceptions import TaskTimeoutError

if TYPE_CHECKING:
    import asyncio


class EventLoopThread:
    """One event loop in a daemon thread, started by the first coroutine; shared by all async tasks of an engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine on the loop with the caller's context variables and wait for its value."""
        import asyncio  # noqa: PLC0415 - workflows without async tasks do not pay for it

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="graflow-async", daemon=True)
                self._thread.start()
            loop = self._loop
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_coroutine(coroutine: Coroutine[Any, Any, Any], context: Any) -> Any:
    """Run a coroutine on the event loop of the context's engine, or on a loop of its own outside any engine."""
    engine = getattr(context, "engine", None)
    if engine is not None:
        return engine.event_loop.run(coroutine)
    alone = EventLoopThread()
    try:
        return alone.run(coroutine)
    finally:
        alone.close()


def run_with_timeout(
    task_id: str, timeout: float, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    """Call `func` and wait at most `timeout` seconds.

    A coroutine over time is cancelled. A thread cannot be stopped: a sync function over time is abandoned, its value
    is thrown away.

    Raises:
        TaskTimeoutError: When the time is over.
    """
    if _is_coroutine_function(func):
        return run_coroutine(_limited(task_id, timeout, func(*args, **kwargs)), context)
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
        raise TaskTimeoutError(task_id, timeout)
    succeeded, value = outcome[0]
    if succeeded:
        return value
    raise value


async def _limited(task_id: str, timeout: float, coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # noqa: PLC0415 - as above

    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if not limit.expired():
            raise  # the task's own
        raise TaskTimeoutError(task_id, timeout) from None


def _is_coroutine_function(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None)
    return bool(code is not None and code.co_flags & 0x80)
