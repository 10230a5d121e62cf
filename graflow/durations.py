"""Durations that callers give, checked where they are given."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, SupportsFloat, SupportsIndex, overload

Duration = float | timedelta
"""Seconds, or the same as a timedelta."""
Deadline = Duration | datetime

LONGEST: Final = 100 * 365 * 86_400  # seconds
"""What a setting in seconds may be at most: Redis, Lua and timers reckon with numbers that have an end."""
MOST: Final = 2**31 - 1
"""The same for a setting that counts something."""


@overload
def checked_seconds(name: str, value: float) -> float: ...


@overload
def checked_seconds(name: str, value: None) -> None: ...


def checked_seconds(name: str, value: object) -> float | None:
    """A duration as plain seconds; None, for no limit, stays None.

    Args:
        name: The parameter that it was given for, for the error.
        value: Any kind of number, also below 0, which is a time that is over.

    Raises:
        TypeError: When it is no number.
        ValueError: When it is not a number (NaN), or too large for one.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        raise TypeError(f"{name} is a number of seconds, not a timedelta; write {name}=given.total_seconds()")
    if isinstance(value, bool | str | bytes) or not isinstance(value, SupportsFloat | SupportsIndex):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} is a number of seconds, not one with so many digits") from None
    if math.isnan(seconds):
        raise ValueError(f"{name} is a number of seconds, not NaN")
    return seconds
