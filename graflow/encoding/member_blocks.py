"""What a journal tells of members: those in blocks, each of which gave a value and did nothing else, in columns.

A block is plain JSON: the index of its `first` member, their `ids` (where these are `name[index]` the name alone), the
`values` in the form of `typed_json`, `durations` in microseconds, when they `ended` in microseconds after `base`
(seconds since the epoch), `worker` and `attempts`.
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
    return len(data["outcomes"]) + sum(len(block["values"]) for block in data.get("blocks", ()))


def _members_of(block: Data) -> Iterator[Data]:
    first, ids, worker, attempts = block["first"], block["ids"], block["worker"], block["attempts"]
    for at, value in enumerate(block["values"]):
        started, ended = times_of(block, at)
        yield {
            "index": first + at,
            "task_id": f"{ids}[{first + at}]" if isinstance(ids, str) else ids[at],
            "success": True,
            "error": None,
            "started_at": started,
            "ended_at": ended,
            "worker": worker,
            "attempts": attempts,
            "outcome": {"duration": block["durations"][at] / 1e6, "timestamp": ended or 0.0, "value": value},
        }


def times_of(block: Data, at: int) -> tuple[float | None, float | None]:
    """When the member in this place of a block began and ended, seconds since the epoch; None where nobody told."""
    ended = round(block["base"] + block["ended"][at] / 1e6, 6)
    return (ended - block["durations"][at] / 1e6, ended) if ended else (None, None)
