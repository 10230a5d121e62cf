"""Durations as people write them: 90s, 15min, 2h, 30d."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WRITTEN: Final = re.compile(r"(\d+(?:\.\d+)?) *(s|min|h|d|w|)")


class _Age(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click only
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _WRITTEN.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write seconds, or 90s, 15min, 2h, 30d, 4w", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


AGE: Final = _Age()
"""A parameter that is a duration, as seconds."""
