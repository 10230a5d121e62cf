"""Run the branch of one member away from its workflow, from plain parts: what a worker calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel
from graflow.core.arguments import RESULT_SUFFIX
from graflow.core.branch import BranchOutcome, execute_branch
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.executable import Executable
from graflow.core.graph import GraphScope, TaskGraph, recording_into
from graflow.core.joins import Joins
from graflow.core.scope import OutsideScope
from graflow.core.task_context import base_id_of
from graflow.protocols import MemberInfo


def run_branch(
    member: Executable,
    tasks: Mapping[str, Executable],
    edges: Iterable[tuple[str, str]],
    *,
    channel: Channel,
    session_id: str,
    trace_id: str,
    group_id: str,
    outside: Collection[str] = (),
    cycle_counts: Mapping[str, int] | None = None,
    max_steps: int = 10000,
    default_max_cycles: int = 10,
    default_max_retries: int = 0,
    config: Mapping[str, Any] | None = None,
    info: MemberInfo | None = None,
    engine: WorkflowEngine | None = None,
    retries: int = 0,
    longest_wait: float | None = None,
) -> BranchOutcome:
    """Run a member and its branch to the end, or until its own first task has to be tried again much later.

    Args:
        member: The member itself; it need not be in `tasks`.
        tasks: The nodes of the branch by id, as in `Branch.tasks`.
        edges: As in `Branch.edges`; edges to nodes that are not in `tasks` come back as `exits`.
        channel: What the members of the group share; the branch's own writes stay private and come back.
        session_id: The session of the group's context.
        trace_id: The trace of the run.
        group_id: The group that the member belongs to.
        outside: Ids of the workflow's nodes, so that a jump to one is told from a task that is new; those in `tasks`
            are the branch's own all the same. Ends of edges that are not in `tasks` count as outside, too.
        cycle_counts: Executions so far of the tasks in the branch.
        max_steps: Tasks that may complete in the branch; this and the other limits as in `ExecutionContext`.
        default_max_cycles: See there.
        default_max_retries: See there.
        config: Settings for nested groups and channels.
        info: What the tasks may ask about their member.
        engine: Runs the branch; one with handlers of the worker's own, or a plain one.
        retries: How often the member has been tried again already.
        longest_wait: Seconds that a retry may be waited for here. When the member itself fails before anything else of
            its branch is done and has to wait longer, its outcome says in `retry_in` how long. None: wait for any.
    """
    nodes = {member.task_id: member, **tasks}
    graph, leaving = _branch_graph(nodes, edges)
    session_id = f"{session_id}_{member.task_id}"
    limits = max_steps, default_max_cycles, default_max_retries
    private = BranchChannel(channel)
    context = ExecutionContext(
        graph, None, *limits, config=config, session_id=session_id, trace_id=trace_id, channel=private
    )
    context.cycle_controller.cycle_counts.update(cycle_counts or {})
    scope = OutsideScope(frozenset(outside), frozenset({*leaving, group_id}), frozenset(nodes))
    context.enter_branch(scope, Joins(frozenset({group_id})))
    _enter_member(context, info)
    context.engine = engine
    if retries:
        # A retry is no cycle: the first execution counted the one that this is a part of.
        context.retry_controller.retry_counts[member.task_id] = retries
        context.cycle_controller.increment(base_id_of(member.task_id))
    if longest_wait is not None:
        context.leaves_retry = _leaving(context, private, member.task_id, longest_wait)
    context.add_to_queue(member)
    with recording_into(GraphScope(graph, registers_on_creation=False)):
        return execute_branch(context, member)


def _enter_member(context: ExecutionContext, info: MemberInfo | None) -> None:
    context.member = info
    if info is not None:
        # Groups inside the member have keys of their own for each execution of the group that it belongs to.
        context.visit_path = f"{info.run_id.rpartition(':')[2]}."


def _leaving(
    context: ExecutionContext, private: BranchChannel, member_id: str, longest_wait: float
) -> Callable[[float], bool]:
    """Whether a wait is too long for here, and nothing but the retry count has to be known to begin anew elsewhere."""

    def leaves(delay: float) -> bool:
        return (
            delay > longest_wait
            and context.has_done_nothing()
            and all(write.key == member_id + RESULT_SUFFIX for write in private.writes())
        )

    return leaves


def _branch_graph(nodes: Mapping[str, Executable], edges: Iterable[tuple[str, str]]) -> tuple[TaskGraph, set[str]]:
    """A graph of these nodes and edges, and the ends of edges that lead out of it."""
    graph = TaskGraph()
    for task_id, task in nodes.items():
        graph.add_node(task, task_id, skip_if_exists=True)
    leaving: set[str] = set()
    for source, target in edges:
        graph.add_edge(source, target)
        if target not in nodes:
            leaving.add(target)
    return graph, leaving
