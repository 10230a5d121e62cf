"""What waits in a run: entries of the queue, tasks that are to be tried again, passes of a loop."""

from __future__ import annotations

import logging

from graflow.core.nodes.executable import Executable
from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.state import Delayed, RunState
from graflow.exceptions import UnknownNodeError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.queue.memory import start_task

_log = logging.getLogger(__name__)


class RunQueue(RunState):
    """The state of a run, and its entries."""

    def add_to_queue(self, executable: Executable) -> TaskSpec:
        """Queue a task; twice means two entries."""
        spec = TaskSpec(executable, self)
        self.task_queue.enqueue(spec)
        try:
            self.tracer.on_task_queued(executable, self)
        except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
            _log.exception("Tracing hook on_task_queued failed")
        return spec

    def get_next_task(self) -> str | None:
        """The id of the next task, which leaves the queue."""
        if self._awaits_start and self.graph.has_node(str(self.start_node)):
            self.queue_start()
        return self.task_queue.get_next_task()

    def queue_start(self) -> None:
        """Queue the start node, unless something has run or waits already.

        Raises:
            ValueError: When it is not in the graph.
        """
        is_due = self.is_untouched() or (self._awaits_start and not self._has_work())
        if self.start_node is not None and is_due:
            self.add_to_queue(start_task(self.graph, self.start_node))
        self._awaits_start = False

    def queue_node(self, task_id: str) -> None:
        """Queue a node of the graph.

        Raises:
            UnknownNodeError: When there are edges to it, but no task.
        """
        try:
            task = self.graph.get_node(task_id)
        except KeyError:
            raise UnknownNodeError(
                f"'{task_id}' has edges but no task in the graph; add it with graph.add_node()"
            ) from None
        self.add_to_queue(task)

    def pending_specs(self) -> list[TaskSpec]:
        """Entries that have yet to run: those that wait to be tried again, then the queue."""
        waiting = self.task_queue.get_pending_task_specs()
        return [entry.spec for entry in self.delayed] + waiting if self.delayed else waiting

    def restore_pending(self, spec: TaskSpec) -> None:
        """Queue an entry of a saved run."""
        self.task_queue.enqueue(spec)
        self._stand_in(spec)

    def requeue(self, spec: TaskSpec) -> None:
        """Queue an entry that did not complete before all others."""
        spec.status = TaskStatus.READY
        self.task_queue.enqueue_first(spec)
        self._stand_in(spec)

    def retry_later(self, entry: Delayed) -> None:
        """Keep a failed task until it is due."""
        self._stand_in(entry.spec)
        self._set_delayed([*self.delayed, entry])

    def take_delayed(self, entry: Delayed) -> TaskSpec:
        """Run a task that was put off."""
        self._set_delayed([other for other in self.delayed if other is not entry])
        return entry.spec

    def _set_delayed(self, entries: list[Delayed]) -> None:
        self.delayed = entries
        self._delayed_ids = frozenset(entry.spec.task_id for entry in entries)
        self.looks_first = bool(entries or self.held)

    def reset_queue(self) -> None:
        """Forget all entries."""
        self.task_queue.cleanup()
        self._set_delayed([])
        self._standing_in.clear()

    def _stand_in(self, spec: TaskSpec) -> None:
        """A pass that waits makes its base task an active one."""
        if isinstance(spec.executable, IterationTask):
            base_id = spec.executable.base_id
            self._standing_in[base_id] = self._standing_in.get(base_id, 0) + 1

    def stood_in(self, base_id: str) -> None:
        """A pass of `base_id` waits no longer."""
        left = self._standing_in.get(base_id, 0) - 1
        if left > 0:
            self._standing_in[base_id] = left
        else:
            self._standing_in.pop(base_id, None)

    def is_active(self, task_id: str) -> bool:
        """Whether the task, or a pass of it, waits to run or to be tried again."""
        return task_id in self.task_queue._waiting or task_id in self._standing_in or task_id in self._delayed_ids
