"""Kept values in the memory of one process."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graflow.state.cache import FORGOTTEN_AFTER, CachedValue, CacheKey, CacheStore, Computation, Json
from graflow.state.encoding import Stored, decode_whole, encode_whole


@dataclass(slots=True)
class _Entry:
    """What there is of one key.

    Attributes:
        name: The flow or task.
        kept: The value without its content; None while the first is computed.
        content: The value as text.
        computation: Who computes it.
        begun_at: Since when.
    """

    name: str
    kept: CachedValue | None = None
    content: Stored = ""
    computation: Computation | None = None
    begun_at: float = 0.0


class MemoryCache(CacheStore):
    """Keeps values as text, so that nobody can change what others are given."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Let go of a lock that a thread of the parent held."""
        self._lock = threading.Lock()

    def get(self, digest: str) -> CachedValue | None:
        with self._lock:
            entry = self._entries.get(digest)
            kept, content = (None, "") if entry is None else (entry.kept, entry.content)
        return None if kept is None else replace(kept, value=decode_whole(content))

    def begin(
        self, key: CacheKey, mine: Computation, *, at: float, since: float, seen: Computation | None = None
    ) -> Computation | None:
        with self._lock:
            entry = self._entries.setdefault(key.digest, _Entry(key.name))
            if entry.kept is not None and entry.kept.is_good(at, since):
                return None
            if entry.computation is None or entry.computation == seen:
                entry.computation, entry.begun_at = mine, at
            return entry.computation

    def beat(self, digest: str, token: str) -> bool:
        with self._lock:
            entry = self._of(digest, token)
            if entry is None or entry.computation is None:
                return False
            entry.computation = entry.computation._replace(beats=entry.computation.beats + 1)
            return True

    def fill(
        self, key: CacheKey, token: str, value: Json, *, at: float, expires_at: float | None, source: Mapping[str, Json]
    ) -> bool:
        content = encode_whole(value, f"What '{key.name}' gave")
        with self._lock:
            entry = self._of(key.digest, token)
            if entry is None:
                return False
            entry.kept = CachedValue(dict(key.parts), dict(source), at, expires_at)
            entry.content, entry.computation = content, None
            return True

    def let_go(self, digest: str, token: str) -> None:
        with self._lock:
            entry = self._of(digest, token)
            if entry is None:
                return
            entry.computation = None
            if entry.kept is None:
                del self._entries[digest]

    def newest(self, name: str, limit: int) -> Sequence[CachedValue]:
        with self._lock:
            found = [each.kept for each in self._entries.values() if each.name == name and each.kept is not None]
        return sorted(found, key=lambda kept: kept.made_at, reverse=True)[:limit]

    def names(self) -> Sequence[str]:
        with self._lock:
            return sorted({entry.name for entry in self._entries.values()})

    def clear(self, name: str | None = None) -> int:
        return self._drop(lambda entry: name is None or entry.name == name)

    def drop_expired(self, at: float) -> int:
        def is_over(entry: _Entry) -> bool:
            if entry.computation is not None and entry.begun_at > at - FORGOTTEN_AFTER:
                return False
            return entry.kept is None or not entry.kept.is_good(at, entry.kept.made_at)

        return self._drop(is_over)

    def _drop(self, is_meant: Any) -> int:
        with self._lock:
            gone = {digest: entry for digest, entry in self._entries.items() if is_meant(entry)}
            for digest in gone:
                del self._entries[digest]
        return sum(entry.kept is not None for entry in gone.values())

    def _of(self, digest: str, token: str) -> _Entry | None:
        entry = self._entries.get(digest)
        is_mine = entry is not None and entry.computation is not None and entry.computation.token == token
        return entry if is_mine else None
