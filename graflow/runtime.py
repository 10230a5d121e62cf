"""What code that waits asks of the process around it: time, names, locks and threads.

Submitters, workers and sweepers take all of these from the `Runtime` of their deployment and nowhere else, so that they
run unchanged on a clock that is not real.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol, TypeVar

from graflow.exceptions import GraflowRuntimeError
from graflow.processes.forks import between_forks
from graflow.processes.per_process import PerProcess
from graflow.redis.clients import load_redis
from graflow.redis.refusals import in_a_word, try_again
from graflow.spells import is_news
from graflow.text.shown import get_logger

_log = get_logger(__name__)
_T = TypeVar("_T")

SLICE: Final = 0.2  # seconds after which running work is looked after

_LONGEST_PAUSE: Final = 2.0

# One byte that a worker's main process shares with the children that it forks later.
_stopping: Final = mmap.mmap(-1, 1)


def set_stopping(value: bool) -> None:
    """Note that this worker shuts down, so that none of its processes starts another member."""
    _stopping[0] = int(value)


class Event(Protocol):
    """The part of `threading.Event` that is used."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Runtime:
    """One process, as code that waits sees it."""

    def __init__(self) -> None:
        self.pacer = Pacer(self)
        self.interrupts = False
        """Whether members run in threads of their own here, and their pool does not interrupt them itself."""

    @property
    def name(self) -> str:
        """Host and process id."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def token(self) -> str:
        """A name that no other call of any process gets."""
        return uuid.uuid4().hex[:12]

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, to be shown only: deadlines are on the clock of Redis."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def lock(self) -> AbstractContextManager[Any]:
        return threading.Lock()

    def event(self) -> Event:
        return threading.Event()

    def start(self, target: Callable[[], object], name: str) -> None:
        """Run a function beside everything else, until the process ends."""
        threading.Thread(target=target, name=name, daemon=True).start()

    def thread(self) -> int:
        """The thread that asks, for `interrupt`."""
        return threading.get_ident()

    def interrupt(self, thread: int, error: type[BaseException]) -> None:
        """Raise an error in another thread at its next step of Python; a call into C is left to return first."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))

    def cancel_interrupt(self, thread: int) -> None:
        """Take an interruption back that has not reached the thread."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    def is_stopping(self) -> bool:
        """Whether this worker shuts down."""
        return _stopping[0] == 1


def persistently(
    runtime: Runtime,
    call: Callable[[], _T],
    *,
    patience: float | None = None,
    when_stopping: float | None = None,
    over: tuple[type[Exception], ...] | None = None,
    what: str = "The group record",
) -> _T:
    """Repeat a call while its server cannot be reached, or refuses for now.

    Args:
        runtime: Whose time passes meanwhile.
        call: An idempotent call.
        patience: Seconds after which the error is raised; None for no end. However long this process stood still in one
            try, it takes half of them at most.
        when_stopping: The same for a worker that shuts down.
        over: The errors over which it is repeated; those of a Redis that may be well again in a moment when None.
        what: What is called, for the log.
    """
    over = try_again() if over is None else over
    pause, waited, since = 0.05, 0.0, runtime.monotonic()
    while True:
        try:
            return call()
        except over as error:
            limit = when_stopping if when_stopping is not None and runtime.is_stopping() else patience
            now = runtime.monotonic()
            waited += now - since if limit is None else min(now - since, limit / 2)
            since = now
            if limit is not None and waited + pause > limit:
                raise
            if is_news((what, in_a_word(error))):
                _log.warning("%s does not answer (%s); trying again", what, in_a_word(error))
            runtime.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


class Paced(Protocol):
    """Work that has to be looked after while it runs."""

    @property
    def name(self) -> str: ...

    def tick(self, now: float) -> None: ...


class Pacer:
    """Looks after the running work of one process, on a thread that begins with the first of it.

    Attributes:
        when_idle: What is called, one after the other, when there has been no work after some, each this many seconds
            after the one before it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.when_idle: Sequence[tuple[float, Callable[[], object]]] = ()
        self._runtime = runtime
        self._paced: dict[Paced, None] = {}
        self._lock = runtime.lock()
        self._wanted = runtime.event()
        self._has_begun = False

    @contextmanager
    def pacing(self, work: Paced) -> Iterator[None]:
        """Call the work's `tick` every slice of time."""
        with self._lock:
            self._paced[work] = None
            has_begun, self._has_begun = self._has_begun, True
        if not has_begun:
            self._runtime.start(self._pace, "graflow-pacer")
        self._wanted.set()
        try:
            yield
        finally:
            with self._lock:
                del self._paced[work]

    def _pace(self) -> None:
        while True:
            for seconds, call in self.when_idle:
                if self._wanted.wait(seconds):
                    break
                self._attempt("Resting", call)
            self._wanted.wait()
            self._runtime.sleep(SLICE)
            with self._lock:
                paced = list(self._paced)
                if not paced:
                    self._wanted.clear()
            for work in paced:
                self._attempt(work.name, lambda work=work: work.tick(self._runtime.monotonic()))  # type: ignore[misc]

    @staticmethod
    def _attempt(name: str, call: Callable[[], object]) -> None:
        """Whatever one has, the others are looked after, and what comes later."""
        try:
            with between_forks():
                call()
        except Exception as error:  # noqa: BLE001 - as above
            if is_news((name, type(error))):
                is_known = isinstance(error, GraflowRuntimeError | OSError | load_redis().RedisError)
                _log.warning("%s: %s: %s", name, type(error).__name__, error, exc_info=not is_known)


_runtimes: Final[PerProcess[None, Runtime]] = PerProcess()


def this_runtime() -> Runtime:
    """The runtime of this process; threads do not survive a fork, so a child has its own."""
    return _runtimes.get(None, Runtime)
