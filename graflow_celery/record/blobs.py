"""Long values in the record: short ones behind the payload that names them, others under keys of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from graflow.exceptions import PayloadError
from graflow_celery.record.keys import Keys

INLINE: Final = 256 * 1024  # bytes of one outcome's long values that still go through scripts, which copy them
UNCLAIMED: Final = 600.0  # seconds that a content stays which no script takes over
TRIES: Final = 3  # to have contents taken over before they are gone
_INSIDE, BESIDE = b"\2", b"\1"
_PART: Final = 16 * 1024 * 1024  # bytes that are read at once


class RunBlobs:
    """Contents beside the scripts: they expire by themselves until a script has taken them over for its run.

    Args:
        client: Answers in bytes.
        execute: Sends one command over a connection that is kept.
        keys: Names them.
    """

    def __init__(self, client: redis.Redis, execute: Callable[..., Any], keys: Keys) -> None:
        self._client = client
        self._execute = execute
        self._keys = keys

    def write(self, run_id: str, name: str, content: bytes) -> None:
        """Put a content where scripts of this run find it, unless it is there; a name has one content for ever.

        Raises:
            redis.exceptions.OutOfMemoryError: the server has no room for it.
        """
        key = self._keys.run(run_id, f"blob:{name}").encode()
        if self._execute("EXISTS", key):
            return
        # As it is: a client that puts its commands together would hold it twice.
        command = [b"*6\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, len(content)), content]
        milliseconds = b"%d" % round(UNCLAIMED * 1000)
        command.append(b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$%d\r\n%s\r\n" % (len(milliseconds), milliseconds))
        pool = self._client.connection_pool
        connection: Any = pool.get_connection()
        is_answered = False
        try:
            connection.send_packed_command(command)
            connection.read_response()
            is_answered = True
        except redis.exceptions.ResponseError:
            is_answered = True
            raise
        finally:
            if not is_answered:
                connection.disconnect()
            pool.release(connection)

    def read(self, run_id: str, name: str) -> bytes | None:
        """A content; None when it is gone."""
        key, parts = self._keys.run(run_id, f"blob:{name}"), list[bytes]()
        while not parts or len(parts[-1]) == _PART:
            first = len(parts) * _PART
            parts.append(self._execute("GETRANGE", key, first, first + _PART - 1))
        return b"".join(parts) or None

    def take(self, run_id: str, place: tuple[int, int, str], payload: bytes, blobs: Mapping[str, bytes]) -> bytes:
        """One text of a payload and the long values that it names; longer ones are written beside it first.

        Args:
            run_id: The run.
            place: Index, attempt and owner: an execution reports one payload.
            payload: What names them.
            blobs: They, by name.
        """
        if sum(map(len, blobs.values())) <= INLINE:
            return with_blobs(payload, blobs)
        index, attempt, owner = place
        stem = f"{index}.{attempt}.{hashlib.sha256(owner.encode()).hexdigest()[:12]}"
        for name, content in blobs.items():
            self.write(run_id, f"{stem}.{name}", content)
        names = " ".join(f"{stem}.{name}" for name in blobs)
        return b"%s%s\n%s" % (BESIDE, names.encode(), payload)

    def fetched(self, run_id: str, text: bytes) -> tuple[bytes, dict[str, bytes]]:
        """Payload and long values of a text of `take` that has them beside it; those that are gone are absent."""
        names, _, payload = text[1:].partition(b"\n")
        found = ((name.rpartition(".")[2], self.read(run_id, name)) for name in names.decode("ascii").split(" "))
        return payload, {name: content for name, content in found if content is not None}


def with_blobs(payload: bytes, blobs: Mapping[str, bytes]) -> bytes:
    """One text of a payload and the long values that it names, by name."""
    if not blobs:
        return payload
    sizes = " ".join(f"{name} {len(content)}" for name, content in blobs.items())
    return b"".join((b"%s%d %s\n" % (_INSIDE, len(payload), sizes.encode()), payload, *blobs.values()))


def parted(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Payload and long values of what `with_blobs` wrote.

    Raises:
        PayloadError: When it is damaged.
    """
    if text[:1] != _INSIDE:
        return text, {}
    try:
        end = text.index(b"\n")
        size, *rest = text[1:end].decode("ascii").split(" ")
        place = end + 1 + int(size)
        payload, blobs = text[end + 1 : place], {}
        for name, length in zip(rest[::2], rest[1::2], strict=True):
            blobs[name] = text[place : (place := place + int(length))]
    except ValueError as error:
        raise PayloadError("The long values of an outcome in the record are damaged") from error
    return payload, blobs
