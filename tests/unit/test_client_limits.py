"""Connections of one process: failures take no place, waits share, who finds none free waits, a limit has a name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from graflow.redis import config, places
from graflow.redis.config import create_redis_client, shared_client
from graflow.redis.diagnosis import why_unreachable
from graflow.signing import SigningKeys, generate_key
from graflow_celery.broker.app import build_app
from graflow_celery.broker.task_queue import connect_once
from graflow_celery.deployment import deployment_of
from graflow_celery.record.server.waits import _ALONE, SharedWaits
from graflow_celery.settings import Settings, backend_config_key
from tests.refusing_server import RefusingServer, refusing_server
from tests.support import free_port, wait_until


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    with refusing_server() as made:
        yield made


def test_a_connection_that_fails_takes_no_place() -> None:
    client = create_redis_client({"url": f"redis://127.0.0.1:{free_port()}/0", "max_connections": 2})
    for _ in range(5):
        with pytest.raises(redis.ConnectionError) as caught:
            connect_once(client)
        assert not isinstance(caught.value, redis.exceptions.MaxConnectionsError)


def test_a_look_whether_a_server_is_there_takes_no_place(server: RefusingServer) -> None:
    client = create_redis_client({"url": server.url, "max_connections": 2})
    for _ in range(5):
        connect_once(client)
    client.ping()
    client.close()


def test_who_finds_no_connection_free_waits_for_one(server: RefusingServer) -> None:
    go = threading.Event()

    def answer(name: str, parts: list[bytes]) -> bytes:
        go.wait(20)
        return b"+OK\r\n"

    server.answer = answer
    client = create_redis_client({"url": server.url, "max_connections": 3})
    done: list[Any] = []
    threads = [threading.Thread(target=lambda: done.append(client.set("k", "v"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(server.seen) == 3)
    go.set()
    for thread in threads:
        thread.join(20)
    assert len(done) == 12
    assert server.most == 3
    client.close()


def test_a_limit_that_is_reached_is_named(server: RefusingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PATIENCE", 0.05)
    client = create_redis_client({"url": server.url, "max_connections": 1})
    held = client.connection_pool.get_connection()
    with pytest.raises(redis.exceptions.MaxConnectionsError, match="all 1 connections were in use") as caught:
        client.ping()
    client.connection_pool.release(held)
    client.close()
    told = why_unreachable("R", {"url": server.url}, caught.value, backend_config_key)
    assert "this process has no connection left for it" in told
    assert "raise backend_config['max_connections']" in told


def test_the_servers_own_limit_is_named_too() -> None:
    error = redis.ConnectionError("max number of clients reached")
    told = why_unreachable("R", {"url": "redis://127.0.0.1:1/0"}, error, backend_config_key)
    assert (
        told
        == "R at 127.0.0.1:1/0 does not answer: it has as many clients as it takes; raise its maxclients, or end some"
    )


def test_many_clients_do_not_hold_connections_that_they_do_not_use(server: RefusingServer) -> None:
    for number in range(3 * config._AWAKE):
        shared_client({"url": server.url, "client_name": f"tenant{number}"}).ping()
    wait_until(lambda: server.open <= config._AWAKE + 1)
    assert shared_client({"url": server.url, "client_name": "tenant0"}).ping()
    config.rest_shared_clients()


def test_keys_with_one_id_and_different_secrets_are_told_apart() -> None:
    one, two = (deployment_of({"url": "redis://127.0.0.1:1/0", "signing_key": generate_key("main")}) for _ in range(2))
    assert isinstance(one.keys, SigningKeys)
    assert isinstance(two.keys, SigningKeys)
    assert one.keys.sign(b"x", purpose="t") != two.keys.sign(b"x", purpose="t")


class Streams:
    """Entries of streams, read as `redis.Redis.xread` reads them; counts the reads that go on at once."""

    def __init__(self) -> None:
        self.entries: dict[str, int] = {}
        self.reading = self.most = 0
        self.changed = threading.Condition()
        self.error: Exception | None = None

    def add(self, name: str) -> None:
        with self.changed:
            self.entries[name] = self.entries.get(name, 0) + 1
            self.changed.notify_all()

    def xread(self, after: dict[str, bytes], *, count: int, block: int | None) -> list[tuple[bytes, list[Any]]]:
        def found() -> list[tuple[bytes, list[Any]]]:
            last = {name: int(entry.split(b"-")[0]) for name, entry in after.items()}
            return [(name.encode(), []) for name in after if self.entries.get(name, 0) > last[name]]

        with self.changed:
            self.reading += 1
            self.most = max(self.most, self.reading)
            try:
                if self.error is not None:
                    raise self.error
                self.changed.wait_for(found, 0 if block is None else block / 1000)
                return found()
            finally:
                self.reading -= 1


def waiting(
    streams: Streams, waits: SharedWaits, names: list[str], seconds: float = 60.0
) -> dict[str, threading.Thread]:
    """Threads that wait for an entry of a stream each, and then end."""

    def wait(name: str) -> None:
        with suppress(redis.ConnectionError):
            found: set[str] = set()
            while not found:
                found = waits.wait(streams, {name: b"0-0"}, seconds)  # type: ignore[arg-type]
            assert found == {name}

    threads = {name: threading.Thread(target=wait, args=(name,), daemon=True) for name in names}
    for thread in threads.values():
        thread.start()
    return threads


def test_many_that_wait_share_connections() -> None:
    streams, waits = Streams(), SharedWaits()
    names = [f"s{number}" for number in range(60)]
    threads = waiting(streams, waits, names)
    wait_until(lambda: len(waits._joined) == 60 - _ALONE)
    assert streams.most <= _ALONE + 1
    for name in reversed(names):  # whoever reads for the others leaves before some of them
        streams.add(name)
        threads[name].join(20)
        assert not threads[name].is_alive()
    assert streams.most <= _ALONE + 1
    assert not waits._joined
    assert not waits._is_led


def test_one_that_reads_for_others_and_fails_leaves_that_to_the_next() -> None:
    streams, waits = Streams(), SharedWaits()
    alone = waiting(streams, waits, [f"a{number}" for number in range(_ALONE)])
    wait_until(lambda: streams.reading == _ALONE)
    streams.error = redis.ConnectionError("cut")
    joined = waiting(streams, waits, ["x", "y", "z"])
    for thread in joined.values():
        thread.join(20)
        assert not thread.is_alive()
    streams.error = None
    joined = waiting(streams, waits, ["x", "y"])
    wait_until(lambda: len(waits._joined) == 2)
    for name in ("y", "x", *alone):
        streams.add(name)
    for thread in (*joined.values(), *alone.values()):
        thread.join(20)
        assert not thread.is_alive()


def test_a_shared_wait_ends_when_its_time_is_over() -> None:
    streams, waits = Streams(), SharedWaits()
    alone = waiting(streams, waits, [f"a{number}" for number in range(_ALONE)])
    wait_until(lambda: streams.reading == _ALONE)
    assert waits.wait(streams, {"x": b"0-0"}, 0.1) == set()  # type: ignore[arg-type]
    for name in alone:
        streams.add(name)
    for thread in alone.values():
        thread.join(20)


def test_a_connection_that_only_sends_takes_no_descriptor_for_polling(server: RefusingServer) -> None:
    app = build_app(Settings.load({"url": server.url}))
    with app.connection_for_write() as connection:
        with connection.channel():
            pass
        assert connection.transport.cycle._made is None
        assert connection.transport.cycle.poller is connection.transport.cycle.poller
