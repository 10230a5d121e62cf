"""The end of workers that were started from code: none outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Final

from graflow_celery.celeryconfig import PARENT_VARIABLE

STOP_SECONDS: Final = 10.0  # that running members have to finish
_orphaned: Final = threading.Event()


def stop_with_parent() -> None:
    """Shut this worker down when the process that is named in its environment is gone."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent and os.getppid() != int(parent) and not _orphaned.is_set():
        _orphaned.set()
        threading.Thread(target=_end, name="graflow-end", daemon=True).start()
        os.kill(os.getpid(), signal.SIGTERM)


def _end() -> None:
    """Kill this worker and its children, which may wait for a Redis that has ended with the parent."""
    time.sleep(STOP_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was killed.

    `Popen.wait` may have been interrupted between taking its lock and the block that gives it back; it would then wait
    for that lock for ever.
    """
    code = -signal.SIGKILL
    with suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
    if process.returncode is None:
        process.returncode = code
