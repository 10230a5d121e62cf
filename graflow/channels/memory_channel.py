"""A channel inside this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from graflow.channels.base import NOT_A_LIST, Channel, checked_ttl, require_number
from graflow.channels.locks import KeyLockBlock, KeyLocks
from graflow.durations import checked_seconds

_ABSENT: Any = object()
_FIRST_SWEEP = 1024


class _Items(list[Any]):
    """A list that only the channel holds, so that it may grow in place; readers get a copy."""

    __slots__ = ()


class MemoryChannel(Channel):
    """Keeps any Python value, as the object that it is, for the threads of this process.

    Writers take turns; readers do not wait for them. That is correct because of the order of writing: a value is in
    place before its deadline changes, and gone before its deadline is, so a reader that finds no deadline and then a
    value has found one that was alive.

    Pickling keeps name, values and times to live, which go on running while it is stored.
    """

    def __init__(self, name: str, **_ignored: object) -> None:
        super().__init__(name)
        self._data: dict[str, Any] = {}
        self._deadlines: dict[str, float] = {}
        self._sweep_at = _FIRST_SWEEP
        self._make_locks()

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        if ttl is not None:
            self._set_for(key, value, ttl)
            return
        with self._lock:
            self._data[key] = value
            if self._deadlines:
                self._deadlines.pop(key, None)

    hand_over = set  # noqa: A003 - the method: what is kept is the object itself in any case

    def hand_over_all(self, values: Mapping[str, object]) -> None:
        with self._lock:
            self._data.update(values)
            for key in self._deadlines.keys() & values.keys():
                self._deadlines.pop(key, None)

    def view_all(self, keys: Sequence[str]) -> list[Any]:
        found = [self._data.get(key) for key in keys]
        return super().view_all(keys) if self._deadlines or _Items in map(type, found) else found

    def get(self, key: str, default: object = None) -> Any:
        if key in self._deadlines and self._expired(key):
            return default
        value = self._data.get(key, default)
        return value.copy() if type(value) is _Items else value

    view = get

    def exists(self, key: str) -> bool:
        if key in self._deadlines and self._expired(key):
            return False
        return key in self._data

    def delete(self, key: str) -> bool:
        with self._lock:
            if key in self._deadlines and self._expired(key):
                return False
            return self._drop(key)

    def keys(self) -> list[str]:
        with self._lock:
            self._sweep()
            return list(self._data)

    def clear(self) -> None:
        with self._lock:
            self._data.clear()
            self._deadlines.clear()

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._add_element(key, value, ttl, at=None)

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._add_element(key, value, ttl, at=0)

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        amount = require_number(amount, "the amount")
        with self._lock:
            if key in self._deadlines:
                self._expired(key)
            present = require_number(self._data.get(key, 0), f"key {key!r} of channel {self.name!r}")
            total = present + amount
            self._data[key] = total
            return total

    def lock(self, key: str, timeout: float = 10.0) -> KeyLockBlock:
        return KeyLockBlock(self._key_locks, self.name, key, checked_seconds("timeout", timeout))

    def snapshot(self) -> dict[str, Any]:
        """Every live key with its value."""
        with self._lock:
            self._sweep()
            return {key: value.copy() if type(value) is _Items else value for key, value in self._data.items()}

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            left = time.time() - time.monotonic()
            data = self.snapshot()
            return {
                "name": self.name,
                "data": data,
                "expires": {key: deadline + left for key, deadline in self._deadlines.items()},
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        left = time.time() - time.monotonic()
        self.name = state["name"]
        self._data = dict(state["data"])
        self._deadlines = {key: moment - left for key, moment in state["expires"].items()}
        self._sweep_at = _FIRST_SWEEP
        self._make_locks()

    def __repr__(self) -> str:
        return f"MemoryChannel({self.name!r}, {len(self._data)} keys)"

    def _make_locks(self) -> None:
        # Re-entrant: replacing a value may run a finalizer that uses this channel.
        self._lock = threading.RLock()
        self._key_locks = KeyLocks()

    def _add_element(self, key: str, value: object, ttl: float | None, *, at: int | None) -> int:
        if ttl is not None:
            checked_ttl(ttl)
        with self._lock:
            items = self._items(key)
            items.insert(len(items) if at is None else at, value)
            self._limit(key, ttl)
            return len(items)

    def _set_for(self, key: str, value: object, ttl: float) -> None:
        checked_ttl(ttl)
        with self._lock:
            self._data[key] = value
            self._limit(key, ttl)

    def _limit(self, key: str, ttl: float | None) -> None:
        """Give a present key its deadline."""
        if ttl is None:
            return
        if checked_ttl(ttl) <= 0:
            self._drop(key)
            return
        self._deadlines[key] = time.monotonic() + ttl
        if len(self._deadlines) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._deadlines))

    def _expired(self, key: str) -> bool:
        """Whether the key's time is over; if so it is gone."""
        deadline = self._deadlines.get(key)
        if deadline is None or time.monotonic() < deadline:
            return False
        with self._lock:
            deadline = self._deadlines.get(key)
            if deadline is None or time.monotonic() < deadline:
                return False
            self._drop(key)
            return True

    def _drop(self, key: str) -> bool:
        present = self._data.pop(key, _ABSENT) is not _ABSENT
        self._deadlines.pop(key, None)
        return present

    def _sweep(self) -> None:
        """Forget what has expired, so that keys which nobody reads again do not pile up."""
        if not self._deadlines:
            return
        now = time.monotonic()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            self._drop(key)

    def _items(self, key: str) -> _Items:
        """The list at a key in a form that may grow in place."""
        if key in self._deadlines:
            self._expired(key)
        present = self._data.get(key, _ABSENT)
        if type(present) is _Items:
            return present
        if present is not _ABSENT and not isinstance(present, list):
            raise TypeError(f"key {key!r} of channel {self.name!r} is {type(present).__name__}: {NOT_A_LIST}")
        items = _Items(() if present is _ABSENT else present)
        self._data[key] = items
        return items
