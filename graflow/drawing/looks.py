"""How states look everywhere: a colour for each family, an icon and a word for each state, never the colour alone.

The seven colours are told apart with deuteranopia, protanopia and tritanopia as well; a test computes by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """States of one colour.

    Attributes:
        name: The family.
        light: Its colour on a light ground.
        dark: Its colour on a dark one.
        ink_light: For text and icons on a light tint of it.
        ink_dark: The same on a dark one.
    """

    name: str
    light: str
    dark: str
    ink_light: str
    ink_dark: str


@dataclass(frozen=True, slots=True)
class Look:
    """One state.

    Attributes:
        state: The state, as it is written in JSON.
        family: Decides the colour.
        icon: The name of its icon.
        sign: A character that stands for the icon in text.
        word: What people read.
        is_hollow: Whether its tile is only tinted.
        is_dashed: Whether the frame of its tile is dashed.
    """

    state: str
    family: str
    icon: str
    sign: str
    word: str
    is_hollow: bool = False
    is_dashed: bool = False


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (
        Family("pending", "#b9c0cb", "#434b58", "#686c72", "#898e96"),
        Family("running", "#2563eb", "#4b8dff", "#2158d1", "#5996ff"),
        Family("completed", "#3aa787", "#4cc38a", "#27725c", "#4cc38a"),
        Family("failed", "#cf3a0c", "#f5622f", "#b0310a", "#f66b3b"),
        Family("waiting", "#e0a000", "#ffd966", "#866000", "#ffd966"),
        Family("lost", "#5e1238", "#e79ad0", "#5e1238", "#e79ad0"),
        Family("cancelled", "#5b6472", "#8d8f94", "#596270", "#96989d"),
    )
}

LOOKS: Final[Mapping[str, Look]] = {
    look.state: look
    for look in (
        Look("pending", "pending", "ring", "○", "pending", is_hollow=True),
        Look("ready", "pending", "ring", "○", "ready", is_hollow=True),
        Look("queued", "pending", "lines", "≡", "queued"),
        Look("running", "running", "open-ring", "◌", "running"),
        Look("claimed", "running", "open-ring", "◌", "claimed", is_hollow=True),
        Look("completed", "completed", "tick", "✓", "completed"),
        Look("cached", "completed", "flash", "⚡", "cached", is_hollow=True),
        Look("reused", "completed", "flash", "⚡", "reused", is_hollow=True),
        Look("failed", "failed", "cross", "✕", "failed"),
        Look("waiting", "waiting", "bars", "‖", "waiting"),
        Look("paused", "waiting", "bars", "‖", "paused"),
        Look("retrying", "waiting", "round-arrow", "↻", "retrying"),
        Look("lost", "lost", "question", "?", "lost"),
        Look("cancelled", "cancelled", "struck-ring", "⊘", "cancelled"),
        Look("cancelling", "cancelled", "struck-ring", "⊘", "cancelling"),
        Look("skipped", "cancelled", "chevrons", "»", "skipped", is_hollow=True, is_dashed=True),
    )
}


def look_of(state: str) -> Look:
    """How a state looks; one that is unknown here looks pending and keeps its word."""
    return LOOKS.get(state) or Look(state, "pending", "ring", "○", state, is_hollow=True)
