"""How states look: all have a look, and no two colours are taken for one another by eyes that see fewer of them."""

from __future__ import annotations

from itertools import combinations
from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

import pytest

from graflow.drawing.looks import FAMILIES, LOOKS, look_of
from graflow.state.statuses import FlowStatus, StepStatus

Colour = tuple[float, float, float]

# Machado, Oliveira and Fernandes 2009, at severity 1.
EYES = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def linear(text: str) -> Colour:
    parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def times(rows: tuple[tuple[float, ...], ...], colour: Colour) -> Colour:
    red, green, blue = (min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True)))) for row in rows)
    return red, green, blue


def lab(colour: Colour) -> Colour:
    x, y, z = times(
        ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041)),
        colour,
    )
    fx, fy, fz = (
        part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116
        for part in (x / 0.95047, y, z / 1.08883)
    )
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: Colour, other: Colour) -> float:
    """CIEDE2000 of two colours in L*a*b*."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (hypot(a1, b1) + hypot(a2, b2)) / 2
    g = 0.5 * (1 - sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = hypot(a1, b1), hypot(a2, b2)
    h1, h2 = degrees(atan2(b1, a1)) % 360, degrees(atan2(b2, a2)) % 360
    turn = 0.0 if not c1 * c2 else (h2 - h1 + 180) % 360 - 180
    middle = h1 + h2 if not c1 * c2 else h1 + turn / 2
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    dl, dc, dh = l2 - l1, c2 - c1, 2 * sqrt(c1 * c2) * sin(radians(turn / 2))
    t = (
        1
        - 0.17 * cos(radians(middle - 30))
        + 0.24 * cos(radians(2 * middle))
        + 0.32 * cos(radians(3 * middle + 6))
        - 0.20 * cos(radians(4 * middle - 63))
    )
    sl = 1 + 0.015 * (lm - 50) ** 2 / sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rotation = -2 * sqrt(cm**7 / (cm**7 + 25**7)) * sin(radians(60 * exp(-((((middle % 360) - 275) / 25) ** 2))))
    return sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * dc / sc * dh / sh)


def contrast(one: Colour, other: Colour) -> float:
    light, dark = sorted(
        (0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (one, other)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def test_the_distance_is_the_published_one() -> None:
    # Sharma, Wu and Dalal 2005, pairs 1, 7 and 25 of their table.
    assert distance((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert distance((50, 0, 0), (50, -1, 2)) == pytest.approx(2.3669, abs=1e-4)
    assert distance((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387)) == pytest.approx(1.2644, abs=1e-4)


@pytest.mark.parametrize(("theme", "least"), [("light", 16.0), ("dark", 13.5)])
def test_any_two_families_are_told_apart_by_all_eyes(theme: str, least: float) -> None:
    colours = [linear(getattr(family, theme)) for family in FAMILIES.values()]
    found = {
        eye: min(distance(lab(times(rows, a)), lab(times(rows, b))) for a, b in combinations(colours, 2))
        for eye, rows in EYES.items()
    }
    assert min(found.values()) >= least, found


@pytest.mark.parametrize(("theme", "ground"), [("light", "#ffffff"), ("dark", "#14171c")])
def test_inks_are_read_on_the_ground_and_on_tints(theme: str, ground: str) -> None:
    for family in FAMILIES.values():
        ink, colour = linear(getattr(family, f"ink_{theme}")), getattr(family, theme)
        parts = [round(0.18 * int(colour[at : at + 2], 16) + 0.82 * int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
        tint = linear("#{:02x}{:02x}{:02x}".format(*parts))
        assert min(contrast(ink, linear(ground)), contrast(ink, tint)) >= 4.5, family


def test_every_state_has_a_family_an_icon_and_a_word_and_none_looks_like_another() -> None:
    assert {*FlowStatus, *StepStatus} <= {*LOOKS}
    assert all(look.family in FAMILIES and look.icon and look.word for look in LOOKS.values())
    words = [look.word for look in LOOKS.values()]
    assert len(set(words)) == len(words)


def test_a_state_of_a_newer_version_keeps_its_word() -> None:
    assert (look_of("dreaming").word, look_of("dreaming").family) == ("dreaming", "pending")
