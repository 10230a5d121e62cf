"""A worker that was started from code does not outlive the process that started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

PARENT_VARIABLE: Final = "GRAFLOW_WORKER_PARENT"
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
