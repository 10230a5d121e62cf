"""Members that were written in blocks, as rows: blocks are expanded when somebody reads their members."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from graflow.encoding.member_blocks import times_of
from graflow.state.described import described
from graflow.state.statuses import StepStatus

Row = tuple[int, Mapping[str, Any]]
"""Index and fields of a member, with its status."""

Fetch = Callable[[int, int], tuple[Sequence[Row], int]]
"""The first rows that were written about a range of indices, in order, and the index up to which these are all."""

FetchRows = Callable[[int, int, Collection[str]], tuple[Sequence[Row], int]]
"""The same of those in some states, none for any."""

BLOCK_STATUS = StepStatus.COMPLETED.value
"""The state of members that were written in blocks."""


@dataclass(frozen=True, slots=True)
class KeptMembers:
    """The members of a group as a store keeps them.

    Attributes:
        rows: Gives rows of single members; of one in a block these fields go over those of the block.
        spans: Ranges of indices of the blocks, in order.
        block: The content of the block that begins with an index.
    """

    rows: FetchRows
    spans: Sequence[range]
    block: Callable[[int], Mapping[str, Any]]

    def fetching(self, states: Collection[str], *, with_values: bool) -> Fetch:
        """What fetches members in some states, none for any; there may be others in further states among them.

        Args:
            states: Names of states.
            with_values: Whether what members of blocks returned is looked at.
        """
        if not self.spans:
            return partial(_rows_in, self.rows, states)

        def fetch(start: int, end: int) -> tuple[Sequence[Row], int]:
            span = self._span_behind(start)
            if span.start > start:
                return self.rows(start, min(end, span.start), states)
            return self._in_block(span.start, start, min(end, span.stop), states, with_values)

        return fetch

    def _span_behind(self, index: int) -> range:
        """The first block that has this member or one behind it, or an empty range behind all."""
        place = bisect_right(self.spans, index, key=lambda span: span.stop)
        return self.spans[place] if place < len(self.spans) else range(1 << 62, 1 << 62)

    def _in_block(
        self, first: int, start: int, end: int, states: Collection[str], with_values: bool
    ) -> tuple[Sequence[Row], int]:
        are_others = bool(states) and BLOCK_STATUS not in states
        rows, stop = self.rows(start, end, states if are_others else ())
        own = dict(rows)
        indices: Collection[int] = own if are_others else range(start, stop)
        if not indices:
            return [], stop
        found = _expanded(self.block(first), indices, with_values)
        return ([(index, {**fields, **own[index]} if index in own else fields) for index, fields in found], stop)


def _rows_in(rows: FetchRows, states: Collection[str], start: int, end: int) -> tuple[Sequence[Row], int]:
    return rows(start, end, states)


def _expanded(block: Mapping[str, Any], indices: Iterable[int], with_values: bool) -> Iterator[Row]:
    """Rows of these members of a block."""
    first, worker, attempts, values = block["first"], block["worker"], block["attempts"], block["values"]
    for index in indices:
        started, ended = times_of(block, index - first)
        fields: dict[str, Any] = {
            "status": BLOCK_STATUS,
            "started_at": started,
            "completed_at": ended,
            "attempts": attempts,
            "worker": worker,
        }
        if with_values:
            fields.update(described(values[index - first]))
        yield index, fields
