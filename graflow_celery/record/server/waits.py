"""Blocking reads of streams: a few have a connection each, all further ones of a process share one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import redis

_ALONE: Final = 16  # reads of one client that have a connection each, and so are woken at once
_ROUND: Final = 0.05  # seconds of one read that is shared, after which those join in that came meanwhile


class _Joined:
    """One caller of a read that is shared."""

    def __init__(self, after: Mapping[str, bytes]) -> None:
        self.after = after
        self.woken = threading.Event()
        self.found: set[str] = set()
        self.leads = False


class SharedWaits:
    """The reads of one client. Of those that share a connection one reads for all, and hands that on when it leaves."""

    def __init__(self) -> None:
        self._alone = threading.BoundedSemaphore(_ALONE)
        self._lock = threading.Lock()
        self._joined: dict[_Joined, None] = {}
        self._is_led = False

    def wait(self, client: redis.Redis, after: Mapping[str, bytes], seconds: float) -> set[str]:
        """The streams that have an entry after the one named, as soon as one has; empty when the time is over.

        Args:
            client: The client that this was made for.
            after: Ids of entries, by the names of the streams.
            seconds: The longest wait; 0 for none.
        """
        if seconds <= 0:
            return _read(client, after, None)
        if not self._alone.acquire(blocking=False):
            return self._join(client, after, seconds)
        try:
            return _read(client, after, seconds)
        finally:
            self._alone.release()

    def _join(self, client: redis.Redis, after: Mapping[str, bytes], seconds: float) -> set[str]:
        me, end = _Joined(after), time.monotonic() + seconds
        with self._lock:
            self._joined[me] = None
            me.leads, self._is_led = not self._is_led, True
        try:
            while not me.found and (left := end - time.monotonic()) > 0:
                if me.leads:
                    self._read_for_all(client, min(left, _ROUND))
                elif me.woken.wait(left):
                    me.woken.clear()
        finally:
            self._leave(me)
        return me.found

    def _read_for_all(self, client: redis.Redis, seconds: float) -> None:
        with self._lock:
            joined = list(self._joined)
        after: dict[str, bytes] = {}
        for each in joined:
            for name, entry in each.after.items():
                after[name] = min(after.get(name, entry), entry, key=_order)
        found = _read(client, after, seconds)
        for each in joined:
            each.found = found & each.after.keys()
            if each.found:
                each.woken.set()

    def _leave(self, me: _Joined) -> None:
        with self._lock:
            del self._joined[me]
            if me.leads:
                heir = next(iter(self._joined), None)
                self._is_led = heir is not None
                if heir is not None:
                    heir.leads = True
                    heir.woken.set()


def _read(client: redis.Redis, after: Mapping[str, bytes], seconds: float | None) -> set[str]:
    milliseconds = None if seconds is None else max(1, round(seconds * 1000))
    streams: Any = after
    found: Any = client.xread(streams, count=1, block=milliseconds)
    return {name.decode() for name, _ in (found.items() if isinstance(found, dict) else found)}


def _order(entry: bytes) -> tuple[int, ...]:
    """Where an entry stands in its stream."""
    return tuple(int(part) for part in entry.split(b"-"))


_waits: Final[WeakKeyDictionary[redis.Redis, SharedWaits]] = WeakKeyDictionary()


def shared_waits(client: redis.Redis) -> SharedWaits:
    """The reads of this client, whoever waits."""
    return _waits.get(client) or _waits.setdefault(client, SharedWaits())
