"""What a task queue is, and the entries it holds."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from enum import Enum
from functools import cached_property, total_ordering
from typing import Any, Self

from graflow.codec import SerializedTask
from graflow.protocols import upward

_METRICS = ("enqueued", "dequeued", "failures", "retries")


class TaskStatus(Enum):
    """Where an entry stands."""

    READY = "ready"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"


@total_ordering
class TaskSpec:
    """One entry of a queue: an executable in this process, or the envelope of one that travels.

    Args:
        executable: The task; None when `serialized_task` is given.
        execution_context: The context it belongs to; None for specs that travel.
        created_at: Seconds since the epoch; entries are ordered by it.
        serialized_task: The envelope of the task.
        resolver_id: The resolver that makes an envelope of the task, and a task of the envelope; a given envelope
            tells its own unless another than the default is named.
        strategy: The strategy of that envelope; a given one tells its own.
    """

    __slots__ = (
        "_envelope_id",
        "created_at",
        "executable",
        "execution_context",
        "group_id",
        "last_error",
        "max_retries",
        "parent_span_id",
        "resolver_id",
        "retry_count",
        "serialized_task",
        "status",
        "strategy",
        "trace_id",
    )

    def __init__(
        self,
        executable: Any = None,
        execution_context: Any = None,
        status: TaskStatus = TaskStatus.READY,
        created_at: float | None = None,
        retry_count: int = 0,
        max_retries: int = 3,
        last_error: str | None = None,
        group_id: str | None = None,
        trace_id: str | None = None,
        parent_span_id: str | None = None,
        serialized_task: SerializedTask | None = None,
        resolver_id: str = "default",
        strategy: str = "reference",
    ) -> None:
        if executable is None and serialized_task is None:
            raise ValueError("TaskSpec needs an executable or a serialized_task")
        self.executable = executable
        self.execution_context = execution_context
        self.status = status
        self.created_at = time.time() if created_at is None else created_at
        self.retry_count = retry_count
        self.max_retries = max_retries
        self.last_error = last_error
        self.group_id = group_id
        self.trace_id = trace_id
        self.parent_span_id = parent_span_id
        self.serialized_task = serialized_task
        self.resolver_id = resolver_id
        self.strategy = strategy
        if serialized_task is not None:
            self.strategy = serialized_task.strategy
            if resolver_id == "default":
                self.resolver_id = serialized_task.resolver_id
        self._envelope_id: str | None = None

    @property
    def task_id(self) -> str:
        """The id of the task; that of an envelope is what travels in it, else its reference's name."""
        executable = self.executable
        if executable is not None:
            return executable.task_id  # type: ignore[no-any-return]
        if self._envelope_id is not None:
            return self._envelope_id
        payload = self.serialized_task.payload if self.serialized_task is not None else {}
        return str(payload.get("task_id") or payload.get("name"))

    @property
    def task_data(self) -> dict[str, Any]:
        """The envelope as a plain dict, made on demand."""
        envelope = self.serialized_task or self._serialize(None)
        data: dict[str, Any] = envelope.to_dict()
        return data

    def serialized(self, registry: Any = None) -> TaskSpec:
        """A copy that holds only the envelope: no executable and no context.

        Args:
            registry: A `TaskResolverRegistry`; the process-wide one when not given.
        """
        copy = TaskSpec(
            status=self.status,
            created_at=self.created_at,
            retry_count=self.retry_count,
            max_retries=self.max_retries,
            last_error=self.last_error,
            group_id=self.group_id,
            trace_id=self.trace_id,
            parent_span_id=self.parent_span_id,
            serialized_task=self.serialized_task or self._serialize(registry),
            resolver_id=self.resolver_id,
            strategy=self.strategy,
        )
        copy._envelope_id = self.task_id
        return copy

    def _serialize(self, registry: Any) -> SerializedTask:
        resolver = (registry or upward.registry()).get(self.resolver_id)
        envelope: SerializedTask = resolver.serialize(self.executable, self.strategy)
        return envelope

    def get_task(self, registry: Any = None) -> Any:
        """The task; that of an envelope is resolved.

        Args:
            registry: A `TaskResolverRegistry`; the process-wide one when not given.
        """
        if self.executable is None:
            return (registry or upward.registry()).get(self.resolver_id).resolve(self.serialized_task)
        return self.executable

    def can_retry(self) -> bool:
        """Whether fewer than `max_retries` retries were counted."""
        return self.retry_count < self.max_retries

    def increment_retry(self, error_message: str | None = None) -> None:
        """Count one more retry, keep what went wrong, and be READY again."""
        self.retry_count += 1
        self.status = TaskStatus.READY
        self.last_error = error_message

    def __lt__(self, other: object) -> bool:
        return self.created_at < other.created_at if isinstance(other, TaskSpec) else NotImplemented

    def __repr__(self) -> str:
        return f"TaskSpec({self.task_id!r}, {self.status.value})"


class TaskQueue(ABC):
    """Entries in, entries out; one subclass per place where they wait."""

    enable_retry = False
    enable_metrics = False

    def __init__(self, execution_context: Any = None) -> None:
        self.execution_context = execution_context

    @cached_property
    def metrics(self) -> dict[str, int]:
        return dict.fromkeys(_METRICS, 0)

    @abstractmethod
    def enqueue(self, task_spec: TaskSpec) -> bool:
        """Add an entry behind all others; whether it was taken."""

    @abstractmethod
    def dequeue(self) -> TaskSpec | None:
        """The next entry, which is RUNNING from now on; None when there is none."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no entry waits."""

    @abstractmethod
    def cleanup(self) -> None:
        """Remove every entry that waits, and let go of what the queue holds open."""

    def get_next_task(self) -> str | None:
        """The id of the next entry, which leaves the queue."""
        spec = self.dequeue()
        return None if spec is None else spec.task_id

    def size(self) -> int:
        """How many entries wait; 1 stands for any number where a queue cannot count."""
        return 0 if self.is_empty() else 1

    def get_task_spec(self, task_id: str) -> TaskSpec | None:  # noqa: ARG002 - queues that cannot look inside have none
        """The first entry of a task, which stays where it is."""
        return None

    def configure(self, enable_retry: bool = False, enable_metrics: bool = False) -> Self:
        """Whether failed entries are queued again, and whether metrics are counted; both are off at first."""
        self.enable_retry = enable_retry
        self.enable_metrics = enable_metrics
        return self

    def count(self, metric: str) -> None:
        """Add one to a metric, when metrics are on."""
        if self.enable_metrics:
            self.metrics[metric] = self.metrics.get(metric, 0) + 1

    def get_metrics(self) -> dict[str, int]:
        """How many entries were enqueued, dequeued, failed and queued again since the last reset."""
        return dict(self.metrics)

    def reset_metrics(self) -> None:
        self.metrics = dict.fromkeys(_METRICS, 0)

    def handle_task_failure(self, task_spec: TaskSpec, error_message: str) -> bool:
        """Queue the entry again while it may be retried; True when it was queued."""
        self.count("failures")
        if self.enable_retry and task_spec.can_retry():
            task_spec.increment_retry(error_message)
            self.count("retries")
            return self.enqueue(task_spec)
        task_spec.status = TaskStatus.ERROR
        task_spec.last_error = error_message
        return False

    def retry_failed_task(self, task_spec: TaskSpec) -> bool:
        """Queue the entry again as it is, without counting a retry; False when retries are off or used up."""
        if not (self.enable_retry and task_spec.can_retry()):
            return False
        task_spec.status = TaskStatus.READY
        return self.enqueue(task_spec)
