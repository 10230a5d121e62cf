"""Which nodes of a graph a branch may run itself."""

from __future__ import annotations

from collections.abc import Collection

from graflow.core.graph import TaskGraph


class BranchScope:
    """The nodes of a branch in a graph that it shares: its own, and those added since it began."""

    __slots__ = ("_birth_mark", "_ids")

    def __init__(self, ids: set[str], graph: TaskGraph) -> None:
        self._ids = ids
        self._birth_mark = graph.growth.age

    def holds(self, task_id: str, graph: TaskGraph) -> bool:
        return task_id in self._ids or graph.growth.is_since(task_id, self._birth_mark)


class OutsideScope:
    """The nodes of a branch in a graph of its own: all but those that are known to belong to the workflow.

    Args:
        outside: Ids of the workflow's nodes, shared by all branches of a group; may hold the branch's own.
        leaving: Ids to which edges lead out of this branch.
        own: Ids of the nodes that it begins with.
    """

    __slots__ = ("_leaving", "_outside", "_own")

    def __init__(self, outside: frozenset[str], leaving: frozenset[str], own: frozenset[str]) -> None:
        self._outside = outside
        self._leaving = leaving
        self._own = own

    @property
    def outside(self) -> Collection[str]:
        """Ids of the workflow's nodes that are not the branch's own."""
        return (self._outside | self._leaving) - self._own

    def holds(self, task_id: str, graph: TaskGraph) -> bool:  # noqa: ARG002 - the shape of a scope
        return task_id in self._own or not (task_id in self._outside or task_id in self._leaving)
