"""The pool of a worker that runs in threads of a process with other Celery applications."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency import thread


class ThreadPool(thread.TaskPool):  # type: ignore[misc]
    """Celery's thread pool, each thread of which looks tasks up in the application of its own worker."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        app, _hostname = options["initargs"]
        self.executor = ThreadPoolExecutor(max_workers=self.limit, initializer=app.set_current)
