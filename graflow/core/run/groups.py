"""What a run does with groups: opens their executions, makes branches, takes over what branches did."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Self

from graflow.channels.branch import BranchChannel, apply_writes
from graflow.core.cycle import CycleController
from graflow.core.nodes.executable import Executable
from graflow.core.retry import RetryController
from graflow.core.run.branch import BranchOutcome, GroupRun
from graflow.core.run.joins import Joins
from graflow.core.run.requests import RunRequests
from graflow.core.run.task_context import TaskExecutionContext

_log = logging.getLogger(__name__)


class RunGroups(RunRequests):
    """The state of a run, and its groups."""

    # -- executions of groups --------------------------------------------------------------------------------------

    def open_group(self, group_id: str, tasks: Sequence[Executable]) -> GroupRun:
        """Begin one execution of a group, or go on with an interrupted one; coordinators run and close it."""
        visits = f"{self.visit_path}{self._group_visits.get(group_id, 0)}"
        key = f"{self.session_id}:{group_id}:{visits}"
        finished = self.finished_members[key] = {
            index: outcome for index, outcome in self.finished_members.get(key, {}).items() if outcome.success
        }
        run = GroupRun(self, group_id, key, list(tasks), finished, self.saved_branches.pop(key, {}))
        self.open_groups[group_id] = run
        return run

    def group_closed(self, run: GroupRun) -> None:
        """One execution of a group has ended; the next one has another key."""
        self.open_groups.pop(run.group_id, None)
        self.finished_members.pop(run.run_key, None)
        self._group_visits[run.group_id] = self._group_visits.get(run.group_id, 0) + 1

    def abandon_group(self, group_id: str) -> None:
        """End an execution that its coordinator left open; what its members finished counts when it is repeated."""
        run = self.open_groups.pop(group_id, None)
        if run is not None:
            run.abandon()

    def follow_outcomes(self, outcomes: Sequence[BranchOutcome]) -> None:
        """Do what the members of a group asked of this run, in member order."""
        frame = self.current_task_context
        exits = [edge for outcome in outcomes for edge in outcome.exits]
        jumps = list(dict.fromkeys(jump for outcome in outcomes for jump in outcome.jumps))
        for jump in jumps:
            if self.in_scope(jump):
                self.joins.forget(jump)
                self.queue_for(frame, self.graph.get_node(jump))
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
        """Follow the edges out of a group's branches, then its own; what a member jumped to is queued already."""
        jumped = frame.jumped or set()
        edges = [*(frame.exits or ()), *((group_id, target) for target in self.joins.targets(group_id, self.graph))]
        return self.joins.follow([edge for edge in edges if edge[1] not in jumped], self.graph, self)

    # -- branches --------------------------------------------------------------------------------------------------

    def enter_branch(self, scope: Any, joins: Joins) -> None:
        """Confine this context to the nodes of a branch."""
        self._scope = scope
        self.joins = joins

    def create_branch_context(self, branch_id: str) -> Self:
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
        branch.channel = BranchChannel(self.channel)
        branch.cycle_controller = CycleController(self.cycle_controller.default_max_cycles)
        branch.retry_controller = RetryController(self.retry_controller.default_max_retries)
        branch.visit_path = self.visit_path
        branch._prepare()
        branch.start_node = branch_id if branch_id in self.graph.succ else None
        branch.join_parent(self)
        return branch

    def join_parent(self, parent: Self) -> None:
        """Share with the parent what is the same for all of its branches."""
        self.parent_context = parent
        self.cycle_controller.node_max_cycles = parent.cycle_controller.node_max_cycles
        self.retry_controller.node_max_retries = parent.retry_controller.node_max_retries
        self.retry_controller.node_policies = parent.retry_controller.node_policies
        self.engine = parent.engine
        self.held, self.looks_first = parent.held, bool(parent.held)
        self.workflow_name = parent.workflow_name
        self.tracer = parent.tracer
        try:
            self.tracer = parent.tracer.clone(parent.trace_id)
        except Exception:  # noqa: BLE001 - a listener is user code
            _log.exception("Tracing hook clone failed")

    def merge_results(self, branch: Self) -> None:
        """Take over what a branch wrote, ran and counted; only keys that it wrote change."""
        if isinstance(branch.channel, BranchChannel):
            apply_writes(self.channel, branch.channel.writes())
        for task_id in branch._completed:
            self.mark_task_completed(task_id)
        self.steps += branch.steps
        counts = self.cycle_controller.cycle_counts
        for task_id, count in branch.cycle_controller.cycle_counts.items():
            counts[task_id] = counts.get(task_id, 0) + count
        self.note_retries(branch.retry_controller.retry_counts)

    def note_retries(self, retry_counts: dict[str, int]) -> None:
        """Keep how often tasks of a branch were retried; their next visit has its full budget."""
        self.retry_controller.retry_counts.update(retry_counts)
        self._retried.update(retry_counts)

    def mark_branch_completed(self, branch_id: str) -> None:
        self.mark_task_completed(branch_id)
