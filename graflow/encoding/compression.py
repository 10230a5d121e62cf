"""JSON compressed and back, never out of proportion: a small input takes little memory and time, whoever made it."""

from __future__ import annotations

import zlib
from typing import Final

from graflow.exceptions import PayloadError

_LEVEL: Final = 1  # of zlib; the others cost several times as much and save little on JSON
_MEMORY, _MEMORY_PER_BYTE = 64_000_000, 64  # what compressed JSON may take when it is read
_COPIES: Final = 3  # of a text: bytes, characters, the value
_CONTAINER: Final = 250  # bytes of memory of a list or a dictionary with few items
_ITEM: Final = 60


def deflated(content: bytes) -> bytes | None:
    """JSON, compressed; None for what shrinks out of all proportion, which readers would take for a bomb."""
    made = zlib.compress(content, _LEVEL)
    return made if _is_in_proportion(content, len(made)) else None


def inflated(content: bytes, most: int) -> bytes:
    """The JSON that was compressed, of so many bytes at most.

    Raises:
        PayloadError: For broken compression, and content over the limit or out of proportion.
    """
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(content, min(most, _memory_for(len(content)) // _COPIES))
    except zlib.error as error:
        raise PayloadError(f"A payload cannot be decompressed: {error}") from None
    if not stream.eof:
        raise PayloadError("A compressed payload is truncated, over the limit or out of proportion")
    if not _is_in_proportion(plain, len(content)):
        raise PayloadError("A compressed payload is out of proportion to what it holds")
    return plain


def _memory_for(size: int) -> int:
    """Bytes of memory that JSON of so many compressed bytes may take when it is read."""
    return _MEMORY + _MEMORY_PER_BYTE * size


def _is_in_proportion(content: bytes, size: int) -> bool:
    text = (_COPIES if content.isascii() else 3 * _COPIES) * len(content)
    containers = content.count(b"[") + content.count(b"{")
    return text + _CONTAINER * containers + _ITEM * content.count(b",") <= _memory_for(size)
