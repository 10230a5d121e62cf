"""Calls of code that is not ours: methods of users' values, listeners, constructors of their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")


def attempt(call: Callable[[], _T], otherwise: Callable[[Exception], _U]) -> _T | _U:
    """What a call gives, or what `otherwise` makes of the error that it raises; it may raise one of ours.

    For calls that may raise anything; not for our own code, whose errors have names.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - code of others may raise anything
        return otherwise(error)


def attempt_import(call: Callable[[], _T], otherwise: Callable[[Exception | SystemExit], _U]) -> _T | _U:
    """The same for a call that imports a module of others, which may also end the program."""
    try:
        return attempt(call, otherwise)
    except SystemExit as error:
        return otherwise(error)
