"""Locks by name between the threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Entry:
    __slots__ = ("depth", "lock", "users")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users = 0
        self.depth = 0


class KeyLocks:
    """One re-entrant lock per key, made when it is wanted and forgotten when nobody holds or awaits it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    @contextmanager
    def hold(self, key: str, timeout: float, *, owner: str) -> Iterator[int]:
        """Hold a key's lock; yields how many times this thread holds it now, from 1.

        Raises:
            TimeoutError: Another thread held it for `timeout` seconds.
        """
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            if not entry.lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX)):
                raise lock_timeout(owner, key, timeout)
            entry.depth += 1
            try:
                yield entry.depth
            finally:
                entry.depth -= 1
                entry.lock.release()
        finally:
            with self._guard:
                entry.users -= 1
                if not entry.users:
                    del self._entries[key]

    def __len__(self) -> int:
        """How many keys are held or awaited."""
        return len(self._entries)


def lock_timeout(owner: str, key: str, timeout: float) -> TimeoutError:
    """What a holder raises that waited in vain."""
    return TimeoutError(f"The lock {key!r} of channel {owner!r} was not free within {timeout} s")
