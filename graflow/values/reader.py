"""The walk over data on its way in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.exceptions import PayloadError
from graflow.values import classes
from graflow.values.blobs import TAG as BLOB
from graflow.values.blobs import GivenBlobs
from graflow.values.kinds import LEAF_TAGS, reader_of, unknown
from graflow.values.pickles import Pickles
from graflow.values.plain import MAX_DEPTH, SCALARS, TAG


class Reader:
    """Reads one value; refuses depth before the stack does."""

    def __init__(
        self, max_depth: int, near: Mapping[str, type], pickles: Pickles | None, blobs: GivenBlobs | None
    ) -> None:
        self._left = max_depth
        self._near = near
        self._pickles = pickles
        self._blobs = blobs

    def read(self, data: Any, /) -> Any:
        kind = type(data)
        if kind in SCALARS:
            return data
        if self._left <= 0 and not _is_leaf(data):
            raise PayloadError(f"A value nested deeper than {MAX_DEPTH} levels is refused")
        self._left -= 1
        try:
            if kind is list:
                return [item if type(item) in SCALARS else self.read(item) for item in data]
            if kind is not dict:
                raise PayloadError(f"A {kind.__qualname__} is not JSON data")
            if TAG in data:
                return self._tagged(data)
            return {key: item if type(item) in SCALARS else self.read(item) for key, item in data.items()}
        finally:
            self._left += 1

    def find_class(self, name: object, /) -> type:
        return classes.find_class(name, self._near)

    def unpickle(self, content: object) -> Any:
        """The value of a signed pickle."""
        if self._pickles is None:
            raise PayloadError("A pickled value is refused here: nothing says which key it is signed with")
        return self._pickles.make(content)

    def _blob(self, content: object) -> Any:
        if self._blobs is None:
            raise PayloadError("A long value is refused here: nothing says where its content is")
        return self._blobs.make(content)

    def _tagged(self, data: dict[str, Any]) -> Any:
        tag = data[TAG]
        if not isinstance(tag, str) or len(data) != 2 or "v" not in data:
            raise unknown(tag)
        try:
            if tag == "pickle":
                return self.unpickle(data["v"])
            if tag == BLOB:
                return self._blob(data["v"])
            return reader_of(tag)(data["v"], self)
        except PayloadError:
            raise
        except Exception as error:  # kinds are made by many libraries, each with errors of its own
            raise PayloadError(f"A value of kind '{tag[:40]}' is malformed: {type(error).__name__}") from error


def _is_leaf(data: object) -> bool:
    """Whether data stands for a value that has no values inside."""
    tag = data.get(TAG) if type(data) is dict else None
    return isinstance(tag, str) and tag in LEAF_TAGS
