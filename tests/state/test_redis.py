"""The server: which one is fit, what a lost answer and a lost server do, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from graflow.exceptions import StoreError, StoreUnavailableError
from graflow.state import StateStore, open_store
from graflow.state.redis import RedisStore
from tests.faults.proxy import Proxy, proxy_to
from tests.state.support import AT, begin, new_flow, record_of, step_change
from tests.support import PrivateRedis, private_redis

pytestmark = pytest.mark.redis


@pytest.fixture
def line(redis_server: PrivateRedis, redis_client: redis.Redis) -> Iterator[Proxy]:
    """A line to an empty server that can be cut."""
    assert redis_server.host is not None
    with proxy_to(redis_server.host, redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def store(line: Proxy) -> Iterator[StateStore]:
    made = open_store(f"redis://127.0.0.1:{line.port}/0")
    made.initialize()
    yield made
    made.close()


def test_a_change_whose_answer_was_lost_is_made_once(store: StateStore, line: Proxy) -> None:
    epoch = begin(store)
    for number in range(1, 6):
        line.lose_replies(1, b"s%d" % number)
        answer = store.append(step_change(epoch, number))
        assert (answer.seq, answer.epoch) == (2 * number, epoch)
    assert line.lost_replies == 5
    assert [each.seq for each in store.events("f1")] == list(range(1, 11))
    assert record_of(store).version == 2 + 5


def test_a_claim_and_a_flow_whose_answers_were_lost_are_ours(store: StateStore, line: Proxy) -> None:
    line.lose_replies(1, b"analysis")
    made = store.create(new_flow())
    assert made.is_new
    line.lose_replies(1, b"host:1:1")
    claimed = store.claim("f1", "host:1:1", seen=made.record, at=AT + 1)
    assert claimed.epoch == 1
    assert claimed.record.epoch == 1
    assert line.lost_replies == 2


def test_the_same_change_given_twice_is_made_once(store: StateStore) -> None:
    epoch = begin(store)
    change = step_change(epoch, 1)
    first = store.append(change)
    for number in range(2, 6):
        store.append(step_change(epoch, number))
    assert store.append(change)[:3] == first[:3]
    assert len(store.events("f1")) == 10


def test_a_server_that_is_gone_is_told_and_found_again(store: StateStore, line: Proxy) -> None:
    epoch = begin(store)
    line.reset()
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.append(step_change(epoch, 1))
    with pytest.raises(StoreUnavailableError):
        store.get_record("f1")
    line.heal()
    assert store.append(step_change(epoch, 1)).seq == 2


def test_a_server_without_its_scripts_gets_them_again(store: StateStore, redis_client: redis.Redis) -> None:
    epoch = begin(store)
    redis_client.script_flush()
    assert store.append(step_change(epoch, 1)).seq == 2


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused(policy: str) -> None:
    with private_redis(options=["--maxmemory-policy", policy]) as server:
        store = open_store(server.url)
        with pytest.raises(StoreError, match=policy):
            store.create(new_flow())
        with server.client() as client:
            assert client.dbsize() == 0
        store.close()


@pytest.mark.parametrize(
    ("options", "persists"), [((), False), (("--save", "60 1"), True), (("--appendonly", "yes"), True)]
)
def test_whether_a_server_persists_is_known(
    options: tuple[str, ...], persists: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with private_redis(options=options) as server:
        store = open_store(server.url)
        store.initialize()
        assert store.is_persistent is persists
        assert ("keeps nothing" in caplog.text) is not persists
        store.close()


def test_a_full_server_takes_nothing_and_loses_nothing() -> None:
    with private_redis(options=["--maxmemory-policy", "noeviction"]) as server, server.client() as client:
        store = open_store(server.url)
        epoch = begin(store)
        before = record_of(store)
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailableError, match="memory"):
            store.append(step_change(epoch, 1))
        assert record_of(store) == before
        client.config_set("maxmemory", 0)
        assert store.append(step_change(epoch, 1)).seq == 2
        store.close()


def test_a_newer_format_is_refused(store: StateStore, redis_server: PrivateRedis, redis_client: redis.Redis) -> None:
    redis_client.set("{graflow:flows}:format", 99)
    with pytest.raises(StoreError, match="upgrade graflow"):
        open_store(redis_server.url).initialize()


def test_a_wrong_password_is_told_at_once_and_none_is_shown() -> None:
    with private_redis(password=True) as server:
        good = open_store(server.url)
        good.initialize()
        bad = open_store(server.url.replace(str(server.password), "hunter2"))
        with pytest.raises(StoreError) as caught:
            bad.initialize()
        assert not isinstance(caught.value, StoreUnavailableError)
        shown = str(caught.value) + repr(bad) + bad.url + repr(good) + good.url
        assert "hunter2" not in shown
        assert str(server.password) not in shown
        good.close()
        bad.close()


def test_all_keys_of_a_flow_share_a_hash_tag_and_need_no_module(store: StateStore, redis_client: redis.Redis) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1, value="x" * 300_000))
    keys = list(redis_client.scan_iter())
    assert all(key.startswith(b"{graflow:flows}:") for key in keys)
    assert {redis_client.type(key) for key in keys} <= {b"hash", b"zset", b"stream", b"set", b"string"}


@pytest.mark.slow
def test_bytes_are_linear_in_steps(store: StateStore, redis_client: redis.Redis) -> None:
    def used(steps: int) -> int:
        redis_client.flushall()
        epoch = begin(store)
        for number in range(1, steps + 1):
            store.append(step_change(epoch, number))
        return sum(redis_client.memory_usage(key, samples=0) or 0 for key in redis_client.scan_iter())

    sizes = [used(steps) for steps in (500, 1000, 2000)]
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert 1.6 < second / first < 2.5
    assert second / 1000 < 1500, "bytes per step"


def test_a_look_for_open_flows_passes_over_all_that_have_ended(
    store: StateStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(store, RedisStore)
    store.create(new_flow("one"))
    store.create(new_flow("two"))
    assert [record.flow_id for record in store.open_flows(at=AT)] == ["one", "two"]
    for key in redis_client.keys("*:status:*"):
        redis_client.delete(key)  # as when all have ended
    monkeypatch.setattr(store._server, "run", lambda *_: pytest.fail("looked through flows that have ended"))
    assert store.open_flows(at=AT) == []


def test_a_store_on_a_socket_is_the_same() -> None:
    with private_redis(unix_socket=True) as server:
        store = open_store(server.url)
        assert isinstance(store, RedisStore)
        epoch = begin(store)
        assert store.append(step_change(epoch, 1)).seq == 2
        assert store.url == f"unix://{server.unix_socket_path}?db=0"
        store.close()
