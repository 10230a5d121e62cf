"""Processes that members fork inside a pool child."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

_held = threading.local()
_POOL: Final = "billiard"  # its handler is set when what is called at the start of a pool child has been called


def end_forked_processes_as_others() -> None:
    """Let what a member forks end at SIGTERM at once, and not as the pool child that it is a copy of.

    Billiard's handler raises `SystemExit`, and Python swallows what is raised while a fork is being completed: a
    process that is ended so early, as `multiprocessing.Pool` does when its work is done, would live on, and the member
    wait for it. So the signal waits until the process has the usual handler.
    """

    def hold() -> None:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)

    def let_go_in_child() -> None:
        module = getattr(signal.getsignal(signal.SIGTERM), "__module__", None) or ""
        if module.partition(".")[0] == _POOL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=let_go_in_child)
