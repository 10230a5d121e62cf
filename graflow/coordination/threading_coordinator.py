"""Members on threads of this process."""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence

from graflow.coordination.coordinator import TaskCoordinator, checked_timeout
from graflow.core.handlers.group_policy import resolve_group_policy
from graflow.exceptions import GroupTimeoutError, SettingError
from graflow.protocols import GroupContext, GroupRunLike, Unit

_MOST_WAITING = 1024
_LOOK = 0.5  # seconds after which the waiting thread takes a step: a signal that comes as it falls asleep wakes nobody
_Lane = tuple[list[int], int]  # members by index, and how many of them run at once


class ThreadingCoordinator(TaskCoordinator):
    """Runs members on threads of their own per group, so that nested groups never wait for each other's threads.

    Args:
        thread_count: How many members run at once. When not given, as many as there are CPUs, and beside them up to
            1,024 members that are async, which share the event loop of the run and take no thread, and groups of such.
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
        run.judge_by(resolved)
        if not _Crew(run, *self._lanes(run)).finish(self._timeout):
            raise GroupTimeoutError(run.group_id, run.finished_count(), len(run.members), timeout=self._timeout)
        run.close(resolved)

    def _lanes(self, run: GroupRunLike) -> tuple[_Lane, _Lane, _Lane]:
        """The members that are busy, those that wait on a thread, and those that the event loop awaits."""
        busy: list[int] = []
        waiting: list[int] = []
        awaited: list[int] = []
        for index in run.pending():
            if not self._waiting_count or not getattr(run.members[index], "is_async", False):
                busy.append(index)
            else:
                (awaited if run.can_start(index) else waiting).append(index)
        return (
            (busy, min(len(busy), self.thread_count)),
            (waiting, min(len(waiting), self._waiting_count)),
            (awaited, min(len(awaited), self._waiting_count)),
        )


class _Crew:
    """Threads, and coroutines on the event loop of the run, that take the next member until none is left.

    They take no other when one is cancelled or the crew is told to stop.

    Args:
        run: The execution of the group.
        busy: Members by index that need a thread, and how many of them run at once.
        waiting: Members that are async and need a thread all the same, and how many.
        awaited: Members that are coroutines, and how many.
    """

    def __init__(self, run: GroupRunLike, busy: _Lane, waiting: _Lane, awaited: _Lane) -> None:
        self._run = run
        self._taking = threading.Lock()
        self._stopped = False
        self._left = sum(size for _, size in (busy, waiting, awaited))
        self._all_home = threading.Event()
        self._raised: BaseException | None = None
        self._context = contextvars.copy_context()
        if not self._left:
            self._all_home.set()
        self._awaited, self._awaited_count = iter(awaited[0]), awaited[1]
        self._on_threads = (busy, waiting)

    def _start(self) -> None:
        for _ in range(self._awaited_count):
            self._start_next()
            if self._raised is not None:  # such as Ctrl-C
                raise self._raised
        for indices, size in self._on_threads:
            left = iter(indices)
            for number in range(size):
                # Each thread needs a copy of its own: a Context can be entered by one thread at a time.
                context, name = self._context.copy(), f"graflow-{self._run.group_id}-{number}"
                threading.Thread(target=context.run, args=(self._work, left), name=name, daemon=True).start()

    def _start_next(self) -> None:
        """Start the next coroutine in the place of one that has ended."""
        try:
            index = self._next_of(self._awaited)
            if index is None:
                self._come_home()
            else:
                self._context.copy().run(self._run.start, index, self._ended)
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self._come_home(error)

    def _ended(self, error: BaseException | None) -> None:
        if error is None:
            self._start_next()
        else:
            self._come_home(error)

    def _next_of(self, indices: Iterator[int]) -> int | None:
        with self._taking:
            return None if self._stopped or self._run.canceled else next(indices, None)

    def _come_home(self, error: BaseException | None = None) -> None:
        if error is not None:
            self._raised, self._stopped = error, True
        with self._taking:
            self._left -= 1
            if not self._left or self._run.has_enough:
                self._all_home.set()

    def _work(self, indices: Iterator[int]) -> None:
        error: BaseException | None = None
        try:
            while (index := self._next_of(indices)) is not None:
                contextvars.copy_context().run(self._run.run, index)
        except BaseException as raised:  # noqa: BLE001 - raised again in the waiting thread
            error = raised
        finally:
            self._come_home(error)

    def finish(self, timeout: float | None) -> bool:
        """Have the members run and wait for all of them; False when the time is over first."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        try:
            self._start()
            while not (are_home := self._all_home.wait(max(0.0, min(_LOOK, end - time.monotonic())))):
                if time.monotonic() >= end:
                    break
        finally:
            self._stopped = True  # whoever is still out takes no other: the time is over, or this was interrupted
        if are_home and self._raised is not None:
            raise self._raised
        return are_home
