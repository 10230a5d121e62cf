"""Long values of outcomes, as the record keeps them: behind the payload that names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from graflow.exceptions import PayloadError

_WITH_BLOBS: Final = b"\2"


def with_blobs(payload: bytes, blobs: Mapping[str, bytes]) -> bytes:
    """One text of a payload and the long values that it names, by name."""
    if not blobs:
        return payload
    sizes = " ".join(f"{name} {len(content)}" for name, content in blobs.items())
    return b"".join((b"%s%d %s\n" % (_WITH_BLOBS, len(payload), sizes.encode()), payload, *blobs.values()))


def parted(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Payload and long values of what `with_blobs` wrote.

    Raises:
        PayloadError: When it is damaged.
    """
    if text[:1] != _WITH_BLOBS:
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
