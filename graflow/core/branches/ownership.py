"""Which nodes of a graph belong to each member of a group: those that can be reached through that member alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graflow.core.graph import TaskGraph
from graflow.core.memberships import has_groups
from graflow.core.nodes.columns import ids_in
from graflow.core.nodes.executable import Executable


def branch_nodes(graph: TaskGraph, group_id: str, members: Sequence[Executable]) -> Mapping[int, set[str]]:
    """Which nodes belong to each member's branch: those that can be reached through that member alone.

    Returns:
        Node ids by member index; a member that drags nothing along has no entry of its own.
    """
    successors = graph.succ
    if graph.is_folded(group_id) or not (any(map(successors.get, ids_in(members))) or has_groups(members)):
        return _NothingAttached()
    owners = _Owners(graph, group_id, [member.task_id for member in members])
    return owners.by_member()


class _NothingAttached(dict[int, set[str]]):
    """Members without branches of their own."""

    def __missing__(self, index: int) -> set[str]:
        return set()


class _Owners:
    """Spreads each member's mark along the edges; a node with two marks, or one reached from elsewhere, is shared."""

    _SHARED = -1

    def __init__(self, graph: TaskGraph, group_id: str, member_ids: list[str]) -> None:
        self._graph = graph
        self._group_id = group_id
        self._members = {task_id: index for index, task_id in enumerate(member_ids)}
        self._owner: dict[str, int] = {}
        for task_id, index in self._members.items():
            for following in self._following(task_id):
                for start in following:
                    self._spread(start, index)
        follow_the_group = set(graph.successors(group_id))
        for task_id in list(self._owner):
            if task_id in follow_the_group or self._is_reached_from_elsewhere(task_id):
                self._spread(task_id, self._SHARED)

    def _following(self, task_id: str) -> tuple[list[str], list[str]]:
        """Successors of a node, and its members when it is a group."""
        return self._graph.successors(task_id), self._graph.get_parallel_group_members(task_id)

    def _spread(self, start: str, mark: int) -> None:
        stack = [(start, mark)]
        while stack:
            task_id, mark = stack.pop()
            if task_id == self._group_id or task_id in self._members:
                continue
            owner = self._owner.get(task_id)
            if owner in (mark, self._SHARED):
                continue
            following = self._following(task_id)
            # A group runs where all of its members run.
            is_shared = owner is not None or any(self._owner.get(member) == self._SHARED for member in following[1])
            passed_on = self._owner[task_id] = self._SHARED if is_shared else mark
            stack.extend((after, passed_on) for after in (*following[0], *following[1]))
            if passed_on == self._SHARED:
                stack.extend((group, passed_on) for group in self._graph.groups_of(task_id) if group in self._owner)

    def _is_reached_from_elsewhere(self, task_id: str) -> bool:
        before = [*self._graph.predecessors(task_id), *self._graph.groups_of(task_id)]
        return any(
            source not in self._owner and source not in self._members and source != self._group_id for source in before
        )

    def by_member(self) -> dict[int, set[str]]:
        nodes: dict[int, set[str]] = {index: {task_id} for task_id, index in self._members.items()}
        for task_id, owner in self._owner.items():
            if owner != self._SHARED:
                nodes[owner].add(task_id)
        return nodes
