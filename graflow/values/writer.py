"""The walk over a value on its way out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, NoReturn

from graflow.foreign import attempt
from graflow.values import classes
from graflow.values.base import NoCodecError
from graflow.values.blobs import TAG as BLOB
from graflow.values.blobs import TakenBlobs
from graflow.values.containers import MAPPINGS, SEQUENCES
from graflow.values.kinds import SCALAR_KINDS, codec_of
from graflow.values.pickles import Pickles
from graflow.values.plain import MAX_CONTAINERS, MAX_INT_BITS, STR_ONLY, TAG

_AS_IS: Final = frozenset((str, bool, type(None)))
_KEY: Final = "key"


class ShapeError(TypeError):
    """A value contains itself, or is too deep or too wide for JSON."""


class Writer:
    """Writes one value; refuses cycles, depth and size before memory does."""

    def __init__(
        self,
        where: str,
        max_depth: int,
        near: Mapping[str, type],
        pickles: Pickles | None,
        blobs: TakenBlobs | None,
    ) -> None:
        self._blobs = blobs
        self._root = where
        self._max_depth = max_depth
        self._near = near
        self._pickles = pickles if pickles is not None and pickles.keys is not None else None
        self._path: list[str | tuple[Any]] = []
        self._open: set[int] = set()
        self._count = 0

    def write(self, value: Any, step: str | tuple[Any], /) -> Any:
        kind = type(value)
        if kind in _AS_IS:
            return value
        if kind is int and value.bit_length() <= MAX_INT_BITS:
            return value
        if kind is float and isfinite(value):
            return value
        self._path.append(step)
        try:
            return self._tagged(value, kind)
        finally:
            self._path.pop()

    def _tagged(self, value: object, kind: type) -> Any:
        if kind in SEQUENCES or kind in MAPPINGS:
            return self._inside(value, self._mapping if isinstance(value, dict) else self._items)
        if kind is bytes and self._blobs is not None:
            named = self._blobs.take(value, self._place())
            if named is not None:
                return {TAG: BLOB, "v": named}
        codec = codec_of(kind)
        if codec is None:
            return self._pickled(value)
        if codec.kind is not None:
            if self._pickles is not None and not classes.is_known(kind, self._near):
                return self._pickled(value)
            classes.enter(kind)
        try:
            return self._inside(value, lambda whole: {TAG: codec.tag, "v": codec.take(whole, self)})
        except NoCodecError as error:
            return self._pickled(value, str(error))

    def _inside(self, value: object, take: Callable[[Any], Any]) -> Any:
        if type(value) in SCALAR_KINDS:
            return take(value)
        self._count += 1
        if id(value) in self._open:
            raise ShapeError(f"{self._place()} of type {_name_of(type(value))} contains itself and cannot be kept")
        if len(self._open) >= self._max_depth:
            raise ShapeError(f"{self._root} is nested deeper than {self._max_depth} levels and cannot be kept")
        if self._count > MAX_CONTAINERS:
            raise ShapeError(f"{self._root} holds more than {MAX_CONTAINERS} containers and cannot be kept")
        self._open.add(id(value))
        try:
            return take(value)
        finally:
            self._open.discard(id(value))

    def _items(self, value: Any) -> Any:
        items = [item if type(item) in _AS_IS else self.write(item, (index,)) for index, item in enumerate(value)]
        tag = SEQUENCES[type(value)]
        if tag is None:
            return items
        if isinstance(value, set | frozenset):
            items.sort(key=repr)  # what is written must not depend on hashes
        return {TAG: tag, "v": [value.maxlen, items] if isinstance(value, deque) else items}

    def _mapping(self, value: dict[Any, Any]) -> Any:
        tag = MAPPINGS[type(value)]
        if tag == "dict" and STR_ONLY.issuperset(map(type, value)) and TAG not in value:
            return {key: item if type(item) in _AS_IS else self.write(item, (key,)) for key, item in value.items()}
        return {TAG: tag, "v": [[self.write(key, _KEY), self.write(item, (key,))] for key, item in value.items()]}

    def _pickled(self, value: object, reason: str = "") -> Any:
        if isinstance(value, memoryview):  # pickles of it are bytes
            raise TypeError(
                f"{self._place()} is a memoryview, which shows memory of this process; give bytes(...) of it"
            )
        if self._pickles is None:
            raise TypeError(self._refusal(value, reason)) from None
        pickles = self._pickles

        def refuse(error: Exception) -> NoReturn:
            raise TypeError(self._refusal(value, reason, f"{type(error).__name__}: {error}")) from error

        return {TAG: "pickle", "v": attempt(lambda: pickles.take(value), refuse)}

    def _refusal(self, value: object, reason: str, pickling: str | None = None) -> str:
        kind = type(value)
        told = f"{self._place()} of type {_name_of(kind)}"
        base = next(
            (name for name in (str, int, float, bytes, list, tuple, dict, set) if isinstance(value, name)), None
        )
        plain = f"convert it with {base.__name__}(...)" if base else "convert it to plain data or a dataclass"
        because = f" ({reason})" if reason else ""
        if pickling is not None:
            return f"{told} cannot be kept as JSON{because} nor pickled ({pickling}); {plain} first"
        return (
            f"{told} cannot be kept as JSON{because}; {plain} first, or teach graflow.codec.register its class, or set "
            "GRAFLOW_SIGNING_KEY on both sides so that it goes as a signed pickle"
        )

    def _place(self) -> str:
        """What the value is called, and the way to the part that is being written."""
        shown, keys = "", ""
        for step in self._path:
            if step is _KEY:
                keys = f"key of {keys}"
            else:
                shown += step if isinstance(step, str) else f"[{step[0]!r}]"
        comma = ", " if shown and self._root.endswith("'") else ""
        return f"{keys}{self._root}{comma}{shown}"


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
