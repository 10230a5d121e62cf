"""One execution of a group: runs its members here, keeps their outcomes, and hands them to the run in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from graflow.core.branches.given import Given, GivenRows, given_outcome
from graflow.core.branches.outcome import Branch, BranchOutcome, OpenQuestion
from graflow.core.branches.ownership import branch_nodes
from graflow.core.branches.scope import BranchScope
from graflow.core.bulk.garbage import no_collections
from graflow.core.handler import TaskResult
from graflow.core.handlers.group_policy import accepts_successes
from graflow.core.nodes.columns import MappedMembers, ids_in
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.keeping import Recalled
from graflow.core.run.failures import forget_locals
from graflow.core.run.members.branching import (
    BranchRun,
    execute_branch,
    execute_branch_async,
    follow_outcomes,
    merge_outcomes,
    merge_values,
)
from graflow.core.run.members.early_end import EarlyEnding, left_out, raise_if_stopped
from graflow.core.run.recorded.recalling import facts_of_arrived, recalled_members
from graflow.text.shown import get_logger
from graflow.trace.notify import is_silent, tell

_log = get_logger(__name__)
_NOT_EARLY: Final = EarlyEnding(None, ())


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
        return self._run._canceled or self._run.has_enough or (outer is not None and outer.is_cancelled())

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

    Attributes:
        member_ids: Their ids.
        recalled: Members that were given a kept value instead of being sent elsewhere.
    """

    def __init__(
        self,
        context: BranchRun,
        group_id: str,
        run_key: str,
        members: Sequence[Executable],
        finished: dict[int, BranchOutcome],
        interrupted: dict[int, BranchRun],
    ) -> None:
        self.context = context
        self.group_id = group_id
        self.run_key = run_key
        self.members = members
        self.member_ids = ids_in(members)
        self._finished = finished
        self._branches = interrupted
        self._lock = threading.Lock()
        self._rows = GivenRows(finished, self._lock)  # members that have ended as well
        self._own_nodes = branch_nodes(context.graph, group_id, members)
        self._around = context.surroundings(group_id)
        self._canceled = self._abandoned = False
        self._early = _NOT_EARLY
        self._waiting: dict[int, list[OpenQuestion]] = {}
        self.recalled: set[int] = set()
        self._sent: dict[int, Recalled] = {}  # with a cache, by index
        self._visit_path = f"{run_key.rpartition(':')[2]}."
        self._enclosing: frozenset[str] = context.agenda.joins.enclosing | {group_id}
        tell(context.tracer.on_parallel_group_start, group_id, self.member_ids, context)

    @property
    def columns(self) -> MappedMembers | None:
        """The members in column form, where each is as it was made, drags nothing along and has not run before."""
        members, counts = self.members, self.context.ledger.cycles.cycle_counts
        if type(members) is not MappedMembers or self._own_nodes or not members.is_untouched:
            return None
        return None if any(task_id in members.ids for task_id in counts) else members

    @property
    def canceled(self) -> bool:
        """Whether no other member is started: one cancelled the run, the policy has seen enough, or nobody waits."""
        return self._canceled or self._early.end is not None

    @property
    def has_enough(self) -> bool:
        """Whether the policy ends the group without waiting for members that run."""
        return self._early.end is not None and self._early.end.leaves_running

    @property
    def finished(self) -> dict[int, BranchOutcome]:
        """Outcomes by index of the members that have ended."""
        self._rows.settle()
        with self._lock:
            return self._finished.copy()

    def judge_by(self, policy: Any) -> None:
        """Ask this policy after each member that ends whether it has seen enough."""
        self._early = EarlyEnding(policy, self._finished.values())

    def pending(self) -> list[int]:
        """Indices of the members that have not ended."""
        self._rows.settle()
        return [index for index in range(len(self.members)) if index not in self._finished]

    def recall(self) -> None:
        """Give members that are to be sent elsewhere what is kept of them; what others give is kept when it comes."""
        for index, recalled in recalled_members(self.context, self.members, self._own_nodes, self.pending):
            if not recalled.is_hit:
                self._sent[index] = recalled
                continue
            outcome = given_outcome(self.member_ids[index], recalled.value, 0.0, time.time())
            outcome.facts = recalled.facts
            self.recalled.add(index)
            self.record(index, outcome)
            tell(self.context.tracer.on_member_end, self.group_id, outcome.task_id, self.context, error=None, ran={})

    def finished_count(self) -> int:
        return len(self._finished) + self._rows.count()

    def open_branches(self) -> dict[int, BranchRun]:
        """Contexts by index of the members that have begun here and not succeeded."""
        with self._lock:
            return self._branches.copy()

    def branch(self, index: int) -> Branch:
        """What this member drags along."""
        graph = self.context.graph
        member = self.members[index]
        tasks = {member.task_id: member}
        edges: list[tuple[str, str]] = []
        for task_id in self._own_nodes[index] or (member.task_id,):
            if task_id != member.task_id:
                tasks[task_id] = graph.get_node(task_id)
            inside = set(graph.get_parallel_group_members(task_id))
            edges += [(task_id, target) for target in graph.successors(task_id) if target not in inside]
        counts = self.context.ledger.cycles.cycle_counts
        return Branch(member, index, tasks, edges, {task_id: counts[task_id] for task_id in tasks if task_id in counts})

    def run(self, index: int) -> BranchOutcome:
        """Run a member and its branch here and record the outcome; the member's own failure is part of it."""
        member = self.members[index]
        branch = self._branch_of(index, member)
        return self._ended(index, branch, execute_branch(branch, member))

    def can_start(self, index: int) -> bool:
        """Whether a member is a coroutine that needs no thread, and `start` can run it."""
        engine = self.context.engine
        return (
            engine is not None and engine.event_loop.can_start() and engine.can_await(self.members[index], self.context)
        )

    def start(self, index: int, ended: Callable[[BaseException | None], None]) -> None:
        """As `run`, on the event loop of the run; returns at once.

        Args:
            index: The member.
            ended: Called on the event loop when the outcome is recorded, with an error where that failed.
        """
        self.context.engine.event_loop.start(self._run_async(index), ended)

    async def _run_async(self, index: int) -> None:
        member = self.members[index]
        branch = self._branch_of(index, member)
        self._ended(index, branch, await execute_branch_async(branch, member))

    def _ended(self, index: int, branch: BranchRun, outcome: BranchOutcome) -> BranchOutcome:
        if branch.graph is not self.context.graph and index not in self._finished:
            self.context.graph.take_over(branch.graph)
        self.record(index, outcome)
        return outcome

    def _branch_of(self, index: int, member: Executable) -> BranchRun:
        """The context that a member goes on in, or starts in."""
        branch = self._branches.get(index)
        if branch is None:
            branch = self._begin(index, member)
        else:
            branch.join(self.context)
        branch.member = LocalMember(self, index)
        return branch

    def _begin(self, index: int, member: Executable) -> BranchRun:
        """The context of a member that starts from its beginning."""
        parent, task_id = self.context, member.task_id
        parent.graph.unfold()
        branch = parent.create_branch_context(task_id, self._around)
        own = self._own_nodes.get(index) or {task_id}
        branch.agenda.scope = BranchScope(own, parent.graph)
        branch.agenda.joins.enclosing = self._enclosing
        branch.groups.visit_path = self._visit_path
        counts = parent.ledger.cycles.cycle_counts
        for task_id in own & counts.keys():
            branch.ledger.cycles.cycle_counts[task_id] = counts[task_id]
        branch.agenda.add(member)
        self._branches[index] = branch
        return branch

    def record(self, index: int, outcome: BranchOutcome, worker: str | None = None, attempts: int = 1) -> None:
        """Keep the outcome of a member, wherever it ran; the first one stays.

        Args:
            index: The member.
            outcome: What came of it.
            worker: Where it ran, where that is not here.
            attempts: How often it was begun.
        """
        if outcome.requests.waiting and not outcome.canceled:
            with self._lock:  # its branch is kept: a checkpoint goes on with it at the task that asked
                self._waiting[index] = outcome.requests.waiting
            return
        if self._rows.rows:
            self._rows.settle()
        sent = self._sent.pop(index, None)
        if sent is not None and index not in self._finished:
            outcome.facts = facts_of_arrived(sent, outcome)
        recording = self.context.recording
        if recording is not None and recording.records(self.group_id) and index not in self._finished:
            recording.member_ended(index, outcome, worker, attempts)
        with self._lock:
            if self._abandoned:
                return
            if outcome.success:
                # A branch that failed is kept: a checkpoint goes on with it at the task that failed.
                branch = self._branches.pop(index, None)
                if branch is not None:
                    branch.agenda.end()
            if index not in self._finished:
                self._finished[index] = outcome
                if self._early.is_awaited:
                    self._early.count(outcome)
        if outcome.canceled:
            self._canceled = True

    def record_row(self, row: Given, worker: str | None = None, attempts: int = 1) -> bool:
        """Keep what came of members in a row, where nobody has to hear of each of them; whether it was kept.

        Args:
            row: The members.
            worker: Where they ran.
            attempts: How often they were begun.
        """
        if self._sent or self._branches or self._early.is_awaited:
            return False
        if self._finished and not self._finished.keys().isdisjoint(range(row.first, row.first + len(row.ids))):
            return False
        recording = self.context.recording
        is_recorded = recording is not None and recording.records(self.group_id)
        if is_recorded and not recording.block_ended(row, worker, attempts):
            return False
        with self._lock:
            if not self._abandoned:
                self._rows.add(row)
        return True

    def settle(self) -> None:
        """Have an outcome of its own for each member that has ended, for whoever looks at one or saves them."""
        self._rows.settle()

    def abandon(self) -> None:
        """End the execution as it is, because its coordinator gave up; branches stop after the task they are in."""
        self._rows.settle()
        with self._lock:
            self._abandoned = self._canceled = True
            for branch in list(self._branches.values()):
                branch.ledger.max_steps = 0
            results = {outcome.task_id: outcome.as_result() for _, outcome in sorted(self._finished.items())}
        context = self.context
        tell(context.tracer.on_parallel_group_end, self.group_id, self.member_ids, context, results=results)

    def close(self, policy: Any) -> None:
        """Take over what the members did, in member order, apply the policy, then what they asked of the workflow.

        Raises:
            GraflowWorkflowCanceledError: When a member cancelled the workflow.
            MaxStepsExceededError: When a branch has used up the steps that the run had left.
            RunWaits: When a member waits for the answer to a question.
            ParallelGroupError: When the policy refuses the results.
        """
        context = self.context
        self._leave_out()
        if self._close_as_rows(policy):
            return
        self._rows.settle()
        outcomes = [self._finished[index] for index in sorted(self._finished)]
        # From here on to the end of the group's step the run is between two states: nobody may save it.
        context.agenda.stand_still(self.group_id)
        with no_collections(), context.ledger.channel.derived():  # which follows from the outcomes, recorded one by one
            merge_outcomes(context, outcomes, self.member_ids)
            self._forget_earlier_visits()
            results = {outcome.task_id: outcome.as_result() for outcome in outcomes}
        context.groups.close(self)
        tell(context.tracer.on_parallel_group_end, self.group_id, self.member_ids, context, results=results)
        has_ended = False
        try:
            self._judge(policy, outcomes, results)
            has_ended = True
        finally:
            if not has_ended:  # by an error or an interruption
                self._keep_successes()

    def _close_as_rows(self, policy: Any) -> bool:
        """The same where all have given a value and nobody looks at one of them; whether that was so."""
        context, rows = self.context, self._rows.whole(len(self.members))
        if not (rows and is_silent(context.tracer) and accepts_successes(policy)):
            return False
        context.agenda.stand_still(self.group_id)
        with no_collections(), context.ledger.channel.derived():
            for row in rows:
                merge_values(context, row.ids, row.values)
        context.groups.close(self)
        follow_outcomes(context, [])
        return True

    def _leave_out(self) -> None:
        """End what has not ended, when the policy has seen enough; members that run stop after the task they are in."""
        end = self._early.end
        if end is None or self._canceled:
            return
        for index in self.pending():
            self.record(index, left_out(self.members[index].task_id, end.why))
            branch = self._branches.pop(index, None)
            if branch is not None:
                branch.ledger.max_steps = 0

    def _judge(self, policy: Any, outcomes: list[BranchOutcome], results: dict[str, TaskResult]) -> None:
        """Raise what the end of the group has to be, else do what the members asked for."""
        context = self.context
        waiting = [
            asked for index in sorted(self._waiting) if index not in self._finished for asked in self._waiting[index]
        ]
        raise_if_stopped(context, outcomes, waiting)
        policy.on_group_finished(self.group_id, self.members, results, context)
        for outcome in outcomes:
            if outcome.error is not None:
                forget_locals(outcome.error)
        follow_outcomes(context, outcomes)

    def _keep_successes(self) -> None:
        """Have the group's next execution run only what has not succeeded, unless a task ran this one in its body."""
        context, frame = self.context, self.context.current_task_context
        if frame is None or frame.task_id != self.group_id:
            return
        branches = self.open_branches()
        for index, branch in branches.items():
            if index in self._waiting:
                continue  # nothing of it has been taken over
            branch.ledger.steps, branch.requests.nodes = 0, []  # the rest of its books counts no task twice
        good = {index: outcome.merged() for index, outcome in self.finished.items() if outcome.success}
        context.groups.keep(context.groups.key_of(context.session_id, self.group_id), good, branches)

    def _forget_earlier_visits(self) -> None:
        """Take away what an earlier visit left of tasks that this one did not come to."""
        for index, member in enumerate(self.members):
            outcome = self._finished.get(index)
            if index in self._waiting and outcome is None:
                continue  # it goes on
            if outcome is None or not outcome.success:
                came_to = {task_id for task_id, _ in outcome.results} if outcome is not None else set()
                for task_id in (self._own_nodes[index] or {member.task_id}) - came_to:
                    self.context.ledger.forget_result(task_id)
