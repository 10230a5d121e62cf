"""Which successors are queued, and when: a node with several predecessors runs once per visit.

A finished task makes each successor a candidate. A candidate is queued as soon as none of its unfinished predecessors
is active (queued, running, a candidate) or reachable from an active node by a path that does not go through the
candidate itself. So back edges never block, and a branch that was skipped neither blocks a join nor makes it run early.

Edges from a group to its members schedule nothing; an edge into a member counts as an edge into its group.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Protocol

from graflow.core.graph import TaskGraph
from graflow.core.memberships import is_group


class JoinContext(Protocol):
    """What joins ask of the run: whether a node belongs to it, whether it waits to run, and to queue it.

    Attributes:
        scope: The nodes that belong to it; None for all.
    """

    scope: Any

    def in_scope(self, task_id: str) -> bool: ...

    def is_active(self, task_id: str) -> bool: ...

    def queue_node(self, task_id: str) -> None: ...


class Joins:
    """The candidates of one run, each with the predecessors that have not finished since its last visit.

    Args:
        enclosing: Ids of the groups whose member this run is a branch of.
    """

    def __init__(self, enclosing: frozenset[str] = frozenset()) -> None:
        self.waiting: dict[str, dict[str, None]] = {}
        self._witness: dict[str, str] = {}
        self.enclosing = enclosing

    def copy(self) -> Joins:
        """Candidates of their own, without what was found out about them."""
        twin = Joins(self.enclosing)
        twin.waiting = {candidate: dict(left) for candidate, left in list(self.waiting.items())}
        return twin

    # -- events ----------------------------------------------------------------------------------------------------

    def finished(self, task_id: str, graph: TaskGraph, context: JoinContext) -> list[tuple[str, str]]:
        """Make the successors of a finished task candidates and queue those that are ready.

        Returns:
            Edges to nodes that belong to an outer run, which has to follow them when this one has ended.
        """
        successors = tuple(graph.succ.get(task_id, ()))  # in one go: another member may add edges meanwhile
        if not successors:
            return []
        if graph.groups.holders or len(successors) > 1:
            targets = self.targets(task_id, graph) if task_id in graph.groups.sizes else successors
            return self.follow(zip(repeat(task_id), targets), graph, context)
        (target,) = successors
        if context.scope is not None and not context.in_scope(target):
            return [(task_id, target)]
        if len(graph.pred[target]) == 1:
            context.queue_node(target)
        else:
            self._arrive(target, task_id, graph)
            self._release(target, graph, context)
        return []

    def follow(self, edges: Iterable[tuple[str, str]], graph: TaskGraph, context: JoinContext) -> list[tuple[str, str]]:
        """Make the ends of these edges candidates, all of them before the first is looked at."""
        candidates: list[str] = []
        exits: list[tuple[str, str]] = []
        holders, is_whole = graph.groups.holders, context.scope is None
        for source, end in edges:
            for target in self._entries(end, graph) if holders else (end,):
                if is_whole or context.in_scope(target):
                    self._arrive(target, source, graph)
                    candidates.append(target)
                else:
                    exits.append((source, end))
        for candidate in candidates:
            if candidate in self.waiting:
                self._release(candidate, graph, context)
        return exits

    def reconsider(self, graph: TaskGraph, context: JoinContext) -> None:
        """Look at every candidate again, after a task was left without its successors being followed."""
        self._witness.clear()
        for candidate in list(self.waiting):
            if candidate in self.waiting:
                self._release(candidate, graph, context)

    def release_oldest(self, context: JoinContext) -> bool:
        """Queue the oldest candidate, when candidates only wait for each other; False without any."""
        for candidate in self.waiting:
            self._queue(candidate, context)
            return True
        return False

    def forget(self, task_id: str) -> None:
        """Drop the marks of a node that was queued in another way."""
        self.waiting.pop(task_id, None)
        self._witness.pop(task_id, None)

    # -- the rule --------------------------------------------------------------------------------------------------

    def targets(self, task_id: str, graph: TaskGraph) -> list[str]:
        """Successors in edge order, without a group's own members."""
        successors = list(graph.succ.get(task_id, ()))
        if task_id not in graph.groups.sizes or graph.is_folded(task_id):
            return successors
        members = set(graph.get_parallel_group_members(task_id))
        return [successor for successor in successors if successor not in members]

    def _entries(self, task_id: str, graph: TaskGraph) -> list[str]:
        """Where an edge into this node enters: the node, or the outermost groups that hold it in this run."""
        groups = [group for group in graph.groups.holders.get(task_id, ()) if group not in self.enclosing]
        if not groups:
            return [task_id]
        return list(dict.fromkeys(entry for group in groups for entry in self._entries(group, graph)))

    def _arrive(self, candidate: str, source: str, graph: TaskGraph) -> None:
        unfinished = self.waiting.get(candidate)
        if unfinished is None:
            unfinished = self.waiting[candidate] = dict.fromkeys(self._predecessors(candidate, graph))
        unfinished.pop(source, None)

    def _predecessors(self, task_id: str, graph: TaskGraph) -> Iterable[str]:
        predecessors = graph.pred
        if task_id not in graph.groups.holders and task_id not in graph.groups.sizes:
            return predecessors[task_id]
        inside = _members_within(task_id, graph)
        ends = [task_id, *inside]
        return [
            source
            for end in ends
            for source in tuple(predecessors.get(end, ()))
            if source not in inside and source != task_id and source not in graph.groups.holders.get(end, ())
        ]

    def _release(self, candidate: str, graph: TaskGraph, context: JoinContext) -> None:
        unfinished = self.waiting[candidate]
        # While tasks finish normally an active path stays active until its end finishes, so one witness is enough.
        if self._witness.get(candidate) in unfinished:
            return
        if not (unfinished and self._is_blocked(candidate, unfinished, graph, context)):
            self._queue(candidate, context)

    def _queue(self, candidate: str, context: JoinContext) -> None:
        del self.waiting[candidate]
        self._witness.pop(candidate, None)
        context.queue_node(candidate)

    def _is_blocked(self, candidate: str, unfinished: dict[str, None], graph: TaskGraph, context: JoinContext) -> bool:
        for source in reversed(unfinished):
            if source != candidate and (source in self.waiting or context.is_active(source)):
                self._witness[candidate] = source
                return True
        return self._is_reachable(candidate, unfinished, graph, context)

    def _is_reachable(
        self, candidate: str, unfinished: dict[str, None], graph: TaskGraph, context: JoinContext
    ) -> bool:
        """Whether an active node leads to an unfinished predecessor; walks backwards from each of them."""
        predecessors = graph.pred
        closed = {candidate, *_members_within(candidate, graph)}
        for source in unfinished:
            stack = [source]
            while stack:
                node = stack.pop()
                if node in closed or not context.in_scope(node):
                    continue
                closed.add(node)
                if node in self.waiting or context.is_active(node):
                    self._witness[candidate] = source
                    return True
                stack.extend(predecessors.get(node, ()))
                stack.extend(graph.groups.holders.get(node, ()))
        return False


def _members_within(task_id: str, graph: TaskGraph) -> set[str]:
    """Ids of what a group holds, at any depth, as far as edges can lead there; empty for other nodes."""
    inside: set[str] = set()
    open_groups = [graph.task_at(task_id)]
    while open_groups:
        group = open_groups.pop()
        if not is_group(group) or graph.is_folded(group.task_id):
            continue
        for member in group.tasks:
            if member.task_id not in inside:
                inside.add(member.task_id)
                open_groups.append(member)
    return inside
