"""Which execution of a workflow continues its run: one at a time, by a lease on the clock of Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graflow_celery.record.keys import Keys
from graflow_celery.record.scripts import Scripts
from graflow_celery.record.server.damage import naming_damage


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a run.

    Attributes:
        mine: Whether the caller has it.
        epoch: Rises with each owner of the run.
        name: `host:pid` of the owner, or of the last one when it is free.
        since: When that one took it, in seconds since the epoch of the clock of Redis.
        ends: When its lease ends, in milliseconds; another value at each beat, 0 when the run is free.
        left: Seconds of that lease that are left.
        lease: Seconds that it is long.
    """

    mine: bool
    epoch: int
    name: str
    since: float
    ends: int
    left: float
    lease: float = field(default=0.0, compare=False)


class RunOwners:
    """The owners of runs, by session id. A token stands for one execution, and each call may be repeated."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = keys

    def claim(
        self,
        session_id: str,
        token: str,
        name: str,
        *,
        lease: float,
        kept: float,
        seen: Owner | None = None,
        is_over: bool = False,
    ) -> Owner:
        """Take a run that is free or whose lease is over.

        Args:
            session_id: The run.
            token: The execution that asks.
            name: Its `host:pid`.
            lease: Seconds until it has to beat.
            kept: Seconds that the run's owner is remembered after the last beat.
            seen: What an earlier call answered. A run that changed since then is not taken, even if it is free by now:
                its owner was alive.
            is_over: Whether that was seen unchanged for as long as its lease is, on a clock that nobody sets.
        """
        ends = 0 if seen is None else seen.ends
        return self._call(session_id, "claim", token, name, lease, kept, ends, is_over=is_over)

    def beat(self, session_id: str, token: str, name: str, *, lease: float, kept: float) -> Owner:
        """Extend the lease; not `mine` when another execution has claimed the run meanwhile, or had it and ended."""
        return self._call(session_id, "beat", token, name, lease, kept, 0)

    def release(self, session_id: str, token: str) -> bool:
        """Free the run; False when it was not the token's."""
        return self._call(session_id, "release", token, "", 0, 0, 0).mine

    def _call(
        self,
        session_id: str,
        what: str,
        token: str,
        name: str,
        lease: float,
        kept: float,
        seen: int,
        *,
        is_over: bool = False,
    ) -> Owner:
        args = [what, token, name, round(lease * 1000), round(kept * 1000), seen, int(is_over)]
        with naming_damage(session_id):
            reply: list[Any] = self._scripts.run(
                "owner", [self._keys.owner(session_id), self._keys.deployment("clock")], args
            )
            mine, epoch, owner, since, ends, left, length = reply
            return Owner(mine == 1, epoch, owner.decode(), since / 1000, ends, left / 1000, length / 1000)
