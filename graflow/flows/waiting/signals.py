"""The end of this process: its flows go on elsewhere, without waiting for a lease to be over."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType
from typing import Final

from graflow.flows.home import Home
from graflow.flows.recording.owner import GRACE

_homes: Final[list[Home]] = []
_lock = threading.Lock()


def hand_over_at_end(home: Home) -> None:
    """Hand the flows of a home over when this process ends normally or by SIGTERM.

    A program that handles SIGTERM itself keeps its handler: it ends by closing its runner, or by leaving.
    """
    with _lock:
        if home in _homes:
            return
        _homes.append(home)
        if len(_homes) > 1:
            return
    atexit.register(_hand_over_all)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _hand_over_all() -> None:
    threads = [threading.Thread(target=home.hand_over, args=(GRACE,), daemon=True) for home in list(_homes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * GRACE)


def _terminate(number: int, _: FrameType | None) -> None:
    """Hand over beside the main thread, which may be in a step, then end as if nobody had handled the signal."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once

    def end() -> None:
        _hand_over_all()
        os.kill(os.getpid(), number)

    threading.Thread(target=end, name="graflow-hand-over", daemon=True).start()
