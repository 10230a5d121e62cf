"""What a process makes once and a forked child must not use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class PerProcess(Generic[_Key, _Made]):
    """Things by key, each made at its first use.

    A forked child begins with none: neither are its parent's sockets its own, nor is a lock ever let go there that
    another thread of the parent held.
    """

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[_Key, _Made] = {}

    def get(self, key: _Key, make: Callable[[], _Made]) -> _Made:
        """What there is under a key; two threads that ask at once get the same."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def all(self) -> list[_Made]:
        """Everything that was made."""
        with self._lock:
            return list(self._made.values())

    def take_all(self) -> list[_Made]:
        """Everything that was made, which the next call of `get` makes anew."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        return made
