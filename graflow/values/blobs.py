"""Long texts and bytes: they travel as they are beside the data that names them, each content once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from graflow.exceptions import PayloadError
from graflow.values.base import parts_of, text_of

LONG: Final = 64 * 1024  # characters or bytes from which on a value is no part of the data
MAX_BLOB: Final = 512 * 1024 * 1024  # bytes of one content: a string of Redis holds no more
TAG: Final = "blob"

Content = bytes | memoryview
Value = str | bytes


def name_of(content: Content) -> str:
    """What a content is found by: its SHA-256."""
    return hashlib.sha256(content).hexdigest()


class TakenBlobs:
    """Long values of one payload on their way out.

    Attributes:
        contents: By name, as they travel.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._known: dict[int, tuple[Value, list[str]]] = {}  # with the value, so that no id is given away again

    def take(self, value: object, where: str) -> list[str] | None:
        """What stands for a value in the data: its kind and name; None for what has to be a part of the data.

        Raises:
            PayloadError: When it is too long, saying how long and where it is.
        """
        if type(value) not in (str, bytes) or not isinstance(value, str | bytes) or len(value) < LONG:
            return None
        if id(value) not in self._known:
            content = _content_of(value, where)
            if content is None:
                return None
            name = name_of(content)
            self.contents[name] = content
            self._known[id(value)] = value, [type(value).__name__, name]
        return self._known[id(value)][1]


def _content_of(value: Value, where: str) -> bytes | None:
    """The bytes of a value; None for text that is not Unicode."""
    if len(value) > MAX_BLOB:
        raise _too_long(where, len(value))
    try:
        content = value if isinstance(value, bytes) else value.encode()
    except UnicodeEncodeError:
        return None
    if len(content) > MAX_BLOB:
        raise _too_long(where, len(content))
    return content


def _too_long(where: str, size: int) -> PayloadError:
    return PayloadError(
        f"{where} is {size >> 20} MiB long, over the limit of {MAX_BLOB >> 20} MiB of one text or bytes; send a "
        "path or a key instead of the data"
    )


class GivenBlobs:
    """Long values that data names.

    Args:
        find: Gives a value by its kind, `str` or `bytes`, and name, and has verified that the content has that name.
    """

    def __init__(self, find: Callable[[str, str], Value]) -> None:
        self._find = find

    def make(self, data: object) -> Value:
        """The value that stands for this data.

        Raises:
            PayloadError: When the data is malformed, or its content is not there or another one.
        """
        kind, name = map(text_of, parts_of(data, 2))
        if kind not in ("str", "bytes"):
            raise PayloadError(f"A long value is of the unknown kind {kind[:40]!r}")
        return self._find(kind, name)


def made_of(kind: str, name: str, content: Content | None) -> Value:
    """The value of a kind whose content is there and has that name.

    Raises:
        PayloadError: When it is not there, has another hash, or is no text where it should be.
    """
    if content is None:
        raise PayloadError("The content of a long value is gone from the record: it has expired or was evicted")
    if name_of(content) != name:
        raise PayloadError("The content of a long value does not have the hash that names it")
    if kind == "bytes":
        return bytes(content)  # the same object when it is bytes
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise PayloadError("The content of a long text is not UTF-8") from None
