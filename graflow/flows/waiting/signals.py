"""The end of this process: its flows go on elsewhere, without waiting for a lease to be over."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
import weakref
from types import FrameType
from typing import Final

from graflow.flows.home import Home
from graflow.flows.recording.owner import GRACE

_PATIENCE: Final = 5.0  # seconds that a process which is to end waits for a slow store at most


class _End:
    """Hands the flows of this process over when it ends; a forked child has none, and ends by itself."""

    def __init__(self) -> None:
        self._blocked = threading.local()
        self._begin()
        os.register_at_fork(
            before=self._hold_back, after_in_parent=self._let_through, after_in_child=self._begin_in_child
        )

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._homes: weakref.WeakSet[Home] = weakref.WeakSet()
        self._by_signal: threading.Thread | None = None

    def _hold_back(self) -> None:
        """Keep SIGTERM for later: a child forgets those that Python has heard of, and not seen to, when it begins."""
        if signal.getsignal(signal.SIGTERM) == self._terminate:
            self._blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _let_through(self) -> None:
        before = self._blocked.__dict__.pop("before", None)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _begin_in_child(self) -> None:
        self._begin()
        if signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._let_through()

    def look_after(self, home: Home) -> None:
        with self._lock:
            if home not in self._homes:
                self._homes.add(home)
                atexit.unregister(self._leave)  # what is registered last is called first: before the store is closed
                atexit.register(self._leave)
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and self._by_signal is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def wait(self) -> None:
        if self._by_signal is not None:
            self._by_signal.join()

    def _leave(self) -> None:
        self.wait()  # else the program would end as if it had done everything
        self._hand_over()

    def _hand_over(self) -> None:
        """In this thread: none can be started any more while Python ends."""
        homes, end = list(self._homes), time.monotonic() + GRACE
        for home in homes:
            home.begin_to_leave()
        for home in homes:
            home.hand_over(max(0.0, end - time.monotonic()))

    def _terminate(self, number: int, _: FrameType | None) -> None:
        """Hand over beside the main thread, which may be in a step, then end as if nobody had handled the signal."""
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        leaving = threading.Thread(target=self._hand_over, name="graflow-hand-over", daemon=True)

        def end() -> None:
            leaving.join(_PATIENCE)
            os.kill(os.getpid(), number)

        leaving.start()
        self._by_signal = threading.Thread(target=end, name="graflow-end", daemon=True)
        self._by_signal.start()


_end: Final = _End()


def hand_over_at_end(home: Home) -> None:
    """Hand the flows of a home over when this process ends normally or by SIGTERM.

    A program that handles SIGTERM itself keeps its handler: it ends by closing its runner, or by leaving. Python lets
    nobody but the main thread set a handler; elsewhere this does the rest.
    """
    _end.look_after(home)


def wait_for_end() -> None:
    """Go no further when SIGTERM is about to end this process: what it did with half a flow would be wrong."""
    _end.wait()
