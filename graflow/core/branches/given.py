"""What came of members that gave a value and did nothing else: in columns, as long as nobody asks for one of them."""

from __future__ import annotations

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


def in_order(rows: Sequence[Given], members: int) -> list[Given]:
    """Rows in member order, where each of so many members is in exactly one of them; else nothing."""
    ordered, at = sorted(rows, key=lambda row: row.first), 0
    for row in ordered:
        if row.first != at:
            return []
        at += len(row.ids)
    return ordered if at == members else []
