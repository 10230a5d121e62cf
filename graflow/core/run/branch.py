"""Members of a group: what each one drags along, what came of it, and how the parent takes that over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from graflow.channels.branch import ChannelWrite, apply_writes
from graflow.channels.locks import as_branch
from graflow.core.branches.ownership import branch_nodes
from graflow.core.branches.scope import BranchScope
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskResult
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.executable import Executable, TaskElsewhere
from graflow.core.run.joins import Joins
from graflow.core.run.task_context import base_id_of
from graflow.errors_as_data import message_of
from graflow.exceptions import GraflowWorkflowCanceledError, MaxStepsExceededError, TaskFailedError
from graflow.protocols import upward
from graflow.trace.notify import tell

_log = logging.getLogger(__name__)


@dataclass
class BranchOutcome:
    """What the branch of one member did, as plain data.

    Attributes:
        task_id: The member.
        success: Whether the member and everything in its branch succeeded.
        value: The member's own value.
        error: Why the branch failed.
        duration: Seconds.
        timestamp: When the branch ended, in seconds since the epoch.
        results: Value or exception of every task of the branch, in order of completion.
        completed: Ids of the tasks that completed, in order.
        steps: How many tasks completed.
        cycle_counts: Executions of each task of the branch.
        retry_counts: Retries of each task of the branch.
        writes: What the branch wrote to the channel, results aside; taken over when it succeeded.
        nodes: Nodes that the branch added, each with the task that asked for it, if one did.
        exits: Edges that the branch followed to nodes that are not its own.
        jumps: Nodes outside the branch that a task of it jumped to.
        terminated: The message of a task that ended the workflow normally.
        canceled: Whether a task of the branch cancelled the workflow.
        cancel_message: The message of that task.
        cancel_task_id: The id of that task.
        checkpoint: Metadata and path of a checkpoint that the branch asked for and could not write itself.
        retry_in: Seconds after which the member is to be run again from its beginning, since it failed and its wait is
            left to whoever ran it; this is no outcome yet then.
    """

    task_id: str
    success: bool
    value: Any = None
    error: BaseException | None = None
    duration: float = 0.0
    timestamp: float = 0.0
    results: list[tuple[str, Any]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    steps: int = 0
    cycle_counts: dict[str, int] = field(default_factory=dict)
    retry_counts: dict[str, int] = field(default_factory=dict)
    writes: list[ChannelWrite] = field(default_factory=list)
    nodes: list[tuple[str, list[str]]] = field(default_factory=list)
    exits: list[tuple[str, str]] = field(default_factory=list)
    jumps: list[str] = field(default_factory=list)
    terminated: str | None = None
    canceled: bool = False
    cancel_message: str | None = None
    cancel_task_id: str | None = None
    checkpoint: dict[str, Any] | None = None
    retry_in: float | None = None

    def as_result(self) -> TaskResult:
        """What policies and listeners see of it."""
        return TaskResult(
            self.task_id,
            self.success,
            error=self.error,
            error_message=None if self.error is None else message_of(self.error),
            duration=self.duration,
            timestamp=self.timestamp,
        )


@dataclass(frozen=True)
class Branch:
    """What a member drags along.

    Attributes:
        member: The member itself.
        index: Its place in the group.
        tasks: All nodes that belong to its branch by id, the member first.
        edges: Edges that start in the branch, those that leave it included.
        cycle_counts: Executions so far of the tasks in the branch.
    """

    member: Executable
    index: int
    tasks: dict[str, Executable]
    edges: list[tuple[str, str]]
    cycle_counts: dict[str, int]


class LocalMember:
    """What a member in this process may ask about itself."""

    __slots__ = ("_run", "attempt", "index", "run_id")

    def __init__(self, run: GroupRun, index: int) -> None:
        self._run = run
        self.run_id = run.run_key
        self.index = index
        self.attempt = 1

    def is_cancelled(self) -> bool:
        outer = self._run.context.member
        return self._run.canceled or (outer is not None and outer.is_cancelled())

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        _log.info("Member %s of %s: %s of %s %s", self.index, self.run_id, done, total, message or "")


class GroupRun:
    """One execution of a group.

    Args:
        context: The context that the group runs in.
        group_id: The id of the group's node.
        run_key: `<session>:<group>:<visit>`, the same again when the run is resumed.
        members: The members, in order.
        finished: Outcomes by index of members that have succeeded already; the context keeps it for checkpoints.
        interrupted: Branches by index of members that a resumed run goes on with.
    """

    def __init__(
        self,
        context: Any,
        group_id: str,
        run_key: str,
        members: list[Executable],
        finished: dict[int, BranchOutcome],
        interrupted: dict[int, Any],
    ) -> None:
        self.context = context
        self.group_id = group_id
        self.run_key = run_key
        self.members = members
        self._finished = finished
        self._branches = interrupted
        self._lock = threading.Lock()
        self._own_nodes = branch_nodes(context.graph, group_id, members)
        self._canceled = self._abandoned = False
        self._visit_path = f"{run_key.rpartition(':')[2]}."
        self._enclosing: frozenset[str] = context.joins.enclosing | {group_id}
        tell(context.tracer.on_parallel_group_start, group_id, self.member_ids, context)

    @property
    def member_ids(self) -> list[str]:
        return [member.task_id for member in self.members]

    @property
    def canceled(self) -> bool:
        """Whether a member cancelled the workflow, or nobody waits any more, so that no other is started."""
        return self._canceled

    @property
    def finished(self) -> dict[int, BranchOutcome]:
        """Outcomes by index of the members that have ended."""
        with self._lock:
            return self._finished.copy()

    def pending(self) -> list[int]:
        """Indices of the members that have not ended."""
        return [index for index in range(len(self.members)) if index not in self._finished]

    def finished_count(self) -> int:
        return len(self._finished)

    def open_branches(self) -> dict[int, Any]:
        """Contexts by index of the members that have begun here and not succeeded."""
        with self._lock:
            return self._branches.copy()

    def branch(self, index: int) -> Branch:
        """What this member drags along."""
        graph: TaskGraph = self.context.graph
        member = self.members[index]
        tasks = {member.task_id: member}
        edges: list[tuple[str, str]] = []
        for task_id in self._own_nodes[index] or (member.task_id,):
            if task_id != member.task_id:
                tasks[task_id] = graph.get_node(task_id)
            inside = set(graph.get_parallel_group_members(task_id))
            edges += [(task_id, target) for target in graph.successors(task_id) if target not in inside]
        counts = self.context.cycle_controller.cycle_counts
        return Branch(member, index, tasks, edges, {task_id: counts[task_id] for task_id in tasks if task_id in counts})

    def run(self, index: int) -> BranchOutcome:
        """Run a member and its branch here and record the outcome; the member's own failure is part of it."""
        branch = self._branches.get(index)
        if branch is None:
            branch = self._begin(index)
        else:
            branch.join_parent(self.context)
        branch.member = LocalMember(self, index)
        outcome = execute_branch(branch, self.members[index])
        self.record(index, outcome)
        return outcome

    def _begin(self, index: int) -> Any:
        """The context of a member that starts from its beginning."""
        member, parent = self.members[index], self.context
        branch = parent.create_branch_context(member.task_id)
        own = self._own_nodes[index] or {member.task_id}
        branch.enter_branch(BranchScope(own, parent.graph), Joins(self._enclosing))
        branch.visit_path = self._visit_path
        counts = parent.cycle_controller.cycle_counts
        if counts:
            seed = {task_id: counts[task_id] for task_id in own if task_id in counts}
            branch.cycle_controller.cycle_counts.update(seed)
        branch.add_to_queue(member)
        self._branches[index] = branch
        return branch

    def record(self, index: int, outcome: BranchOutcome) -> None:
        """Keep the outcome of a member, wherever it ran; the first one stays."""
        with self._lock:
            if self._abandoned:
                return
            if outcome.success:
                # A branch that failed is kept: a checkpoint goes on with it at the task that failed.
                self._branches.pop(index, None)
            self._finished.setdefault(index, outcome)
        if outcome.canceled:
            self._canceled = True

    def abandon(self) -> None:
        """End the execution as it is, because its coordinator gave up; branches stop after the task they are in."""
        with self._lock:
            self._abandoned = self._canceled = True
            for branch in list(self._branches.values()):
                branch.max_steps = 0
            results = {outcome.task_id: outcome.as_result() for _, outcome in sorted(self._finished.items())}
        context = self.context
        tell(context.tracer.on_parallel_group_end, self.group_id, self.member_ids, context, results=results)

    def close(self, policy: Any) -> None:
        """Take over what the members did, in member order, apply the policy, then what they asked of the workflow.

        Raises:
            GraflowWorkflowCanceledError: When a member cancelled the workflow.
            MaxStepsExceededError: When a branch has used up the steps that the run had left.
            ParallelGroupError: When the policy refuses the results.
        """
        context = self.context
        outcomes = [self._finished[index] for index in sorted(self._finished)]
        for outcome in outcomes:
            merge_outcome(context, outcome)
        results = {outcome.task_id: outcome.as_result() for outcome in outcomes}
        context.group_closed(self)
        tell(context.tracer.on_parallel_group_end, self.group_id, self.member_ids, context, results=results)
        for outcome in outcomes:
            if outcome.canceled:
                raise GraflowWorkflowCanceledError(
                    outcome.cancel_message or "", outcome.cancel_task_id or outcome.task_id
                )
        stopped = [outcome.task_id for outcome in outcomes if isinstance(outcome.error, MaxStepsExceededError)]
        if stopped:
            raise MaxStepsExceededError(context.max_steps, stopped)
        policy.on_group_finished(self.group_id, self.members, results, context)
        context.follow_outcomes(outcomes)


def execute_branch(branch: Any, member: Executable) -> BranchOutcome:
    """Run a branch context to its end and describe what it did."""
    engine = branch.engine
    own_engine = engine is None
    if own_engine:
        engine = branch.engine = upward.engine()
    if branch.results_log is None:
        branch.results_log = {}
    outcome = BranchOutcome(member.task_id, success=True)
    begun = time.perf_counter()
    try:
        with as_branch():
            engine.run_branch(branch)
    except GraflowWorkflowCanceledError as error:
        outcome.success, outcome.error, outcome.canceled = False, error, True
        outcome.cancel_message, outcome.cancel_task_id = error.message, error.task_id
    except Exception as error:  # noqa: BLE001 - a member's failure belongs to its outcome
        outcome.success, outcome.error = False, _original(error, branch)
    finally:
        if own_engine:
            engine.close()
    if branch.retry_in is not None:
        outcome.success, outcome.retry_in = False, branch.retry_in
        outcome.error = branch.retry_controller.get_last_error(member.task_id)
    outcome.duration = time.perf_counter() - begun
    outcome.timestamp = time.time()
    _describe(branch, outcome)
    return outcome


def _describe(branch: Any, outcome: BranchOutcome) -> None:
    log: dict[str, Any] = branch.results_log
    if outcome.error is not None and outcome.task_id not in log:
        log[outcome.task_id] = outcome.error
    outcome.value = log.get(outcome.task_id) if outcome.success else None
    outcome.results = list(log.items())
    outcome.completed = branch.completed_tasks
    outcome.steps = branch.steps
    outcome.cycle_counts = branch.cycle_controller.cycle_counts
    outcome.retry_counts = branch.retry_controller.retry_counts
    outcome.writes = [
        write
        for write in branch.channel.writes()
        if not (write.key.endswith(RESULT_SUFFIX) and write.key[: -len(RESULT_SUFFIX)] in log)
    ]
    outcome.nodes = branch.dynamic_nodes
    outcome.exits = branch.exits
    outcome.jumps = branch.jumps_out
    if branch.stop_reason == "terminated":
        outcome.terminated = branch.ctrl_message or ""
    if branch.checkpoint_requested:
        outcome.checkpoint = {
            "metadata": branch.checkpoint_request_metadata,
            "path": branch.checkpoint_request_path,
        }


def merge_outcome(context: Any, outcome: BranchOutcome) -> None:
    """Take over one outcome: results and counts always, channel writes when the branch succeeded."""
    for task_id, value in outcome.results:
        context.set_result(task_id, value)
    if outcome.success and outcome.writes:
        age = time.time() - outcome.timestamp if outcome.timestamp else 0.0
        apply_writes(context.channel, _aged(outcome.writes, max(age, 0.0)))
    for task_id in outcome.completed:
        context.mark_task_completed(task_id)
    context.steps += outcome.steps
    context.cycle_controller.cycle_counts.update(outcome.cycle_counts)
    context.note_retries(outcome.retry_counts)
    for task_id, parents in outcome.nodes:
        # Nodes that a worker added are known here by their id alone; they have run already.
        if not context.graph.has_node(task_id):
            context.graph.add_name(TaskElsewhere(task_id))
            for parent in parents:
                is_iteration = base_id_of(task_id) != task_id
                tell(context.tracer.on_dynamic_task_added, task_id, parent_task_id=parent, is_iteration=is_iteration)
        context.dynamic_nodes.append((task_id, parents))


def _aged(writes: list[ChannelWrite], age: float) -> Iterator[ChannelWrite]:
    """The writes with the time to live that they have left `age` seconds after the branch ended."""
    for write in writes:
        if write.ttl is None:
            yield write
        elif write.ttl > age:
            yield replace(write, ttl=write.ttl - age)
        else:
            yield ChannelWrite(write.key, None, deleted=True)


def _original(error: Exception, branch: Any) -> BaseException:
    """The task's own exception, without the wrapper that the engine put around it for this branch."""
    if isinstance(error, TaskFailedError) and error.run_id == branch.session_id and error.cause is not None:
        return error.cause
    return error
