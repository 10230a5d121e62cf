"""One payload as bytes: JSON with its version, marked, compressed when it is long, and never over the limit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from graflow.codec import parse_json
from graflow.encoding.compression import deflated, inflated
from graflow.exceptions import PayloadError

VERSION: Final = 1
INLINE_LIMIT: Final = 1024 * 1024  # bytes; anything longer travels compressed where that is worth it
PAYLOAD_LIMIT: Final = 128 * 1024 * 1024  # bytes of one payload, decompressed
_JSON_DEPTH: Final = 256  # tagged values take several levels each
_SAMPLE: Final = 64 * 1024  # bytes that tell whether compressing is worth it
_PLAIN, _DEFLATED = b"J", b"Z"

as_text: Final = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
"""JSON data as text, as `dump` writes it."""


def pack(content: bytes, *, what: str) -> bytes:
    """Content with a mark in front, compressed when it is long and a sample from its middle becomes half as long.

    Content that shrinks out of all proportion is not compressed.

    Raises:
        PayloadError: When it is over the limit of one payload.
    """
    if len(content) > PAYLOAD_LIMIT:
        raise too_long(what, len(content))
    made = deflated(content) if _shrinks(content) else None
    return _PLAIN + content if made is None else _DEFLATED + made


def _shrinks(content: bytes) -> bool:
    if len(content) <= INLINE_LIMIT:
        return False
    middle = len(content) // 2
    return 2 * len(zlib.compress(content[middle : middle + _SAMPLE], 1)) <= _SAMPLE


def too_long(what: str, size: int) -> PayloadError:
    """What is raised for a payload of that many bytes."""
    return PayloadError(
        f"{what}: {size >> 20} MiB are over the limit of {PAYLOAD_LIMIT >> 20} MiB; send a path or a key instead of "
        "the data"
    )


def unpack(packed: bytes) -> bytes:
    """The content that `pack` was given; never more than the limit is held.

    Raises:
        PayloadError: For an unknown mark, broken compression, or content over the limit.
    """
    mark, content = packed[:1], packed[1:]
    if mark == _PLAIN and len(content) <= PAYLOAD_LIMIT:
        return content
    if mark != _DEFLATED:
        raise PayloadError("A payload has an unknown form or is over the limit")
    return inflated(content, PAYLOAD_LIMIT)


def dump(body: Mapping[str, Any]) -> bytes:
    """A body as JSON.

    Raises:
        PayloadError: When it cannot be written.
    """
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"A payload cannot be written as JSON: {error}") from error


def canonical(body: Mapping[str, Any], what: str) -> bytes:
    """The one text of a body that came as JSON data, whatever the order of its members: what is signed.

    Raises:
        PayloadError: When it holds what JSON does not know.
    """
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The parts of {what} are not JSON data: {error}") from error


def parse(content: bytes, what: str) -> dict[str, Any]:
    """The body that `dump` wrote, without its version.

    Raises:
        PayloadError: When it is no JSON object, or of another version.
    """
    body = parse_json(content, max_depth=_JSON_DEPTH)
    if not isinstance(body, dict):
        raise PayloadError(f"The {what} is no JSON object")
    if body.pop("version", None) != VERSION:
        raise PayloadError(f"The {what} is of an unknown version; this process reads version {VERSION}")
    return body
