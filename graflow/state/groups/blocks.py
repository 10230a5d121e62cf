"""Members that were written in blocks, as rows: blocks are expanded when somebody reads their members.

A store keeps a block as `graflow.encoding.member_blocks` has it, without `ids`; of a value that rows do not show only
what `described` gives, under `large` by its place in the block, with null among the `values`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from graflow.encoding.member_blocks import times_of
from graflow.state.described import SHOWN, described
from graflow.state.encoding import to_text
from graflow.state.statuses import StepStatus

Row = tuple[int, Mapping[str, Any]]
"""Index and fields of a member, with its status."""

Fetch = Callable[[int, int], tuple[Sequence[Row], int]]
"""The first rows that were written about a range of indices, in order, and the index up to which these are all."""

FetchRows = Callable[[int, int, Collection[str]], tuple[Sequence[Row], int]]
"""The same of those in some states, none for any."""

BLOCK_STATUS = StepStatus.COMPLETED.value
"""The state of members that were written in blocks."""

_SHORT: Final = frozenset({int, float, bool, type(None)})
_TOGETHER: Final = 16  # values that are measured at once, by a text that is no shorter than that which is shown


def stored_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block as stores keep it.

    Raises:
        TypeError: A value is no plain JSON.
    """
    made = {name: value for name, value in block.items() if name != "ids"}  # only the journal's readers ask for these
    values: Sequence[Any] = block["values"]
    if _SHORT.issuperset(map(type, values)):
        return made
    large: dict[str, dict[str, Any]] = {}
    for first in range(0, len(values), _TOGETHER):
        some = values[first : first + _TOGETHER]
        if len(to_text(some)) > SHOWN:
            told = ((at, described(value)) for at, value in enumerate(some, first) if len(to_text(value)) > SHOWN)
            large.update((str(at), fields) for at, fields in told if fields["output_size"] > SHOWN)
    if large:
        made["values"] = [None if str(at) in large else value for at, value in enumerate(values)]
        made["large"] = large
    return made


def span_behind(spans: Sequence[range], index: int) -> range:
    """The first block, of those in order, that has this member or one behind it, or an empty range behind all."""
    place = bisect_right(spans, index, key=lambda span: span.stop)
    return spans[place] if place < len(spans) else range(1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class KeptMembers:
    """The members of a group as a store keeps them.

    Attributes:
        rows: Gives rows of single members; of one in a block these fields go over those of the block.
        spans: Ranges of indices of the blocks, in order.
        block: The content of the block that begins with an index.
        own: Makes of a value from a block one that whoever asks may keep.
    """

    rows: FetchRows
    spans: Sequence[range]
    block: Callable[[int], Mapping[str, Any]]
    own: Callable[[Any], Any] = lambda value: value

    def fetching(self, states: Collection[str], *, with_values: bool, most: int = 1 << 62) -> Fetch:
        """What fetches members in some states, none for any; there may be others in further states among them.

        Args:
            states: Names of states.
            with_values: Whether what members of blocks returned is looked at.
            most: How many members of a block are expanded at once.
        """
        if not self.spans:
            return partial(_rows_in, self.rows, states)
        block = lru_cache(maxsize=1)(self.block)
        are_others = bool(states) and BLOCK_STATUS not in states
        cap = 1 << 62 if are_others else most

        def fetch(start: int, end: int) -> tuple[Sequence[Row], int]:
            span = span_behind(self.spans, start)
            if span.start > start:
                return self.rows(start, min(end, span.start), states)
            rows, stop = self.rows(start, min(end, span.stop, start + cap), states if are_others else ())
            alone = dict(rows)
            indices: Collection[int] = alone if are_others else range(start, stop)
            if not indices:
                return [], stop
            found = _expanded(block(span.start), indices, self.own if with_values else None)
            return [(index, {**fields, **alone[index]} if index in alone else fields) for index, fields in found], stop

        return fetch


def _rows_in(rows: FetchRows, states: Collection[str], start: int, end: int) -> tuple[Sequence[Row], int]:
    return rows(start, end, states)


def _expanded(block: Mapping[str, Any], indices: Iterable[int], own: Callable[[Any], Any] | None) -> Iterator[Row]:
    """Rows of these members of a block, without what they returned where nobody makes it the asker's own."""
    first, worker, attempts, values = block["first"], block["worker"], block["attempts"], block["values"]
    large = block.get("large", {})
    for index in indices:
        started, ended = times_of(block, index - first)
        fields: dict[str, Any] = {
            "status": BLOCK_STATUS,
            "started_at": started,
            "completed_at": ended,
            "attempts": attempts,
            "worker": worker,
        }
        if own is not None:
            fields.update(large.get(str(index - first)) or described(own(values[index - first])))
        yield index, fields
