"""When the nodes of a graph came, and which of them a run added."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import count
from typing import Any

from graflow.core.memberships import rename_key


class Growth:
    """What one graph remembers of how it grew.

    Attributes:
        age: How many nodes have come so far: a point in time for `is_since`.
        dynamic: Nodes that a running task added, in that order; they are never start nodes.
        by_name: Nodes whose tasks only another process has had.
        owners: The session of the run, or branch, whose task added a node while it ran.
    """

    def __init__(self) -> None:
        self.age = 0
        self.dynamic: dict[str, None] = {}
        self.by_name: dict[str, None] = {}
        self.owners: dict[str, str] = {}
        self._births: dict[str, int] = {}

    def enter(self, task_id: str) -> None:
        """Note that a node came."""
        self._births[task_id] = self.age
        self.age += 1

    def enter_all(self, task_ids: Collection[str]) -> None:
        """Note that many nodes came, in this order."""
        self.note_since(self.reserve(len(task_ids)), task_ids)

    def reserve(self, number: int) -> int:
        """Count so many nodes whose ids are noted later; returns the age at which the first of them came."""
        age = self.age
        self.age += number
        return age

    def note_since(self, age: int, task_ids: Iterable[str]) -> None:
        """Note the ids of nodes that came one after the other from that age on."""
        self._births.update(zip(task_ids, count(age)))

    def is_since(self, task_id: str, age: int) -> bool:
        """Whether a node came after the graph had that age."""
        return self._births.get(task_id, -1) >= age

    def mark_dynamic(self, task_id: str) -> None:
        """Note that a running task added a node."""
        self.dynamic[task_id] = None

    def forget(self, task_id: str) -> None:
        """Note that a node went."""
        for table in self._tables():
            table.pop(task_id, None)

    def rename(self, old: str, new: str) -> None:
        """Note that a node has another id; its place in each order is kept."""
        for table in self._tables():
            rename_key(table, old, new)

    def clear(self) -> None:
        for table in self._tables():
            table.clear()

    def copy(self, *, with_ages: bool = False) -> Growth:
        """The same for a copy of the graph, whose nodes all have the age 0 unless they keep theirs."""
        twin = Growth()
        twin.dynamic, twin.by_name, twin.owners = self.dynamic.copy(), self.by_name.copy(), self.owners.copy()
        if with_ages:
            twin.age, twin._births = self.age, self._births.copy()
        return twin

    def _tables(self) -> tuple[dict[str, Any], ...]:
        return self.dynamic, self.by_name, self.owners, self._births
