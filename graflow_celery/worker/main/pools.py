"""Pools of workers: one in threads of a process with other Celery applications, and what a pool cannot do."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import process
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined]
from typing import Any

from celery.concurrency import prefork, solo, thread

from graflow.core.envelopes.references import executables_of
from graflow.core.task_registry import TaskResolverRegistry
from graflow.text.shown import get_logger

_log = get_logger(__name__)


class ThreadPool(thread.TaskPool):
    """Celery's thread pool, each thread of which looks tasks up in the application of its own worker."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        app, _hostname = options["initargs"]
        self.executor = ThreadPoolExecutor(max_workers=self.limit, initializer=app.set_current)


def runs_threads(pool: object) -> bool:
    """Whether a pool runs each member in a thread of this process, and leaves soft time limits to us."""
    return isinstance(pool, thread.TaskPool | solo.TaskPool)


class _PoolChild(process.BaseProcess):
    """A pool child as `multiprocessing` has main processes.

    Args:
        name: What logs show.
    """

    def __init__(self, name: str) -> None:
        # As the standard library makes the object of a main process, by a class that it does not keep.
        self._identity = ()
        self._name = name
        self._parent_pid = self._popen = None
        self._closed = False
        self._config = {"authkey": AuthenticationString(os.urandom(32)), "semprefix": "/mp"}


def allow_processes() -> None:
    """Let members of this pool child use `multiprocessing`, for which billiard's child is a daemon without children."""
    module: Any = process
    module._current_process = _PoolChild(module.current_process().name)


def warn_of_soft_limits(pool: object, registry: TaskResolverRegistry) -> None:
    """Log once when tasks of this worker have soft time limits that nobody keeps in its pool."""
    if isinstance(pool, prefork.TaskPool) or runs_threads(pool):
        return
    modules = {module for resolver_id in registry.ids() for module in registry.get(resolver_id).modules}
    limited = sorted(
        f"{module}:{path}"
        for module in modules & sys.modules.keys()
        for path, task in executables_of(sys.modules[module])
        if "soft_time_limit" in (getattr(task, "options", None) or {})
    )
    if limited:
        _log.warning(
            "Pools of green threads ignore soft_time_limit; this worker runs %s without it (time_limit counts)",
            ", ".join(limited),
        )
