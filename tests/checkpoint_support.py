"""What tasks of saved runs note here: a module is pickled by name, so that they find it again after a resume."""

from __future__ import annotations

import sys
import threading

from graflow.core.task import TaskWrapper

RUNS: list[str] = []
FAILING: set[str] = set()
GATES: dict[str, threading.Event] = {}
CRASH_AT = [0]
COUNTING = threading.Lock()
_here = sys.modules[__name__]


class Crash(BaseException):
    """Ends the process, as far as the engine can tell."""


def noting(name, body=None, **options):
    """A task that notes its run and fails while its name is in `FAILING`, else calls `body(ctx)`."""

    def run(ctx):
        _here.RUNS.append(name)
        if name in _here.FAILING:
            raise OSError(f"{name} is down")
        return name if body is None else body(ctx)

    return TaskWrapper(name, run, inject_context=True, **options)
