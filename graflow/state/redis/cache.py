"""Kept values in a Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.state.cache import FORGOTTEN_AFTER, CachedValue, CacheKey, CacheStore, Computation, Json
from graflow.state.encoding import decode_whole, encode_whole, from_text, to_text
from graflow.state.redis.keys import Keys
from graflow.state.redis.server import Server

_PATIENCE: Final = int(FORGOTTEN_AFTER * 1000)  # milliseconds
_AT_ONCE: Final = 500


class RedisCache(CacheStore):
    """Keeps values beside the flows of one Redis, which forgets those that end by itself."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def get(self, digest: str) -> CachedValue | None:
        fields = "parts", "source", "made", "expires", "value"
        *row, value = self._server.call("HMGET", self._keys.cache(digest), *fields)
        return None if row[2] is None else _kept(row, decode_whole(value))

    def begin(
        self, key: CacheKey, mine: Computation, *, at: float, since: float, seen: Computation | None = None
    ) -> Computation | None:
        over = ("", "") if seen is None else (seen.token, seen.beats)
        named = key.name, mine.owner, mine.token
        times = repr(float(at)), repr(float(since))
        found = self._server.run("cache_begin", self._touched(key), key.digest, *named, *times, *over, _PATIENCE)
        if found == [b"kept"]:
            return None
        owner, token, beats = found
        return Computation(owner.decode(), token.decode(), int(beats))

    def beat(self, digest: str, token: str) -> bool:
        return self._tell(digest, token, "beat")

    def fill(
        self, key: CacheKey, token: str, value: Json, *, at: float, expires_at: float | None, source: Mapping[str, Json]
    ) -> bool:
        content = encode_whole(value, f"What '{key.name}' gave")
        end, lifetime = "", ""
        if expires_at is not None:
            end, lifetime = repr(float(expires_at)), str(int(max(0.0, expires_at - at) * 1000) + _PATIENCE)
        told = to_text(dict(key.parts)), to_text(dict(source)), repr(float(at)), end, content, lifetime
        return bool(self._server.run("cache_fill", self._touched(key), key.digest, token, *told))

    def _touched(self, key: CacheKey) -> list[str]:
        keys = self._keys
        return [keys.cache(key.digest), keys.cached_names, keys.cached(key.name), keys.cached_ends]

    def let_go(self, digest: str, token: str) -> None:
        self._tell(digest, token, "end")

    def _tell(self, digest: str, token: str, what: str) -> bool:
        return bool(self._server.run("cache_go_on", [self._keys.cache(digest)], token, what, _PATIENCE))

    def newest(self, name: str, limit: int) -> Sequence[CachedValue]:
        rows = self._server.run("cache_newest", [self._keys.cached(name)], self._keys.cache(""), limit)
        return [_kept(row) for row in rows]

    def names(self) -> Sequence[str]:
        return sorted(name.decode() for name in self._server.call("SMEMBERS", self._keys.cached_names))

    def clear(self, name: str | None = None) -> int:
        count = 0
        for each in self.names() if name is None else [name]:
            while found := self._server.call("ZRANGE", self._keys.cached(each), 0, _AT_ONCE - 1):
                count += self._drop(found, each)
        return count

    def drop_expired(self, at: float) -> int:
        count = 0
        ends = self._keys.cached_ends, "-inf", repr(float(at)), "LIMIT", 0, _AT_ONCE
        while found := self._server.call("ZRANGEBYSCORE", *ends):
            count += self._drop(found, "")
        return count

    def _drop(self, digests: Sequence[bytes], name: str) -> int:
        keys = self._keys
        pairs = [part for digest in digests for part in (digest, name)]
        return int(
            self._server.run(
                "cache_drop", [keys.cached_names, keys.cached_ends], keys.cache(""), keys.cached(""), *pairs
            )
        )


def _kept(row: Sequence[Any], value: Json = None) -> CachedValue:
    parts, source, made_at, expires_at = row
    ends = None if expires_at is None else float(expires_at)
    return CachedValue(from_text(parts), from_text(source), float(made_at), ends, value)
