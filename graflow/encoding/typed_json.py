"""Python values as JSON data and back.

Strings, numbers, booleans, None, lists and dictionaries with string keys stay what they are. Other kinds become objects
of the form `{"$t": kind, "v": content}`; a dictionary that itself has the key `$t` becomes its list of pairs. What has
no kind is a signed pickle where the caller has keys for that, else it is refused: nothing is ever turned into its text.
Reading builds objects of the kinds of `graflow.values` only: no name that arrives is imported or looked up with
`getattr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from graflow.foreign import attempt
from graflow.values.blobs import TAG as BLOB
from graflow.values.blobs import GivenBlobs, TakenBlobs
from graflow.values.pickles import Pickles
from graflow.values.plain import MAX_DEPTH, SCALARS, TAG, is_plain
from graflow.values.reader import Reader
from graflow.values.writer import ShapeError, Writer


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
        return Writer(where, max_depth, near or {}, pickles, blobs).write(value, "")
    except ShapeError as error:
        if pickles is None or pickles.keys is None:
            raise TypeError(str(error)) from None
        return {TAG: "pickle", "v": _pickled_whole(value, str(error), pickles)}


def _pickled_whole(value: object, why: str, pickles: Pickles) -> list[str]:
    def refuse(error: Exception) -> NoReturn:
        raise TypeError(f"{why} as JSON nor pickled ({type(error).__name__}: {error})") from error

    return attempt(lambda: pickles.take(value), refuse)


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
    return data if type(data) in SCALARS else Reader(max_depth, near or {}, pickles, blobs).read(data)
