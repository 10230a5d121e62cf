"""Run the branch of one member away from its workflow, from plain parts: what a worker calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.scope import OutsideScope
from graflow.core.branches.surroundings import Surroundings
from graflow.core.building.scopes import GraphScope, recording_into
from graflow.core.engine import WorkflowEngine
from graflow.core.flow_context import RunningFlow
from graflow.core.graph import TaskGraph
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.iteration import IterationTask
from graflow.core.nodes.plain import TaskElsewhere
from graflow.core.retry import RetryPolicy
from graflow.core.run.context import ExecutionContext
from graflow.core.run.joins import Joins
from graflow.core.run.ledger import Ledger
from graflow.core.run.members.branching import execute_branch
from graflow.core.run.questions import Questions, questions_of
from graflow.protocols import MemberInfo


class RemoteBranch:
    """The branch of a member away from its workflow, ready to run.

    Args:
        member: The member itself; it need not be in `tasks`.
        tasks: The nodes of the branch by id, as in `Branch.tasks`.
        edges: As in `Branch.edges`; edges to nodes that are not in `tasks` come back as `exits`.
        around: What the branch knows of the run.
        channel: What the members of the group share; the branch's own writes stay private and come back.
        cycle_counts: Executions so far of the tasks in the branch.
        info: What the tasks may ask about their member.
        engine: Runs the branch; one with handlers of the worker's own, or a plain one.
        retries: How often the member has been tried again already.
        longest_wait: Seconds that a retry may be waited for here. When the member itself fails before anything else of
            its branch is done and has to wait longer, its outcome says in `retry_in` how long. None: wait for any.
    """

    def __init__(
        self,
        member: Executable,
        tasks: Mapping[str, Executable],
        edges: Iterable[tuple[str, str]],
        around: Surroundings,
        *,
        channel: Channel,
        cycle_counts: Mapping[str, int] | None = None,
        info: MemberInfo | None = None,
        engine: WorkflowEngine | None = None,
        retries: int = 0,
        longest_wait: float | None = None,
    ) -> None:
        nodes = {member.task_id: member, **tasks}
        names = self._names = around.known_by_name
        graph, leaving = _branch_graph(nodes, edges, names)
        # Other members name the groups that they make at the same time.
        graph.group_prefix = f"{member.task_id}."
        self._at_first = frozenset(graph.nodes)
        private = BranchChannel(channel)
        context = ExecutionContext(graph, channel=private, around=around, session_id=around.session_of(member.task_id))
        if around.flow:
            context.flow = RunningFlow.sent(around.flow)
        # A group that is of no run asks under the ids of its own, so that a member that is begun again asks the same.
        context.questions = Questions(around.feedback or None, secret=around.session_id)
        agenda, ledger = context.agenda, context.ledger
        agenda.start_node, agenda.joins = member.task_id, Joins(frozenset({around.group_id}))
        outer = frozenset(around.outside).difference(names)
        agenda.scope = OutsideScope(outer, frozenset({*leaving, around.group_id}), frozenset(nodes))
        _count(ledger, around, cycle_counts or {}, member.task_id, retries)
        _enter_member(context, info)
        context.engine = engine
        if longest_wait is not None:
            agenda.leaves_retry = _leaving(context, private, member.task_id, longest_wait)
        agenda.add(member)
        self.member, self.graph, self.context = member, graph, context

    def run(self) -> BranchOutcome:
        """Run it to the end, or until its own first task has to be tried again much later."""
        with recording_into(GraphScope(self.graph, registers_on_creation=False)):
            outcome = execute_branch(self.context, self.member)
        _add_to(outcome, [task_id for task_id in self.graph.nodes if task_id not in self._at_first], self._names)
        self.context.agenda.end()
        return outcome


def _count(ledger: Ledger, around: Surroundings, cycle_counts: Mapping[str, int], member_id: str, retries: int) -> None:
    """Begin with the counts and limits of the run."""
    ledger.cycles.cycle_counts.update({**around.known_by_name, **cycle_counts})
    ledger.returned_elsewhere = frozenset(around.returned_errors)
    _set_limits(ledger, around.limits)
    if retries:
        # A retry is no cycle: the first execution counted the one that this is a part of.
        ledger.retries.retry_counts[member_id] = retries
        ledger.cycles.increment(member_id)


def _add_to(outcome: BranchOutcome, added: Iterable[str], names: Mapping[str, int]) -> None:
    """Have an outcome tell of all nodes that were added, and of no counts that are as they were."""
    asked_for = {task_id for task_id, _ in outcome.requests.nodes}
    outcome.requests.nodes += [(task_id, []) for task_id in added if task_id not in asked_for]
    if names:
        counts = outcome.cycle_counts.items()
        outcome.cycle_counts = {task_id: count for task_id, count in counts if names.get(task_id) != count}


def surroundings_of(context: ExecutionContext, group_id: str, *, may_jump: bool) -> Surroundings:
    """What the branches of a group inherit that run away from their run.

    Args:
        context: The context of the group.
        group_id: The group.
        may_jump: Whether tasks of the branches may ask for other tasks, and so have to know which there are.
    """
    graph, cycles = context.graph, context.ledger.cycles
    return replace(
        context.surroundings(group_id),
        outside=(*graph.nodes, *context.elsewhere) if may_jump else (),
        known_by_name={name: cycles.get_cycle_count(name) for name in graph.known_by_name if may_jump},
        returned_errors=context.ledger.returned_errors,
        limits=limits_of(context),
        feedback=questions_of(context).told(context.root, None) if may_jump else {},
    )


def limits_of(context: ExecutionContext) -> dict[str, dict[str, Any]]:
    """Limits of single tasks that were set on the context rather than on the task, as JSON data."""
    cycles, retries = context.ledger.cycles, context.ledger.retries

    def of_others(table: Mapping[str, Any], *own: str) -> dict[str, Any]:
        return {task_id: limit for task_id, limit in table.items() if not _has_own(context, task_id, own)}

    policies = of_others(retries.node_policies, "retry_policy")
    found = {
        "max_cycles": of_others(cycles.node_max_cycles, "max_cycles"),
        "max_retries": of_others(retries.node_max_retries, "max_retries", "retry_policy"),
        "policies": {task_id: policy.numbers() for task_id, policy in policies.items()},
    }
    return {name: limits for name, limits in found.items() if limits}


def _has_own(context: ExecutionContext, task_id: str, names: Iterable[str]) -> bool:
    task = context.graph.get_node(task_id) if context.graph.has_node(task_id) else None
    if isinstance(task, IterationTask):
        return True  # a pass takes after its task
    return any(getattr(task, name, None) is not None for name in names)


def _set_limits(ledger: Ledger, limits: Mapping[str, Mapping[str, Any]]) -> None:
    for task_id, max_cycles in limits.get("max_cycles", {}).items():
        ledger.cycles.set_node_max_cycles(task_id, max_cycles)
    for task_id, parts in limits.get("policies", {}).items():
        ledger.retries.set_node_policy(task_id, RetryPolicy(**parts))
    for task_id, max_retries in limits.get("max_retries", {}).items():
        ledger.retries.set_node_max_retries(task_id, max_retries)


def _enter_member(context: ExecutionContext, info: MemberInfo | None) -> None:
    context.member = info
    if info is not None:
        # Groups inside the member have keys of their own for each execution of the group that it belongs to.
        context.groups.visit_path = f"{info.run_id.rpartition(':')[2]}."


def _leaving(
    context: ExecutionContext, private: BranchChannel, member_id: str, longest_wait: float
) -> Callable[[float], bool]:
    """Whether a wait is too long for here, and nothing but the retry count has to be known to begin anew elsewhere."""

    def leaves(delay: float) -> bool:
        return (
            delay > longest_wait
            and _has_done_nothing(context)
            and all(write.key == member_id + RESULT_SUFFIX for write in private.writes())
        )

    return leaves


def _has_done_nothing(context: ExecutionContext) -> bool:
    """Whether no task has completed, waits, or has left anything behind that a repetition would have to find."""
    is_left = context.agenda.has_work() or not (context.requests.is_empty() and context.groups.is_untouched())
    return context.ledger.is_blank and not is_left


def _branch_graph(
    nodes: Mapping[str, Executable], edges: Iterable[tuple[str, str]], names: Iterable[str]
) -> tuple[TaskGraph, set[str]]:
    """A graph of these nodes and edges, and the ends of edges that lead out of it."""
    graph = TaskGraph()
    for task_id, task in nodes.items():
        graph.add_node(task, task_id, skip_if_exists=True)
    for name in names:
        if not graph.has_node(name):
            graph.add_name(TaskElsewhere(name))
    leaving: set[str] = set()
    for source, target in edges:
        graph.add_edge(source, target)
        if target not in nodes:
            leaving.add(target)
    return graph, leaving
