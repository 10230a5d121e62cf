"""Who owns a flow: this process by a name that no other one gets, and whether an owner can still be alive."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from graflow.processes.per_process import PerProcess

LEASE: Final = 6.0
"""Seconds without a sign of life after which an owner counts as lost."""


_names: Final[PerProcess[None, str]] = PerProcess()


def this_owner() -> str:
    """`host:pid:start` of this process; `start` tells the moment, the boot of the machine and the space of its ids."""
    return _names.get(None, lambda: f"{socket.gethostname()}:{os.getpid()}:{_start_of(os.getpid())}")


def _start_of(pid: int) -> str:
    """When a process began, as `<ticks>.<machine>`; a random text where the system does not tell."""
    ticks = _ticks_of(pid)
    machine = _machine()
    return secrets.token_hex(6) if ticks is None or machine is None else f"{ticks}.{machine}"


def _ticks_of(pid: int) -> int | None:
    """Clock ticks from the boot to the start of a process; None when there is none, or it is dead and not reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _machine() -> str | None:
    """Stands for this boot of this machine and the name space of its process ids; None where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:10]


def is_gone(owner: str) -> bool:
    """Whether the process that an owner's name stands for ran here and does not any more; False when not known."""
    _, _, rest = owner.partition(":")
    pid, _, start = rest.partition(":")
    ticks, _, machine = start.partition(".")
    if not machine or machine != _machine() or not pid.isdecimal():
        return False
    present = _ticks_of(int(pid))
    return present is None or str(present) != ticks


Epoch = TypeVar("Epoch", int, str)
"""What tells the owners of one thing apart."""


class Leases(Generic[Epoch]):
    """Owners as this process sees them: when each gave its last sign of life, on this process's clock.

    Args:
        monotonic: The clock.
        lease: Seconds.
        is_live: Whether this process itself owns a thing at an epoch.
    """

    def __init__(self, monotonic: Callable[[], float], lease: float, is_live: Callable[[str, Epoch], bool]) -> None:
        self._monotonic = monotonic
        self._lease = lease
        self._is_live: Callable[[str, Epoch], bool] = is_live
        self._seen: dict[str, tuple[tuple[str | None, Epoch, int], float]] = {}

    def is_over(self, name: str, owner: str | None, epoch: Epoch, beats: int) -> bool:
        """Whether the owner of a thing counts as lost; a silent one does so a lease after the first look."""
        if owner == this_owner():
            if not self._is_live(name, epoch):
                return True
        elif owner is not None and is_gone(owner):
            return True
        sign, now = (owner, epoch, beats), self._monotonic()
        seen = self._seen.get(name)
        if seen is None or seen[0] != sign:
            self._seen[name] = sign, now
            return False
        return now - seen[1] >= self._lease

    def forget(self, name: str) -> None:
        """Keep nothing of a thing that has no owner any more."""
        self._seen.pop(name, None)

    def forget_all_but(self, names: set[str]) -> None:
        """Keep nothing of any others."""
        for name in self._seen.keys() - names:
            self.forget(name)
