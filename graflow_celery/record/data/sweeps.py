"""What a sweep and a look for lost members find, and who is alive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graflow_celery.record.data.groups import GroupSpec


@dataclass(frozen=True, slots=True)
class Republish:
    """Members to publish (again).

    Attributes:
        lost: their worker was lost: publish each in its own message, so that one that kills workers harms no other.
        waiting: nobody claimed them, their retry is due, or a slot got free: any batches will do.
        continuation: publish the continuation (index n).
        ended: the sweep brought the group to its end.
        given_up: LOST now: nobody runs them any more.
    """

    run_id: str
    spec: GroupSpec
    lost: list[int]
    waiting: list[int]
    continuation: bool
    ended: bool
    given_up: list[int]


@dataclass(frozen=True, slots=True)
class Since:
    """What a sweeper knows of its last look.

    Attributes:
        time: What that answered.
        least: Seconds since, at least, on a steady clock.
        most: At most.
        ahead: Seconds by which, at most, the server's clock may have been set ahead since; None to be asked first.
    """

    time: float
    least: float
    most: float
    ahead: float | None = math.inf

    @property
    def told(self) -> list[int | str]:
        """As look.lua is told of it, in milliseconds."""
        ahead = "ask" if self.ahead is None else "" if self.ahead == math.inf else round(1000 * self.ahead)
        return [round(1000 * self.time), round(1000 * self.least), round(1000 * self.most), ahead]


@dataclass(frozen=True, slots=True)
class Look:
    """What a sweeper sees.

    Attributes:
        due: The runs that are to be swept.
        time: When that was, in seconds of the record's time.
        pause: Seconds since anybody looked.
        step: Seconds by which the server's clock had been set ahead, or back when negative; made up for by now. Told
            until somebody has dealt with it.
        asks: Nothing was done, as it seems to have been set ahead: look again, and say by how much at most.
    """

    due: list[str]
    time: float
    pause: float
    step: float
    asks: bool = False


@dataclass(frozen=True, slots=True)
class WorkerBeat:
    """What came of a beat.

    Attributes:
        score: Until when the entry counts as one that beats, in milliseconds of the clock of Redis.
        rests: Whether the worker may be silent until then, because nothing is open.
        dropped: Entries that were silent for too long.
    """

    score: float
    rests: bool
    dropped: list[str]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process that beats; `seen_at` in Redis time, `age` in seconds since its last beat.

    `entry` tells two of one name apart.
    """

    worker_id: str
    entry: str
    seen_at: float
    age: float
    info: Mapping[str, Any]
