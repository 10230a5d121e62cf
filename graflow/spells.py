"""Warnings that would repeat themselves: one at the beginning of a spell of the same trouble, then one a minute."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

_AGAIN: Final = 60.0  # seconds after which what goes on is told again
_PAUSE: Final = 5.0  # seconds without that trouble after which it has begun anew
_KNOWN: Final = 1_000

_spells: dict[Hashable, tuple[float, float]] = {}
"""When each trouble of this process was told, and when it was met last."""


def is_news(trouble: Hashable, *, pause: float = _PAUSE) -> bool:
    """Whether to tell now that a trouble was met; to be asked each time that it is.

    Args:
        trouble: What it is: whoever shares it shares the warning.
        pause: Seconds between two troubles of one kind that are no longer the same spell.
    """
    now = time.monotonic()
    told, met = _spells.get(trouble, (-_AGAIN, now - pause))
    is_new = now - met >= pause or now - told >= _AGAIN
    if len(_spells) >= _KNOWN:
        _spells.clear()
    _spells[trouble] = (now if is_new else told, now)
    return is_new


_met: Final[dict[Hashable, None]] = {}


def is_first(trouble: Hashable) -> bool:
    """Whether a trouble was not met before in this process; of very many, the oldest are forgotten."""
    if trouble in _met:
        return False
    if len(_met) >= _KNOWN:
        _met.pop(next(iter(_met)), None)
    _met[trouble] = None
    return True


def end_spell(trouble: Hashable) -> None:
    """Note that a trouble is over, so that the next one is told at once."""
    _spells.pop(trouble, None)
