"""Seconds are numbers wherever they are given, and anything else says which parameter it was for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from graflow.channels.memory_channel import MemoryChannel
from graflow.coordination.direct_coordinator import DirectCoordinator
from graflow.coordination.threading_coordinator import ThreadingCoordinator
from graflow.durations import checked_seconds
from graflow.exceptions import ConfigError


@pytest.mark.parametrize("given", [2, 0.5, -1, 0, float("inf"), Decimal("0.5"), Fraction(1, 2)], ids=repr)
def test_every_kind_of_number_is_seconds(given: Any) -> None:
    seconds = checked_seconds("timeout", given)
    assert type(seconds) is float
    assert seconds == given


def test_none_means_no_limit() -> None:
    assert checked_seconds("timeout", None) is None


@pytest.mark.parametrize("given", [timedelta(seconds=1), "1", b"1", True, [1], object()])
def test_what_is_no_number_is_refused_under_the_name_of_the_parameter(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^timeout is a number of seconds, not "):
        checked_seconds("timeout", given)


def test_a_timedelta_is_told_how_to_become_one() -> None:
    with pytest.raises(TypeError, match=r"write ttl=given\.total_seconds\(\)"):
        checked_seconds("ttl", timedelta(minutes=1))


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds, not NaN"):
        checked_seconds("timeout", float("nan"))


def test_more_digits_than_seconds_have_are_refused() -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds, not one with so many digits"):
        checked_seconds("timeout", 10**400)


def hold(channel: MemoryChannel, timeout: Any) -> None:
    with channel.lock("key", timeout=timeout):
        pass


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("timeout", lambda given: hold(MemoryChannel("c"), given)),
        ("ttl", lambda given: MemoryChannel("c").set("key", 1, ttl=given)),
        ("ttl", lambda given: MemoryChannel("c").append("key", 1, ttl=given)),
        ("timeout", DirectCoordinator),
        ("timeout", lambda given: ThreadingCoordinator(timeout=given)),
    ],
    ids=["lock", "set", "append", "direct", "threading"],
)
@pytest.mark.parametrize("given", [timedelta(seconds=1), "1"], ids=repr)
def test_whoever_takes_seconds_refuses_what_is_none(name: str, call: Callable[[Any], object], given: Any) -> None:
    with pytest.raises((TypeError, ConfigError), match=f"^{name} is a number of seconds"):
        call(given)
