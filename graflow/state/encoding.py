"""The one form of what stores keep: compact JSON, compressed where it is long, by its digest where it is large.

A stored value is JSON text, or zlib's form of it (which begins with an `x`, as no JSON does), or `@` and the SHA-256 of
its text, which names a blob. The fields of a row are a run of JSON objects, of which a later one goes over those before
it, so that a change is written by putting its object behind them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from graflow.encoding.compression import deflated, inflated
from graflow.exceptions import PayloadError

SMALL: Final = 1024  # characters
COMPRESSED_FROM: Final = 4096  # characters
BLOB_FROM: Final = 256 * 1024  # characters; longer ones are kept once, by content
CAP: Final = 64 * 1024 * 1024  # characters
_LARGE: Final = "@"  # in an object of fields: digests of the values that are kept as blobs, by name
_LONGEST: Final = 4 * CAP  # bytes of one value

Stored = str | bytes
Blobs = dict[str, bytes]
"""Blobs that a change names, by digest."""

_decoder: Final = json.JSONDecoder()


def quick_encoder(*, ensure_ascii: bool = True) -> Callable[[Any], str]:
    """`encode` of a compact encoder, which does not make its C part for each call; that costs more than its work."""
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, check_circular=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    quote = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None, encoder.default, quote, None, ":", ",", encoder.sort_keys, encoder.skipkeys, encoder.allow_nan
    )
    return lambda value: "".join(chunks(value, 0))


_to_text: Final = quick_encoder()


def to_text(value: object) -> str:
    """The value as JSON text.

    Raises:
        TypeError: It is no plain JSON.
    """
    try:
        return _to_text(value)
    except (ValueError, RecursionError) as error:  # a number that JSON does not have, or what contains itself
        raise TypeError(f"{error}: this is no plain JSON and cannot be recorded") from None


def from_text(text: Stored) -> Any:
    """The value of JSON text that was not compressed.

    Raises:
        PayloadError: It is no JSON.
    """
    try:
        return _decoder.raw_decode(text if isinstance(text, str) else text.decode())[0]
    except (ValueError, RecursionError, MemoryError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> PayloadError:
    return PayloadError(f"A stored value is no JSON: {type(error).__name__}")


def encode(value: object, blobs: Blobs, where: str) -> Stored:
    """The stored form of a value; a blob that it names is put into `blobs`.

    Args:
        value: Plain JSON.
        blobs: Where large ones go.
        where: What the value is called in messages.

    Raises:
        TypeError: It is no plain JSON.
        PayloadError: It is longer than 64 Mi characters as text.
    """
    return stored_form(to_text(value), blobs, where)


def stored_form(text: str, blobs: Blobs, where: str) -> Stored:
    """The same of a value's JSON text."""
    if len(text) <= BLOB_FROM:
        return _compressed(text)
    return _LARGE + _blob(text, blobs, where)


def decode(stored: Stored, blob: Callable[[str], bytes]) -> Any:
    """The value of a stored form; `blob` gives the content of a digest.

    Raises:
        PayloadError: It is no such form.
    """
    if stored[:1] in (_LARGE, b"@"):
        digest = stored[1:] if isinstance(stored, str) else stored[1:].decode("ascii", "replace")
        stored = blob(digest)
    return from_text(_expanded(stored))


def encode_whole(value: object, where: str) -> Stored:
    """The stored form of a value that no blob is made of, however long it is; raises what `encode` raises."""
    text = to_text(value)
    _refuse_long(text, where)
    return _compressed(text)


def decode_whole(stored: Stored) -> Any:
    """The value that `encode_whole` wrote.

    Raises:
        PayloadError: It is no such form.
    """
    return from_text(_expanded(stored))


def is_small(stored: Stored) -> bool:
    """Whether a value is so short that lists may show it; it is plain JSON text then."""
    return isinstance(stored, str) and len(stored) <= SMALL and not stored.startswith(_LARGE)


def encode_fields(fields: Mapping[str, Any], blobs: Blobs, where: str) -> str:
    """One object of fields, to be put behind those that a row has.

    Raises:
        TypeError: A value is no plain JSON.
        PayloadError: A value is longer than 64 Mi characters as text.
    """
    text = to_text(fields if type(fields) is dict else dict(fields))
    if len(text) <= BLOB_FROM:
        return text
    small, large = {}, {}
    for name, value in fields.items():
        one = to_text(value)
        if len(one) > BLOB_FROM:
            large[name] = _blob(one, blobs, f"'{name}' of {where}")
        else:
            small[name] = value
    return to_text({**small, _LARGE: large}) if large else text


def decode_fields(stored: Stored) -> dict[str, Any]:
    """The fields of a row; those that are kept as blobs are left out.

    Raises:
        PayloadError: They are no JSON objects.
    """
    try:
        text = stored if isinstance(stored, str) else stored.decode()
        fields, end = _decoder.raw_decode(text)
        while end < len(text):
            more, end = _decoder.raw_decode(text, end)
            for name in more.get(_LARGE, ()):
                fields.pop(name, None)
            fields.update(more)
        fields.pop(_LARGE, None)
    except (ValueError, RecursionError, MemoryError, TypeError, AttributeError) as error:
        raise _damaged(error) from None
    made: dict[str, Any] = fields
    return made


def decode_rows(stored: Sequence[Stored]) -> list[dict[str, Any]]:
    """The fields of many rows, at once where each is one object: as `decode_fields` has them.

    Raises:
        PayloadError: Those of one are no JSON objects.
    """
    try:
        texts: Any = stored
        found: list[Any] = _decoder.decode(f"[{','.join(texts)}]")
    except (ValueError, TypeError, RecursionError, MemoryError):
        found = []  # some are bytes, or have further objects behind the first one
    if len(found) == len(stored) and all(type(each) is dict and _LARGE not in each for each in found):
        return found
    return [decode_fields(each) for each in stored]


def _refuse_long(text: str, where: str) -> None:
    if len(text) > CAP:
        raise PayloadError(
            f"{where} is {len(text)} characters long as JSON; a store takes at most {CAP}: keep it elsewhere, such as "
            "in a file, and pass its name"
        )


def _blob(text: str, blobs: Blobs, where: str) -> str:
    _refuse_long(text, where)
    digest = sha256(text.encode()).hexdigest()
    content = text.encode()
    blobs[digest] = deflated(content) or content
    return digest


def _compressed(text: str) -> Stored:
    return text if len(text) < COMPRESSED_FROM else deflated(text.encode()) or text


def _expanded(stored: Stored) -> Stored:
    return stored if isinstance(stored, str) or stored[:1] != b"x" else inflated(stored, _LONGEST)
