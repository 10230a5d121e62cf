"""How far running members are, as they tell it with `context.progress`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from graflow_celery.record import GroupRecord

_PAGE: Final = 1000


@dataclass(frozen=True)
class MemberProgress:
    """What a member told last.

    Attributes:
        index: Its place in the group.
        attempt: The execution that told it.
        done: How much is done, in units of its own; None when it told no number.
        total: How much there is; None when it did not say.
        message: A word about it; None when it did not say.
        told_at: When it told, aware and in UTC.
    """

    index: int
    attempt: int
    done: float | None
    total: float | None
    message: str | None
    told_at: datetime

    def __str__(self) -> str:
        done = "" if self.done is None else f"{self.done:g}"
        amount = done if self.total is None else f"{done or '?'} of {self.total:g}"
        return " ".join(part for part in (amount, self.message) if part)


def latest_progress(record: GroupRecord, run_id: str) -> dict[int, MemberProgress]:
    """The last word of each member, by index; the record keeps about the last thousand events of a run."""
    found: dict[int, MemberProgress] = {}
    after = ""
    while events := record.events(run_id, after, count=_PAGE):
        for event_id, fields in events:
            if fields["kind"] == b"progress":
                told = _progress_of(event_id, fields)
                found[told.index] = told
        after = events[-1][0]
    return dict(sorted(found.items()))


def _progress_of(event_id: str, fields: Mapping[str, bytes]) -> MemberProgress:
    told = json.loads(fields["data"])
    return MemberProgress(
        index=int(fields["index"]),
        attempt=int(fields["attempt"]),
        done=told["done"],
        total=told["total"],
        message=told["message"],
        told_at=datetime.fromtimestamp(int(event_id.partition("-")[0]) / 1000, UTC),
    )
