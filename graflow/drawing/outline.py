"""What a drawing shows of a graph: nodes by number, which groups hold which of them, and what follows what.

A successor of a group follows the ends of its members, not the group's beginning: that is how a run goes, and it
tells `start >> (a | b) >> c` from `start >> (a | b | c)`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import networkx as nx

from graflow.core.graph import TaskGraph
from graflow.core.memberships import is_group

Graph: TypeAlias = "TaskGraph | nx.DiGraph[Any]"
_SHARED = -1


@dataclass(frozen=True)
class Outline:
    """A graph over the numbers from 0 on."""

    nodes: Sequence[Hashable]  # ids by number; members without a node of their own come last
    members: Mapping[int, Sequence[int]]  # by group, in order; groups without members are here as well
    edges: Sequence[tuple[int, int]]  # as recorded, without those from a group to its members

    @cached_property
    def labels(self) -> dict[int, str]:
        return {number: str(node) for number, node in enumerate(self.nodes)}

    @cached_property
    def after(self) -> Mapping[int, Sequence[int]]:
        """The successors of each node, as recorded."""
        after: dict[int, list[int]] = {number: [] for number in range(len(self.nodes))}
        for source, target in self.edges:
            after[source].append(target)
        return after

    @cached_property
    def ends(self) -> dict[int, int]:
        """For each group that has members, the number of the point at which they have all ended."""
        return {
            group: len(self.nodes) + place
            for place, group in enumerate(group for group, held in self.members.items() if held)
        }

    def flow(self) -> nx.DiGraph[int]:
        """What follows what, with the ends of groups as points of their own."""
        flow: nx.DiGraph[int] = nx.DiGraph()
        held = {member for inside in self.members.values() for member in inside}
        # Where all is one cycle, the first node counts as its beginning: a group rather than what it holds or precedes.
        flow.add_nodes_from(sorted(range(len(self.nodes)), key=lambda node: (node in held, node not in self.members)))
        ends = self.ends
        flow.add_edges_from((ends.get(a, a), b) for a, b in self.edges)
        flow.add_edges_from((group, member) for group, inside in self.members.items() for member in inside)
        for group, end in ends.items():
            flow.add_edges_from((ends.get(leaf, leaf), end) for leaf in self._leaves(group))
        return flow

    def flow_of_nodes(self) -> nx.DiGraph[int]:
        """What follows what, among nodes alone: what a group precedes follows the last of each member's branch."""
        flow = self.flow()
        for end in self.ends.values():
            flow.add_edges_from((a, b) for a in list(flow.predecessors(end)) for b in list(flow.successors(end)))
            flow.remove_node(end)
        return flow

    def branches(self, group: int) -> dict[int, list[int]]:
        """For each member of a group, itself and what edges lead to from it alone."""
        after, owners = self.after, self._owners(group)
        branches: dict[int, list[int]] = {}
        for member in self.members[group]:
            found: dict[int, None] = {member: None}
            waiting = [member]
            while waiting:
                reached = [node for node in after[waiting.pop()] if owners.get(node) == member and node not in found]
                found.update(dict.fromkeys(reached))
                waiting.extend(reached)
            branches[member] = list(found)
        return branches

    def _leaves(self, group: int) -> Iterable[int]:
        """The last nodes of each member's branch; the member itself where the branch is a loop."""
        after = self.after
        for member, branch in self.branches(group).items():
            inside = set(branch)
            yield from [node for node in branch if inside.isdisjoint(after[node])] or [member]

    def _owners(self, group: int) -> dict[int, int]:
        """The one member of the group that each node is reached from; `_SHARED` for several and for what follows."""
        after, owners = self.after, {group: _SHARED}
        waiting = [(node, _SHARED) for node in after[group]] + [(member, member) for member in self.members[group]]
        while waiting:
            node, owner = waiting.pop()
            known = owners.get(node)
            if known not in {owner, _SHARED}:
                owners[node] = owner if known is None else _SHARED
                waiting.extend((other, owners[node]) for other in (*after[node], *self.members.get(node, ())))
        return owners


def outline_of(graph: Graph) -> Outline:
    """The outline of a task graph, or of any directed graph (one whose nodes hold no tasks has no groups)."""
    digraph: nx.DiGraph[Any] = graph.nx_graph() if isinstance(graph, TaskGraph) else graph
    tasks = dict(digraph.nodes(data="task"))
    waiting = list(tasks.values())
    for task in waiting:  # grows: members that are groups without a node have members, too
        if is_group(task):
            strangers = {member.task_id: member for member in task.tasks if member.task_id not in tasks}
            tasks.update(strangers)
            waiting.extend(strangers.values())
    numbers = {node: number for number, node in enumerate(tasks)}
    members = {
        numbers[node]: [numbers[member.task_id] for member in task.tasks]
        for node, task in tasks.items()
        if is_group(task)
    }
    held = {(group, member) for group, inside in members.items() for member in inside}
    edges = [edge for a, b in digraph.edges() if (edge := (numbers[a], numbers[b])) not in held]
    return Outline(list(tasks), members, edges)
