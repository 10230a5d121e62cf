from __future__ import annotations

import gc
import pickle
import threading
import time
from typing import Any

import pytest

from graflow import task, workflow
from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel, ChannelWrite, apply_writes
from graflow.channels.factory import ChannelFactory
from graflow.channels.locks import as_branch, current_holder
from graflow.channels.memory_channel import MemoryChannel
from graflow.exceptions import ConfigError
from tests.channel_contract import *  # noqa: F403 - the suite that every storage passes
from tests.channel_contract import lock_elsewhere
from tests.support import at_once, wait_until


@pytest.fixture(params=["memory", "branch over memory", "branch over branch"])
def channel(request: pytest.FixtureRequest) -> Channel:
    memory = MemoryChannel("mine")
    if request.param == "memory":
        return memory
    branch = BranchChannel(memory)
    return branch if request.param == "branch over memory" else BranchChannel(branch)


@pytest.fixture
def rounds(many_switches: None) -> int:
    return 2000


def test_many_keys_are_set_and_read_at_once(channel):
    channel.set("old", 0, ttl=60)
    channel.append("list", 1)
    channel.hand_over_all({"old": 1, "new": None})

    (kept, absent, given, items) = channel.view_all(["old", "absent", "new", "list"])
    assert (kept, absent, given, items) == (1, None, None, [1])
    items.append(2)
    assert channel.get("list") == [1]
    assert channel.exists("new")


def test_a_key_whose_time_is_over_is_absent_among_many(channel):
    channel.set("gone", 1, ttl=0.001)
    channel.set("here", 2)
    wait_until(lambda: not channel.exists("gone"))
    assert channel.view_all(["gone", "here"]) == [None, 2]


# -- base --------------------------------------------------------------------------------------------------------------


class Dictionary(Channel):
    """The least that a channel needs: no lock of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.values: dict[str, Any] = {}

    def set(self, key, value, ttl=None):
        self.values[key] = value

    def get(self, key, default=None):
        return self.values.get(key, default)

    def delete(self, key):
        return self.values.pop(key, None) is not None

    def exists(self, key):
        return key in self.values

    def keys(self):
        return list(self.values)

    def clear(self):
        self.values.clear()

    def append(self, key, value, ttl=None):
        self.values.setdefault(key, []).append(value)
        return len(self.values[key])

    def prepend(self, key, value, ttl=None):
        self.values.setdefault(key, []).insert(0, value)
        return len(self.values[key])

    def atomic_add(self, key, amount=1):
        self.values[key] = self.values.get(key, 0) + amount
        return self.values[key]


def test_a_channel_without_a_lock_of_its_own_can_be_locked() -> None:
    channel = Dictionary("plain")
    with channel.lock("x"), channel.lock("x", timeout=0.1):
        channel.set("x", 1)
    channel.set_many({"y": 2})
    assert (channel.name, channel.get("x"), channel.get("y")) == ("plain", 1, 2)


def test_a_channel_must_offer_every_operation() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Channel("x")


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_keeps_the_object_itself_and_any_kind_of_it() -> None:
    channel, value = MemoryChannel("m", host="ignored"), object()
    channel.set("object", value)
    channel.append("list", value)
    assert channel.get("object") is value
    assert channel.get("list")[0] is value


def test_memory_keeps_the_order_of_insertion() -> None:
    channel = MemoryChannel("m")
    for key in "cab":
        channel.set(key, 1)
    channel.set("c", 2)
    assert channel.keys() == ["c", "a", "b"]


def test_reading_and_writing_without_a_lock_can_lose_updates() -> None:
    channel = MemoryChannel("m")
    channel.set("n", 0)
    both_have_read = threading.Barrier(2)

    def work(_index: int) -> None:
        value = channel.get("n")
        both_have_read.wait(60)
        channel.set("n", value + 1)

    at_once(work, range(2))
    assert channel.get("n") == 1


def test_a_snapshot_holds_what_is_alive() -> None:
    channel = MemoryChannel("m")
    channel.set("a", 1)
    channel.append("list", 1)
    channel.set("short", 1, ttl=0.02)
    wait_until(lambda: not channel.exists("short"))
    snapshot = channel.snapshot()
    channel.append("list", 2)
    assert snapshot == {"a": 1, "list": [1]}
    assert type(snapshot["list"]) is list


def test_expired_keys_that_nobody_reads_do_not_pile_up() -> None:
    channel = MemoryChannel("m")
    for index in range(20_000):
        channel.set(f"key-{index}", index, ttl=0.000_001)
    assert len(channel._data) < 5_000


def test_locks_that_nobody_holds_do_not_pile_up() -> None:
    channel = MemoryChannel("m")
    for index in range(100):
        with channel.lock(f"key-{index}"):
            pass
    with pytest.raises(TimeoutError), channel.lock("held"):
        lock_elsewhere(channel, "held")
    assert len(channel._key_locks) == 0


def test_a_finalizer_may_use_the_channel_that_drops_its_object() -> None:
    channel = MemoryChannel("m")

    class Last:
        def __del__(self) -> None:
            channel.atomic_add("dropped")

    channel.set("key", Last())
    channel.set("key", None)
    channel.set("key", Last())
    channel.delete("key")
    channel.set("key", Last(), ttl=0)
    gc.collect()
    assert channel.get("dropped") == 3


def test_a_pickle_holds_data_only() -> None:
    channel = MemoryChannel("m")
    channel.append("list", 1)
    state = channel.__getstate__()
    assert set(state) == {"name", "data", "expires"}
    assert type(state["data"]["list"]) is list


# -- branch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parent() -> MemoryChannel:
    return MemoryChannel("parent")


def test_a_branch_reads_its_parent_live(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)
    parent.set("a", 1)
    assert (branch.get("a"), branch.exists("a"), branch.keys()) == (1, True, ["a"])
    parent.set("a", 2)
    assert branch.get("a") == 2


def test_set_and_delete_in_a_branch_are_private_until_applied(parent: MemoryChannel) -> None:
    parent.set("kept", 1)
    parent.set("dropped", 1)
    branch, sibling = BranchChannel(parent), BranchChannel(parent)
    branch.set("kept", 2)
    branch.set("fresh", 3)
    assert branch.delete("dropped") is True
    assert branch.keys() == ["kept", "fresh"]
    assert sibling.keys() == ["kept", "dropped"]
    assert parent.snapshot() == {"kept": 1, "dropped": 1}

    apply_writes(parent, branch.writes())
    assert parent.snapshot() == {"kept": 2, "fresh": 3}


def test_writes_come_in_the_order_of_the_first_write_of_each_key(parent: MemoryChannel) -> None:
    parent.set("gone", 1)
    branch = BranchChannel(parent)
    branch.set("b", 1)
    branch.set("a", 1)
    branch.delete("gone")
    branch.set("b", 2)
    assert branch.writes() == [ChannelWrite("b", 2), ChannelWrite("a", 1), ChannelWrite("gone", None, deleted=True)]


def test_a_branch_writes_only_the_keys_that_it_wrote(parent: MemoryChannel) -> None:
    first, second = BranchChannel(parent), BranchChannel(parent)
    parent.set("shared", 0)
    first.set("shared", 1)
    second.get("shared")
    second.set("own", 2)
    assert second.delete("never there") is False
    apply_writes(parent, first.writes())
    apply_writes(parent, second.writes())
    assert parent.snapshot() == {"shared": 1, "own": 2}


def test_a_time_to_live_goes_on_through_a_branch(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)
    branch.set("long", 1, ttl=100)
    branch.set("short", 1, ttl=0.4)
    long, short = branch.writes()
    assert 99 < (long.ttl or 0) <= 100
    assert short.deleted is False
    wait_until(lambda: not branch.exists("short"))
    assert branch.writes()[1] == ChannelWrite("short", None, deleted=True)
    apply_writes(parent, [long])
    assert 98 < parent._deadlines["long"] - time.monotonic() <= 100


def test_an_expired_private_value_does_not_uncover_the_parents(parent: MemoryChannel) -> None:
    parent.set("key", "old")
    parent.append("list", "old")
    branch = BranchChannel(parent)
    branch.set("key", "mine", ttl=0.02)
    branch.set("list", ["mine"], ttl=0.02)
    wait_until(lambda: not branch.exists("key") and not branch.exists("list"))
    assert branch.get("key", "absent") == "absent"
    assert branch.keys() == []
    assert branch.append("list", "new") == 1
    assert parent.get("list") == ["new"]


def test_append_prepend_and_add_reach_the_parent_at_once(parent: MemoryChannel) -> None:
    parent.set("n", 10)
    first, second = BranchChannel(parent), BranchChannel(parent)
    assert first.atomic_add("n", 1) == 11
    assert second.atomic_add("n", 1) == 12
    assert first.append("list", "a") == 1
    assert second.prepend("list", "b") == 2
    assert parent.snapshot() == {"n": 12, "list": ["b", "a"]}
    assert first.writes() == second.writes() == []


def test_a_private_value_is_published_before_it_is_extended(parent: MemoryChannel) -> None:
    parent.set("n", 1)
    parent.append("gone", "old")
    branch = BranchChannel(parent)
    branch.set("n", 100)
    branch.set("list", ["mine"], ttl=100)
    branch.delete("gone")
    assert branch.atomic_add("n", 1) == 101
    assert branch.append("list", "more") == 2
    assert branch.append("gone", "new") == 1
    assert parent.snapshot() == {"n": 101, "list": ["mine", "more"], "gone": ["new"]}
    assert list(parent._deadlines) == ["list"]
    assert branch.writes() == []


def test_a_refused_operation_keeps_what_the_branch_sees(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)
    branch.set("key", "text")
    with pytest.raises(TypeError, match="not a list"):
        branch.append("key", 1)
    assert branch.get("key") == "text"


def test_members_that_hold_a_lock_see_each_others_writes(parent: MemoryChannel) -> None:
    parent.set("n", 0)

    def member(_index: int) -> None:
        branch = BranchChannel(BranchChannel(parent))
        for _ in range(100):
            with branch.lock("n"):
                branch.set("n", branch.get("n") + 1)

    at_once(member, range(4))
    assert parent.get("n") == 400


def test_what_is_written_under_a_lock_is_published_also_after_an_error(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)

    def fail() -> None:
        with branch.lock("n"):
            branch.set("n", 1)
            branch.set("other", 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert parent.snapshot() == {"n": 1, "other": 1}
    assert branch.writes() == []


def test_under_a_lock_of_any_name_a_member_reads_and_writes_what_all_share(parent: MemoryChannel) -> None:
    branch = BranchChannel(BranchChannel(parent))
    branch.set("mine", 1)
    branch.set("private", 1)
    with branch.lock("accounts"):
        parent.set("theirs", 2)
        assert branch.get("theirs") == 2
        branch.set("theirs", 3)
        branch.set("mine", branch.get("mine") + 1)
        assert branch.delete("gone") is False
        assert parent.snapshot() == {"mine": 2, "theirs": 3}
        parent.delete("theirs")
        assert branch.exists("theirs") is False
    branch.set("mine", 5)
    assert parent.snapshot() == {"mine": 2}


def test_a_thread_that_a_member_starts_holds_no_lock_of_the_member(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)
    with branch.lock("accounts"):
        at_once(lambda _: branch.set("from outside", 1), [0])
        with pytest.raises(TimeoutError):
            lock_elsewhere(branch, "accounts")
    assert parent.exists("from outside") is False


def test_clearing_a_branch_leaves_the_parent_until_applied(parent: MemoryChannel) -> None:
    parent.set("a", 1)
    branch = BranchChannel(parent)
    branch.set("b", 1)
    branch.clear()
    assert branch.keys() == []
    assert parent.keys() == ["a"]
    parent.set("later", 1)
    apply_writes(parent, branch.writes())
    assert parent.keys() == ["later"]


def test_a_nested_branch_is_private_to_its_parent_branch(parent: MemoryChannel) -> None:
    outer = BranchChannel(parent)
    inner = BranchChannel(outer)
    outer.set("a", 1)
    inner.set("a", 2)
    inner.set("b", 3)
    assert (inner.get("a"), outer.get("a"), parent.get("a")) == (2, 1, None)
    assert inner.atomic_add("a") == 3
    assert (outer.get("a"), parent.get("a")) == (3, 3)
    apply_writes(outer, inner.writes())
    assert (outer.get("b"), parent.get("b")) == (3, None)
    apply_writes(parent, outer.writes())
    assert parent.snapshot() == {"a": 3, "b": 3}


def test_a_pickled_branch_keeps_deletions_and_times_to_live(parent: MemoryChannel) -> None:
    parent.set("gone", 1)
    branch = BranchChannel(parent)
    branch.set("long", 1, ttl=100)
    branch.delete("gone")
    copy = pickle.loads(pickle.dumps(branch))
    long, gone = copy.writes()
    assert 99 < long.ttl <= 100
    assert gone == ChannelWrite("gone", None, deleted=True)
    assert copy.keys() == ["long"]


def test_threads_of_one_branch_write_side_by_side(parent: MemoryChannel) -> None:
    branch = BranchChannel(parent)

    def work(index: int) -> None:
        for step in range(300):
            branch.set(f"{index}-{step}", step)
            branch.atomic_add("n")
            branch.set("n-copy", step)
            branch.append("n-list", step)

    at_once(work, range(4))
    assert len(branch.writes()) == 4 * 300 + 1
    assert (parent.get("n"), len(parent.get("n-list"))) == (1200, 1200)


# -- factory -----------------------------------------------------------------------------------------------------------


def test_the_factory_makes_channels_by_the_name_of_their_storage() -> None:
    channel = ChannelFactory.create_channel("memory", "mine", host="ignored")
    assert isinstance(channel, MemoryChannel)
    assert channel.name == "mine"
    assert ChannelFactory.get_available_backends() == ["memory", "redis"]
    assert ChannelFactory.is_backend_available("memory") is True
    assert ChannelFactory.is_backend_available("carrier pigeon") is False


def test_an_unknown_storage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'carrier pigeon'.*memory, redis"):
        ChannelFactory.create_channel("carrier pigeon", "mine")


def test_a_storage_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChannelFactory, "_backends", dict(ChannelFactory._backends))
    ChannelFactory.register_backend("dictionary", Dictionary)
    assert isinstance(ChannelFactory.create_channel("dictionary", "x"), Dictionary)
    assert ChannelFactory.get_available_backends() == ["memory", "redis", "dictionary"]


def test_settings_of_a_run_may_have_any_keys() -> None:
    config = {"name": "other", "backend": "redis", "host": "h", "anything": object()}
    for backend in ("memory", "redis"):
        assert ChannelFactory.from_config(backend, "mine", config).name == "mine"


def test_members_that_one_thread_runs_are_holders_of_their_own(parent: MemoryChannel) -> None:
    """On the direct backend they all are, and on workers while a member waits for an inner group."""
    holders = []
    with workflow("locks") as wf:

        @task
        def member(number):
            holders.append(current_holder())

        group = member.map(range(3), name="members").with_execution("direct")
        task(id="start")(lambda: None) >> group
    wf.execute()
    assert len(set(holders)) == 3
    assert len({thread for _, thread in holders}) == 1
    with as_branch(), parent.lock("k"), parent.lock("k"), as_branch(), pytest.raises(TimeoutError), parent.lock("k", 0):
        pass
