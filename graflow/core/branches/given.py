"""What came of members that gave a value and did nothing else: in columns, as long as nobody asks for one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graflow.core.branches.outcome import BranchOutcome


@dataclass(frozen=True)
class Given:
    """Members in a row, each of which has given a value and done nothing else.

    Attributes:
        first: The index of the first one.
        ids: Their ids.
        values: What they gave.
        base: What `ended` counts from, in seconds since the epoch.
        durations: Microseconds.
        ended: When each ended, in microseconds after `base`.
    """

    first: int
    ids: Sequence[str]
    values: Sequence[Any]
    base: float
    durations: Sequence[float]
    ended: Sequence[float]

    def outcomes(self) -> Iterator[tuple[int, BranchOutcome]]:
        """Index and outcome of each, as if it had come alone."""
        columns = zip(self.ids, self.values, self.durations, self.ended, strict=True)
        for index, (task_id, value, spent, ended) in enumerate(columns, self.first):
            yield index, given_outcome(task_id, value, spent / 1e6, round(self.base + ended / 1e6, 6))


def given_outcome(task_id: str, value: Any, seconds: float, ended: float) -> BranchOutcome:
    """The outcome of a member that has given a value and done nothing else."""
    results, counts = [(task_id, value)], {task_id: 1}
    return BranchOutcome(task_id, True, value, None, seconds, ended, results, [task_id], 1, counts)


class GivenRows:
    """The members of one execution of a group that have ended in rows.

    Args:
        finished: Where the outcome of each goes, by index, once somebody asks for one of them.
        lock: Held by whoever changes `finished`, or adds a row.

    Attributes:
        rows: What has been added since the last `settle`. To be read by others only.
    """

    __slots__ = ("_finished", "_lock", "rows")

    def __init__(self, finished: dict[int, BranchOutcome], lock: threading.Lock) -> None:
        self._finished = finished
        self._lock = lock
        self.rows: list[Given] = []

    def add(self, row: Given) -> None:
        self.rows.append(row)

    def count(self) -> int:
        """How many members are in rows."""
        return sum(len(row.ids) for row in self.rows)

    def whole(self, members: int) -> list[Given]:
        """The rows in member order, where they are all that there is of so many members; else nothing."""
        return in_order(self.rows, members)

    def settle(self) -> None:
        """Have an outcome of its own for each member, for whoever looks at one or saves them."""
        if self.rows:
            with self._lock:
                rows, self.rows = self.rows, []
                for row in rows:
                    for index, outcome in row.outcomes():
                        self._finished.setdefault(index, outcome)


def in_order(rows: Sequence[Given], members: int) -> list[Given]:
    """Rows in member order, where each of so many members is in exactly one of them; else nothing."""
    ordered, at = sorted(rows, key=lambda row: row.first), 0
    for row in ordered:
        if row.first != at:
            return []
        at += len(row.ids)
    return ordered if at == members else []
