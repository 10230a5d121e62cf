"""What a journal tells of members: those in blocks, each of which gave a value and did nothing else, in columns.

A block is plain JSON: the index of its `first` member, their `ids`, the `values` in the form of `typed_json`,
`durations` in microseconds, when they `ended` in microseconds after `base` (seconds since the epoch), `worker` and
`attempts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Data = Mapping[str, Any]


def told_members(data: Data) -> Iterator[Data]:
    """The members that a line of a journal tells of, each as if it had been told of alone."""
    for block in data.get("blocks", ()):
        yield from _members_of(block)
    yield from data["outcomes"]


def told_count(data: Data) -> int:
    """How many members a line of a journal tells of."""
    return len(data["outcomes"]) + sum(len(block["ids"]) for block in data.get("blocks", ()))


def _members_of(block: Data) -> Iterator[Data]:
    base, worker, attempts = block["base"], block["worker"], block["attempts"]
    columns = zip(block["ids"], block["values"], block["durations"], block["ended"], strict=True)
    for index, (task_id, value, spent, after) in enumerate(columns, block["first"]):
        ended, seconds = round(base + after / 1e6, 6), spent / 1e6
        yield {
            "index": index,
            "task_id": task_id,
            "success": True,
            "error": None,
            "started_at": ended - seconds if ended else None,
            "ended_at": ended or None,
            "worker": worker,
            "attempts": attempts,
            "outcome": {"duration": seconds, "timestamp": ended, "value": value},
        }
