"""What the kinds of values are written and read with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from graflow.exceptions import PayloadError


class NoCodecError(TypeError):
    """A value of a kind that is written otherwise cannot be: a pickle is left, or a refusal."""


class Writing(Protocol):
    """The walk over a value on its way out, as the kinds see it."""

    def write(self, value: object, step: str | tuple[Any], /) -> Any:
        """A value inside as JSON data; `step` is the way to it, text as it is shown or `(key,)`."""


class Reading(Protocol):
    """The walk over data on its way in, as the kinds see it."""

    def read(self, data: object, /) -> Any:
        """A value inside."""

    def find_class(self, name: object, /) -> type:
        """The class of a `module:qualname` that is in this process's table.

        Raises:
            PayloadError: When it is not.
        """


class Codec(NamedTuple):
    """How the values of one class are taken apart.

    Attributes:
        tag: The kind, which names the reader.
        take: Makes JSON data from a value.
        kind: The class that the data names and the receiver must know; None for a kind that every process knows.
    """

    tag: str
    take: Callable[[Any, Writing], Any]
    kind: type | None = None


Make = Callable[[Any, Reading], Any]


def parts_of(content: object, *counts: int) -> list[Any]:
    """The content of a kind that is a list of so many parts.

    Raises:
        PayloadError: When it is not.
    """
    if type(content) is not list or len(content) not in counts:
        raise PayloadError("A value has not the parts of its kind")
    return content


def text_of(part: object) -> str:
    """A part that is text.

    Raises:
        PayloadError: When it is not.
    """
    if type(part) is not str:
        raise PayloadError("A part of a value is not the text that it should be")
    return part
