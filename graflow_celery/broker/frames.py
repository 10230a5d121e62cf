"""What a message of Celery's looks like in Redis: looked at before kombu and Celery make something of it.

They trust the broker: a frame of another shape ends a worker, and one that swells stops it. Such a frame is dropped.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from graflow.codec import parse_json
from graflow.encoding.shapes import Shape, check_shapes, is_count, is_object, is_text, optional
from graflow.exceptions import PayloadError
from graflow_celery.broker.app import ENTRY_TASK, FINISH_TASK, FLOW_TASK, RUN_TASK
from graflow_celery.wire.payload import PAYLOAD_LIMIT

_DEPTH: Final = 256  # arguments are typed JSON, which takes several levels for each of a value
_SWELLS: Final = 100  # times that a compressed body may swell
_ROOM: Final = 1024 * 1024  # bytes that it may have in any case
_HINT: Final = 4 * 1024 * 1024  # bytes of a message that only names what is in the record
_OURS: Final = frozenset({RUN_TASK, FINISH_TASK, FLOW_TASK, ENTRY_TASK})
_YEARS: Final = range(1971, 9000)
_ENCODINGS: Final = (None, "utf-8", "UTF-8", "base64")
_OF_NO_TASKS: Final = re.compile(r".*\.pidbox|(celeryev|.*\.events)\.[0-9a-f-]{36}", re.DOTALL)
"""Queues of remote control, and of each process that listens to events."""
_JSON: Final = "application/json"


def _is_moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).year in _YEARS
    except (ValueError, TypeError):
        return False


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < 1e9)


def _are_limits(value: Any) -> bool:
    return type(value) in (list, tuple) and len(value) == 2 and all(map(_is_limit, value))


_FRAME: Final[Mapping[str, Shape]] = {
    "headers": optional(is_object),
    "properties": is_object,
    "body": is_text,
    "content-type": is_text,
    "content-encoding": is_text,
}
_PROPERTIES: Final[Mapping[str, Shape]] = {
    "delivery_tag": is_text,
    "delivery_info": is_object,
    "body_encoding": lambda value: value in _ENCODINGS,
    "priority": optional(is_count),
    **dict.fromkeys(("reply_to", "correlation_id"), optional(is_text)),
}
_INFO: Final[Mapping[str, Shape]] = dict.fromkeys(("exchange", "routing_key"), optional(is_text))
_HEADERS: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("task", "id"), is_text),
    **dict.fromkeys(
        ("lang", "shadow", "root_id", "parent_id", "group", "origin", "argsrepr", "kwargsrepr", "compression"),
        optional(is_text),
    ),
    **dict.fromkeys(("eta", "expires"), optional(_is_moment)),
    "retries": optional(is_count),
    "timelimit": optional(_are_limits),
    **dict.fromkeys(("stamps",), optional(is_object)),
}
_EMBED: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("callbacks", "errbacks", "chain"), optional(lambda value: type(value) is list)),
    "chord": optional(is_object),
}


def fault_of(frame: Any, queue: str) -> str | None:
    """Why a frame is no message for its queue; None for one that is.

    Args:
        frame: What stood in Redis, as JSON data.
        queue: Where; those of remote control and of events hold no tasks.
    """
    try:
        body = _body_of(frame)
        if not _OF_NO_TASKS.fullmatch(queue):
            _check_task(frame, body)
    except PayloadError as error:
        return str(error)
    return None


def _body_of(frame: Any) -> bytes:
    """The bytes of the body, as long as they are in proportion."""
    if not isinstance(frame, dict) or not {"properties", "body", "content-type", "content-encoding"} <= frame.keys():
        raise PayloadError("it is no message of kombu's")
    check_shapes(frame, _FRAME, "its frame")
    properties = frame["properties"]
    if not {"delivery_tag", "delivery_info"} <= properties.keys():
        raise PayloadError("it does not say where it was delivered")
    check_shapes(properties, _PROPERTIES, "what it says of its delivery")
    check_shapes(properties["delivery_info"], _INFO, "what it says of its delivery")
    _check_charset(frame["content-encoding"])
    body = _decoded(frame["body"], properties.get("body_encoding"))
    compression = (frame.get("headers") or {}).get("compression")
    return body if compression is None else _inflated(body, compression)


def _check_charset(name: str) -> None:
    try:
        if name != "binary":
            codecs.lookup(name)
    except (LookupError, ValueError):
        raise PayloadError("its encoding is unknown") from None


def _decoded(body: str, encoding: str | None) -> bytes:
    try:
        return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    except (binascii.Error, ValueError):
        raise PayloadError("its body cannot be decoded") from None


_INFLATING: Final[Mapping[str, Callable[[], Any]]] = {
    "application/x-gzip": zlib.decompressobj,  # so kombu calls zlib's own form
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}


def _inflated(body: bytes, kind: object) -> bytes:
    make = _INFLATING.get(kind) if isinstance(kind, str) else None
    if make is None:
        raise PayloadError("it is compressed in an unknown way")
    stream = make()
    try:
        plain: bytes = stream.decompress(body, min(PAYLOAD_LIMIT, _ROOM + _SWELLS * len(body)))
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        raise PayloadError("its body cannot be decompressed") from None
    if not stream.eof:
        raise PayloadError("its compressed body is truncated or swells out of proportion")
    return plain


def _check_task(frame: Mapping[str, Any], body: bytes) -> None:
    """Return when it is a message about a task."""
    headers = frame.get("headers") or {}
    check_shapes(headers, _HEADERS, "its head")
    if frame["content-type"] != _JSON:
        return  # which Celery refuses by itself
    parts = parse_json(body, max_depth=_DEPTH)
    if "task" not in headers:  # in the first form of Celery's messages all is in the body
        headers = parts if isinstance(parts, dict) else {}
        check_shapes(headers, _HEADERS, "its head")
    elif not (type(parts) is list and len(parts) == 3 and type(parts[0]) is list and all(map(is_object, parts[1:]))):
        raise PayloadError("its body does not hold arguments")
    else:
        check_shapes(parts[2], _EMBED, "what it says of tasks to follow")
    if not {"task", "id"} <= headers.keys():
        raise PayloadError("it names no task")
    if headers["task"] in _OURS:
        _check_ours(headers, body)


def _check_ours(headers: Mapping[str, Any], body: bytes) -> None:
    if headers.get("eta") is not None or headers.get("expires") is not None:
        raise PayloadError("it is to wait or to expire, which is the record's to say")
    if headers["task"] != ENTRY_TASK and len(body) > _HINT:
        raise PayloadError("it is longer than a hint")
