"""What a run knows: its limits and counts, what has completed, what waits, what it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from graflow.channels.base import Channel
from graflow.core.branches.scope import OutsideScope
from graflow.core.cycle import CycleController
from graflow.core.graph import TaskGraph
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.retry import RetryController
from graflow.core.run.branch import BranchOutcome, GroupRun
from graflow.core.run.joins import Joins
from graflow.core.run.task_context import TaskExecutionContext
from graflow.protocols import Holding, MemberInfo
from graflow.queue.base import TaskSpec
from graflow.queue.memory import InMemoryTaskQueue
from graflow.trace.base import Tracer

_Held = TypeVar("_Held", bound=Holding)


@dataclass
class Delayed:
    """A failed task that waits to be tried again.

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


@dataclass
class Interrupted:
    """What an execution that was cut short had asked for; its entries are in the saved queue.

    Attributes:
        queued: Ids of the tasks that it had queued.
        born: Those of them that it had added to the graph.
    """

    queued: list[str]
    born: list[str]


class RunState:
    """The state of one run; what tasks and groups do to it is added by the classes above this one."""

    session_id: str
    trace_id: str
    graph: TaskGraph
    start_node: str | None
    max_steps: int
    on_max_steps: str
    steps: int
    default_max_retries: int
    channel_backend: str
    config: dict[str, Any]
    parent_context: Self | None
    tracer: Tracer
    cycle_controller: CycleController
    retry_controller: RetryController
    channel: Channel
    visit_path: str

    def _prepare(self) -> None:
        """Everything that starts empty, in a root context and in a branch."""
        self._completed: dict[str, None] = {}
        self._errors_kept: set[str] = set()  # tasks whose stored result is an exception, by failure or by return
        self.returned_elsewhere: Collection[str] = ()  # of the tasks of outer runs, those that returned one
        self._awaits_start = False  # whether the start node was not in the graph yet
        self._retried: set[str] = set()
        self._interrupted: dict[str, Interrupted] = {}
        self._group_visits: dict[str, int] = {}
        self.finished_members: dict[str, dict[int, BranchOutcome]] = {}
        self.saved_branches: dict[str, dict[int, Self]] = {}
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
        self._scope: Any = None
        self._prepare_runtime()

    def _prepare_runtime(self) -> None:
        """What a saved context does not keep."""
        self.task_queue = InMemoryTaskQueue(self)
        self.engine: Any = None
        self.member: MemberInfo | None = None
        self.workflow_name: str | None = None
        self.open_groups: dict[str, GroupRun] = {}
        # Held from the end of one task to the start of the next one, so that whoever saves this run from another
        # thread finds it inside a task, never between two.
        self.step_lock = threading.RLock()
        self.running_spec: TaskSpec | None = None
        self.held: dict[str, Holding] = {}
        # Whether the engine has more to do before the next step than to take it from the queue.
        self.looks_first = False
        self.delayed: list[Delayed] = []
        self._delayed_ids: frozenset[str] = frozenset()
        self._standing_in: dict[str, int] = {}
        # Whether whoever runs this branch takes over a failed task's wait of so many seconds; `retry_in` is set then.
        self.leaves_retry: Callable[[float], bool] | None = None
        self.retry_in: float | None = None
        self._task_execution_stack: list[TaskExecutionContext] = []

    def clear_checkpoint_request(self) -> None:
        self.checkpoint_requested = False
        self.checkpoint_request_metadata: dict[str, Any] | None = None
        self.checkpoint_request_path: str | None = None

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
        state: RunState | None = self
        while state is not None:
            if task_id in state._completed or task_id in state.returned_elsewhere:
                return True
            state = state.parent_context
        return False

    @property
    def returned_errors(self) -> list[str]:
        """Ids of the tasks that have completed with an exception as their value."""
        found: set[str] = set()
        state: RunState | None = self
        while state is not None:
            found.update(state.returned_elsewhere, state._errors_kept.intersection(state._completed))
            state = state.parent_context
        return sorted(found)

    @property
    def current_task_context(self) -> TaskExecutionContext | None:
        """The innermost task that runs in this context now."""
        return self._task_execution_stack[-1] if self._task_execution_stack else None

    @property
    def current_task_id(self) -> str | None:
        return self._task_execution_stack[-1].task_id if self._task_execution_stack else None

    @property
    def root(self) -> Self:
        """The context of the whole run."""
        state = self
        while state.parent_context is not None:
            state = state.parent_context
        return state

    def get_channel(self) -> Channel:
        return self.channel

    def is_completed(self) -> bool:
        """Whether nothing is left to run, or `max_steps` is reached."""
        return self.steps >= self.max_steps or not (self._awaits_start or self._has_work())

    def is_untouched(self) -> bool:
        """Whether nothing has run and nothing waits to."""
        return not (self._completed or self.steps or self._has_work())

    def has_done_nothing(self) -> bool:
        """Whether no task has completed, waits, or has left anything behind that a repetition would have to find."""
        of_groups = self._group_visits or self.finished_members
        is_left = self.dynamic_nodes or self.jumps_out or of_groups or self.checkpoint_requested
        return not (self._completed or self.steps or self._has_work() or is_left)

    def _has_work(self) -> bool:
        return bool(self.joins.waiting or self.delayed) or not self.task_queue.is_empty()

    def in_scope(self, task_id: str) -> bool:
        """Whether the node belongs to this run; a branch has only the nodes of its own."""
        return self._scope is None or self._scope.holds(task_id, self.graph)

    @property
    def elsewhere(self) -> Collection[str]:
        """Ids of the workflow's nodes that this process knows by name only; a branch on a worker has some."""
        if isinstance(self._scope, OutsideScope):
            return self._scope.outside
        return () if self.parent_context is None else self.parent_context.elsewhere

    # -- results ---------------------------------------------------------------------------------------------------

    def set_result(self, task_id: str, result: Any) -> None:
        """Store the value of a task, or the exception it failed with, in the channel under `<id>.__result__`."""
        self.channel.set(task_id + RESULT_SUFFIX, result)
        if isinstance(result, BaseException):
            self._errors_kept.add(task_id)
        if self.results_log is not None:
            self.results_log[task_id] = result

    def get_result(self, task_id: str, default: Any = None) -> Any:
        """What `set_result` stored last; `default` when there is nothing."""
        return self.channel.get(task_id + RESULT_SUFFIX, default)

    def mark_task_completed(self, task_id: str) -> None:
        """Note that a task has completed; the order is that of the first time."""
        self._completed[task_id] = None

    def increment_step(self) -> None:
        """Count one more task that has completed."""
        self.steps += 1

    # -- what is held until the end --------------------------------------------------------------------------------

    @property
    def was_begun(self) -> bool:
        """Whether an earlier execution, maybe of another process, has run a part of it."""
        return bool(self.steps or self.last_checkpoint_path)

    def hold(self, name: str, make: Callable[[], _Held]) -> _Held:
        """What this run holds under a name until its execution ends; made at the first call."""
        with self.step_lock:
            found = self.held.get(name)
            if found is None:
                found = self.held[name] = make()
                self.looks_first = True
            return found  # type: ignore[return-value]  # one name stands for one kind

    def check_held(self) -> None:
        """Raise the error of whatever does not let the run go on."""
        for holding in list(self.held.values()):
            holding.check()

    @property
    def held_error(self) -> Exception | None:
        """Why something that is held does not let the run go on, as far as that is known already."""
        return next((holding.error for holding in list(self.held.values()) if holding.error is not None), None)

    def release_all(self, error: BaseException | None) -> None:
        """Release everything that is held, because the execution has ended, with an error or without.

        Raises:
            Exception: Why the run had to stop, in the place of an error that followed from it.
        """
        held, stopped = list(self.held.values()), self.held_error
        self.held.clear()
        self.looks_first = bool(self.delayed)
        with ExitStack() as releasing:
            for holding in held:
                releasing.callback(holding.release)
        if stopped is not None and stopped is not error and (error is None or isinstance(error, Exception)):
            raise stopped from error
