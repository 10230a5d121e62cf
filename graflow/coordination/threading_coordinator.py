"""Members on threads of this process."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Iterator, Sequence

from graflow.coordination.coordinator import TaskCoordinator, checked_timeout
from graflow.core.handlers.group_policy import resolve_group_policy
from graflow.exceptions import GroupTimeoutError, SettingError
from graflow.protocols import GroupContext, GroupRunLike, Unit

_MOST_WAITING = 1024


class ThreadingCoordinator(TaskCoordinator):
    """Runs members on threads of their own per group, so that nested groups never wait for each other's threads.

    Args:
        thread_count: How many members run at once. When not given, as many as there are CPUs, and beside them up to
            1,024 members that are async, which mostly wait.
        timeout: Seconds for the whole group; members still running then are abandoned, since a thread cannot be
            stopped. None for no limit.
    """

    def __init__(self, thread_count: int | None = None, timeout: float | None = None) -> None:
        if thread_count is not None and (type(thread_count) is not int or thread_count < 1):
            raise SettingError(f"thread_count must be a whole number above 0, not {thread_count!r}")
        self.thread_count = thread_count or os.cpu_count() or 1
        self._waiting_count = 0 if thread_count else _MOST_WAITING
        self._timeout = checked_timeout(timeout)

    def execute_group(
        self, group_id: str, tasks: Sequence[Unit], execution_context: GroupContext, policy: object
    ) -> None:
        resolved = resolve_group_policy(policy)
        run = execution_context.open_group(group_id, tasks)
        pending = run.pending()
        waiting = [index for index in pending if self._waiting_count and getattr(run.members[index], "is_async", False)]
        busy = pending if not waiting else [index for index in pending if index not in set(waiting)]
        crew = _Crew(run, [(busy, self.thread_count), (waiting, self._waiting_count)])
        if not crew.finish(self._timeout):
            raise GroupTimeoutError(run.group_id, run.finished_count(), len(run.members), timeout=self._timeout)
        run.close(resolved)


class _Crew:
    """Threads that take the next member until none is left, one is cancelled, or the crew is told to stop.

    Args:
        run: The execution of the group.
        lanes: Members by index, and how many of them run at once.
    """

    def __init__(self, run: GroupRunLike, lanes: Sequence[tuple[list[int], int]]) -> None:
        self._run = run
        self._taking = threading.Lock()
        self._stopped = False
        sizes = [min(most, len(indices)) for indices, most in lanes]
        self._left = sum(sizes)
        self._all_home = threading.Event()
        self._raised: BaseException | None = None
        if not self._left:
            self._all_home.set()
        for (indices, _), size in zip(lanes, sizes, strict=True):
            left = iter(indices)
            for number in range(size):
                # Each thread needs a copy of its own: a Context can be entered by one thread at a time.
                context = contextvars.copy_context()
                threading.Thread(
                    target=context.run, args=(self._work, left), name=f"graflow-{run.group_id}-{number}", daemon=True
                ).start()

    def _work(self, indices: Iterator[int]) -> None:
        try:
            while not (self._stopped or self._run.canceled):
                with self._taking:
                    index = next(indices, None)
                if index is None:
                    return
                contextvars.copy_context().run(self._run.run, index)
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self._raised = error
            self._stopped = True
        finally:
            with self._taking:
                self._left -= 1
                if not self._left:
                    self._all_home.set()

    def finish(self, timeout: float | None) -> bool:
        """Wait for all threads; False when the time is over first."""
        try:
            are_home = self._all_home.wait(timeout)
        finally:
            self._stopped = True  # whoever is still out takes no other: the time is over, or this wait was interrupted
        if are_home and self._raised is not None:
            raise self._raised
        return are_home
