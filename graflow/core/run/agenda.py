"""What a run has yet to do: entries of its queue, failed tasks that wait, passes of loops, joins; and what is next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol

from graflow.core.graph import TaskGraph
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.delays import Delays
from graflow.core.run.frame import Frame, Interrupted
from graflow.core.run.joins import Joins
from graflow.exceptions import GraflowRuntimeError, UnknownNodeError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.queue.memory import InMemoryTaskQueue, start_task
from graflow.text.shown import get_logger

_log = get_logger(__name__)
_COUNTS = ("created_at", "retry_count", "max_retries", "last_error")  # of an entry, which are kept with its task
_counts_of = attrgetter(*_COUNTS)


class Owner(Protocol):
    """The run whose agenda it is."""

    @property
    def graph(self) -> TaskGraph: ...

    @property
    def tracer(self) -> Any: ...

    @property
    def steps(self) -> int: ...


class Scope(Protocol):
    """Which nodes belong to a branch."""

    def holds(self, task_id: str, graph: TaskGraph) -> bool: ...


class _Ended:
    """In the place of a run that is over, for a thread that a task left behind."""

    @property
    def graph(self) -> TaskGraph:
        raise _too_late()

    @property
    def tracer(self) -> Any:
        raise _too_late()

    @property
    def steps(self) -> int:
        raise _too_late()


def _too_late() -> GraflowRuntimeError:
    return GraflowRuntimeError("What a task asks of its run comes too late: the branch of its member has ended")


_ENDED = _Ended()


class Agenda:
    """The entries of one run that have yet to be run, or are running.

    Args:
        owner: The run.

    Attributes:
        queue: Entries that are ready, first in first out.
        running: The entry that is being run.
        is_still: Whether the running step holds the step lock until its end.
        step_lock: Held from the end of one task to the start of the next one, so that whoever saves this run from
            another thread finds it inside a task, never between two.
        delays: Failed tasks that wait to be tried again.
        joins: Nodes that wait for their predecessors.
        scope: The nodes that belong to the run; None for all of the graph.
        start_node: Where the run begins.
        awaits_start: Whether the start node is yet to be added to the graph.
        interrupted: Executions that were cut short when the run was saved, by task.
        leaves_retry: Whether whoever runs this branch takes over a failed task's wait of so many seconds.
        retry_in: The seconds of the wait that was left to it.
        passes: How many passes of loops wait, by the task that each is a pass of.
    """

    running: TaskSpec | None = None
    is_still = False
    scope: Scope | None = None
    start_node: str | None = None
    awaits_start = False
    leaves_retry: Callable[[float], bool] | None = None
    retry_in: float | None = None

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.queue = InMemoryTaskQueue(owner)
        self.step_lock = threading.RLock()
        self.delays = Delays()
        self.joins = Joins()
        self.interrupted: dict[str, Interrupted] = {}
        self.passes: dict[str, int] = {}

    def end(self) -> None:
        """Let go of the run, which has ended, so that it is freed at once and needs no garbage collector."""
        self._owner = self.queue.execution_context = _ENDED
        self.leaves_retry = None

    def stand_still(self, task_id: str) -> None:
        """Let nobody save the run until the step of this task has ended, where an engine runs it."""
        if self.running is not None and self.running.task_id == task_id and not self.is_still:
            self.step_lock.acquire()
            self.is_still = True

    def move_again(self) -> None:
        """Give back what `stand_still` took; for the thread that holds the step lock."""
        if self.is_still:
            self.is_still = False
            self.step_lock.release()

    # -- entries in ------------------------------------------------------------------------------------------------

    def add(self, task: Executable) -> TaskSpec:
        """Queue a task; twice means two entries."""
        owner, tracer = self._owner, self._owner.tracer
        spec = TaskSpec(task, owner)
        self.queue.enqueue(spec)
        if type(task) is IterationTask:
            self._note_pass(spec)
        try:
            tracer.on_task_queued(task, owner)
        except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
            _log.exception("Tracing hook on_task_queued failed")
        return spec

    def queue_node(self, task_id: str) -> None:
        """Queue a node of the graph.

        Raises:
            UnknownNodeError: When there are edges to it, but no task.
        """
        try:
            task = self._owner.graph.get_node(task_id)
        except KeyError:
            raise UnknownNodeError(
                f"'{task_id}' has edges but no task in the graph; add it with graph.add_node()"
            ) from None
        self.add(task)

    def add_for(self, frame: Frame | None, task: Executable) -> TaskSpec:
        """Queue a task that an execution asked for, in the place of what it asked for before it was interrupted."""
        if frame is not None and frame.repeats is not None:
            self._replace_repeated(frame.repeats, task)
        spec = self.add(task)
        if frame is not None:
            frame.note_queued(spec)
        return spec

    def start(self, *, is_fresh: bool) -> None:
        """Queue the start node, unless something waits already; `is_fresh`: nothing has run.

        Raises:
            ValueError: When it is not in the graph.
        """
        if self.start_node is not None and (is_fresh or self.awaits_start) and not self._has_entries():
            self.add(start_task(self._owner.graph, self.start_node))
        self.awaits_start = False

    def requeue(self, spec: TaskSpec) -> None:
        """Put an entry that did not complete before all others."""
        spec.status = TaskStatus.READY
        self.queue.enqueue_first(spec)
        self._note_pass(spec)

    def restore(self, spec: TaskSpec) -> None:
        """Queue an entry of a saved run."""
        self.queue.enqueue(spec)
        self._note_pass(spec)

    def retry_later(self, spec: TaskSpec, delay: float) -> None:
        """Keep a failed task until it is due, `delay` seconds from now."""
        self._note_pass(spec)
        self.delays.add(spec, delay, self._owner.steps)

    # -- entries out -----------------------------------------------------------------------------------------------

    def next(self, pause: Callable[[float], None]) -> TaskSpec | None:
        """The next entry: a retry that is due, what waits in the queue, or a join that waits for others only.

        Args:
            pause: Called with the seconds to wait for a retry when nothing else is ready.
        """
        spec = self._next_with_delays(pause) if self.delays.entries else self.queue.dequeue()
        if spec is None and self.joins.waiting and self.joins.release_oldest(self):
            spec = self.queue.dequeue()
        if self.passes and spec is not None:
            self._forget_pass(spec)
        return spec

    def _next_with_delays(self, pause: Callable[[float], None]) -> TaskSpec:
        first, waits = self.delays.first()
        if waits > 0:
            spec = self.queue.dequeue()
            if spec is not None:
                return spec
            # Nothing else is ready. The policy's own figure is waited for when nothing has run since the failure.
            pause(first.delay if first.since_step == self._owner.steps else waits)
        self.delays.remove(first)
        return first.spec

    def take(self, task_id: str) -> TaskSpec | None:
        """Take out the entry of a task that is known to come next, be it that it waits; None when there is none."""
        queue = self.queue
        spec = queue.dequeue() if queue.peek_next_node() == task_id else queue.get_task_spec(task_id)
        if spec is not None:
            queue.discard(spec)
        else:
            spec = self.delays.take(task_id)
            if spec is None:
                return None
        if self.passes:
            self._forget_pass(spec)
        return spec

    def withdraw(self, spec: TaskSpec) -> None:
        """Take an entry out again."""
        if self.queue.discard(spec):
            self._forget_pass(spec)

    def clear(self) -> None:
        """Forget all entries."""
        self.queue.cleanup()
        self.delays.clear()
        self.passes.clear()

    def _replace_repeated(self, interrupted: Interrupted, task: Executable) -> None:
        """Drop the entry of an interrupted execution that its repetition asks for again."""
        for spec in self.queue.get_pending_task_specs():
            if spec.task_id in interrupted.queued and _is_same_request(spec.executable, task):
                interrupted.queued.remove(spec.task_id)
                self.withdraw(spec)
                return

    # -- passes ----------------------------------------------------------------------------------------------------

    def _note_pass(self, spec: TaskSpec) -> None:
        """A pass that waits makes its base task an active one."""
        if isinstance(spec.executable, IterationTask):
            base_id = spec.executable.base_id
            self.passes[base_id] = self.passes.get(base_id, 0) + 1

    def _forget_pass(self, spec: TaskSpec) -> None:
        if isinstance(spec.executable, IterationTask):
            base_id = spec.executable.base_id
            left = self.passes.get(base_id, 0) - 1
            if left > 0:
                self.passes[base_id] = left
            else:
                self.passes.pop(base_id, None)

    # -- looking ---------------------------------------------------------------------------------------------------

    def in_scope(self, task_id: str) -> bool:
        """Whether the node belongs to this run; a branch has only the nodes of its own."""
        return self.scope is None or self.scope.holds(task_id, self._owner.graph)

    def is_active(self, task_id: str) -> bool:
        """Whether the task, or a pass of it, waits to run or to be tried again."""
        return self.queue.holds(task_id) or task_id in self.passes or task_id in self.delays.ids

    def has_work(self) -> bool:
        """Whether anything waits, be it for the start node to be added."""
        return self.awaits_start or self._has_entries()

    def _has_entries(self) -> bool:
        return bool(self.joins.waiting or self.delays.entries) or not self.queue.is_empty()

    def pending(self) -> list[TaskSpec]:
        """Entries that have yet to run: those that wait to be tried again, then the queue."""
        return [*(entry.spec for entry in self.delays.entries), *self.queue.get_pending_task_specs()]

    # -- keeping ---------------------------------------------------------------------------------------------------

    def saved(self, frame: Frame | None) -> dict[str, Any]:
        """What has to be kept to go on later; `frame` is the execution that will be repeated then."""
        interrupted = self.interrupted.copy()
        if frame is not None:
            queued = [spec.task_id for spec in list(frame.queued or ())]
            interrupted[frame.task_id] = Interrupted(queued, [task.task_id for task in frame.born or ()])
        return {
            "start_node": self.start_node,
            "awaits_start": self.awaits_start,
            "scope": self.scope,
            "joins": self.joins.copy(),
            "interrupted": interrupted,
            "pending": [
                (spec.executable, *_counts_of(spec))
                for spec in ([] if self.running is None else [self.running]) + self.pending()
            ],
        }

    @classmethod
    def from_saved(cls, owner: Owner, saved: dict[str, Any]) -> Agenda:
        """The agenda that `saved` described."""
        agenda = cls(owner)
        agenda.start_node, agenda.awaits_start = saved["start_node"], saved["awaits_start"]
        agenda.scope, agenda.joins, agenda.interrupted = saved["scope"], saved["joins"], saved["interrupted"]
        for executable, *counts in saved["pending"]:
            agenda.restore(TaskSpec(executable, owner, **dict(zip(_COUNTS, counts, strict=True))))
        return agenda


def _is_same_request(earlier: Any, repeated: Any) -> bool:
    if isinstance(earlier, IterationTask) and isinstance(repeated, IterationTask):
        return earlier.base_id == repeated.base_id
    return bool(earlier.task_id == repeated.task_id)
