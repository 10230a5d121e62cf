"""Keeps what is held for a limited time for as long as its holder lives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Lease:
    __slots__ = ("due", "interval", "renew")

    def __init__(self, interval: float, renew: Callable[[], bool]) -> None:
        self.interval = interval
        self.renew = renew
        self.due = time.monotonic() + interval


class LeaseKeeper:
    """Renews leases from one daemon thread, which runs while there are any and a little longer."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Start from nothing, as a forked process must: neither the thread nor what it kept is its own."""
        self._changed = threading.Condition()
        self._leases: dict[int, _Lease] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, interval: float, renew: Callable[[], bool]) -> Iterator[None]:
        """Call `renew` every `interval` seconds for the length of a `with` block, or until it returns false.

        It runs in another thread and must not raise.
        """
        lease = _Lease(interval, renew)
        changed, leases = self._changed, self._leases
        with changed:
            leases[id(lease)] = lease
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(changed, leases), name="graflow-leases", daemon=True
                )
                self._thread.start()
            elif lease.due <= min(other.due for other in leases.values()):
                changed.notify()
        try:
            yield
        finally:
            with changed:
                leases.pop(id(lease), None)

    def _run(self, changed: threading.Condition, leases: dict[int, _Lease]) -> None:
        linger = 1.0
        while True:
            with changed:
                if not leases and not changed.wait(linger) and not leases:
                    if self._changed is changed:
                        self._thread = None
                    return
                now = time.monotonic()
                due = [lease for lease in leases.values() if lease.due <= now]
                if not due:
                    wait = min((lease.due for lease in leases.values()), default=now) - now
                    changed.wait(wait)
                    continue
            for lease in due:
                if lease.renew():
                    lease.due = time.monotonic() + lease.interval
                else:
                    with changed:
                        leases.pop(id(lease), None)


lease_keeper = LeaseKeeper()
