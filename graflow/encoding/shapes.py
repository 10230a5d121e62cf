"""What the parts of JSON data look like that came from elsewhere, looked at before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, TypeGuard

from graflow.exceptions import PayloadError

Shape = Callable[[Any], bool]

_MOST: Final = 2**64  # of counts
_LATEST: Final = 2e11  # seconds since the epoch: what calendars hold


def is_text(value: Any) -> bool:
    return type(value) is str


def is_writable(text: str) -> bool:
    """Whether UTF-8 has the text: half of a surrogate pair is nothing that a store, a broker or a file can hold."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def is_name(value: object) -> TypeGuard[str]:
    """Whether it is a text of 1 to 200 characters that can be written."""
    return isinstance(value, str) and 0 < len(value) <= 200 and is_writable(value)


def is_flag(value: Any) -> bool:
    return type(value) is bool


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LATEST


def is_length(value: Any) -> bool:
    """Whether it is a number of seconds, of whatever length."""
    return type(value) in (int, float) and 0 <= value < inf


def is_object(value: Any) -> bool:
    return type(value) is dict


def optional(shape: Shape) -> Shape:
    return lambda value: value is None or shape(value)


def list_of(shape: Shape) -> Shape:
    return lambda value: type(value) is list and all(map(shape, value))


def row_of(*shapes: Shape) -> Shape:
    """A list of parts, each of its own shape."""

    def fits(value: Any) -> bool:
        return (
            type(value) is list
            and len(value) == len(shapes)
            and all(shape(part) for shape, part in zip(shapes, value, strict=True))
        )

    return fits


def object_of(shape: Shape) -> Shape:
    """An object whose values are of one shape."""
    return lambda value: type(value) is dict and all(map(shape, value.values()))


def anything(_value: Any) -> bool:
    return True


def check_shapes(body: Mapping[str, Any], shapes: Mapping[str, Shape], what: str) -> None:
    """Return when every part that has a shape is of that shape; parts that are not there are not looked for.

    Raises:
        PayloadError: When one is not, naming it.
    """
    for name, value in body.items():
        shape = shapes.get(name)
        if shape is not None and not shape(value):
            raise PayloadError(f"{what} has another form than this program reads: '{name}'")


def check_parts(body: Mapping[str, Any], *names: str, what: str) -> None:
    """Return when all these parts are there.

    Raises:
        PayloadError: When one is missing, naming it.
    """
    for name in names:
        if name not in body:
            raise PayloadError(f"{what} lacks a part: '{name}'")
