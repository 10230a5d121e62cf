"""The channel that one attempt of a task sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graflow.channels.base import Channel, ChannelLock
from graflow.channels.branch import BranchChannel, apply_writes


class AttemptChannel(BranchChannel):
    """A view in which `set` and `delete` stay private until the attempt succeeds, and are gone when it fails.

    Once the attempt has succeeded, whoever still holds the view writes to the parent at once; once it has failed or
    was given up, nothing can be written through it any more.

    Args:
        parent: The channel of the run, or the view of the task that called this one.
        given_up: Makes the error that a write raises after the attempt has failed.
    """

    def __init__(self, parent: Channel, given_up: Callable[[], Exception]) -> None:
        super().__init__(parent)
        self._given_up = given_up
        self._is_applied = self._is_closed = False

    def publish(self) -> None:
        """Give the parent what is private so far."""
        with self._lock:
            if isinstance(self._parent, BranchChannel):
                self._parent.take_over(self._pending)
            else:
                apply_writes(self._parent, self.writes())
            self._pending.clear()

    def apply(self) -> None:
        """The attempt has succeeded."""
        with self._lock:
            self.publish()
            self._is_applied = True
            self._keeps_all = False

    def close(self) -> None:
        """The attempt has failed, or nobody waits for it any more."""
        with self._lock:
            self._is_closed = True
            self._keeps_all = False
            self._pending.clear()

    def _may_keep_all(self) -> bool:
        return super()._may_keep_all() and not (self._is_applied or self._is_closed)

    def _set_for_caller(self, key: str, value: object, ttl: float | None) -> None:
        with self._lock:
            self._require_open()
            if self._is_applied:
                self._parent.set(key, value, ttl)
            else:
                super()._set_for_caller(key, value, ttl)

    def delete(self, key: str) -> bool:
        with self._lock:
            self._require_open()
            return self._parent.delete(key) if self._is_applied else super().delete(key)

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        with self._lock:
            self._require_open()
            return super().append(key, value, ttl)

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        with self._lock:
            self._require_open()
            return super().prepend(key, value, ttl)

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        with self._lock:
            self._require_open()
            return super().atomic_add(key, amount)

    def lock(self, key: str, timeout: float = 10.0) -> ChannelLock:
        self._require_open()
        return super().lock(key, timeout)

    def _require_open(self) -> None:
        if self._is_closed:
            raise self._given_up()

    def __reduce__(self) -> tuple[Any, ...]:
        # Elsewhere there is no attempt that could end: what is saved with a value is the channel itself.
        return _itself, (self._parent,)


def _itself(channel: Channel) -> Channel:
    return channel
