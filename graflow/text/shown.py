"""Text of unknown origin, as terminals and logs may show it: what would steer them is written out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection
from itertools import islice
from typing import Any, Final


def printable(value: object, indent: str = "  ") -> str:
    """The text of a value; control characters, and what turns the direction of text, as Python writes it in a literal.

    Line breaks stay, and what follows them is indented: no line of it can be taken for one of another origin.
    """
    return f"\n{indent}".join(map(one_line, str(value).split("\n")))


def one_line(value: object) -> str:
    """The same with line breaks written out as well."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def listed(ids: Collection[str], most: int = 20) -> str:
    """The first of some ids, and how many more there are."""
    first = list(islice(ids, most))
    return f"{first}" if len(ids) <= most else f"{first} and {len(ids) - most} more"


class _Argument:
    """An argument of a log line, which is shown in one line; its text is made when the line is."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return one_line(self._value)

    def __repr__(self) -> str:
        return one_line(repr(self._value))


_SAFE: Final = (int, float, _Argument)  # what formats such as %d take, too


def argument(value: object) -> object:
    """What a log line is given for a value, so that it stays one line."""
    return value if isinstance(value, _SAFE) else _Argument(value)


def _in_one_line(record: logging.LogRecord) -> bool:
    given: Any = record.args
    if isinstance(given, tuple):
        record.args = tuple(map(argument, given))
    elif given:
        record.args = {name: argument(value) for name, value in given.items()}
    if record.exc_info and not record.exc_text:
        record.exc_text = "  " + printable("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return True


def get_logger(name: str) -> logging.Logger:
    """The logger of that name, whose lines stay lines whatever its arguments and errors hold."""
    logger = logging.getLogger(name)
    logger.addFilter(_in_one_line)
    return logger
