"""Leases of members whose process cannot beat, because one call into C holds its interpreter for longer."""

from __future__ import annotations

import os
import time
from math import inf
from pathlib import Path
from typing import Any, Final

from celery.worker import state

from graflow.exceptions import GraflowError
from graflow.text.shown import get_logger
from graflow_celery.errors import FAILING
from graflow_celery.worker.celery_tasks import MemberRequest

_log = get_logger(__name__)

_YOUNG: Final = 0.5  # seconds for which a message is left alone: most are done by then
_BEATS_PER_LEASE: Final = 3


class ChildLeases:
    """Keeps, in a worker's main process, what its pool children hold, as long as these run."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # by owner, on the monotonic clock

    def keep(self) -> None:
        """Extend the leases that are due for it; to be called about every second.

        Raises:
            redis.exceptions.RedisError: When the record cannot be reached.
        """
        running = {request.graflow_owner: request for request in _running()}
        self._due = {owner: due for owner, due in self._due.items() if owner in running}
        for owner, request in running.items():
            now = time.monotonic()
            if self._due.setdefault(owner, now + _YOUNG) <= now and _is_at_work(request.worker_pid):
                self._due[owner] = now + _kept(request) / _BEATS_PER_LEASE


def _kept(request: Any) -> float:
    """Extend what one message holds; returns the lease, infinite for a run in whose way its own record stands."""
    try:
        return float(request.keep_members())
    except FAILING:
        raise
    except GraflowError as error:
        _log.warning("The leases of message %s are not extended: %s", request.id, error)
        return inf


def _running() -> list[Any]:
    """The messages that pool children work on."""
    try:
        active = list(state.active_requests)
    except RuntimeError:  # it changed meanwhile, in the thread that it belongs to; the next call sees it
        return []
    return [
        request
        for request in active
        if isinstance(request, MemberRequest) and request.time_start and request.worker_pid != os.getpid()
    ]


def _is_at_work(pid: int) -> bool:
    """Whether a process is neither stopped nor dead, as far as this system tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] not in {"T", "t", "Z", "X"}
