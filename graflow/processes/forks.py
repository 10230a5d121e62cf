"""Forks of this process: they wait until no thread is amid what a child would inherit half done.

A child has the locks of its parent as they were, and none of the threads that would let them go: those of modules that
are being imported and of values that are being made are nowhere in sight of whoever takes them.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

_PATIENCE: Final = 5.0  # seconds that forks and threads wait for each other, longer than calls of a server take


class _Gate:
    """Any number of threads may be inside, or one may fork."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: dict[int, int] = {}  # how deep, by thread
        self._forks = 0

    @contextmanager
    def between_forks(self) -> Iterator[None]:
        """A block, for a thread beside the main one, that no fork of this process by another thread falls into.

        A fork waits for it, but not for ever: what waits itself for long, or runs a user's code, does not belong here.
        """
        changed, thread = self._changed, threading.get_ident()
        with changed:
            if thread not in self._inside:
                changed.wait_for(lambda: not self._forks, _PATIENCE)
            self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            if changed is self._changed:  # a child that was forked in here begins anew
                with changed:
                    self._leave(thread)

    def _leave(self, thread: int) -> None:
        self._inside[thread] -= 1
        if not self._inside[thread]:
            del self._inside[thread]
            self._changed.notify_all()

    def _close(self) -> None:
        own = {threading.get_ident()}
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside.keys() <= own, _PATIENCE)

    def _open(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_gate: Final = _Gate()

between_forks: Final = _gate.between_forks


class _Process:
    """Which process this is, told without a call of the system."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.mark: Any = object()


process = _Process()


def leave_copy(begun_in: object, error: BaseException | None) -> None:
    """End this process when it is a child that a task has forked, and that has come to the end of the task's code.

    What becomes of the task is for the process that began it to say; that of a script would end here as well.

    Args:
        begun_in: The mark of the process that began the task.
        error: What the child's code has raised.
    """
    if process.mark is begun_in:
        return
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    elif error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)
