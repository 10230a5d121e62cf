"""A process that submits the standard load: `python -m tests.faults.submitter <mode> <folder> <run id> <n> <seconds>`.

Modes: `wait` prints what came of it; `die:<messages>` dies by SIGKILL after so many messages were published.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from kombu.messaging import Producer

import graflow_celery
from graflow.exceptions import GroupConflictError
from tests.faults.harness import load_of


def die_after(messages: int) -> None:
    """End this process by SIGKILL instead of the next message."""
    publish = Producer.publish
    published = 0

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal published
        if published == messages:
            os.kill(os.getpid(), signal.SIGKILL)
        published += 1
        return publish(self, *args, **options)

    Producer.publish = counted


def main(mode: str, folder: str, run_id: str, n: str, seconds: str) -> int:
    if mode.startswith("die:"):
        die_after(int(mode.removeprefix("die:")))
    group, continuation = load_of(Path(folder), int(n), float(seconds))
    try:
        handle = graflow_celery.submit(group, run_id=run_id, then=continuation)
    except GroupConflictError:
        sys.stdout.write("conflict\n")
        return 3
    sys.stdout.write("submitted\n")
    sys.stdout.flush()
    sys.stdout.write(f"{sum(handle.results(timeout=60))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
