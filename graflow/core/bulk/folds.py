"""Fan-outs of a graph that are folded: their members become nodes as soon as somebody looks for one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Column(Protocol):
    """The members of a fan-out, which are made on demand."""

    @property
    def ids(self) -> Collection[str]: ...

    def made(self) -> Sequence[Any]: ...


class Fold(NamedTuple):
    """A fan-out that is folded.

    Attributes:
        column: Its members.
        age: That of the graph when the first of them came; None where the graph is a copy that knows no ages.
    """

    column: Column
    age: int | None

    def members(self) -> dict[str, Any]:
        """The members by id, as they came; those that joined the group since are none of them."""
        made, ids = self.column.made(), self.column.ids
        members = {member.task_id: member for member in made}
        if len(members) != len(ids):
            members = {task_id: member for task_id, member in members.items() if task_id in ids}
        for member in members.values():
            member._pending_registration = False
        return members


def holds(folds: Mapping[str, Fold], task_id: str) -> bool:
    """Whether an id is that of a member."""
    return any(task_id in fold.column.ids for fold in folds.values())


def are_apart(nodes: Collection[str], ids: Collection[str]) -> bool:
    """Whether no id is that of a node; looks for the fewer ones among the others."""
    few, many = (nodes, ids) if len(nodes) < len(ids) else (ids, nodes)
    return not any(task_id in many for task_id in few)


def without_ages(folds: Mapping[str, Fold]) -> dict[str, Fold]:
    return {group_id: Fold(fold.column, None) for group_id, fold in folds.items()}
