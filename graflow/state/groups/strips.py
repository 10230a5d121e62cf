"""How far a group is, told without looking at its members: counts by state, and a strip of buckets in their order."""

from __future__ import annotations

from typing import Final

from graflow.state.statuses import StepStatus

BUCKETS: Final = 60
LETTERS: Final = {status.value: status.letter for status in StepStatus}
_PENDING: Final = StepStatus.PENDING.value

Strip = list[dict[str, int]]


def bucket_count(size: int) -> int:
    """Into how many buckets a group is divided."""
    return min(BUCKETS, size)


def bucket_of(index: int, size: int) -> int:
    """The bucket of a member."""
    buckets = bucket_count(size)
    return min(index * buckets // size, buckets - 1)


def first_of(bucket: int, size: int) -> int:
    """The first member of a bucket; for the number of buckets, the size."""
    return -(-bucket * size // bucket_count(size))


def begun(size: int) -> tuple[dict[str, int], Strip]:
    """Counts and strip of a group that nothing has happened to."""
    letter = LETTERS[_PENDING]
    buckets = bucket_count(size)
    strip = [{letter: first_of(bucket + 1, size) - first_of(bucket, size)} for bucket in range(buckets)]
    return ({_PENDING: size} if size else {}), strip


def count(counts: dict[str, int], old: str | None, new: str | None, amount: int = 1) -> None:
    """Some of what is counted goes from one state into another; None: it was not there, or is not any more."""
    if old is not None:
        left = counts.get(old, 0) - amount
        if left > 0:
            counts[old] = left
        else:
            counts.pop(old, None)
    if new is not None:
        counts[new] = counts.get(new, 0) + amount


def move_members(counts: dict[str, int], strip: Strip, size: int, members: range, old: str, new: str) -> None:
    """Members of a group, in a row, go from one state into another."""
    at, end = members.start, min(members.stop, size)
    while at < end and old != new:
        bucket = bucket_of(at, size)
        behind = min(first_of(bucket + 1, size), end)
        count(counts, old, new, behind - at)
        count(strip[bucket], LETTERS[old], LETTERS[new], behind - at)
        at = behind
