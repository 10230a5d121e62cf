"""The state of one run: `ExecutionContext`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from graflow.channels.base import Channel
from graflow.channels.factory import ChannelFactory
from graflow.channels.memory_channel import MemoryChannel
from graflow.core.cycle import CycleController
from graflow.core.graph import TaskGraph
from graflow.core.nodes.executable import Task, running_frame
from graflow.core.retry import RetryController
from graflow.core.run.saving import RunSaving
from graflow.core.run.task_context import TaskExecutionContext, base_id_of
from graflow.exceptions import ConfigError
from graflow.protocols import upward
from graflow.queue.memory import start_task
from graflow.redis.config import normalize_redis_config
from graflow.trace.base import Tracer
from graflow.trace.composite import combine

__all__ = ["ExecutionContext", "TaskExecutionContext", "create_execution_context", "execute_with_cycles"]

_log = logging.getLogger(__name__)
_ON_MAX_STEPS = ("raise", "warn")


class ExecutionContext(RunSaving):
    """Everything that one run knows: its graph, queue, channel, counts, and what has completed.

    Args:
        graph: The graph that the run walks; the very object, so nodes added later are seen.
        start_node: Id of the first task. Unknown ids are refused, unless the graph is still empty.
        max_steps: Tasks that may complete before the run is stopped.
        default_max_cycles: Executions by iteration for tasks that set no limit of their own.
        default_max_retries: Retries for tasks that set no limit of their own.
        channel_backend: `"memory"` or `"redis"`.
        config: Settings for channels and group backends; a live client in it is turned into parameters.
        tracer: A listener, or several.
        on_max_steps: `"raise"` or `"warn"` when `max_steps` is reached with work left.
        steps: Tasks that have completed already.
        parent_context: The context of the group, for a branch.
        session_id: 32 hex characters by default.
        trace_id: The session id of the root context by default.
        channel: What tasks share; a new one of `channel_backend` by default.

    Raises:
        ValueError: For an unknown start node, listing the available ones.
    """

    def __init__(
        self,
        graph: TaskGraph,
        start_node: str | None = None,
        max_steps: int = 10000,
        default_max_cycles: int = 10,
        default_max_retries: int = 0,
        channel_backend: str = "memory",
        config: Mapping[str, Any] | None = None,
        tracer: Tracer | Sequence[Tracer] | None = None,
        *,
        on_max_steps: str = "raise",
        steps: int = 0,
        parent_context: Self | None = None,
        session_id: str | None = None,
        trace_id: str | None = None,
        channel: Channel | None = None,
    ) -> None:
        if on_max_steps not in _ON_MAX_STEPS:
            raise ConfigError(f"on_max_steps must be 'raise' or 'warn', not {on_max_steps!r}")
        self.session_id = session_id or uuid.uuid4().hex
        self.trace_id = trace_id or self.session_id
        self.graph = graph
        self.max_steps = max_steps
        self.on_max_steps = on_max_steps
        self.steps = steps
        self.default_max_retries = default_max_retries
        self.channel_backend = channel_backend
        self.config = normalize_redis_config(config) if config else {}
        self.parent_context = parent_context
        self.visit_path = ""
        self.tracer = combine(tracer)
        self.cycle_controller = CycleController(default_max_cycles)
        self.retry_controller = RetryController(default_max_retries)
        if channel is not None:
            self.channel = channel
        elif channel_backend == "memory":
            self.channel = MemoryChannel(self.session_id)
        else:
            self.channel = ChannelFactory.from_config(channel_backend, self.session_id, self.config)
        self._prepare()
        self.start_node = start_node
        if start_node is not None and len(graph.nodes):
            self.add_to_queue(start_task(graph, start_node))
        self._awaits_start = start_node is not None and not len(graph.nodes)

    @classmethod
    def create(
        cls,
        graph: TaskGraph,
        start_node: str | None = None,
        max_steps: int = 10000,
        default_max_cycles: int = 10,
        default_max_retries: int = 0,
        channel_backend: str = "memory",
        config: Mapping[str, Any] | None = None,
        tracer: Tracer | Sequence[Tracer] | None = None,
        *,
        on_max_steps: str = "raise",
    ) -> Self:
        """A context that starts at `start_node`, or at the first node without predecessors."""
        if start_node is None:
            start_node = next(iter(graph.get_start_nodes()), None)
        return cls(
            graph,
            start_node,
            max_steps,
            default_max_cycles,
            default_max_retries,
            channel_backend,
            config,
            tracer,
            on_max_steps=on_max_steps,
        )

    # -- running one task ------------------------------------------------------------------------------------------

    def create_task_context(self, task_id: str) -> TaskExecutionContext:
        """What a task of that id sees of this run; the id need not be in the graph."""
        return TaskExecutionContext(task_id, self)

    def push_task_context(self, task_context: TaskExecutionContext) -> None:
        """Make a task the running one, until `pop_task_context`."""
        self._task_execution_stack.append(task_context)

    def pop_task_context(self) -> TaskExecutionContext | None:
        """End the innermost running task; None when none runs."""
        return self._task_execution_stack.pop() if self._task_execution_stack else None

    def executing_task(self, task: Any) -> ExecutingTask:
        """A block in which `task` is the running one; yields its task context. Values are not stored by it."""
        return ExecutingTask(self, task)

    def begin(self, frame: TaskExecutionContext, task: Any) -> None:
        """Apply the task's own limits, count the execution, and tell the listeners."""
        task_id = frame.task_id
        base_id = base_id_of(task_id)
        cycles, retries = self.cycle_controller, self.retry_controller
        limits = task
        if base_id != task_id and self.graph.has_node(base_id):
            limits = self.graph.get_node(base_id)
            retries.inherit(task_id, base_id)
        max_cycles = getattr(limits, "max_cycles", None)
        if max_cycles is not None:
            cycles.set_node_max_cycles(base_id, max_cycles)
        policy = getattr(limits, "retry_policy", None)
        if policy is not None:
            retries.set_node_policy(task_id, policy)
        else:
            max_retries = getattr(limits, "max_retries", None)
            if max_retries is not None:
                retries.set_node_max_retries(task_id, max_retries)
        if self._interrupted and task_id in self._interrupted:
            # This execution was begun, and counted, before the run was saved.
            frame.repeats = self._interrupted.pop(task_id)
        elif task_id not in retries.retry_counts:
            cycles.increment(base_id)
        elif task_id in self._retried:
            # It has ended since: this is another visit, with its full budget.
            self._retried.discard(task_id)
            retries.reset(task_id)
            cycles.increment(base_id)
        try:
            self.tracer.on_task_start(task, self)
        except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
            _log.exception("Tracing hook on_task_start failed")

    def end(self, frame: TaskExecutionContext, task: Any, error: BaseException | None) -> None:
        """Note the end of an execution, tell the listeners, and hand requests on to the task that called this one."""
        if error is not None:
            if self.open_groups:
                self.abandon_group(frame.task_id)
        elif frame.task_id in self.retry_controller.retry_counts:
            self._retried.add(frame.task_id)
        try:
            self.tracer.on_task_end(task, self, result=frame.task_result, error=error)
        except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
            _log.exception("Tracing hook on_task_end failed")
        stack = self._task_execution_stack
        stack.pop()
        if stack:
            if error is None:
                stack[-1].adopt(frame)
            else:
                self.rollback(frame)

    def execute(self) -> Any:
        """Run to the end with a fresh engine and return the last task's value."""
        return upward.engine().execute(self)


class ExecutingTask:
    """The block of `executing_task`."""

    __slots__ = ("_context", "_frame", "_task", "_token")

    def __init__(self, context: ExecutionContext, task: Any) -> None:
        self._context = context
        self._task = task

    def __enter__(self) -> TaskExecutionContext:
        context, task = self._context, self._task
        frame = self._frame = TaskExecutionContext(task.task_id, context)
        frame.task = task
        task.set_execution_context(context)
        context._task_execution_stack.append(frame)
        self._token = running_frame.set(frame)
        try:
            context.begin(frame, task)
        except BaseException:  # an interruption as well: nothing runs then
            running_frame.reset(self._token)
            context._task_execution_stack.pop()
            raise
        return frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running_frame.reset(self._token)
        self._context.end(self._frame, self._task, error)


def create_execution_context(start_node: str = "ROOT", max_steps: int = 10) -> ExecutionContext:
    """A context over a graph of one task, which is queued."""
    graph = TaskGraph()
    graph.add_node(Task(start_node, register_to_context=False))
    return ExecutionContext(graph, start_node, max_steps)


def execute_with_cycles(graph: TaskGraph, start_node: str, max_steps: int = 10) -> None:
    """Run from a node; reaching `max_steps` gives a warning only."""
    upward.engine().execute_with_cycles(graph, start_node, max_steps)
