"""Warnings that would repeat themselves."""

from __future__ import annotations

import pytest

from graflow import spells


class Time:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(spells, "time", made)
    monkeypatch.setattr(spells, "_spells", {})
    return made


def told(time: Time, seconds: int) -> list[float]:
    """When something that is met every second for so long is told."""
    begun, found = time.now, []
    while time.now < begun + seconds:
        if spells.is_news("trouble"):
            found.append(time.now - begun)
        time.now += 1
    return found


def test_what_goes_on_is_told_at_once_and_then_once_a_minute(time: Time) -> None:
    assert told(time, 150) == [0, 60, 120]


def test_what_comes_again_after_a_while_or_after_its_end_is_told_again(time: Time) -> None:
    assert told(time, 3) == [0]
    time.now += 10
    assert told(time, 3) == [0]
    spells.end_spell("trouble")
    assert told(time, 3) == [0]


def test_each_trouble_is_told_by_itself(time: Time) -> None:
    assert [spells.is_news(trouble) for trouble in ("a", "b", "a")] == [True, True, False]
