"""Kept values in the file of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final

from graflow.state.cache import FORGOTTEN_AFTER, CachedValue, CacheKey, CacheStore, Computation, Json
from graflow.state.encoding import decode_whole, encode_whole, from_text, to_text
from graflow.state.sqlite.database import Database
from graflow.state.sqlite.session import Session

_GET: Final = "SELECT parts, source, made_at, expires_at, value FROM cache WHERE digest = ? AND made_at IS NOT NULL"
_LOOK: Final = "SELECT made_at, expires_at, owner, token, beats FROM cache WHERE digest = ?"
_BEGIN: Final = (
    "INSERT INTO cache (digest, name, owner, token, beats, begun_at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET owner = excluded.owner, token = excluded.token, beats = excluded.beats, "
    "begun_at = excluded.begun_at"
)
_FILL: Final = (
    "UPDATE cache SET parts = ?, source = ?, made_at = ?, expires_at = ?, value = ?, owner = NULL, token = NULL "
    "WHERE digest = ? AND token = ?"
)
_NEWEST: Final = (
    "SELECT parts, source, made_at, expires_at FROM cache WHERE name = ? AND made_at IS NOT NULL "
    "ORDER BY made_at DESC LIMIT ?"
)
_IS_OVER: Final = "(expires_at <= :at OR made_at IS NULL) AND (token IS NULL OR begun_at <= :at - :patience)"


class SqliteCache(CacheStore):
    """Keeps values beside the flows of one file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digest: str) -> CachedValue | None:
        row = self._database.read(lambda connection: connection.execute(_GET, (digest,)).fetchone())
        return None if row is None else _kept(row[:4], decode_whole(row[4]))

    def begin(
        self, key: CacheKey, mine: Computation, *, at: float, since: float, seen: Computation | None = None
    ) -> Computation | None:
        def work(session: Session) -> Computation | None:
            row = session.connection.execute(_LOOK, (key.digest,)).fetchone()
            if row is not None:
                made_at, expires_at, *present = row
                if made_at is not None and made_at >= since and (expires_at is None or expires_at > at):
                    return None
                if present[1] is not None and (other := Computation(*present)) != seen:
                    return other
            session.connection.execute(_BEGIN, (key.digest, key.name, *mine, at))
            return mine

        return self._database.write(work)

    def beat(self, digest: str, token: str) -> bool:
        return self._changes("UPDATE cache SET beats = beats + 1 WHERE digest = ? AND token = ?", digest, token) > 0

    def fill(
        self, key: CacheKey, token: str, value: Json, *, at: float, expires_at: float | None, source: Mapping[str, Json]
    ) -> bool:
        content = encode_whole(value, f"What '{key.name}' gave")
        texts = to_text(dict(key.parts)), to_text(dict(source))
        return self._changes(_FILL, *texts, at, expires_at, content, key.digest, token) > 0

    def let_go(self, digest: str, token: str) -> None:
        def work(session: Session) -> None:
            execute = session.connection.execute
            execute("DELETE FROM cache WHERE digest = ? AND token = ? AND made_at IS NULL", (digest, token))
            execute("UPDATE cache SET owner = NULL, token = NULL WHERE digest = ? AND token = ?", (digest, token))

        self._database.write(work)

    def newest(self, name: str, limit: int) -> Sequence[CachedValue]:
        rows = self._database.read(lambda connection: connection.execute(_NEWEST, (name, limit)).fetchall())
        return [_kept(row) for row in rows]

    def names(self) -> Sequence[str]:
        def work(connection: Connection) -> list[str]:
            return [name for (name,) in connection.execute("SELECT DISTINCT name FROM cache ORDER BY name")]

        return self._database.read(work)

    def clear(self, name: str | None = None) -> int:
        return self._drop(":name IS NULL OR name = :name", {"name": name})

    def drop_expired(self, at: float) -> int:
        return self._drop(_IS_OVER, {"at": at, "patience": FORGOTTEN_AFTER})

    def _drop(self, which: str, values: Mapping[str, Any]) -> int:
        def work(session: Session) -> int:
            query = f"DELETE FROM cache WHERE {which} RETURNING made_at IS NOT NULL"  # noqa: S608 - of this module
            return sum(had_value for (had_value,) in session.connection.execute(query, values).fetchall())

        return self._database.write(work)

    def _changes(self, statement: str, *values: object) -> int:
        return self._database.write(lambda session: session.connection.execute(statement, values).rowcount)


def _kept(row: Sequence[Any], value: Json = None) -> CachedValue:
    parts, source, made_at, expires_at = row
    return CachedValue(from_text(parts), from_text(source), made_at, expires_at, value)
