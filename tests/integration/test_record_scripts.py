"""Scripts on a connection that is kept."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis
from redis.connection import AbstractConnection

from graflow_celery.broker.app import app_for
from graflow_celery.deployment import deployment_of
from graflow_celery.record.scripts import Scripts
from graflow_celery.settings import Settings
from tests.support import private_redis

pytestmark = pytest.mark.redis


def echoing(_: str) -> str:
    return "return ARGV[1]"


class Interruption(BaseException):
    """As a signal raises it, anywhere."""


def interrupt(*_: Any, **__: Any) -> NoReturn:
    raise Interruption


def test_a_call_that_is_interrupted_leaves_no_answer_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with private_redis() as server, server.client() as client:
        scripts = Scripts(client, echoing)
        assert scripts.run("echo", [], ["first"]) == b"first"

        # When an exception comes between a call and its answer
        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, "read_response", interrupt)
            with pytest.raises(Interruption):
                scripts.run("echo", [], ["second"])

        assert scripts.run("echo", [], ["third"]) == b"third"


def test_calls_go_on_when_the_server_has_closed_the_connection() -> None:
    with private_redis() as server, server.client() as client, server.client() as other:
        scripts = Scripts(client, echoing)
        assert scripts.run("echo", [], ["first"]) == b"first"

        other.client_kill_filter(_type="normal", skipme=True)

        assert scripts.run("echo", [], ["second"]) == b"second"


def test_a_pool_of_one_connection_is_enough() -> None:
    with private_redis() as server, server.client() as client:
        options = client.connection_pool.connection_kwargs
        pool = redis.ConnectionPool(max_connections=1, host=options["host"], port=options["port"])
        small = redis.Redis(connection_pool=pool)
        scripts = Scripts(small, echoing)

        assert scripts.run("echo", [], ["first"]) == b"first"
        assert small.ping()


def test_a_forked_process_leaves_the_connection_of_its_parent_alone() -> None:
    with private_redis() as server, server.client() as client:
        scripts = Scripts(client, echoing)
        scripts.run("echo", [], ["parent"])
        before = int(client.info("stats")["total_connections_received"])

        child = os.fork()
        if child == 0:
            os._exit(0 if scripts.run("echo", [], ["child"]) == b"child" else 1)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert int(client.info("stats")["total_connections_received"]) == before + 1
        assert scripts.run("echo", [], ["parent"]) == b"parent"


def test_all_scripts_on_one_client_keep_one_connection() -> None:
    with private_redis() as server, server.client() as client:
        every = [Scripts(client, echoing) for _ in range(3)]

        for scripts in every:
            scripts.run("echo", [], ["first"])

        assert int(client.info("clients")["connected_clients"]) == 2


def kept_in_a_list(name: str) -> str:
    """`note` adds a number to a list and answers it; `broken` adds it and fails; `all` answers the list."""
    add = "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], 600)"
    return {
        "note": f"{add} return ARGV[1]",
        "broken": f"{add} return redis.error_reply('refused')",
        "all": "return redis.call('LRANGE', KEYS[1], 0, -1)",
    }[name]


def test_what_is_told_is_done_in_its_turn_and_its_answer_is_nobody_elses() -> None:
    with private_redis() as server, server.client() as client:
        scripts = Scripts(client, kept_in_a_list)
        for number in range(4):
            scripts.tell("note", ["list"], [number])
            assert scripts.run("all", ["list"], []) == [b"%d" % told for told in range(number + 1)]
        scripts.tell("note", ["list"], [4])
        scripts.tell("note", ["list"], [5])  # the answer to the first is not there yet
        assert scripts.execute("LLEN", "list") == 6


def test_an_error_of_what_is_told_is_no_error_of_the_next_call() -> None:
    with private_redis() as server, server.client() as client:
        scripts = Scripts(client, kept_in_a_list)
        with pytest.raises(redis.exceptions.ResponseError, match="refused"):
            scripts.tell("broken", ["list"], [0])
        scripts._told.add("broken")
        scripts.tell("broken", ["list"], [1])
        assert scripts.run("all", ["list"], []) == [b"0", b"1"]
        scripts.tell("note", ["list"], [2])
        client.script_flush()
        scripts.tell("note", ["list"], [3])  # of a script that the server has forgotten
        assert scripts.run("all", ["list"], []) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("closing", ["server", "rest"])
def test_what_is_told_to_a_line_that_closes_leaves_the_next_call_alone(closing: str) -> None:
    with private_redis() as server, server.client() as client, server.client() as other:
        scripts = Scripts(client, kept_in_a_list)
        for number in range(2):
            scripts.tell("note", ["list"], [number])
        other.client_kill_filter(_type="normal", skipme=True) if closing == "server" else scripts._kept.rest()
        assert scripts.run("all", ["list"], []) == [b"0", b"1"]
        scripts.tell("note", ["list"], [2])
        assert scripts.run("all", ["list"], []) == [b"0", b"1", b"2"]


def test_telling_that_is_interrupted_leaves_no_answer_to_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with private_redis() as server, server.client() as client:
        scripts = Scripts(client, kept_in_a_list)
        scripts.tell("note", ["list"], [0])
        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, "send_command", interrupt)
            with pytest.raises(Interruption):
                scripts.tell("note", ["list"], [1])
        scripts.tell("note", ["list"], [2])
        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, "read_response", interrupt)
            with pytest.raises(Interruption):
                scripts.run("all", ["list"], [])
        assert scripts.run("all", ["list"], [])[0] == b"0"


def test_what_celery_counts_of_a_chord_goes_over_the_connection_of_the_record() -> None:
    with private_redis() as server, server.client() as client:
        settings = Settings.load({"url": server.url})
        deployment_of(settings).record.workers.seen()
        before = int(client.info("stats")["total_connections_received"])
        backend: Any = app_for(settings, results=True).backend
        backend.set_chord_size("chord", 3)
        for index in range(2):
            part = SimpleNamespace(id=f"part {index}", group="chord", group_index=index, chord=None)
            backend.on_chord_part_return(part, "SUCCESS", None)
        with backend.client.pipeline() as pipe:
            (parts,) = pipe.zrange(backend.get_key_for_group("chord", ".j"), 0, -1).execute()

        assert [json.loads(part)[1] for part in parts] == ["part 0", "part 1"]
        assert int(client.info("stats")["total_connections_received"]) == before
        assert "cmdstat_multi" not in client.info("commandstats")
        with backend.client.pipeline() as pipe:
            assert pipe.incr("count").expire("count", 60).execute() == [1, True]
        assert client.info("commandstats")["cmdstat_multi"]["calls"] == 1, "several commands are one step"
