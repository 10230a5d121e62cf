"""Python values as JSON data and back.

Strings, numbers, booleans, None, lists and dictionaries with string keys stay what they are. Other kinds become objects
of the form `{"$t": kind, "v": content}`; a dictionary that itself has the key `$t` becomes its list of pairs. What has
no kind is a signed pickle where the caller has keys for that, else it is refused: nothing is ever turned into its text.
Reading builds objects of the kinds of `graflow.values` only: no name that arrives is imported or looked up with
`getattr`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from math import isfinite
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary

from graflow.errors_as_data import ErrorData, describe_error, rebuild_error
from graflow.exceptions import PayloadError
from graflow.foreign import attempt
from graflow.values import classes, containers, records, scalars
from graflow.values.base import Codec, Make, NoCodecError
from graflow.values.blobs import TAG as BLOB
from graflow.values.blobs import GivenBlobs, TakenBlobs
from graflow.values.containers import MAPPINGS, SEQUENCES
from graflow.values.pickles import Pickles

MAX_DEPTH: Final = 64
TAG: Final = "$t"
SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_MAX_CONTAINERS: Final = 4_000_000
_PLAIN: Final = SCALARS | {list, dict}
_AS_IS: Final = frozenset((str, bool, type(None)))
_STR_ONLY: Final = frozenset((str,))


# -- out ---------------------------------------------------------------------------------------------------------------


def to_jsonable(
    value: object,
    *,
    where: str = "value",
    max_depth: int = MAX_DEPTH,
    near: Mapping[str, type] | None = None,
    pickles: Pickles | None = None,
    blobs: TakenBlobs | None = None,
) -> Any:
    """The value as JSON data; a plain value is returned itself, not copied.

    Args:
        value: What to write.
        where: What it is called in error messages.
        max_depth: How many levels of containers there may be.
        near: Classes by name that the receiver knows besides those of the table.
        pickles: Takes what has no other form, and values of classes that the receiver may not know.
        blobs: Takes bytes that are long, and a value that is a long text.

    Raises:
        TypeError: When a part of it cannot be kept; the text names its place and type, and what to do.
    """
    named = None if blobs is None else blobs.take(value, where)
    if named is not None:
        return {TAG: BLOB, "v": named}
    if is_plain(value, max_depth, check_numbers=True):
        return value
    try:
        return _Writer(where, max_depth, near or {}, pickles, blobs).write(value, "")
    except _ShapeError as error:
        if pickles is None or pickles.keys is None:
            raise TypeError(str(error)) from None
        return {TAG: "pickle", "v": pickles.take(value)}


def is_plain(value: object, max_depth: int = MAX_DEPTH, *, check_numbers: bool = False) -> bool:
    """Whether JSON keeps the value as it is, looked at level by level with few steps in Python per container.

    Args:
        value: Anything.
        max_depth: How many levels of containers there may be.
        check_numbers: Whether numbers that JSON cannot hold count as well.
    """
    level: list[Any] = [[value]]
    count = 0
    for _ in range(max_depth + 1):
        below: list[Any] = []
        for container in level:
            values = container
            if type(container) is dict:
                if container and (not _STR_ONLY.issuperset(map(type, container)) or TAG in container):
                    return False
                values = container.values()
            kinds = set(map(type, values))
            if not kinds <= SCALARS:
                if not kinds <= _PLAIN:
                    return False
                below.extend(item for item in values if type(item) is list or type(item) is dict)
            if check_numbers and not kinds <= _STR_ONLY and not _all_fit(values):
                return False
        if not below:
            return True
        count += len(below)
        if count > _MAX_CONTAINERS:
            return False
        level = below
    return False


def _all_fit(values: Iterable[Any]) -> bool:
    """Whether JSON can hold all numbers among the values: none is infinite, not a number, or too long."""
    for value in values:
        kind = type(value)
        if (kind is float and not isfinite(value)) or (kind is int and value.bit_length() > _MAX_INT_BITS):
            return False
    return True


_MAX_INT_BITS: Final = 14_000  # below 4,300 digits, the limit of the interpreter's own conversion


class _ShapeError(TypeError):
    """A value contains itself, or is too deep or too wide for JSON."""


class _Writer:
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
        if kind is int and value.bit_length() <= _MAX_INT_BITS:
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
        codec = _codec_of(kind)
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
        if type(value) in _SCALAR_KINDS:
            return take(value)
        self._count += 1
        if id(value) in self._open:
            raise _ShapeError(f"{self._place()} of type {_name_of(type(value))} contains itself and cannot be kept")
        if len(self._open) >= self._max_depth:
            raise _ShapeError(f"{self._root} is nested deeper than {self._max_depth} levels and cannot be kept")
        if self._count > _MAX_CONTAINERS:
            raise _ShapeError(f"{self._root} holds more than {_MAX_CONTAINERS} containers and cannot be kept")
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
        if tag == "dict" and _STR_ONLY.issuperset(map(type, value)) and TAG not in value:
            return {key: item if type(item) in _AS_IS else self.write(item, (key,)) for key, item in value.items()}
        return {TAG: tag, "v": [[self.write(key, _KEY), self.write(item, (key,))] for key, item in value.items()]}

    def _pickled(self, value: object, reason: str = "") -> Any:
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


def _codec_of(kind: type) -> Codec | None:
    """How values of a class are taken apart; libraries are asked about their own classes alone."""
    found = _SCALAR_KINDS.get(kind) or _codecs.get(kind)
    if found is None:
        if issubclass(kind, BaseException):
            found = _ERROR
        else:
            found = classes.class_codec(kind) or _library_codec(kind)
            if found is None or found.kind is not None:
                return found  # the table of classes may change
        _codecs[kind] = found
    return found


def _library_codec(kind: type) -> Codec | None:
    leaf = _LEAVES.get(kind.__module__.partition(".")[0])
    found: Codec | None = None if leaf is None else import_module(leaf).codec_of(kind)
    return found


# Rooms that import a library which need not be there, by the library's name.
_LEAVES: Final = {
    "numpy": "graflow.values.arrays",
    "pandas": "graflow.values.frames",
    "pyarrow": "graflow.values.arrow",
    "polars": "graflow.values.polar",
}
_KEY: Final = "key"
_ERROR: Final = Codec("error", lambda value, _: describe_error(value).to_dict())
_codecs: WeakKeyDictionary[type, Codec] = WeakKeyDictionary()


_SCALAR_KINDS: Final = {**scalars.CODECS, ErrorData: Codec("remote", lambda value, _: value.to_dict())}


# -- back --------------------------------------------------------------------------------------------------------------


def from_jsonable(
    data: object,
    *,
    max_depth: int = MAX_DEPTH,
    near: Mapping[str, type] | None = None,
    pickles: Pickles | None = None,
    blobs: GivenBlobs | None = None,
) -> Any:
    """The value that `to_jsonable` wrote.

    Args:
        data: JSON data.
        max_depth: How many levels of containers there may be.
        near: Classes by name that come before those of the table.
        pickles: Verifies and loads signed pickles; without it none is loaded.
        blobs: Has the long values that the data names.

    Raises:
        PayloadError: When the data is too deep, or holds an unknown kind, a class that is not known here, or a pickle
            whose signature does not hold.
    """
    return data if type(data) in SCALARS else _Reader(max_depth, near or {}, pickles, blobs).read(data)


class _Reader:
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
            raise _unknown(tag)
        try:
            if tag == "pickle":
                return self.unpickle(data["v"])
            if tag == BLOB:
                return self._blob(data["v"])
            return _reader_of(tag)(data["v"], self)
        except PayloadError:
            raise
        except Exception as error:  # kinds are made by many libraries, each with errors of its own
            raise PayloadError(f"A value of kind '{tag[:40]}' is malformed: {type(error).__name__}") from error


def _reader_of(tag: str) -> Make:
    reader = _READERS.get(tag)
    if reader is None:
        library = tag.partition(".")[0]
        if library not in _LEAVES:
            raise _unknown(tag)
        try:
            reader = import_module(_LEAVES[library]).READERS.get(tag)
        except ImportError as error:
            raise PayloadError(
                f"A value of {library} cannot be made here ({error}): pip install {library}", error
            ) from error
        if reader is None:
            raise _unknown(tag)
    return reader


def _unknown(tag: object) -> PayloadError:
    return PayloadError(f"Unknown kind of value {str(tag)[:40]!r}; the sender may be of a newer version")


def _is_leaf(data: object) -> bool:
    """Whether data stands for a value that has no values inside."""
    tag = data.get(TAG) if type(data) is dict else None
    return isinstance(tag, str) and tag in _LEAF_TAGS


_READERS: Final[Mapping[str, Make]] = {
    **scalars.READERS,
    **containers.READERS,
    "enum": records.make_member,
    "error": lambda data, _: rebuild_error(ErrorData.from_dict(data)),
    "model": records.make_model,
    "namedtuple": records.make_namedtuple,
    "own": classes.make_own,
    "record": records.make_record,
    "remote": lambda data, _: ErrorData.from_dict(data),
}
_LEAF_TAGS: Final = frozenset({codec.tag for codec in _SCALAR_KINDS.values()} | {"enum", "error", "pickle", BLOB})
