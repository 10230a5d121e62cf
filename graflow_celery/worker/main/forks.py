"""Processes that members fork."""

from __future__ import annotations

import functools
import os
import signal
import threading
from typing import Final

_held = threading.local()
_OF_WORKERS: Final = frozenset({"billiard", "celery"})  # whose handlers are set late, when a pool child has begun


@functools.cache
def end_forked_processes_as_others() -> None:
    """Let what a member forks end at SIGTERM at once, and not as the worker or pool child that it is a copy of.

    Celery's handler has a worker end when its members have, and the copy go on for ever. Billiard's raises
    `SystemExit`, and Python swallows what is raised while a fork is being completed: a process that is ended so early,
    as `multiprocessing.Pool` does when its work is done, would live on, and the member wait for it. So the signal waits
    until the process has the usual handler.
    """

    def hold() -> None:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)

    def let_go_in_child() -> None:
        module = getattr(signal.getsignal(signal.SIGTERM), "__module__", None) or ""
        if module.partition(".")[0] in _OF_WORKERS:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=let_go_in_child)
