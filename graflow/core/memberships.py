"""Which groups of a graph hold which ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def is_group(task: object) -> bool:
    """Whether a node holds members (asked of the type, so that stand-ins with any attribute are no groups)."""
    return getattr(type(task), "is_group", False) is True


def has_groups(tasks: Iterable[object]) -> bool:
    """Whether one of these nodes holds members."""
    return any(getattr(kind, "is_group", False) is True for kind in {*map(type, tasks)})


def rename_key(table: dict[str, Any], old: str, new: str) -> None:
    """Rename a key in place, keeping its position; nothing happens where it is missing."""
    if old in table:
        items = [(new if key == old else key, value) for key, value in table.items()]
        table.clear()
        table.update(items)


class Memberships:
    """The groups that are nodes of one graph, and what they hold.

    Attributes:
        holders: Ids of the groups that hold a member directly, by the id of the member. To be read by others only.
        sizes: How many members of each group that is a node are in there, or are folded. Likewise.
    """

    def __init__(self) -> None:
        self.holders: dict[str, tuple[str, ...]] = {}
        self.sizes: dict[str, int] = {}

    def add_group(self, group_id: str, group: object, nodes: Mapping[str, Any]) -> None:
        """Remember a group that became a node, and its members."""
        self.sizes[group_id] = 0
        self._note_all(group_id, group, nodes)

    def add_folded(self, group_id: str, number: int) -> None:
        """Remember a group that became a node with so many members, of which nobody has asked."""
        self.sizes[group_id] = number

    def unfold(self, group_id: str, member_ids: Iterable[str]) -> None:
        """Remember the members of such a group, which no other group can hold."""
        self.holders.update(dict.fromkeys(member_ids, (group_id,)))

    def note(self, group_id: str, member_id: str) -> bool:
        """Remember that a group holds a member; False when that was known."""
        groups = self.holders.get(member_id, ())
        if group_id in groups:
            return False
        self.holders[member_id] = (*groups, group_id)
        if group_id in self.sizes:
            self.sizes[group_id] += 1
        return True

    def _note_all(self, group_id: str, group: Any, nodes: Mapping[str, Any]) -> None:
        """Remember the members of a group and, where these are groups without a node, of those too."""
        members = group.tasks
        alone = dict.fromkeys([member.task_id for member in members], (group_id,))
        if self.holders.keys().isdisjoint(alone) and not has_groups(members):
            self.holders.update(alone)  # which is what follows, for many members at a tenth of its price
            if group_id in self.sizes:
                self.sizes[group_id] += len(alone)
            return
        for member in members:
            is_known = not self.note(group_id, member.task_id)
            if not is_known and is_group(member) and member.task_id not in nodes:
                self._note_all(member.task_id, member, nodes)

    def look_again(self, nodes: Mapping[str, Any]) -> None:
        """Note members that joined a group without the graph being told."""
        for group_id, noted in self.sizes.items():
            group = nodes[group_id]["task"]
            if len(group.members) != noted:
                self._note_all(group_id, group, nodes)
                self.sizes[group_id] = len(group.members)

    def forget(self, task_id: str) -> None:
        """Drop a group that is no node any more."""
        if self.sizes.pop(task_id, None) is None:
            return
        for member, groups in list(self.holders.items()):
            if task_id in groups:
                left = tuple(group for group in groups if group != task_id)
                if left:
                    self.holders[member] = left
                else:
                    del self.holders[member]

    def rename(self, old: str, new: str) -> None:
        for member, groups in self.holders.items():
            if old in groups:
                self.holders[member] = tuple(new if group == old else group for group in groups)
        rename_key(self.holders, old, new)
        rename_key(self.sizes, old, new)

    def clear(self) -> None:
        self.holders.clear()
        self.sizes.clear()

    def copy(self) -> Memberships:
        twin = Memberships()
        twin.holders.update(self.holders)
        twin.sizes.update(self.sizes)
        return twin
