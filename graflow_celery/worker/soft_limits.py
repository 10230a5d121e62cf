"""Soft time limits where Celery has none: an exception that is raised in the thread of the member from another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from graflow.runtime import Runtime

_T = TypeVar("_T")


class SoftLimit:
    """Raises `SoftTimeLimitExceeded` in the thread of a call whose time is over, once, and never after the call.

    Args:
        runtime: Whose threads they are.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = runtime.lock()
        self._thread: int | None = None  # that of the call that may be interrupted
        self._end = 0.0

    def within(self, seconds: float | None, call: Callable[[], _T]) -> _T:
        """Call under a limit; without one, and where the pool has limits of its own, just call.

        Raises:
            SoftTimeLimitExceeded: When the time was over before the call had returned.
        """
        if seconds is None or not self._runtime.interrupts:
            return call()
        returned: list[_T] = []
        try:
            try:
                self._open(seconds)
                returned.append(call())
            finally:
                self._close()
        except SoftTimeLimitExceeded:
            # Raised while closing, it has done no harm: whoever raised it has closed already, and raises no other one.
            if not returned:
                raise
        return returned[0]

    def expire(self, now: float) -> None:
        """Raise the exception in the call's thread when its time is over; for the pacing thread."""
        with self._lock:
            if self._thread is not None and now >= self._end:
                self._runtime.interrupt(self._thread, SoftTimeLimitExceeded)
                self._thread = None

    def _open(self, seconds: float) -> None:
        with self._lock:
            self._thread, self._end = self._runtime.thread(), self._runtime.monotonic() + seconds

    def _close(self) -> None:
        """Let nothing be raised any more, not even what was already on its way."""
        with self._lock:
            self._thread = None
            self._runtime.cancel_interrupt(self._runtime.thread())
