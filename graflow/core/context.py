"""The state of one run: `ExecutionContext`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel, apply_writes
from graflow.channels.factory import ChannelFactory
from graflow.channels.memory_channel import MemoryChannel
from graflow.core import serialization
from graflow.core.arguments import RESULT_SUFFIX
from graflow.core.branch import BranchOutcome, GroupRun
from graflow.core.cycle import CycleController
from graflow.core.executable import Executable, Task, leftmost_of, running_frame
from graflow.core.graph import TaskGraph
from graflow.core.iteration import IterationTask
from graflow.core.joins import Joins
from graflow.core.retry import RetryController
from graflow.core.task_context import Control, TaskExecutionContext, base_id_of
from graflow.exceptions import ConfigError
from graflow.protocols import MemberInfo, upward
from graflow.queue.base import TaskSpec
from graflow.queue.memory import InMemoryTaskQueue, start_task
from graflow.trace.base import Tracer
from graflow.trace.composite import combine
from graflow.trace.notify import tell
from graflow.utils.redis_utils import normalize_redis_config

__all__ = ["ExecutionContext", "TaskExecutionContext", "create_execution_context", "execute_with_cycles"]

_log = logging.getLogger(__name__)
_ON_MAX_STEPS = ("raise", "warn")


class ExecutionContext:
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
        parent_context: ExecutionContext | None = None,
        session_id: str | None = None,
        trace_id: str | None = None,
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
        self.config: dict[str, Any] = normalize_redis_config(dict(config) if config is not None else None)
        self.parent_context = parent_context
        self.tracer: Tracer = combine(tracer)
        self.cycle_controller = CycleController(default_max_cycles)
        self.retry_controller = RetryController(default_max_retries)
        self.channel: Channel = (
            MemoryChannel(self.session_id)
            if channel_backend == "memory"
            else ChannelFactory.create_channel(channel_backend, self.session_id, **self.config)
        )
        self._prepare()
        self.start_node = start_node
        if start_node is not None and (len(graph.nodes) or parent_context is not None):
            self.add_to_queue(start_task(graph, start_node))

    def _prepare(self) -> None:
        """Everything that starts empty, in a root context and in a branch."""
        self._completed: dict[str, None] = {}
        self._retried: set[str] = set()
        self._group_visits: dict[str, int] = {}
        self.open_groups: dict[str, GroupRun] = {}
        self.finished_members: dict[str, dict[int, BranchOutcome]] = {}
        self.joins = Joins()
        self.checkpoint_metadata: dict[str, Any] = {}
        self.last_checkpoint_path: str | None = None
        self.clear_checkpoint_request()
        self.ctrl_message: str | None = None
        self.stop_reason: str | None = None
        self.dynamic_nodes: list[tuple[str, list[str]]] = []
        self.jumps_out: list[str] = []
        self.exits: list[tuple[str, str]] = []
        self.results_log: dict[str, Any] | None = None
        self._prepare_runtime()

    def _prepare_runtime(self) -> None:
        """What a saved context does not keep."""
        self.task_queue = InMemoryTaskQueue(self)
        self.engine: Any = None
        self.member: MemberInfo | None = None
        self.workflow_name: str | None = None
        self._scope: Any = None
        self._task_execution_stack: list[TaskExecutionContext] = []
        self._standing_in: dict[str, int] = {}
        self._running: set[str] = set()

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

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> InMemoryTaskQueue:
        return self.task_queue

    @property
    def completed_tasks(self) -> list[str]:
        """Ids in order of first completion."""
        return list(self._completed)

    def has_completed(self, task_id: str) -> bool:
        """Whether the task has completed in this run, or in the run this one is a branch of."""
        context: ExecutionContext | None = self
        while context is not None:
            if task_id in context._completed:
                return True
            context = context.parent_context
        return False

    @property
    def current_task_context(self) -> TaskExecutionContext | None:
        return self._task_execution_stack[-1] if self._task_execution_stack else None

    @property
    def current_task_id(self) -> str | None:
        return self._task_execution_stack[-1].task_id if self._task_execution_stack else None

    @property
    def root(self) -> ExecutionContext:
        """The context of the whole run."""
        context = self
        while context.parent_context is not None:
            context = context.parent_context
        return context

    def get_channel(self) -> Channel:
        return self.channel

    def is_completed(self) -> bool:
        """Whether nothing is left to run, or `max_steps` is reached."""
        return self.steps >= self.max_steps or (self.task_queue.is_empty() and not self.joins.waiting)

    # -- results ---------------------------------------------------------------------------------------------------

    def set_result(self, task_id: str, value: Any) -> None:
        self.channel.set(task_id + RESULT_SUFFIX, value)
        if self.results_log is not None:
            self.results_log[task_id] = value

    def get_result(self, task_id: str, default: Any = None) -> Any:
        return self.channel.get(task_id + RESULT_SUFFIX, default)

    def mark_task_completed(self, task_id: str) -> None:
        self._completed[task_id] = None

    def increment_step(self) -> None:
        self.steps += 1

    # -- queue -----------------------------------------------------------------------------------------------------

    def add_to_queue(self, executable: Executable) -> TaskSpec:
        """Queue a task; twice means two entries."""
        spec = TaskSpec(executable, self)
        self.task_queue.enqueue(spec)
        try:
            self.tracer.on_task_queued(executable, self)
        except Exception:
            _log.exception("Tracing hook on_task_queued failed")
        return spec

    def get_next_task(self) -> str | None:
        return self.task_queue.get_next_task()

    def queue_node(self, task_id: str) -> None:
        """Queue a node of the graph."""
        self.add_to_queue(self.graph.get_node(task_id))

    def is_active(self, task_id: str) -> bool:
        """Whether the task waits to run, runs, or waits to be tried again; a pass of it counts."""
        return task_id in self.task_queue._waiting or task_id in self._standing_in or task_id in self._running

    def in_scope(self, task_id: str) -> bool:
        """Whether the node belongs to this run; a branch has only the nodes of its own."""
        return self._scope is None or self._scope.holds(task_id, self.graph)

    # -- running one task ------------------------------------------------------------------------------------------

    def create_task_context(self, task_id: str) -> TaskExecutionContext:
        return TaskExecutionContext(task_id, self)

    def push_task_context(self, task_context: TaskExecutionContext) -> None:
        self._task_execution_stack.append(task_context)

    def pop_task_context(self) -> TaskExecutionContext | None:
        return self._task_execution_stack.pop() if self._task_execution_stack else None

    def executing_task(self, task: Any) -> ExecutingTask:
        """A block in which `task` is the running one; yields its task context. Values are not stored by it."""
        return ExecutingTask(self, task)

    def begin(self, frame: TaskExecutionContext, task: Any) -> None:
        """Apply the task's own limits, count the execution, and tell the listeners."""
        task_id = frame.task_id
        base_id = base_id_of(task_id)
        limits = task if base_id == task_id or not self.graph.has_node(base_id) else self.graph.get_node(base_id)
        retries = self.retry_controller
        max_cycles = getattr(limits, "max_cycles", None)
        if max_cycles is not None:
            self.cycle_controller.set_node_max_cycles(base_id, max_cycles)
        policy = getattr(limits, "retry_policy", None)
        if policy is not None:
            retries.set_node_policy(task_id, policy)
        else:
            max_retries = getattr(limits, "max_retries", None)
            if max_retries is not None:
                retries.set_node_max_retries(task_id, max_retries)
        if task_id in retries.retry_counts and task_id in self._retried:
            # It has succeeded since: this is another visit, with its full budget.
            self._retried.discard(task_id)
            retries.reset(task_id)
        if task_id not in retries.retry_counts:
            self.cycle_controller.increment(base_id)
        try:
            self.tracer.on_task_start(task, self)
        except Exception:
            _log.exception("Tracing hook on_task_start failed")

    def end(self, frame: TaskExecutionContext, task: Any, error: BaseException | None) -> None:
        if error is None and frame.task_id in self.retry_controller.retry_counts:
            self._retried.add(frame.task_id)
        try:
            self.tracer.on_task_end(task, self, result=frame.task_result, error=error)
        except Exception:
            _log.exception("Tracing hook on_task_end failed")

    # -- what a task may ask for -----------------------------------------------------------------------------------

    def next_task(self, executable: Executable, goto: bool = False) -> str:
        """Queue a task on behalf of the running one; see `TaskExecutionContext.next_task`."""
        frame = self.current_task_context
        target = leftmost_of(executable)
        task_id = target.task_id
        known = self.graph.has_node(task_id)
        is_new = not known or (frame is not None and self.graph.born_since(task_id, frame.birth_mark))
        if not known:
            executable.register_in(self.graph)
        if is_new:
            self._note_dynamic(task_id, frame, is_iteration=False)
        elif frame is not None and frame.control < Control.GOTO:
            frame.control = Control.GOTO
        if goto and frame is not None and frame.control < Control.GOTO:
            frame.control = Control.GOTO
        if not is_new and not self.in_scope(task_id):
            self.jumps_out.append(task_id)
            return task_id
        self.joins.forget(task_id)
        self._queue_for(frame, self.graph.get_node(task_id))
        return task_id

    def next_iteration(self, data: Any = None, task_id: str | None = None) -> str:
        """Queue one more pass of the running task; see `TaskExecutionContext.next_iteration`.

        Raises:
            ValueError: When no task runs, or the task is not in the graph.
            CycleLimitExceededError: When the limit is reached.
        """
        frame = self.current_task_context
        current = task_id or (None if frame is None else frame.task_id)
        if current is None:
            raise ValueError("next_iteration() needs a running task, or a task_id")
        base_id = base_id_of(current)
        if not self.graph.has_node(base_id):
            raise ValueError(f"next_iteration(): task '{base_id}' is not in the graph")
        self.cycle_controller.check_cycle_limit(base_id)
        base = self.graph.get_node(base_id)
        iteration_id = f"{base_id}_cycle_{self.cycle_controller.get_cycle_count(base_id)}_{uuid.uuid4().hex[:8]}"
        task = IterationTask(iteration_id, base_id, data, getattr(base, "handler_type", "direct"))
        self.graph.add_node(task)
        self._note_dynamic(iteration_id, frame, is_iteration=True)
        self._standing_in[base_id] = self._standing_in.get(base_id, 0) + 1
        if frame is not None:
            frame.is_iterating = True
        self._queue_for(frame, task)
        return iteration_id

    def _note_dynamic(self, task_id: str, frame: TaskExecutionContext | None, *, is_iteration: bool) -> None:
        self.graph.mark_dynamic(task_id)
        parent = None if frame is None else frame.task_id
        self.dynamic_nodes.append((task_id, [] if parent is None else [parent]))
        tell(self.tracer.on_dynamic_task_added, task_id, parent_task_id=parent, is_iteration=is_iteration)

    def _queue_for(self, frame: TaskExecutionContext | None, task: Any) -> None:
        spec = self.add_to_queue(task)
        if frame is not None:
            if frame.queued is None:
                frame.queued = []
            frame.queued.append(spec)

    def stood_in(self, base_id: str) -> None:
        """A pass of `base_id` has left the queue."""
        left = self._standing_in.get(base_id, 0) - 1
        if left > 0:
            self._standing_in[base_id] = left
        else:
            self._standing_in.pop(base_id, None)

    def take_back(self, frame: TaskExecutionContext) -> None:
        """Undo what a failed execution queued."""
        for spec in frame.queued or ():
            self.task_queue.discard(spec)
            if isinstance(spec.executable, IterationTask):
                self.stood_in(spec.executable.base_id)
        frame.queued = None

    def terminate_workflow(self, message: str) -> None:
        self._control(Control.TERMINATE, message)

    def cancel_workflow(self, message: str) -> None:
        self._control(Control.CANCEL, message)

    def _control(self, control: Control, message: str) -> None:
        frame = self.current_task_context
        if frame is None or control > frame.control:
            self.ctrl_message = message
            if frame is not None:
                frame.control = control

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def request_checkpoint(self, metadata: dict[str, Any] | None = None, *, path: str | None = None) -> None:
        """Ask the engine to save the run after the current task."""
        self.checkpoint_requested = True
        self.checkpoint_request_metadata: dict[str, Any] | None = dict(metadata or {})
        self.checkpoint_request_path: str | None = path

    def clear_checkpoint_request(self) -> None:
        self.checkpoint_requested = False
        self.checkpoint_request_metadata = None
        self.checkpoint_request_path = None

    def checkpoint_from_task(
        self, frame: TaskExecutionContext, metadata: dict[str, Any] | None, *, path: str | None, deferred: bool
    ) -> Any:
        """What `TaskExecutionContext.checkpoint` does."""
        described = {
            "task_id": frame.task_id,
            "cycle_count": frame.cycle_count,
            "elapsed_time": frame.elapsed_time(),
            "mode": "deferred" if deferred else "immediate",
            **(metadata or {}),
        }
        if deferred:
            self.request_checkpoint(described, path=path)
            return None
        return self.write_checkpoint(described, path=path, resuming_task_id=frame.task_id)

    def write_checkpoint(
        self, metadata: dict[str, Any] | None, *, path: str | None, resuming_task_id: str | None = None
    ) -> Any:
        """Save the whole run now; from inside a member that is the run the group belongs to."""
        root = self.root
        if root is not self:
            resuming_task_id = root.current_task_id
        return upward.checkpoint(root, path=path, metadata=metadata, resuming_task_id=resuming_task_id)

    def write_requested_checkpoint(self) -> None:
        """Save the run when a task asked for it; a branch hands the request on when it has ended."""
        if self.checkpoint_requested and self._scope is None:
            metadata, path = self.checkpoint_request_metadata, self.checkpoint_request_path
            self.clear_checkpoint_request()
            self.write_checkpoint(metadata, path=path)

    def get_checkpoint_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is plain data; results and channel values are not in it."""
        return {
            "session_id": self.session_id,
            "trace_id": self.trace_id,
            "start_node": self.start_node,
            "steps": self.steps,
            "completed_tasks": self.completed_tasks,
            "cycle_counts": dict(self.cycle_controller.cycle_counts),
            "retry_counts": dict(self.retry_controller.retry_counts),
            "waiting_joins": {candidate: list(left) for candidate, left in self.joins.waiting.items()},
            "finished_members": {key: sorted(members) for key, members in self.finished_members.items()},
            "backend": {"channel": self.channel_backend},
        }

    # -- groups ----------------------------------------------------------------------------------------------------

    def open_group(self, group_id: str, tasks: Sequence[Executable]) -> GroupRun:
        """Begin one execution of a group; coordinators run its members and close it."""
        visit = self._group_visits.get(group_id, 0)
        key = f"{self.session_id}:{group_id}:{visit}"
        run = GroupRun(self, group_id, key, list(tasks), self.finished_members.setdefault(key, {}))
        self.open_groups[group_id] = run
        return run

    def group_closed(self, run: GroupRun) -> None:
        """One execution of a group has ended; the next one has another key."""
        self.open_groups.pop(run.group_id, None)
        self.finished_members.pop(run.run_key, None)
        self._group_visits[run.group_id] = self._group_visits.get(run.group_id, 0) + 1

    def follow_outcomes(self, outcomes: Sequence[BranchOutcome]) -> None:
        """Do what the members of a group asked of this run, in member order."""
        frame = self.current_task_context
        exits = [edge for outcome in outcomes for edge in outcome.exits]
        jumps = list(dict.fromkeys(jump for outcome in outcomes for jump in outcome.jumps))
        for jump in jumps:
            if self.in_scope(jump):
                self.joins.forget(jump)
                self._queue_for(frame, self.graph.get_node(jump))
            else:
                self.jumps_out.append(jump)
        if frame is not None:
            frame.exits, frame.jumped = exits, set(jumps)
        elif exits:
            self.exits += self.joins.follow(exits, self.graph, self)
        for outcome in outcomes:
            if outcome.terminated is not None:
                self.terminate_workflow(outcome.terminated)
            if outcome.checkpoint is not None:
                self.request_checkpoint(**outcome.checkpoint)

    def follow_group(self, group_id: str, frame: TaskExecutionContext) -> list[tuple[str, str]]:
        """Follow the edges out of a group's branches, then its own; a node that a member jumped to is queued already."""
        jumped = frame.jumped or set()
        edges = [*(frame.exits or ()), *((group_id, target) for target in self.joins.targets(group_id, self.graph))]
        return self.joins.follow([edge for edge in edges if edge[1] not in jumped], self.graph, self)

    def enter_branch(self, scope: Any, joins: Joins) -> None:
        """Confine this context to the nodes of a branch."""
        self._scope = scope
        self.joins = joins

    def is_untouched(self) -> bool:
        """Whether nothing has run and nothing waits to."""
        return not (self._completed or self.steps or self.joins.waiting) and self.task_queue.is_empty()

    def create_branch_context(self, branch_id: str) -> ExecutionContext:
        """A context for one member: own session, queue, counts and private writes over this context's channel."""
        branch = object.__new__(type(self))
        branch.session_id = f"{self.session_id}_{branch_id}"
        branch.trace_id = self.trace_id
        branch.graph = self.graph
        branch.max_steps = max(self.max_steps - self.steps, 0)
        branch.on_max_steps = "raise"
        branch.steps = 0
        branch.default_max_retries = self.default_max_retries
        branch.channel_backend = self.channel_backend
        branch.config = self.config
        branch.parent_context = self
        branch.tracer = self.tracer.clone(self.trace_id)
        branch.cycle_controller = CycleController(self.cycle_controller.default_max_cycles)
        branch.cycle_controller.node_max_cycles = self.cycle_controller.node_max_cycles
        branch.retry_controller = RetryController(self.retry_controller.default_max_retries)
        branch.retry_controller.node_max_retries = self.retry_controller.node_max_retries
        branch.retry_controller.node_policies = self.retry_controller.node_policies
        branch.channel = BranchChannel(self.channel)
        branch._prepare()
        branch.start_node = branch_id
        branch.engine = self.engine
        branch.workflow_name = self.workflow_name
        return branch

    def merge_results(self, branch: ExecutionContext) -> None:
        """Take over what a branch wrote, ran and counted; only keys that it wrote change."""
        if isinstance(branch.channel, BranchChannel):
            apply_writes(self.channel, branch.channel.writes())
        for task_id in branch._completed:
            self.mark_task_completed(task_id)
        self.steps += branch.steps
        self.cycle_controller.cycle_counts.update(branch.cycle_controller.cycle_counts)
        self.retry_controller.retry_counts.update(branch.retry_controller.retry_counts)

    def mark_branch_completed(self, branch_id: str) -> None:
        self.mark_task_completed(branch_id)

    # -- execution and pickling ------------------------------------------------------------------------------------

    def execute(self) -> Any:
        """Run to the end with a fresh engine and return the last task's value."""
        return upward.engine().execute(self)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("task_queue", "engine", "member", "workflow_name", "tracer", "open_groups", "_scope"):
            del state[name]
        for name in ("_task_execution_stack", "_standing_in", "_running"):
            del state[name]
        state["pending"] = [
            (spec.executable, spec.created_at, spec.retry_count, spec.max_retries, spec.last_error)
            for spec in self.task_queue.get_pending_task_specs()
        ]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        pending = state.pop("pending")
        self.__dict__.update(state)
        self._prepare_runtime()
        self.tracer = combine(None)
        self.open_groups = {}
        for executable, created_at, retry_count, max_retries, last_error in pending:
            self.restore_pending(
                TaskSpec(
                    executable,
                    self,
                    created_at=created_at,
                    retry_count=retry_count,
                    max_retries=max_retries,
                    last_error=last_error,
                )
            )

    def reset_queue(self) -> None:
        """Forget all queued entries."""
        self.task_queue.cleanup()
        self._standing_in.clear()

    def restore_pending(self, spec: TaskSpec) -> None:
        """Queue an entry of a saved run."""
        self.task_queue.enqueue(spec)
        if isinstance(spec.executable, IterationTask):
            base_id = spec.executable.base_id
            self._standing_in[base_id] = self._standing_in.get(base_id, 0) + 1

    def save(self, path: str | Path) -> None:
        """Write the context to a file with cloudpickle."""
        with Path(path).open("wb") as file:
            serialization.dump(self, file)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a context that `save` wrote. Only for files that you trust: loading runs code."""
        with Path(path).open("rb") as file:
            context: Self = serialization.load(file)
        return context


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
        context._task_execution_stack.append(frame)
        self._token = running_frame.set(frame)
        context.begin(frame, task)
        task.set_execution_context(context)
        return frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running_frame.reset(self._token)
        self._context.end(self._frame, self._task, error)
        self._context._task_execution_stack.pop()


def create_execution_context(start_node: str = "ROOT", max_steps: int = 10) -> ExecutionContext:
    """A context over a graph of one task, which is queued."""
    graph = TaskGraph()
    graph.add_node(Task(start_node, register_to_context=False))
    return ExecutionContext(graph, start_node, max_steps)


def execute_with_cycles(graph: TaskGraph, start_node: str, max_steps: int = 10) -> None:
    """Run from a node; reaching `max_steps` gives a warning only."""
    upward.engine().execute_with_cycles(graph, start_node, max_steps)
