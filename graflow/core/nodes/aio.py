"""Coroutines and time limits: how a task that is async, or may not take too long, is run from the engine's thread."""

from __future__ import annotations

import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Self

from graflow.exceptions import TaskTimeoutError
from graflow.processes.per_process import PerProcess
from graflow.protocols import Run
from graflow.text.shown import get_logger

if TYPE_CHECKING:
    import asyncio

_log = get_logger(__name__)
_GRACE = 5.0  # seconds that what async tasks left running has to end
_LOOK = 0.5  # seconds after which a waiting thread takes a step, so that an error raised in it from outside gets there


class EventLoopThread:
    """One event loop in a daemon thread, shared by all async tasks of an engine.

    It is started by the first coroutine and ends with the last block that uses it. In a process that keeps its loop
    (`keep_event_loop`) one loop serves every engine and stays; so it does where threads are green (gevent, eventlet),
    as all of them are one to asyncio, which allows one loop per thread.

    Args:
        is_apart: Whether it is another loop than that one, for what a coroutine waits for in its thread.
    """

    def __init__(self, *, is_apart: bool = False) -> None:
        self._is_apart = is_apart
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started: set[asyncio.Task[Any]] = set()  # asyncio itself holds them weakly

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
        kept = self._kept()
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

    def start(self, coroutine: Coroutine[Any, Any, Any], ended: Callable[[BaseException | None], None]) -> None:
        """Run the coroutine on the loop with the caller's context variables; `ended` is called there, with its error.

        Only where `can_start`.
        """
        here, context = self._kept() or self, contextvars.copy_context()
        context.run(_lender.set, self)
        loop = here._open()

        def finish(task: asyncio.Task[Any]) -> None:
            here._started.discard(task)
            if task.cancelled():
                ended(CancelledError())
            else:
                ended(task.exception() or _interruption_in(task.result()))

        def begin() -> None:
            task = loop.create_task(_carried(coroutine), context=context)
            here._started.add(task)
            task.add_done_callback(finish)

        loop.call_soon_threadsafe(begin)

    def can_start(self) -> bool:
        """Whether the caller may wait for what `start` runs: the loop is in another thread."""
        return not (_threads_are_green() or self.is_here())

    def is_here(self) -> bool:
        """Whether this thread is that of the loop, so that a coroutine calls."""
        return threading.current_thread() is (self._kept() or self)._thread

    def _kept(self) -> EventLoopThread | None:
        """The loop that this process keeps, in whose place this one is not used then."""
        return None if self._is_apart and not _threads_are_green() else _kept_loop()

    def _open(self) -> asyncio.AbstractEventLoop:
        """The loop, which is running then."""
        import asyncio  # noqa: PLC0415 - workflows without async tasks do not pay for it

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="graflow-async", daemon=True)
                self._thread.start()
            return self._loop

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # noqa: PLC0415 - as above

        future = asyncio.run_coroutine_threadsafe(_carried(coroutine), self._open())
        try:
            while not future.done():
                with suppress(TimeoutError):  # raised by the coroutine as well; then it is done
                    future.exception(_LOOK)
            return _value_in(future.result())
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


def is_in_loop_of(engine: Any) -> bool:
    """Whether this thread is that of the event loop of an engine; of what any new engine uses when None."""
    loop: EventLoopThread = EventLoopThread() if engine is None else engine.event_loop
    return loop.is_here()


def run_coroutine(coroutine: Coroutine[Any, Any, Any], context: Run) -> Any:
    """Run a coroutine on the event loop of the context's engine, or on a loop of its own outside any engine."""
    engine = getattr(context, "engine", None)
    if engine is not None:
        return engine.event_loop.run(coroutine)
    with EventLoopThread() as alone:
        return alone.run(coroutine)


def call_with_timeout(
    task_id: str,
    timeout: float,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    frame: Any = None,
) -> Any:
    """Call `func` and wait at most `timeout` seconds; `frame` is the task context of the execution.

    A coroutine is returned, and cancelled when it is over time. A thread cannot be stopped: a sync function over time
    is abandoned, its value is thrown away.

    Raises:
        TaskTimeoutError: When the time is over.
    """
    if inspect.iscoroutinefunction(func):
        return _limited(func(*args, **kwargs), timeout, TaskTimeoutError(task_id, timeout))
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
        return _limited(value, end - time.monotonic(), TaskTimeoutError(task_id, timeout))
    return value


class _Interruption:
    """In the place of a value: what would end the loop, and everything on it, if it were raised there."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _carried(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        return _Interruption(error)


def _interruption_in(carried: object) -> BaseException | None:
    return carried.error if isinstance(carried, _Interruption) else None


def _value_in(carried: Any) -> Any:
    """What a coroutine returned; raises what interrupted it."""
    if isinstance(carried, _Interruption):
        raise carried.error
    return carried


async def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine of a task gives, which runs as an asyncio task of its own: its context variables stay its own.

    Raises:
        concurrent.futures.CancelledError: When it was cancelled, but the caller was not.
    """
    import asyncio  # noqa: PLC0415 - as above

    task, caller = asyncio.create_task(_carried(coroutine)), asyncio.current_task()
    try:
        return _value_in(await task)
    except asyncio.CancelledError:
        if task.cancelled() and caller is not None and not caller.cancelling():
            raise CancelledError from None
        raise


async def on_thread(call: Callable[[], Any], name: str) -> Any:
    """What a call gives, made on a thread of its own with the caller's context variables."""
    import asyncio  # noqa: PLC0415 - as above

    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(setting: Callable[[Any], None], value: object) -> None:
        if not future.done():  # nobody waits any more where it was cancelled
            setting(value)

    def run() -> None:
        setting: Callable[[Any], None] = future.set_result
        try:
            value = context.run(call)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            setting, value = future.set_exception, error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, setting, value)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


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
