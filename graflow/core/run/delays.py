"""Failed tasks that wait to be tried again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from graflow.queue.base import TaskSpec


class Delayed(NamedTuple):
    """A failed task that waits.

    Attributes:
        spec: Its entry.
        delay: Seconds, as its policy says.
        due: When the wait is over, on the monotonic clock.
        since_step: How many tasks had completed when it failed.
    """

    spec: TaskSpec
    delay: float
    due: float
    since_step: int


class Delays:
    """Those of one run.

    Attributes:
        entries: In the order in which they failed. To be read by others only.
        ids: Their tasks.
    """

    entries: Sequence[Delayed] = ()
    ids: frozenset[str] = frozenset()

    def add(self, spec: TaskSpec, delay: float, step: int) -> None:
        """Keep a task that failed at this step until it is due, `delay` seconds from now."""
        self._set([*self.entries, Delayed(spec, delay, time.monotonic() + delay, step)])

    def first(self) -> tuple[Delayed, float]:
        """The one that is due before all others, and the seconds until then; of delays that are not empty."""
        first = min(self.entries, key=lambda entry: entry.due)
        return first, first.due - time.monotonic()

    def take(self, task_id: str) -> TaskSpec | None:
        """Take out the entry of a task; None when there is none."""
        found = next((entry for entry in self.entries if entry.spec.task_id == task_id), None)
        if found is None:
            return None
        self.remove(found)
        return found.spec

    def remove(self, entry: Delayed) -> None:
        self._set([other for other in self.entries if other is not entry])

    def clear(self) -> None:
        self._set(())

    def _set(self, entries: Sequence[Delayed]) -> None:
        self.entries = entries
        self.ids = frozenset(entry.spec.task_id for entry in entries)
