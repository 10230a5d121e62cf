"""What every channel does, whatever keeps its values: one suite, imported by a test module per storage.

The importing module offers the fixtures `channel` and `rounds` (how often each thread of a contended test acts).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import pickle
import threading
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import cloudpickle
import pytest

from graflow.channels.base import Channel
from tests.support import at_once, give_way, wait_until


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


VALUES = [
    None,
    True,
    False,
    0,
    -7,
    2**80,
    1.5,
    -0.0,
    1e-300,
    "",
    "text",
    "żółw 🐢 \x00 \n",
    "123",
    "null",
    [],
    {},
    [1, "a", None, [2.5, {}]],
    {"a": {"b": [1, 2, 3]}},
    {"$t": "not a tag"},
    (),
    (1, (2, 3)),
    {1, 2, 3},
    frozenset({"x"}),
    b"\x00\xff bytes",
    dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=dt.UTC),
    dt.datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - a naive one is a value of its own
    dt.date(2024, 2, 29),
    dt.time(23, 59, 59),
    dt.timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    UUID("12345678123456781234567812345678"),
    Colour.BLUE,
    {1: "one", (2, 3): "pair"},
    [{"deep": ({"mixed": {b"x"}},)}],
    float("inf"),
]


def lock_elsewhere(channel: Channel, key: str) -> None:
    """Take a lock in another thread without waiting, and let it go."""

    def take(_index: int) -> None:
        with channel.lock(key, timeout=0):
            pass

    at_once(take, [0])


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was_set(channel: Channel, value: Any) -> None:
    channel.set("key", value)
    found = channel.get("key", "default")
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value) or isinstance(value, set | frozenset)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_element_comes_back_as_it_was_appended(channel: Channel, value: Any) -> None:
    channel.append("list", value)
    channel.append("list", "end")
    (found, end) = channel.get("list")
    assert (found, end) == (value, "end")
    assert type(found) is type(value)


def test_an_exception_comes_back_with_type_and_message(channel: Channel) -> None:
    channel.set("error", ValueError("no such thing"))
    found = channel.get("error")
    assert type(found) is ValueError
    assert str(found) == "no such thing"


def test_an_absent_key_gives_the_default(channel: Channel) -> None:
    assert channel.get("absent") is None
    assert channel.get("absent", 5) == 5
    assert channel.exists("absent") is False
    assert channel.delete("absent") is False


def test_a_key_that_holds_none_exists(channel: Channel) -> None:
    channel.set("key", None)
    assert channel.exists("key") is True
    assert channel.get("key", "default") is None


def test_a_deleted_key_is_absent(channel: Channel) -> None:
    channel.set("key", 1)
    assert channel.delete("key") is True
    assert channel.exists("key") is False
    assert channel.get("key", "gone") == "gone"
    assert channel.keys() == []
    assert channel.delete("key") is False


def test_set_replaces_any_earlier_kind_of_value(channel: Channel) -> None:
    channel.append("key", 1)
    channel.set("key", "text")
    assert channel.get("key") == "text"
    channel.set("key", 5)
    assert channel.atomic_add("key") == 6
    channel.set("key", [7])
    assert channel.append("key", 8) == 2


def test_keys_lists_what_is_there_as_text(channel: Channel) -> None:
    assert channel.keys() == []
    channel.set("a", 1)
    channel.append("b", 1)
    channel.atomic_add("c", 1)
    channel.set("d", 1)
    channel.delete("d")
    keys = channel.keys()
    assert type(keys) is list
    assert sorted(keys) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "key", ["*", "a*", "[ab]", "a?b", "back\\slash", "with:colon", "with space", "ключ", "a\nb", ""]
)
def test_unusual_keys_are_keys_like_any_other(channel: Channel, key: str) -> None:
    channel.set("aab", "other")
    channel.set(key, 1)
    assert channel.get(key) == 1
    assert sorted(channel.keys()) == sorted({"aab", key})
    assert channel.delete(key) is True
    assert channel.keys() == ["aab"]


def test_clear_removes_every_key(channel: Channel) -> None:
    channel.set("a", 1, ttl=100)
    channel.append("b", 1)
    channel.clear()
    assert channel.keys() == []
    assert channel.get("a") is None
    channel.set("a", 2)
    assert channel.get("a") == 2


def test_thousands_of_keys_are_listed_and_cleared(channel: Channel) -> None:
    expected = {f"key-{index}": index for index in range(3000)}
    channel.set_many(expected)
    keys = channel.keys()
    assert len(keys) == 3000
    assert set(keys) == set(expected)
    assert channel.get("key-2999") == 2999
    channel.clear()
    assert channel.keys() == []


def test_the_name_is_kept(channel: Channel) -> None:
    assert isinstance(channel.name, str)
    assert channel.name


# -- lists -------------------------------------------------------------------------------------------------------------


def test_append_and_prepend_make_a_list_and_return_its_length(channel: Channel) -> None:
    assert channel.append("list", "b") == 1
    assert channel.append("list", "c") == 2
    assert channel.prepend("list", "a") == 3
    assert channel.get("list") == ["a", "b", "c"]
    assert channel.prepend("other", 1) == 1
    assert channel.exists("other") is True


def test_a_list_that_was_set_can_be_extended_at_both_ends(channel: Channel) -> None:
    channel.set("list", [1, (2,), {"$t": 3}])
    assert channel.append("list", 4) == 4
    assert channel.prepend("list", 0) == 5
    assert channel.get("list") == [0, 1, (2,), {"$t": 3}, 4]


def test_an_empty_list_that_was_set_can_be_extended(channel: Channel) -> None:
    channel.set("list", [])
    assert channel.exists("list") is True
    assert channel.prepend("list", "only") == 1
    assert channel.get("list") == ["only"]


def test_appending_changes_neither_the_callers_list_nor_what_was_read(channel: Channel) -> None:
    mine = [1]
    channel.set("list", mine)
    channel.append("list", 2)
    read = channel.get("list")
    channel.append("list", 3)
    read.append("mine alone")
    assert mine == [1]
    assert channel.get("list") == [1, 2, 3]


@pytest.mark.parametrize("value", ["text", 5, None, {"a": 1}, (1, 2), True])
def test_extending_what_is_no_list_is_refused(channel: Channel, value: Any) -> None:
    channel.set("key", value)
    for extend in (channel.append, channel.prepend):
        with pytest.raises(TypeError, match="not a list"):
            extend("key", 1)
    assert channel.get("key") == value


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_a_number_starts_at_zero_and_ints_stay_ints(channel: Channel) -> None:
    assert channel.atomic_add("n") == 1
    assert channel.atomic_add("n", 10) == 11
    assert channel.atomic_add("n", -20) == -9
    found = channel.get("n")
    assert (found, type(found)) == (-9, int)


@pytest.mark.parametrize(
    ("start", "amount"),
    [
        (0, 1.5),
        (1, 1.0),
        (0.1, 0.2),
        (1.5, -1.5),
        (5, 0.0),
        (1e300, 1),
        (1e-9, 1e-10),
        (2**53, 1),
        (2**53, 1.0),
        (2**63 - 1, 1),
        (-(2**63), -1),
        (2**64, -1),
        (10**30, 10**30),
        (3, 2**70),
        (1e308, 1e308),
        (float("inf"), 1),
        (-5, 5),
        (0.5, 2**60),
    ],
)
def test_a_sum_is_what_python_makes_of_it(channel: Channel, start: float, amount: float) -> None:
    channel.set("n", start)
    total = channel.atomic_add("n", amount)
    expected = start + amount
    assert (total, type(total)) == (expected, type(expected))
    found = channel.get("n")
    assert (found, type(found)) == (expected, type(expected))


def test_set_add_and_get_see_one_value(channel: Channel) -> None:
    channel.set("n", 10)
    assert channel.atomic_add("n", 5) == 15
    channel.set("n", 1.5)
    assert channel.atomic_add("n") == 2.5
    assert channel.atomic_add("n", 0.5) == 3.0
    channel.set("n", 7)
    assert channel.get("n") == 7
    assert channel.atomic_add("n", 0) == 7


def test_an_amount_may_start_a_float(channel: Channel) -> None:
    total = channel.atomic_add("n", 2.0)
    assert (total, type(total)) == (2.0, float)
    assert type(channel.get("n")) is float


@pytest.mark.parametrize("value", ["5", None, [1], {"a": 1}, True, (1,), Decimal(1)])
def test_adding_to_what_is_no_number_is_refused(channel: Channel, value: Any) -> None:
    channel.set("key", value)
    with pytest.raises(TypeError, match="expected int or float"):
        channel.atomic_add("key", 1)
    assert channel.get("key") == value


def test_adding_to_a_list_is_refused(channel: Channel) -> None:
    channel.append("list", 1)
    with pytest.raises(TypeError, match="expected int or float"):
        channel.atomic_add("list", 1)
    assert channel.get("list") == [1]


@pytest.mark.parametrize("amount", ["1", None, True, [1]])
def test_an_amount_that_is_no_number_is_refused(channel: Channel, amount: Any) -> None:
    with pytest.raises(TypeError, match="expected int or float"):
        channel.atomic_add("n", amount)
    assert channel.exists("n") is False


# -- time to live ------------------------------------------------------------------------------------------------------


def gone(channel: Channel, key: str) -> None:
    wait_until(lambda: not channel.exists(key), timeout=5, message=f"{key} is still there")


def test_an_expired_key_is_as_if_absent(channel: Channel) -> None:
    channel.set("long", "v", ttl=100)
    assert (channel.get("long"), channel.exists("long"), channel.keys()) == ("v", True, ["long"])
    channel.delete("long")
    channel.set("key", "v", ttl=0.05)
    gone(channel, "key")
    assert channel.get("key", "default") == "default"
    assert channel.keys() == []
    assert channel.delete("key") is False


def test_an_expired_list_starts_anew(channel: Channel) -> None:
    channel.set("list", [1, 2], ttl=0.05)
    gone(channel, "list")
    assert channel.append("list", 3) == 1
    assert channel.get("list") == [3]


def test_an_expired_number_starts_anew_and_stays(channel: Channel) -> None:
    channel.set("n", 100, ttl=0.05)
    gone(channel, "n")
    assert channel.atomic_add("n", 1) == 1
    assert channel.keys() == ["n"]


def test_keys_leaves_out_what_has_expired(channel: Channel) -> None:
    channel.set("short", 1, ttl=0.05)
    channel.set("long", 1, ttl=100)
    channel.set("forever", 1)
    wait_until(lambda: sorted(channel.keys()) == ["forever", "long"], timeout=5)


def test_a_plain_set_removes_the_time_to_live(channel: Channel) -> None:
    channel.set("key", 1, ttl=0.05)
    channel.set("key", 2)
    channel.set("mark", 1, ttl=0.1)
    gone(channel, "mark")
    assert channel.get("key") == 2


def test_a_list_takes_its_time_to_live_from_append(channel: Channel) -> None:
    channel.append("list", 1, ttl=0.05)
    channel.append("other", 1)
    channel.prepend("other", 2, ttl=0.05)
    gone(channel, "list")
    gone(channel, "other")


def test_appending_and_adding_keep_the_time_to_live(channel: Channel) -> None:
    channel.append("list", 1, ttl=0.4)
    channel.append("list", 2)
    channel.set("text list", [1], ttl=0.4)
    channel.append("text list", 2)
    channel.set("empty", [], ttl=0.4)
    channel.append("empty", 2)
    channel.set("int", 1, ttl=0.4)
    channel.atomic_add("int")
    channel.set("float", 1, ttl=0.4)
    channel.atomic_add("float", 0.5)
    channel.set("big", 2**70, ttl=0.4)
    channel.atomic_add("big")
    wait_until(lambda: channel.keys() == [], timeout=5, message="a time to live was lost")


@pytest.mark.parametrize("ttl", [0, -1, -0.5])
def test_a_time_to_live_that_is_over_makes_the_key_absent(channel: Channel, ttl: float) -> None:
    channel.set("key", 1)
    channel.set("key", 2, ttl=ttl)
    assert channel.exists("key") is False
    assert channel.append("list", 1, ttl=ttl) == 1
    assert channel.keys() == []


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), -float("inf"), 1e300, 101 * 365 * 86_400])
def test_a_time_to_live_has_an_end_within_a_century(channel: Channel, ttl: float) -> None:
    for write in (channel.set, channel.append, channel.prepend):
        with pytest.raises(ValueError, match="ttl"):
            write("key", 1, ttl=ttl)
    assert channel.exists("key") is False


def test_several_values_are_set_at_once(channel: Channel) -> None:
    channel.set_many({})
    channel.set_many({"a": 1, "b": (2,)}, ttl=0.4)
    channel.set_many({"c": [3]})
    assert channel.get("b") == (2,)
    gone(channel, "a")
    gone(channel, "b")
    assert channel.get("c") == [3]


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_lock_excludes_other_threads(channel: Channel, rounds: int) -> None:
    channel.set("n", 0)

    def work(_index: int) -> None:
        for _ in range(max(rounds // 10, 5)):
            with channel.lock("n", timeout=50):
                channel.set("n", channel.get("n") + 1)

    at_once(work, range(4))
    assert channel.get("n") == 4 * max(rounds // 10, 5)


def test_a_lock_that_is_not_free_in_time_raises(channel: Channel) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with channel.lock("k"):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="'k'"), channel.lock("k", timeout=0.05):
        pass
    assert time.monotonic() - started < 20
    with pytest.raises(TimeoutError), channel.lock("k", timeout=0):
        pass
    with channel.lock("another", timeout=0):
        channel.set("k", "plain operations do not wait")
    done.set()
    holder.join(60)
    with channel.lock("k", timeout=5):
        pass


def test_a_lock_may_be_taken_again_by_its_holder(channel: Channel) -> None:
    with channel.lock("k", timeout=1), channel.lock("k", timeout=0):
        pass
    lock_elsewhere(channel, "k")


def test_a_lock_is_free_after_an_error_inside(channel: Channel) -> None:
    with pytest.raises(KeyError, match="mine"), channel.lock("k"):
        raise KeyError("mine")
    lock_elsewhere(channel, "k")


def test_a_lock_is_no_key(channel: Channel) -> None:
    with channel.lock("k"):
        assert channel.keys() == []
        assert channel.exists("k") is False
        channel.clear()
        with pytest.raises(TimeoutError):
            lock_elsewhere(channel, "k")


def test_coroutines_that_hold_a_lock_exclude_each_other(channel: Channel) -> None:
    channel.set("n", 0)

    async def add() -> None:
        for _ in range(3):
            async with channel.lock("a name of its own", timeout=50):
                seen = channel.get("n")
                await give_way()
                channel.set("n", seen + 1)

    async def several() -> None:
        await asyncio.gather(*(add() for _ in range(5)))

    asyncio.run(several())
    assert channel.get("n") == 15


def test_a_coroutine_does_not_wait_for_another_one_by_stopping_both(channel: Channel) -> None:
    async def waiting() -> None:
        with channel.lock("k", timeout=60):
            pass

    async def several() -> None:
        async with channel.lock("k"), channel.lock("k"):
            await asyncio.create_task(waiting())

    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(several())


# -- contention --------------------------------------------------------------------------------------------------------


def test_no_addition_is_lost(channel: Channel, rounds: int) -> None:
    def work(index: int) -> set[float]:
        amount = 1 if index % 2 else 3
        return {channel.atomic_add("n", amount) for _ in range(rounds)}

    seen = at_once(work, range(8))
    assert channel.get("n") == rounds * 4 * (1 + 3)
    assert len(set().union(*seen)) == 8 * rounds, "two additions returned the same sum"


def test_no_addition_is_lost_between_ints_and_floats(channel: Channel, rounds: int) -> None:
    at_once(lambda index: [channel.atomic_add("n", 0.5 if index % 2 else 1) for _ in range(rounds)], range(4))
    assert channel.get("n") == rounds * 2 * 1.5


def test_no_addition_beyond_64_bits_is_lost(channel: Channel, rounds: int) -> None:
    channel.set("n", 2**64)
    at_once(lambda _index: [channel.atomic_add("n", 1) for _ in range(rounds // 10 + 1)], range(4))
    assert channel.get("n") == 2**64 + 4 * (rounds // 10 + 1)


def test_no_element_is_lost_and_each_thread_keeps_its_order(channel: Channel, rounds: int) -> None:
    channel.set("list", [])
    at_once(lambda index: [channel.append("list", [index, step]) for step in range(rounds)], range(6))
    items = channel.get("list")
    assert len(items) == 6 * rounds
    for index in range(6):
        assert [step for owner, step in items if owner == index] == list(range(rounds))


def test_a_set_is_not_lost_to_additions_and_appends_of_others(channel: Channel, rounds: int) -> None:
    stop = threading.Event()
    unit = 10**9

    def add(_index: int) -> None:
        while not stop.is_set():
            channel.atomic_add("n", 1)
            channel.append("list", -1)

    def set_and_check(_index: int) -> None:
        try:
            for step in range(1, rounds):
                channel.set("n", step * unit)
                assert int(channel.get("n")) // unit == step
                channel.set("list", [step])
                assert channel.get("list")[0] == step
        finally:
            stop.set()

    at_once(lambda index: set_and_check(index) if index == 0 else add(index), range(3))


def test_many_threads_use_keys_of_their_own(channel: Channel, rounds: int) -> None:
    def work(index: int) -> None:
        for step in range(rounds // 4):
            key = f"{index}-{step % 7}"
            channel.set(key, step, ttl=100 if step % 3 == 0 else None)
            assert channel.get(key) == step
            assert channel.exists(key) is True
            assert channel.keys().count(key) == 1
            assert channel.delete(key) is True
            assert channel.get(key) is None

    at_once(work, range(6))
    assert channel.keys() == []


def test_expiry_under_contention_never_shows_an_old_value(channel: Channel, rounds: int) -> None:
    def work(index: int) -> None:
        for step in range(rounds // 4):
            if index == 0:
                channel.set("key", step, ttl=0.002)
            elif index == 1:
                channel.set("key", step)
            else:
                assert channel.get("key", 0) < rounds
                channel.exists("key")
                channel.keys()

    at_once(work, range(4))
    channel.set("key", "last")
    assert channel.get("key") == "last"


# -- pickling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_a_pickled_channel_is_the_same_channel(channel: Channel, pickler: Any) -> None:
    channel.set("a", (1, 2))
    channel.append("list", 1)
    channel.set("short", 1, ttl=0.1)
    channel.set("long", 1, ttl=100)
    copy = pickle.loads(pickler.dumps(channel))
    assert type(copy) is type(channel)
    assert copy.name == channel.name
    assert copy.get("a") == (1, 2)
    assert copy.append("list", 2) == 2
    assert copy.atomic_add("n", 3) == 3
    gone(copy, "short")
    assert copy.exists("long") is True
    with copy.lock("a", timeout=0), copy.lock("a", timeout=0):
        copy.set("a", 5)
    assert copy.get("a") == 5


def test_a_channel_pickles_while_its_lock_is_held_and_used(channel: Channel) -> None:
    with channel.lock("k"):
        copy = pickle.loads(pickle.dumps(channel))
    copy.set("x", 1)
    assert copy.get("x") == 1
