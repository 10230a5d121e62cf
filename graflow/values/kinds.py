"""Which kinds of values there are: how each is taken apart, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final
from weakref import WeakKeyDictionary

from graflow.encoding.errors_as_data import ErrorData, describe_error, rebuild_error
from graflow.exceptions import PayloadError
from graflow.values import classes, containers, records, scalars
from graflow.values.base import Codec, Make
from graflow.values.blobs import TAG as BLOB

# Rooms that import a library which need not be there, by the library's name.
_LEAVES: Final = {
    "numpy": "graflow.values.tables.arrays",
    "pandas": "graflow.values.tables.frames",
    "pyarrow": "graflow.values.tables.arrow",
    "polars": "graflow.values.tables.polar",
}
_ERROR: Final = Codec("error", lambda value, _: describe_error(value).to_dict())
SCALAR_KINDS: Final = {**scalars.CODECS, ErrorData: Codec("remote", lambda value, _: value.to_dict())}
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
LEAF_TAGS: Final = frozenset(
    {codec.tag for codec in SCALAR_KINDS.values()} | {"enum", "error", "pickle", BLOB}
)  # without values inside
_codecs: WeakKeyDictionary[type, Codec] = WeakKeyDictionary()


def codec_of(kind: type) -> Codec | None:
    """How values of a class are taken apart; libraries are asked about their own classes alone."""
    found = SCALAR_KINDS.get(kind) or _codecs.get(kind)
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


def reader_of(tag: str) -> Make:
    """How values of a kind are made; a library is imported when the first of its kinds comes.

    Raises:
        PayloadError: The kind is unknown, or its library is not here.
    """
    reader = _READERS.get(tag)
    if reader is None:
        library = tag.partition(".")[0]
        if library not in _LEAVES:
            raise unknown(tag)
        try:
            reader = import_module(_LEAVES[library]).READERS.get(tag)
        except ImportError as error:
            raise PayloadError(
                f"A value of {library} cannot be made here ({error}): pip install {library}", error
            ) from error
        if reader is None:
            raise unknown(tag)
    return reader


def unknown(tag: object) -> PayloadError:
    """The error for a kind that no table has."""
    return PayloadError(f"Unknown kind of value {str(tag)[:40]!r}; the sender may be of a newer version")
