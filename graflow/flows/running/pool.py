"""Flows in the background of this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from graflow.exceptions import GraflowError
from graflow.flows.home import Home
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_WAITING: Final = 1000


class Pool:
    """Runs flows in the background, so many at once; the others wait in order.

    Args:
        home: Where.
        size: How many.
    """

    def __init__(self, home: Home, size: int) -> None:
        self._home = home
        self._size = size
        self._lock = threading.Lock()
        self._jobs: deque[tuple[str, Callable[[], object]]] = deque()
        self._ids: set[str] = set()
        self._threads = 0

    def submit(self, flow_id: str, job: Callable[[], object]) -> None:
        """Run a job for a flow, unless there is one already."""
        with self._lock:
            if flow_id in self._ids:
                return
            self._ids.add(flow_id)
            self._jobs.append((flow_id, job))
            if self._threads >= self._size:
                return
            self._threads += 1
        self._home.runtime.start(self._work, "graflow-flows")

    @property
    def is_full(self) -> bool:
        """Whether so many jobs wait that others are better left to other processes."""
        return len(self._jobs) >= _WAITING

    def close(self) -> None:
        """Begin no further job, and have the flows that run here go on elsewhere."""
        with self._lock:
            self._jobs.clear()
            running = set(self._ids)
        self._home.hand_over_some(running)
        with self._lock:
            self._ids.intersection_update(running)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs or self._home.is_closing:
                    self._threads -= 1
                    return
                flow_id, job = self._jobs.popleft()
            try:
                job()
            except (GraflowError, OSError) as error:
                _log.error("Flow %s could not be run: %s: %s", flow_id, type(error).__name__, error)
            except BaseException:  # noqa: BLE001 - a thread of ours: what ends it must not take the others along
                _log.exception("Flow %s: its thread was ended", flow_id)
            finally:
                with self._lock:
                    self._ids.discard(flow_id)
