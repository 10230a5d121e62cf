"""Which nodes of a graph a branch may run itself."""

from __future__ import annotations

from collections.abc import Collection

from graflow.core.graph import TaskGraph


class BranchScope:
    """The nodes of a branch in a graph that it shares: its own, and those added since it began."""

    __slots__ = ("_birth_mark", "_ids")

    def __init__(self, ids: set[str], graph: TaskGraph) -> None:
        self._ids = ids
        self._birth_mark = graph.birth_mark()

    def holds(self, task_id: str, graph: TaskGraph) -> bool:
        return task_id in self._ids or graph.born_since(task_id, self._birth_mark)


class OutsideScope:
    """The nodes of a branch in a graph of its own: all but those that are known to belong to the workflow.

    Attributes:
        outside: Ids of those.
    """

    __slots__ = ("outside",)

    def __init__(self, outside: Collection[str]) -> None:
        self.outside = frozenset(outside)

    def holds(self, task_id: str, graph: TaskGraph) -> bool:  # noqa: ARG002 - the shape of a scope
        return task_id not in self.outside
