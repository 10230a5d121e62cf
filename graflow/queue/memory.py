"""The queue of one run, in memory, first in first out."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from graflow.exceptions import ConfigError
from graflow.protocols import HasGraph
from graflow.queue.base import TaskQueue, TaskSpec, TaskStatus
from graflow.text.shown import listed


class InMemoryTaskQueue(TaskQueue):
    """A FIFO of entries; the start entry holds the graph's own task.

    Raises:
        ValueError: When the start node is not in the graph.
    """

    _waiting: dict[str, int] | None = None  # entries by task, counted once somebody asks whether one waits

    def __init__(self, execution_context: HasGraph, start_node: str | None = None) -> None:
        self.execution_context = execution_context
        self._entries: deque[TaskSpec] = deque()
        if start_node is not None:
            self.enqueue(TaskSpec(start_task(execution_context.graph, start_node), execution_context))

    def enqueue(self, task_spec: TaskSpec) -> bool:
        self._entries.append(task_spec)
        self._note(task_spec)
        return True

    def enqueue_first(self, spec: TaskSpec) -> None:
        """Put an entry before all others."""
        self._entries.appendleft(spec)
        self._note(spec)

    def _note(self, spec: TaskSpec) -> None:
        waiting = self._waiting
        if waiting is not None:
            task_id = spec.task_id
            waiting[task_id] = waiting.get(task_id, 0) + 1
        if self.enable_metrics:
            self.count("enqueued")

    def dequeue(self) -> TaskSpec | None:
        if not self._entries:
            return None
        spec = self._entries.popleft()
        spec.status = TaskStatus.RUNNING
        if self._waiting is not None:
            _forget(self._waiting, spec.task_id)
        if self.enable_metrics:
            self.count("dequeued")
        return spec

    def discard(self, spec: TaskSpec) -> bool:
        """Take one entry out again, wherever it stands; False when it is gone."""
        for position, held in enumerate(self._entries):
            if held is spec:
                del self._entries[position]
                if self._waiting is not None:
                    _forget(self._waiting, spec.task_id)
                return True
        return False

    def first(self) -> TaskSpec | None:
        """The next entry, which stays where it is."""
        return self._entries[0] if self._entries else None

    def holds(self, task_id: str) -> bool:
        """Whether an entry of the task waits."""
        if self._waiting is None:
            self._waiting = dict(Counter(self.to_list()))
        return task_id in self._waiting

    def is_empty(self) -> bool:
        return not self._entries

    def cleanup(self) -> None:
        self._entries.clear()
        self._waiting = None

    def size(self) -> int:
        return len(self._entries)

    def peek_next_node(self) -> str | None:
        return self._entries[0].task_id if self._entries else None

    def to_list(self) -> list[str]:
        return [spec.task_id for spec in self._entries]

    def get_pending_task_specs(self) -> list[TaskSpec]:
        return list(self._entries)

    def get_task_spec(self, task_id: str) -> TaskSpec | None:
        return next((spec for spec in self._entries if spec.task_id == task_id), None)


def _forget(waiting: dict[str, int], task_id: str) -> None:
    left = waiting.get(task_id, 0) - 1
    if left > 0:
        waiting[task_id] = left
    else:
        waiting.pop(task_id, None)


def start_task(graph: Any, start_node: object) -> Any:
    """The graph's own task under the start id.

    Raises:
        ValueError: Listing the available nodes, when there is no such node; saying what to give, when it is no id.
    """
    if not isinstance(start_node, str):
        known = getattr(start_node, "task_id", None)
        remedy = f"give {known!r}" if isinstance(known, str) else "a limit of steps is given by name, as max_steps="
        raise ConfigError(f"start_node takes the id of a task, not {start_node!r}; {remedy}")
    if not graph.has_node(start_node):
        raise ValueError(f"Start node '{start_node}' not found in graph. Available nodes: {listed(graph.nodes)}")
    return graph.get_node(start_node)
