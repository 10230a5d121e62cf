"""What a task tells of itself while it runs, as plain JSON that every terminal can show."""

from __future__ import annotations

from math import isfinite
from numbers import Integral
from typing import Any, Final

_LONGEST_MESSAGE: Final = 1000


def progress_data(done: Any, total: Any, message: object) -> dict[str, Any]:
    """How far a task is; None for what is no finite number, or is not told."""
    return {"done": _as_number(done), "total": _as_number(total), "message": _as_text(message)}


def _as_number(value: Any) -> float | None:
    """A number of whatever kind as JSON has them; None for what has no finite value."""
    try:
        number = int(value) if isinstance(value, Integral) else float(value)
        return number if isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _as_text(message: object) -> str | None:
    """A message in one piece that every terminal can show."""
    return None if message is None else str(message)[:_LONGEST_MESSAGE].encode(errors="replace").decode()
