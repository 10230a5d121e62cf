"""Kept values are the same in every store: one computation for each, by lease, and an end that is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graflow.exceptions import PayloadError
from graflow.state import SqliteStore, StateStore
from graflow.state.cache import FORGOTTEN_AFTER, CachedValue, CacheKey, CacheStore, Computation
from tests.state.children import in_children, killed_after
from tests.state.support import AT

EVER = float("-inf")
SOURCE = {"flow_id": "f1", "step": "s", "visit": 1}


@pytest.fixture
def cache(store: StateStore) -> CacheStore:
    assert store.cache is not None
    return store.cache


def key(number: int = 1, name: str = "square") -> CacheKey:
    return CacheKey(f"{name}-{number}", name, {"code": "c1", "input x": str(number)})


def mine(token: str = "t1", owner: str = "host:1:1") -> Computation:
    return Computation(owner, token, 0)


def filled(
    cache: CacheStore, value: Any, number: int = 1, *, name: str = "square", at: float = AT, **more: Any
) -> None:
    wanted = key(number, name)
    assert cache.begin(wanted, mine(), at=at, since=EVER) == mine()
    assert cache.fill(wanted, "t1", value, at=at, **{"expires_at": None, "source": SOURCE, **more})


@pytest.mark.parametrize(
    "value", [None, 0, 1.5, "ż", [], {"a": [1, {"$t": "tuple", "v": [1, 2]}]}, "long " * 2000, "large " * 60_000]
)
def test_what_was_kept_is_given_again(cache: CacheStore, value: Any) -> None:
    filled(cache, value)
    assert cache.get("square-1") == CachedValue(dict(key().parts), SOURCE, AT, None, value)


def test_nothing_is_given_that_is_not_kept(cache: CacheStore) -> None:
    assert cache.get("square-1") is None
    cache.begin(key(), mine(), at=AT, since=EVER)
    assert cache.get("square-1") is None


def test_nobody_can_change_what_others_are_given(cache: CacheStore) -> None:
    value = [1]
    filled(cache, value)
    value.append(2)
    found = cache.get("square-1")
    assert found is not None
    found.value.append(3)
    again = cache.get("square-1")
    assert again is not None
    assert again.value == [1]


def test_a_value_that_cannot_be_kept_leaves_the_one_before(cache: CacheStore) -> None:
    filled(cache, 1)
    cache.begin(key(), mine("t2"), at=AT + 1, since=AT + 1)
    with pytest.raises((TypeError, PayloadError)):
        cache.fill(key(), "t2", {1, 2}, at=AT + 1, expires_at=None, source=SOURCE)
    found = cache.get("square-1")
    assert found is not None
    assert found.value == 1


# -- one computation ---------------------------------------------------------------------------------------------------


def test_one_of_two_computes(cache: CacheStore) -> None:
    assert cache.begin(key(), mine("t1", "host:1:1"), at=AT, since=EVER) == mine("t1", "host:1:1")
    assert cache.begin(key(), mine("t2", "host:2:2"), at=AT, since=EVER) == mine("t1", "host:1:1")
    assert not cache.fill(key(), "t2", 2, at=AT, expires_at=None, source=SOURCE)
    assert cache.fill(key(), "t1", 1, at=AT, expires_at=None, source=SOURCE)
    assert cache.begin(key(), mine("t2", "host:2:2"), at=AT, since=EVER) is None


def test_a_call_that_is_made_again_begins_nothing_new(cache: CacheStore) -> None:
    for _ in range(2):
        assert cache.begin(key(), mine(), at=AT, since=EVER) == mine()


def test_signs_of_life_are_seen_by_others(cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    assert cache.beat("square-1", "t1")
    assert cache.begin(key(), mine("t2"), at=AT, since=EVER) == Computation("host:1:1", "t1", 1)
    assert not cache.beat("square-1", "t2")
    assert not cache.beat("square-2", "t1")


def test_a_computation_whose_owner_is_gone_is_taken_over_once(cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    assert cache.begin(key(), mine("t2"), at=AT, since=EVER, seen=mine()) == mine("t2")
    assert cache.begin(key(), mine("t3"), at=AT, since=EVER, seen=mine()) == mine("t2")
    assert not cache.fill(key(), "t1", 1, at=AT, expires_at=None, source=SOURCE)
    assert cache.fill(key(), "t2", 2, at=AT, expires_at=None, source=SOURCE)


def test_one_that_gave_a_sign_of_life_meanwhile_is_not_taken_over(cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    cache.beat("square-1", "t1")
    assert cache.begin(key(), mine("t2"), at=AT, since=EVER, seen=mine()) == Computation("host:1:1", "t1", 1)


def test_one_that_failed_leaves_its_place_to_others(cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    cache.let_go("square-1", "t2")
    assert cache.begin(key(), mine("t2"), at=AT, since=EVER) == mine("t1")
    cache.let_go("square-1", "t1")
    assert cache.begin(key(), mine("t2"), at=AT, since=EVER) == mine("t2")


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_value_is_good_until_its_end(cache: CacheStore) -> None:
    filled(cache, 1, expires_at=AT + 10)
    assert cache.begin(key(), mine("t2"), at=AT + 9.9, since=EVER) is None
    assert cache.begin(key(), mine("t2"), at=AT + 10, since=EVER) == mine("t2")
    found = cache.get("square-1")  # so that it can be said what expired
    assert found is not None
    assert not found.is_good(AT + 10, EVER)
    assert cache.fill(key(), "t2", 2, at=AT + 11, expires_at=None, source=SOURCE)
    assert cache.begin(key(), mine("t3"), at=AT + 1e9, since=EVER) is None


def test_a_value_may_be_too_old_for_who_asks(cache: CacheStore) -> None:
    filled(cache, 1)
    assert cache.begin(key(), mine("t2"), at=AT + 9, since=AT) is None
    assert cache.begin(key(), mine("t2"), at=AT + 9, since=AT + 1) == mine("t2")
    cache.let_go("square-1", "t2")
    assert cache.begin(key(), mine("t2"), at=AT + 9, since=EVER) is None


def test_what_has_expired_is_dropped_and_the_rest_stays(cache: CacheStore) -> None:
    for number, end in enumerate([AT + 1, AT + 2, AT + 3, None], 1):
        filled(cache, number, number, expires_at=end)
    assert cache.drop_expired(AT + 2) == 2
    assert [cache.get(f"square-{number}") is None for number in (1, 2, 3, 4)] == [True, True, False, False]
    assert cache.drop_expired(AT + 2) == 0


def test_cleanup_drops_what_has_expired(store: StateStore, cache: CacheStore) -> None:
    filled(cache, 1, expires_at=AT + 1)
    store.cleanup(older_than=1e9, keep=100, at=AT + 1)
    assert cache.get("square-1") is None


def test_a_computation_under_way_is_not_dropped(store: StateStore, cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    cache.drop_expired(AT + 60)
    assert cache.fill(key(), "t1", 1, at=AT, expires_at=None, source=SOURCE)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_that_never_ended_is_forgotten(kind: str, tmp_path: Path) -> None:
    from graflow.state import MemoryStore

    store: Any = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "flows.db")
    store.cache.begin(key(), mine(), at=AT, since=EVER)
    assert store.cache.drop_expired(AT + FORGOTTEN_AFTER) == 0
    assert store.cache.names() == []
    store.close()


def test_clearing_forgets_one_name_or_all(cache: CacheStore) -> None:
    for number in (1, 2):
        filled(cache, number, number)
        filled(cache, number, number, name="cube")
    assert cache.names() == ["cube", "square"]
    assert cache.clear("square") == 2
    assert cache.get("square-1") is None
    assert cache.get("cube-1") is not None
    assert cache.names() == ["cube"]
    assert cache.clear() == 2
    assert cache.names() == []
    assert cache.clear() == 0


def test_what_is_computed_while_it_is_cleared_is_not_kept(cache: CacheStore) -> None:
    cache.begin(key(), mine(), at=AT, since=EVER)
    assert cache.clear() == 0
    assert not cache.fill(key(), "t1", 1, at=AT, expires_at=None, source=SOURCE)
    assert cache.get("square-1") is None


def test_the_newest_of_a_name_come_first_without_their_values(cache: CacheStore) -> None:
    for number in (1, 2, 3):
        filled(cache, "value", number, at=AT + number)
    filled(cache, "value", 4, name="cube")
    cache.begin(key(5), mine(), at=AT + 9, since=EVER)
    found = cache.newest("square", 2)
    assert [each.parts["input x"] for each in found] == ["3", "2"]
    assert [(each.made_at, each.value) for each in found] == [(AT + 3, None), (AT + 2, None)]


# -- processes ---------------------------------------------------------------------------------------------------------


def test_of_many_processes_one_computes(common_store: StateStore) -> None:
    cache = common_store.cache
    assert cache is not None

    def work(number: int) -> bool:
        own = mine(f"t{number}")
        return cache.begin(key(), own, at=AT, since=EVER) == own

    assert sum(in_children(4, work)) == 1


def test_what_a_killed_process_has_kept_is_given_again(common_store: StateStore) -> None:
    cache = common_store.cache
    assert cache is not None
    killed_after(lambda: filled(cache, [1, 2]))
    found = cache.get("square-1")
    assert found is not None
    assert found.value == [1, 2]
