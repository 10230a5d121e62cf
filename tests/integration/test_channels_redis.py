from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import redis
import redis.asyncio

from graflow import task, workflow
from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel, ChannelWrite, apply_writes
from graflow.channels.factory import ChannelFactory
from graflow.channels.memory_channel import MemoryChannel
from graflow.channels.redis_channel import RedisChannel
from graflow.core.context import ExecutionContext
from graflow.exceptions import GraflowRuntimeError, PayloadError
from graflow.signing import generate_key
from tests.channel_contract import *  # noqa: F403 - the suite that every storage passes
from tests.channel_contract import lock_elsewhere
from tests.support import PrivateRedis, at_once, private_redis, wait_until

pytestmark = pytest.mark.redis


@pytest.fixture(
    params=["by parameters", "with a key", "text client", "bytes client", "branch over redis"],
)
def channel(request: pytest.FixtureRequest, redis_server: PrivateRedis, redis_client: redis.Redis) -> Iterator[Channel]:
    if request.param in {"by parameters", "with a key"}:
        key = generate_key() if request.param == "with a key" else None
        yield RedisChannel("mine", host=redis_server.host, port=redis_server.port, signing_key=key)
        return
    with redis_server.client(decode_responses=request.param == "text client") as client:
        made = of_client("mine", client)
        yield BranchChannel(made) if request.param == "branch over redis" else made


def of_client(name: str, client: Any) -> RedisChannel:
    with pytest.warns(DeprecationWarning, match="redis_client"):
        return RedisChannel(name, redis_client=client)


@pytest.fixture
def rounds() -> int:
    return 50


@pytest.fixture
def plain(redis_server: PrivateRedis, redis_client: redis.Redis) -> RedisChannel:
    return RedisChannel("plain", **redis_server.connection)


# -- what others find --------------------------------------------------------------------------------------------------


def test_an_outside_reader_finds_plain_json_under_the_documented_keys(
    plain: RedisChannel, redis_client: redis.Redis
) -> None:
    plain.set("key", {"a": [1, None, True, "ż", 0.1]})
    plain.append("list", {"b": 1})
    plain.append("list", "text")
    plain.atomic_add("n", 5)
    assert json.loads(redis_client.get("graflow:channel:plain:key")) == {"a": [1, None, True, "ż", 0.1]}
    assert [json.loads(item) for item in redis_client.lrange("graflow:channel:plain:list", 0, -1)] == [
        {"b": 1},
        "text",
    ]
    assert redis_client.get("graflow:channel:plain:n") == b"5"


def test_a_list_that_was_set_becomes_a_native_list_when_it_is_extended(
    plain: RedisChannel, redis_client: redis.Redis
) -> None:
    plain.set("list", [1, {"$t": "x"}, (2,)])
    before = plain.get("list")
    plain.append("list", 3)
    assert redis_client.type("graflow:channel:plain:list") == b"list"
    assert plain.get("list") == [*before, 3]


def test_two_processes_see_the_same(plain: RedisChannel, redis_server: PrivateRedis) -> None:
    other = RedisChannel("plain", **redis_server.connection)
    plain.set("a", (1,))
    assert other.get("a") == (1,)
    other.atomic_add("n", 2)
    assert plain.atomic_add("n", 2) == 4


@pytest.mark.parametrize("name", ["*", "na?e", "[name]", "back\\slash", "n*", "^name", "-name]"])
def test_glob_characters_in_a_name_reach_no_other_channel(redis_server: PrivateRedis, redis_client, name: str) -> None:
    others = [RedisChannel(other, **redis_server.connection) for other in ("name", "n", "a", "back", "[", "\\", "e")]
    for other in others:
        other.set("key", 1)
    odd = RedisChannel(name, **redis_server.connection)
    odd.set("mine", 1)
    assert odd.keys() == ["mine"]
    assert odd.expire(100) == 1
    odd.clear()
    assert odd.keys() == []
    assert all(other.keys() == ["key"] for other in others)
    assert redis_client.ttl("graflow:channel:name:key") == -1


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    plain: RedisChannel, redis_client: redis.Redis
) -> None:
    class Own:
        pass

    for write in (plain.set, plain.append, plain.prepend):
        with pytest.raises(TypeError, match=r"'key'.*Own"):
            write("key", {"deep": [Own()]})
    with pytest.raises(TypeError, match=r"'bad'.*object"):
        plain.set_many({"good": 1, "bad": object()})
    assert redis_client.keys("*") == []


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"not json", b"", b'{"$t": "unknown", "v": 1}', b"NaN", b'{"$t": "uuid", "v": "x"}']
)
@pytest.mark.parametrize("decode_responses", [True, False])
def test_an_undecodable_value_is_an_error_that_names_the_key(
    redis_server: PrivateRedis, redis_client: redis.Redis, raw: bytes, decode_responses: bool
) -> None:
    redis_client.set("graflow:channel:x:text", raw)
    redis_client.rpush("graflow:channel:x:list", b'"good"', raw)
    with redis_server.client(decode_responses=decode_responses) as client:
        channel = of_client("x", client)
        for read in (
            lambda: channel.get("text", "default"),
            lambda: channel.get("list"),
            lambda: channel.append("text", 1),
            lambda: channel.atomic_add("text"),
        ):
            with pytest.raises(PayloadError, match=r"'(text|list)'"):
                read()
        assert channel.exists("text") is True
        channel.set("after", 1)
        assert channel.get("after") == 1
        assert channel.keys() == ["after", "list", "text"]
        assert redis_client.get("graflow:channel:x:text") == raw


@pytest.fixture
def signing(redis_server: PrivateRedis) -> Callable[..., RedisChannel]:
    """Makes channels whose values are signed with the same key, unless another one is given."""
    mine = {"host": redis_server.host, "port": redis_server.port, "signing_key": generate_key()}
    return lambda name="mine", **changes: RedisChannel(name, **{**mine, **changes})


def test_what_nobody_with_the_key_has_written_is_not_believed(
    signing: Callable[..., RedisChannel], redis_client: redis.Redis
) -> None:
    # Given values and elements, and the same texts elsewhere: under other keys, channels, prefixes and kinds
    channel = signing()
    channel.set("value", {"role": "clerk"})
    channel.set("flag", False)
    channel.set("list", [1, [2]])
    channel.append("items", "first")
    channel.append("items", 2)
    at = "graflow:channel:mine:"
    content = redis_client.get(at + "value").rpartition(b"{")[2]  # behind a MAC, of which a byte may be a brace as well
    assert json.loads(b"{" + content) == {"role": "clerk"}
    for key in ("value", "flag", "list"):
        redis_client.copy(at + key, at + "moved " + key)
        redis_client.copy(at + key, f"graflow:channel:yours:{key}")
        redis_client.copy(at + key, f"other:channel:mine:{key}")
        redis_client.expire(f"other:channel:mine:{key}", 600)
    redis_client.rpush(at + "values", redis_client.get(at + "value"))
    redis_client.set(at + "element", redis_client.lindex(at + "items", 0))

    # Then they are read where they were written, and nowhere else
    assert (channel.get("value"), channel.get("flag"), channel.get("list")) == ({"role": "clerk"}, False, [1, [2]])
    assert channel.get("items") == ["first", 2]
    strange = [(channel, f"moved {key}") for key in ("value", "flag", "list")]
    strange += [(signing("yours"), "value"), (signing(key_prefix="other"), "value")]
    strange += [(signing(signing_key=generate_key()), "value"), (channel, "values"), (channel, "element")]
    for one, key in strange:
        with pytest.raises(PayloadError, match=f"'{key}' of channel .* is not believed: .*sign") as raised:
            one.get(key)
        assert "GRAFLOW_SIGNING_KEY" in str(raised.value)

    # And what has no signature, or was changed, is refused, also where it is to be added to
    redis_client.set(at + "flag", "true")
    redis_client.set(at + "plain list", "[1]")
    redis_client.rpush(at + "items", "3")
    redis_client.setrange(at + "value", redis_client.strlen(at + "value") - 3, "X")
    for key in ("flag", "items", "value"):
        with pytest.raises(PayloadError, match="is not believed"):
            channel.get(key)
    for refuse in (channel.append, channel.atomic_add):
        with pytest.raises(PayloadError, match="is not believed"):
            refuse("plain list", 1)
    assert redis_client.get(at + "plain list") == b"[1]"


def test_a_number_is_not_signed_and_nothing_but_a_number(
    signing: Callable[..., RedisChannel], redis_client: redis.Redis
) -> None:
    channel, at = signing(), "graflow:channel:mine:"
    channel.set("count", 5)
    channel.set("rate", 0.5)
    assert (redis_client.get(at + "count"), redis_client.get(at + "rate")) == (b"5", b"0.5")
    assert (channel.atomic_add("count", 2), channel.atomic_add("rate", 0.25)) == (7, 0.75)
    assert channel.atomic_add("count", 10**30) == 10**30 + 7
    assert channel.atomic_add("count", float("inf")) == float("inf") == channel.get("count")

    for text in ('7, "and more"', "1]", "2 {}", "-Infinity"):
        redis_client.set(at + "count", text)
        with pytest.raises(PayloadError, match="cannot be read"):
            channel.get("count")


def test_what_was_signed_is_read_without_a_key_and_with_an_older_one(
    signing: Callable[..., RedisChannel],
) -> None:
    old, new = generate_key("old"), generate_key("new")
    signing(signing_key=old).set("kept", ["a"])
    assert signing(signing_key=f"{new} {old}").get("kept") == ["a"]
    assert signing(signing_key=None).get("kept") == ["a"]


def test_foreign_kinds_of_data_are_errors(plain: RedisChannel, redis_client: redis.Redis) -> None:
    redis_client.hset("graflow:channel:plain:hash", "a", "1")
    with pytest.raises(PayloadError, match="'hash'"):
        plain.get("hash")
    with pytest.raises(TypeError, match="expected int or float"):
        plain.atomic_add("hash")
    with pytest.raises(TypeError, match="not a list"):
        plain.append("hash", 1)


def test_a_key_must_be_text(plain: RedisChannel) -> None:
    with pytest.raises(TypeError, match="must be str"):
        plain.set(1, "one")


def test_a_server_that_is_not_there_is_an_error_at_once(redis_server: PrivateRedis) -> None:
    channel = RedisChannel("x", host="127.0.0.1", port=1)
    with pytest.raises(redis.ConnectionError):
        channel.get("key", "default")


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix_socket", [True, False])
def test_a_channel_reaches_a_server_by_url_parameters_or_client(unix_socket: bool) -> None:
    with private_redis(password=True, unix_socket=unix_socket) as server:
        RedisChannel("x", url=server.url).set("key", (1,))
        assert RedisChannel("x", **server.connection).get("key") == (1,)
        with server.client() as client:
            channel = of_client("x", client)
            assert channel.get("key") == (1,)
            assert channel.ping() is True
        made = ChannelFactory.create_channel("redis", "x", url=server.url, thread_count=3)
        assert made.get("key") == (1,)
        for shown in (repr(channel), str(made), repr(made.__getstate__())):
            assert server.password not in shown
            assert "x" in shown


def test_a_pickle_holds_no_password_and_finds_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with private_redis(password=True) as server, server.client() as client:
        for channel in (RedisChannel("x", **server.connection), of_client("x", client)):
            channel.set("key", 1)
            for pickler in (pickle, cloudpickle):
                data = pickler.dumps(channel)
                assert server.password.encode() not in data
                monkeypatch.setenv("GRAFLOW_REDIS_PASSWORD", server.password)
                assert pickle.loads(data).get("key") == 1
                monkeypatch.delenv("GRAFLOW_REDIS_PASSWORD")


def test_parameters_mean_what_the_signature_says_whatever_the_environment_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://elsewhere:1/2")
    assert repr(RedisChannel("x")) == "RedisChannel('x', localhost:6379/0)"
    assert repr(RedisChannel("x", port=6390)) == "RedisChannel('x', localhost:6390/0)"
    assert repr(RedisChannel("x", None, "example.org", 1, 2)) == "RedisChannel('x', example.org:1/2)"
    assert repr(RedisChannel("x", db=3, url="redis://example.org")) == "RedisChannel('x', example.org:6379/3)"
    assert repr(RedisChannel("x", url="redis://example.org:7/1")) == "RedisChannel('x', example.org:7/1)"
    assert repr(RedisChannel("x", unix_socket_path="/run/s", db=1)) == "RedisChannel('x', /run/s db 1)"


def test_settings_without_a_server_mean_that_of_the_environment_or_localhost(
    monkeypatch: pytest.MonkeyPatch, redis_server: PrivateRedis, redis_client: redis.Redis
) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", redis_server.url)
    monkeypatch.setenv("GRAFLOW_KEY_PREFIX", "theirs")
    ChannelFactory.create_channel("redis", "x", key_prefix="p", url=None).set("key", 1, ttl=60)
    ChannelFactory.create_channel("redis", "x").set("key", 2, ttl=60)
    assert sorted(redis_client.scan_iter()) == [b"p:channel:x:key", b"theirs:channel:x:key"]
    assert repr(ChannelFactory.create_channel("redis", "x", port=6390)) == "RedisChannel('x', localhost:6390/0)"
    monkeypatch.delenv("GRAFLOW_REDIS_URL")
    assert repr(ChannelFactory.create_channel("redis", "x")) == "RedisChannel('x', localhost:6379/0)"


@pytest.mark.parametrize("settings", [{"host": ""}, {"host": None}, {"url": ""}, {"url": "redis://"}], ids=str)
def test_settings_that_name_no_server_are_refused_at_once(settings: dict[str, Any]) -> None:
    for make in (RedisChannel, partial(ChannelFactory.create_channel, "redis")):
        with pytest.raises(ValueError, match=r"no (server|host)"):
            make("x", **settings)


def test_settings_that_are_not_for_the_server_stay_out_of_a_pickle() -> None:
    channel = RedisChannel("x", host="example.org", key_prefix="p", anything=threading.Lock())
    assert repr(pickle.loads(pickle.dumps(channel))) == repr(channel)


def test_all_keys_of_a_channel_lie_in_the_prefix_of_its_deployment(
    redis_server: PrivateRedis, redis_client: redis.Redis
) -> None:
    ours, theirs = (RedisChannel("x", url=redis_server.url, key_prefix=name) for name in ("team", "team:etl"))
    for channel in (ours, theirs, pickle.loads(pickle.dumps(theirs))):
        channel.set("key", channel.key_prefix, ttl=60)
        channel.append("list", 1, ttl=60)
        channel.atomic_add("number")
        channel.publish(ChannelWrite("seen", 1), ["mark"], once=True)
        with channel.lock("key"):
            assert redis_client.exists(f"{channel.key_prefix}:lock:x:key")
    assert ours.get("key") == "team"
    assert theirs.get("list") == [1, 1]
    assert [key for key in redis_client.scan_iter() if not key.startswith(b"team:")] == []
    ours.clear()
    assert theirs.keys() == ["key", "list", "number", "seen"]
    theirs.clear()


def test_a_client_for_asyncio_gives_its_parameters(redis_server: PrivateRedis, redis_client: redis.Redis) -> None:
    client = redis.asyncio.Redis(host=redis_server.host, port=redis_server.port)
    channel = of_client("x", client)
    channel.set("key", 1)
    assert channel.get("key") == 1
    asyncio.run(client.aclose())


def test_an_object_that_is_no_client_is_refused() -> None:
    with pytest.raises(ValueError, match="Failed to extract Redis connection parameters"):
        RedisChannel("x", redis_client=object())


def test_a_closed_channel_opens_again_and_closes_nobody_elses_connection(
    plain: RedisChannel, redis_server: PrivateRedis
) -> None:
    other = RedisChannel("other", **redis_server.connection)
    assert other.redis_client is plain.redis_client
    plain.set("key", 1)
    plain.close()
    plain.close()
    assert other.ping() is True
    assert plain.get("key") == 1


def test_a_channel_works_on_after_its_server_has_restarted() -> None:
    with private_redis() as server:
        channel = RedisChannel("x", **server.connection)
        channel.append("list", 1)
        server.restart()
        assert channel.get("list") is None
        assert channel.append("list", 2) == 1
        assert channel.get("list") == [2]


def test_a_forked_child_uses_connections_of_its_own(plain: RedisChannel, redis_client: redis.Redis) -> None:
    plain.set("key", 1)
    mine = redis_client.client_id()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads, of Python 3.12
        child = os.fork()
    if not child:
        good = plain.get("key") == 1 and plain.atomic_add("n", 5) == 5 and plain.redis_client.client_id() != mine
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert plain.atomic_add("n", 1) == 6


def test_importing_the_module_needs_no_redis_package() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from graflow.channels.redis_channel import RedisChannel\n"
        "channel = RedisChannel('x', host='localhost')\n"
        "try: channel.get('key')\n"
        "except ImportError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert "pip install" in shown.stdout


# -- times to live -----------------------------------------------------------------------------------------------------


def test_every_key_of_a_channel_gets_a_time_to_live(plain: RedisChannel, redis_client: redis.Redis) -> None:
    plain.set_many({f"key-{index}": index for index in range(1200)})
    plain.append("list", 1)
    plain.atomic_add("n")
    plain.set("short", 1, ttl=10)
    plain.set("longer", 1, ttl=10_000)
    with plain.lock("held"):
        assert plain.expire(100) >= 1203
        without = [key for key in redis_client.scan_iter(count=1000) if redis_client.pttl(key) < 0]
        assert without == []
    assert redis_client.pttl("graflow:channel:plain:short") <= 10_000
    assert 90_000 < redis_client.pttl("graflow:channel:plain:longer") <= 100_000
    assert RedisChannel("empty", **plain._config).expire(100) == 0


@pytest.mark.parametrize("fails", [False, True])
def test_when_a_run_ends_its_channel_gets_a_time_to_live(
    redis_server: PrivateRedis, redis_client: redis.Redis, *, fails: bool
) -> None:
    with workflow("run") as flow:

        @task
        def only() -> int:
            return 1 // (not fails)

        config = {**redis_server.connection, "result_ttl": 100}
        context = ExecutionContext.create(flow.graph, "only", channel_backend="redis", config=config)
        with pytest.raises(GraflowRuntimeError) if fails else nullcontext():
            context.execute()
    key = f"graflow:channel:{context.session_id}:only.__result__"
    assert 90_000 < redis_client.pttl(key) <= 100_000
    assert context.channel.exists("only.__result__")


def test_a_server_that_is_gone_when_a_run_ends_does_not_spoil_its_result(caplog: pytest.LogCaptureFixture) -> None:
    with private_redis() as server:
        channel = RedisChannel("x", **server.connection, socket_connect_timeout=1)
        channel.set("key", 1)
    channel.run_ended()
    assert "could not be given a time to live" in caplog.text


def test_times_to_live_are_kept_in_milliseconds(plain: RedisChannel, redis_client: redis.Redis) -> None:
    plain.set("a", 1, ttl=0.25)
    plain.set("b", 1, ttl=0.000_01)
    plain.append("c", 1, ttl=1.5)
    assert 0 < redis_client.pttl("graflow:channel:plain:a") <= 250
    assert redis_client.pttl("graflow:channel:plain:b") <= 1
    assert 1000 < redis_client.pttl("graflow:channel:plain:c") <= 1500


def test_a_lock_leaves_no_key_and_always_has_a_time_to_live(plain: RedisChannel, redis_client: redis.Redis) -> None:
    with plain.lock("k"):
        (key,) = redis_client.keys("*")
        assert key == b"graflow:lock:plain:k"
        assert 0 < redis_client.pttl(key) <= plain.lock_lease * 1000
    assert redis_client.keys("*") == []


def test_a_branch_over_redis_applies_its_writes_with_times_to_live(
    plain: RedisChannel, redis_client: redis.Redis
) -> None:
    plain.set("gone", 1)
    branch = BranchChannel(plain)
    branch.set("key", {1, 2}, ttl=100)
    branch.delete("gone")
    assert plain.keys() == ["gone"]
    apply_writes(plain, branch.writes())
    assert plain.keys() == ["key"]
    assert 90_000 < redis_client.pttl("graflow:channel:plain:key") <= 100_000


def test_a_snapshot_of_memory_seeds_a_channel_in_redis(plain: RedisChannel) -> None:
    memory = MemoryChannel("m")
    memory.set("a", (1,))
    memory.append("list", 1)
    plain.set_many(memory.snapshot(), ttl=100)
    assert plain.append("list", 2) == 2
    assert plain.get("a") == (1,)


# -- round trips -------------------------------------------------------------------------------------------------------


def test_reading_costs_one_round_trip_whatever_the_kind(plain: RedisChannel, redis_client: redis.Redis) -> None:
    plain.set("text", 1)
    plain.append("list", 1)
    for key in ("text", "list", "absent"):
        plain.get(key)  # the script is known to the server from here on
        before = redis_client.info("stats")["total_commands_processed"]
        plain.get(key)
        sent = redis_client.info("stats")["total_commands_processed"] - before
        assert sent <= 4, "EVALSHA, the two commands of the script, INFO"


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_lock_excludes_other_processes(plain: RedisChannel, redis_server: PrivateRedis) -> None:
    code = (
        "import sys\nfrom graflow.channels.redis_channel import RedisChannel\n"
        "channel = RedisChannel('plain', url=sys.argv[1])\n"
        "for _ in range(40):\n"
        "    with channel.lock('n', timeout=60): channel.set('n', channel.get('n', 0) + 1)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, redis_server.url], cwd=Path.cwd()) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert plain.get("n") == 120


def test_the_lock_of_a_killed_holder_becomes_free(plain: RedisChannel, redis_server: PrivateRedis) -> None:
    code = (
        "import sys, time\nfrom graflow.channels.redis_channel import RedisChannel\n"
        "RedisChannel.lock_lease = 0.3\nchannel = RedisChannel('plain', url=sys.argv[1])\n"
        "with channel.lock('k'):\n    channel.set('held', 1)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, redis_server.url], cwd=Path.cwd(), stdin=subprocess.PIPE)
    wait_until(lambda: plain.exists("held"))
    with pytest.raises(TimeoutError), plain.lock("k", timeout=0.9):  # thrice the lease: the holder renews it
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with plain.lock("k", timeout=5):
        pass


def test_a_lock_outlives_its_lease_while_its_holder_lives(plain: RedisChannel, redis_client: redis.Redis) -> None:
    plain.lock_lease = 0.8
    left: list[int] = []
    with plain.lock("k"), plain.lock("other"):
        end = time.monotonic() + 1.5 * plain.lock_lease

        def is_over() -> bool:
            left.append(redis_client.pttl("graflow:lock:plain:k"))
            return time.monotonic() > end

        wait_until(is_over, interval=0.02)
    assert min(left) > 0


def test_a_lost_lock_is_reported_and_not_taken_from_its_next_holder(
    plain: RedisChannel, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), plain.lock("k"):
        redis_client.set("graflow:lock:plain:k", "somebody else", ex=100)
    assert "no longer held" in caplog.text
    assert redis_client.get("graflow:lock:plain:k") == b"somebody else"


def test_a_lock_that_expires_while_it_is_held_is_reported(
    plain: RedisChannel, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    plain.lock_lease = 0.15
    with caplog.at_level(logging.WARNING), plain.lock("k"):
        redis_client.delete("graflow:lock:plain:k")
        wait_until(lambda: "was lost while it was held" in caplog.text)


def test_a_server_that_dies_under_a_lock_does_not_spoil_the_work_inside(caplog: pytest.LogCaptureFixture) -> None:
    done = []
    with private_redis() as server:
        channel = RedisChannel("x", **server.connection, socket_connect_timeout=1)
        with caplog.at_level(logging.WARNING), channel.lock("k"):
            server.kill()
            done.append(True)
    assert done == [True]
    assert "could not be released" in caplog.text


def test_waiters_of_one_process_and_of_others_all_get_their_turn(redis_server: PrivateRedis, redis_client) -> None:
    channels = [RedisChannel("x", **redis_server.connection) for _ in range(4)]
    channels[0].set("n", 0)

    def work(index: int) -> None:
        for _ in range(20):
            with channels[index // 2].lock("n", timeout=60):
                channels[index // 2].set("n", channels[index // 2].get("n") + 1)

    at_once(work, range(8))
    assert channels[0].get("n") == 160
    lock_elsewhere(channels[0], "n")
    assert [thread for thread in threading.enumerate() if thread.name == "graflow-leases" and not thread.daemon] == []
