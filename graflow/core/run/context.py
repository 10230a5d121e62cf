"""The state of one run: `ExecutionContext`, a face over the parts that it owns."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel, apply_writes
from graflow.core.branches.outcome import OpenQuestion, Requests
from graflow.core.branches.surroundings import Surroundings
from graflow.core.building.entering import running_frame
from graflow.core.cycle import CycleController
from graflow.core.graph import TaskGraph
from graflow.core.nodes.columns import MappedMembers
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.plain import Task
from graflow.core.nodes.templates import starting_steps
from graflow.core.retry import RetryController
from graflow.core.run import asking, saving
from graflow.core.run.agenda import Agenda
from graflow.core.run.beginning import Of, channel_of, checked_limits, ledger_of
from graflow.core.run.frame import Control
from graflow.core.run.groups import Groups
from graflow.core.run.holdings import Holdings
from graflow.core.run.ledger import DEFAULT_MAX_STEPS, DefaultMaxSteps
from graflow.core.run.members.branching import BranchRun
from graflow.core.run.members.group_run import GroupRun
from graflow.core.run.questions import Questions, questions_of
from graflow.core.run.recorded.recording import Recording
from graflow.core.run.steps.execution import ExecutingTask
from graflow.core.run.steps.task_context import TaskExecutionContext
from graflow.exceptions import ConfigError
from graflow.given import no_id
from graflow.protocols import MemberInfo, upward
from graflow.queue.base import TaskSpec
from graflow.queue.memory import InMemoryTaskQueue, start_task
from graflow.redis.config import normalize_redis_config
from graflow.text.shown import get_logger
from graflow.trace.base import Tracer, branch_listener
from graflow.trace.composite import combine

if TYPE_CHECKING:
    from graflow.hitl.manager import FeedbackManager

__all__ = ["ExecutionContext", "TaskExecutionContext", "create_execution_context", "execute_with_cycles"]

_log = get_logger(__name__)
_ON_MAX_STEPS = ("raise", "warn")
# What a saved context does not keep, the agenda aside, which is kept in another form.
_NOT_KEPT = frozenset(
    {
        *("agenda", "tracer", "engine", "member", "holdings", "frames", "_task_execution_stack"),
        *("recording", "flow", "called_by", "facts"),
    }
)


class ExecutionContext:
    """Everything that one run knows: its graph, queue, channel, counts, and what has completed.

    Args:
        graph: The graph that the run walks; the very object, so nodes added later are seen.
        start_node: Id of the first task. Unknown ids are refused, unless the graph is still empty.
        max_steps: Tasks that may complete before the run is stopped. The default is for loops: what runs for the first
            time is free, only executions of tasks that had run before count.
        default_max_cycles: Executions by iteration for tasks that set no limit of their own.
        default_max_retries: Retries for tasks that set no limit of their own.
        channel_backend: `"memory"` or `"redis"`.
        config: Settings for channels and group backends; a live client in it is turned into parameters.
        tracer: A listener, or several; a branch has that of its group's context.
        on_max_steps: `"raise"` or `"warn"` when `max_steps` is reached with work left.
        steps: Tasks that have completed already.
        parent_context: The context of the group, for a branch.
        session_id: 32 hex characters by default.
        trace_id: The session id of the root context by default.
        channel: What tasks share; a new one of `channel_backend` by default.
        around: For a branch, the settings above at once, its session and channel aside.

    Attributes:
        agenda: What the run has yet to do.
        ledger: What it has done.
        requests: What its tasks asked for that somebody else has to do.
        groups: Its executions of groups.
        holdings: What it holds until its execution ends.
        frames: The executions of tasks that run in it now, the innermost last.
        engine: What runs it now.
        member: What its tasks may ask about their member, when it is a branch.
        recording: Where it is written down step by step, for the root of a durable flow.
        flow: What its tasks may ask about the flow that it is a run of.
        questions: What it knows of the questions that its tasks ask people; None as long as none does.
        called_by: The execution of a task of another run that it runs inside of.
        facts: What is to be recorded of executions besides what they did, by node, where there is anything.

    Raises:
        ValueError: For an unknown start node, listing the available ones.
    """

    engine: Any = None
    member: MemberInfo | None = None
    recording: Recording | None = None
    flow: Any = None
    questions: Questions | None = None
    called_by: TaskExecutionContext | None = None
    facts: dict[str, Mapping[str, Any]] | None = None
    last_checkpoint_path: str | None = None

    def __init__(
        self,
        graph: TaskGraph,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
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
        around: Surroundings | None = None,
    ) -> None:
        if on_max_steps not in _ON_MAX_STEPS:
            raise ConfigError(f"on_max_steps must be 'raise' or 'warn', not {on_max_steps!r}")
        self.session_id = session_id or uuid.uuid4().hex
        if around is None:
            if not isinstance(graph, TaskGraph):
                raise TypeError(f"An ExecutionContext takes a TaskGraph, such as wf.graph, not {graph!r}")
            limits = checked_limits(max_steps, default_max_cycles, default_max_retries)
            settings = normalize_redis_config(config) if config else {}
            trace_id = trace_id or self.session_id
            around = Surroundings(
                "", self.session_id, trace_id, config=settings, channel_backend=channel_backend, **limits
            )
        self._around = around
        self.graph = graph
        self.parent_context = parent_context
        channel = channel_of(around, self.session_id) if channel is None else channel
        self.ledger = ledger_of(around, channel, steps, on_max_steps)
        self.requests = Requests()
        self.groups: Groups[BranchRun] = Groups()
        self.checkpoint_metadata: dict[str, Any] = {}
        self._set_up()
        if parent_context is None:
            self.tracer, self.holdings = combine(tracer), Holdings()
        else:
            self.join(parent_context)
        self.agenda = Agenda(self)
        self.agenda.start_node = start_node
        self.agenda.awaits_start = start_node is not None and graph.is_empty
        if start_node is not None and not graph.is_empty:
            self.agenda.add(start_task(graph, start_node))

    def _set_up(self) -> None:
        """Begin without what a saved context does not keep, its listener and holdings aside."""
        self.frames: list[TaskExecutionContext] = []
        self._task_execution_stack = self.frames  # its name for listeners

    @classmethod
    def create(
        cls,
        graph: TaskGraph,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        default_max_cycles: int = 10,
        default_max_retries: int = 0,
        channel_backend: str = "memory",
        config: Mapping[str, Any] | None = None,
        tracer: Tracer | Sequence[Tracer] | None = None,
        *,
        on_max_steps: str = "raise",
    ) -> Self:
        """A context that starts at `start_node`, or at the first node without predecessors."""
        if start_node is None and isinstance(graph, TaskGraph):
            start_node = next(iter(starting_steps(graph)), None)
        limits = max_steps, default_max_cycles, default_max_retries
        return cls(graph, start_node, *limits, channel_backend, config, tracer, on_max_steps=on_max_steps)

    # -- attributes of its parts -----------------------------------------------------------------------------------

    trace_id = Of[str]("_around", "trace_id")
    config = Of[Mapping[str, Any]]("_around", "config")
    channel_backend = Of[str]("_around", "channel_backend")
    default_max_retries = Of[int]("_around", "max_retries")

    start_node = Of[str | None]("agenda", "start_node")
    queue = task_queue = Of[InMemoryTaskQueue]("agenda", "queue")

    steps = Of[int]("ledger", "steps")
    max_steps = Of[int]("ledger", "max_steps")
    on_max_steps = Of[str]("ledger", "on_max_steps")
    stop_reason = Of[str | None]("ledger", "stop_reason")
    cycle_controller = Of[CycleController]("ledger", "cycles")
    retry_controller = Of[RetryController]("ledger", "retries")

    ctrl_message = Of[str | None]("requests", "message")

    @property
    def workflow_name(self) -> str | None:
        """None for a run that is not one of a named workflow."""
        return self._around.workflow_name or None

    @workflow_name.setter
    def workflow_name(self, name: str | None) -> None:
        self._around = self._around.changed(workflow_name=name or "")

    @property
    def completed_tasks(self) -> list[str]:
        """Ids in order of first completion."""
        return list(self.ledger.completed)

    @property
    def current_task_context(self) -> TaskExecutionContext | None:
        """The innermost task that runs in this context now."""
        return self.frames[-1] if self.frames else None

    @property
    def current_task_id(self) -> str | None:
        return self.frames[-1].task_id if self.frames else None

    @property
    def checkpoint_requested(self) -> bool:
        return self.requests.checkpoint is not None

    @property
    def checkpoint_request_metadata(self) -> dict[str, Any] | None:
        return None if self.requests.checkpoint is None else self.requests.checkpoint["metadata"]

    @property
    def checkpoint_request_path(self) -> str | None:
        return None if self.requests.checkpoint is None else self.requests.checkpoint["path"]

    @property
    def root(self) -> Self:
        """The context of the whole run."""
        run = self
        while run.parent_context is not None:
            run = run.parent_context
        return run

    @property
    def elsewhere(self) -> Collection[str]:
        """Ids of the workflow's nodes that this process knows by name only; a branch on a worker has some."""
        return asking.elsewhere(self)

    @property
    def channel(self) -> Channel:
        """What the tasks share; a task that runs in this context sees it through its own writes."""
        return self.get_channel()

    @property
    def channel_for_reading(self) -> Channel:
        """The same for whoever only reads, which costs a task less."""
        frame = running_frame.get()
        if frame is not None and frame.execution_context is self:
            channel: Channel = frame.channel_for_reading()
            return channel
        return self.ledger.channel

    def get_channel(self) -> Channel:
        frame = running_frame.get()
        if frame is not None and frame.execution_context is self:
            channel: Channel = frame.get_channel()
            return channel
        return self.ledger.channel

    # -- running ---------------------------------------------------------------------------------------------------

    def execute(self) -> Any:
        """Run to the end with a fresh engine and return the last task's value."""
        return upward.engine().execute(self)

    def executing_task(self, task: object) -> ExecutingTask:
        """A block in which `task` is the running one; yields its task context. Values are not stored by it."""
        return ExecutingTask(self, task)

    def create_task_context(self, task_id: str) -> TaskExecutionContext:
        """What a task of that id sees of this run; the id need not be in the graph."""
        return TaskExecutionContext(task_id, self)

    def push_task_context(self, task_ctx: TaskExecutionContext) -> None:
        """Make a task the running one, until `pop_task_context`."""
        self.frames.append(task_ctx)

    def pop_task_context(self) -> TaskExecutionContext | None:
        """End the innermost running task; None when none runs."""
        return self.frames.pop() if self.frames else None

    def add_to_queue(self, executable: Executable) -> TaskSpec:
        """Queue a task; twice means two entries."""
        return self.agenda.add(executable)

    def get_next_task(self) -> str | None:
        """The id of the next task, which leaves the queue."""
        if self.agenda.awaits_start and self.graph.has_node(str(self.start_node)):
            self.agenda.start(is_fresh=self.ledger.is_blank)
        return self.agenda.queue.get_next_task()

    def is_completed(self) -> bool:
        """Whether nothing is left to run, or `max_steps` is reached."""
        return self.ledger.is_full or not self.agenda.has_work()

    def set_result(self, task_id: str, result: object) -> None:
        """Store the value of a task, or the exception it failed with, in the channel under `<id>.__result__`."""
        self.ledger.set_result(task_id, result)

    def get_result(self, task_id: str, default: object = None) -> Any:
        """What `set_result` stored last; `default` when there is nothing."""
        if not isinstance(task_id, str):
            raise no_id("get_result()", task_id)
        return self.ledger.get_result(task_id, default)

    def get_results(self, task_ids: Sequence[str]) -> list[Any]:
        """As `get_result` for many tasks; None where there is nothing."""
        return self.ledger.get_results(task_ids)

    def mark_task_completed(self, task_id: str) -> None:
        """Note that a task has completed; the order is that of the first time."""
        self.ledger.completed[task_id] = None

    def has_completed(self, task_id: str) -> bool:
        """Whether the last execution of the task has completed, in this run or in the run this one is a branch of."""
        return self.ledger.has_completed(task_id)

    def increment_step(self) -> None:
        """Count one more task that has completed."""
        self.ledger.steps += 1

    # -- what a task may ask for -----------------------------------------------------------------------------------

    def next_task(self, executable: Executable | str, goto: bool = False) -> str:
        """Queue a task on behalf of the running one; see `TaskExecutionContext.next_task`."""
        return asking.next_task(self, self.current_task_context, executable, goto=goto)

    def next_iteration(self, data: object = None, task_id: str | None = None) -> str:
        """Queue one more pass of the running task; see `TaskExecutionContext.next_iteration`.

        Raises:
            ValueError: When no task runs, or the task is not in the graph.
            CycleLimitExceededError: When the limit is reached.
        """
        return asking.next_iteration(self, self.current_task_context, task_id or self.current_task_id, data)

    def terminate_workflow(self, message: str) -> None:
        """End the run normally after the running task."""
        asking.end(self, self.current_task_context, Control.TERMINATE, message)

    def cancel_workflow(self, message: str) -> None:
        """End the run with `GraflowWorkflowCanceledError` after the running task."""
        asking.end(self, self.current_task_context, Control.CANCEL, message)

    def request_checkpoint(self, metadata: dict[str, Any] | None = None, *, path: str | Path | None = None) -> None:
        """Ask the engine to save the run after the current task."""
        asking.checkpoint_later(self, metadata, path)

    def clear_checkpoint_request(self) -> None:
        self.requests.checkpoint = None

    @property
    def waiting(self) -> list[OpenQuestion]:
        """The questions to people that the run waits for, once it has stopped for that."""
        return list(self.requests.waiting)

    @property
    def feedback_manager(self) -> FeedbackManager:
        """Who keeps the questions that tasks ask people; made when it is first needed, and shared by all branches.

        By default they are files for a channel in memory (below `config["data_dir"]`), and in Redis, with the settings
        of the channel, for one in Redis.
        """
        root = self.root
        if root.questions is None and root.called_by is not None:
            outer: FeedbackManager = root.called_by.execution_context.feedback_manager
            return outer
        return questions_of(root).manager(root, root.ledger.channel if root.flow is None else None)

    @feedback_manager.setter
    def feedback_manager(self, manager: FeedbackManager | None) -> None:
        questions_of(self.root).assign(manager)

    # -- groups and branches ---------------------------------------------------------------------------------------

    def open_group(self, group_id: str, tasks: Sequence[Executable]) -> GroupRun:
        """Begin one execution of a group, or go on with an interrupted one; coordinators run and close it."""
        asking.publish_writes(self)
        key = self.groups.key_of(self.session_id, group_id)
        members = tasks if type(tasks) is MappedMembers else list(tasks)
        run = self.groups.open[group_id] = GroupRun(self, group_id, key, members, *self.groups.go_on(key))
        return run

    def surroundings(self, group_id: str = "") -> Surroundings:
        """What the branches of a group inherit of this run."""
        ledger, flow = self.ledger, self.root.flow
        told = {} if flow is None else flow.told(self)
        return self._around.changed(
            group_id=group_id,
            session_id=self.session_id,
            max_steps=ledger.steps_left,
            counts_repeats=type(ledger.max_steps) is DefaultMaxSteps,
            max_cycles=ledger.cycles.default_max_cycles,
            max_retries=ledger.retries.default_max_retries,
            flow=told,
        )

    def create_branch_context(self, branch_id: str, around: Surroundings | None = None) -> Self:
        """A context for one member: own session, queue, counts and private writes over this context's channel.

        `around` is what `surroundings` said for all branches of a group.
        """
        around = around or self.surroundings()
        session_id = around.session_of(branch_id)
        channel = BranchChannel(self.ledger.channel.for_branch(branch_id))
        branch = type(self)(self.graph, parent_context=self, session_id=session_id, channel=channel, around=around)
        branch.agenda.start_node = branch_id if branch_id in self.graph.succ else None
        branch.groups.visit_path = self.groups.visit_path
        return branch

    def join(self, parent: Self) -> None:
        """Become a branch of a run in this process, and share what is the same for all of its branches."""
        self.parent_context = parent
        if self.graph is not parent.graph:
            self.graph.stands_for = parent.graph
        self.ledger.join(parent.ledger)
        self.engine, self.holdings = parent.engine, parent.holdings
        try:
            self.tracer = branch_listener(parent.tracer, parent._around.trace_id)
        except Exception:  # noqa: BLE001 - as `tell`, whose price every member would pay
            _log.exception("Tracing hook clone failed")
            self.tracer = parent.tracer

    def merge_results(self, sub_context: Self) -> None:
        """Take over what a branch wrote, ran and counted; only keys that it wrote change."""
        if isinstance(sub_context.ledger.channel, BranchChannel):
            apply_writes(self.ledger.channel, sub_context.ledger.channel.writes())
        done = sub_context.ledger
        self.ledger.add(done.completed, done.steps, done.cycles.cycle_counts, done.retries.retry_counts)

    def mark_branch_completed(self, branch_id: str) -> None:
        self.mark_task_completed(branch_id)

    # -- keeping ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in _NOT_KEPT}
        frame = self.frames[0] if self.frames else None
        return kept | {"saved_agenda": self.agenda.saved(frame)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("saved_agenda")
        self.__dict__.update(state)
        self._set_up()
        self.tracer, self.holdings = combine(None), Holdings()
        self.agenda = Agenda.from_saved(self, saved)

    def save(self, path: str | Path) -> None:
        """Write the context to a file with cloudpickle."""
        saving.write(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a context that `save` wrote. Only for files that you trust: loading runs code.

        Raises:
            FileNotFoundError: When there is no such file.
            pickle.UnpicklingError: When it holds something else.
        """
        context = saving.read(path)
        if not isinstance(context, cls):
            raise pickle.UnpicklingError(f"{path} holds a {type(context).__qualname__}, not a context")
        return context

    def get_checkpoint_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is plain data; results and channel values are not in it."""
        return saving.plain_state(self)


def create_execution_context(
    start_node: str = "ROOT", max_steps: int = 10, tracer: Tracer | Sequence[Tracer] | None = None
) -> ExecutionContext:
    """A context over a graph of one task, which is queued; with a listener, or several."""
    graph = TaskGraph()
    graph.add_node(Task(start_node, register_to_context=False))
    return ExecutionContext(graph, start_node, max_steps, tracer=tracer)


def execute_with_cycles(graph: TaskGraph, start_node: str, max_steps: int = 10) -> None:
    """Run from a node; reaching `max_steps` gives a warning only."""
    upward.engine().execute_with_cycles(graph, start_node, max_steps)
