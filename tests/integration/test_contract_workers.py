"""Workers in every form that is promised, what members see on them, and what nobody ever sees: secrets."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow import task, workflow
from graflow.core.serialization import dumps
from graflow.core.task import ParallelGroup
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.utils.redis_utils import create_redis_client
from graflow_celery import LocalCluster, RedisTaskQueue, TaskWorker, submit
from graflow_celery.deployment import deployment_of
from tests.cluster_support import secrets_of
from tests.integration import members

pytestmark = pytest.mark.redis


@pytest.mark.slow
def test_a_key_of_keygen_is_taken_and_no_two_are_the_same() -> None:
    beside = Path(sys.executable)
    commands = (
        [str(beside.with_name("graflow"))],
        [str(beside.with_name("celery")), "-A", "graflow_celery", "graflow"],
    )
    printed = [
        subprocess.run([*command, "keygen", "--id", "mine"], capture_output=True, text=True, check=True).stdout.strip()
        for command in commands
    ]
    assert len(set(printed)) == 2
    for key in printed:
        assert key.startswith("mine:")
        assert RedisTaskQueue(backend_config={"signing_key": key}).settings.keys is not None


@pytest.mark.parametrize("given", ["redis://localhost", object(), 5, redis.Redis(host="localhost")])
def test_a_worker_takes_nothing_but_settings_or_a_queue(given: Any) -> None:
    with pytest.raises(ConfigError, match="settings or a RedisTaskQueue"):
        TaskWorker(given)


@pytest.mark.slow
def test_imports_of_several_resolvers_are_tabled_apart(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "apart"}
    with TaskWorker(config, imports=[members.__name__], resolver_id="etl"):
        queue = RedisTaskQueue(backend_config=config, default_resolver_id="etl")
        assert queue.default_resolver_id == "etl"
        # That the worker knows it in another table does not help, so it waits for workers no longer than it may
        outcome = submit(members.noop.map([1]), {**config, "worker_wait": 1}).outcomes(timeout=120)[0]
    assert outcome.error is not None
    assert outcome.error.type.endswith("TaskResolutionError")
    assert "no live worker knows" in outcome.error.message


# -- clusters ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cluster_that_cannot_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cluster = LocalCluster(workers=2, imports=["no.such.module"])
    with pytest.raises(GraflowRuntimeError, match="log says why"):
        cluster.start()
    assert cluster.workers == []
    with pytest.raises(GraflowRuntimeError):
        _ = cluster.redis_url
    assert list(tmp_path.iterdir()) == []


# -- members -----------------------------------------------------------------------------------------------------------


def test_members_write_for_themselves_and_add_for_all(config: dict[str, Any]) -> None:
    def use(context: Any, x: int) -> Any:
        channel = context.get_channel()
        channel.set("last", x)
        channel.append("seen", x)
        channel.atomic_add("sum", x)
        channel.delete("gone")
        return [channel.get("last"), channel.get("given"), context.get_result("start"), channel.exists("gone")]

    writer = task(id="writer", inject_context=True)(use)
    start = task(id="start", inject_context=True)(_seed)
    with workflow("w") as wf:
        start >> writer.map([1, 2, 3], name="shards").with_execution("redis", config)
        _, context = wf.execute(ret_context=True)
    assert context.get_result("shards") == [[x, "kept", "started", False] for x in (1, 2, 3)]
    channel = context.channel
    assert (channel.get("last"), channel.get("sum"), sorted(channel.get("seen"))) == (3, 6, [1, 2, 3])
    assert not channel.exists("gone")


def _seed(context: Any) -> str:
    context.get_channel().set("given", "kept")
    context.get_channel().set("gone", 1)
    return "started"


def test_only_members_that_succeed_leave_their_writes(config: dict[str, Any]) -> None:
    def use(context: Any, x: int) -> None:
        context.get_channel().set("last", x)
        if x == 2:
            raise ValueError("no")

    with workflow("w") as wf:
        writer = task(id="writer", inject_context=True)(use)
        writer.map([1, 2], name="shards").with_execution("redis", config, "best_effort")
        wf.graph.nodes
        group = writer.map([1, 2], name="again").with_execution("redis", config, "best_effort")
        group >> task(id="end")(lambda last: last)
        assert wf.execute() == 1


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_secrets_are_in_no_value_of_redis_no_argument_and_no_pickle(cluster: LocalCluster) -> None:
    given = cluster.backend_config
    host, port = cluster.redis_url.reveal().partition("@")[2].removesuffix("/0").split(":")
    password, key = secrets_of(cluster)
    plain = {"host": host, "port": int(port), "password": password, "signing_key": given["signing_key"].reveal()}
    with workflow("w") as wf:
        inner = members.noop.map([1, 2], name="inner").with_execution("redis", plain)
        outer = ParallelGroup([inner], name="outer").with_execution("redis", plain)
        handle = submit(members.fail.map([1]), plain, then=members.total)
        wf.execute("outer")
        handle.continuation().outcomes(timeout=120)
        shown = f"{outer!r} {outer._execution_config} {wf.graph!r} {handle!r} {deployment_of(plain).settings!r}"
        shown += repr(cluster.backend_config) + str(cluster.redis_url) + repr(vars(cluster.workers[0]))
        pickles = [pickle.dumps(wf.graph), dumps(wf.graph), pickle.dumps(outer._execution_config)]
    with create_redis_client({**plain, "decode_responses": False}) as client:
        kept = b"".join(client.dump(name) or b"" for name in client.scan_iter("*"))
        values = repr([_value(client, name) for name in client.scan_iter("*")])
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for secret in (password, key):
        assert secret not in shown
        assert secret not in listed
        assert secret not in values
        assert secret.encode() not in kept
        assert not any(secret.encode() in found for found in pickles)


def _value(client: Any, name: bytes) -> Any:
    readers = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"set": client.smembers,
        b"stream": client.xrange,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    kind = client.type(name)
    return readers[kind](name) if kind in readers else None


def test_a_group_in_a_group_reaches_the_same_server_by_host_and_password(cluster: LocalCluster) -> None:
    host, port = cluster.redis_url.reveal().partition("@")[2].removesuffix("/0").split(":")
    plain = {"host": host, "port": int(port), "password": secrets_of(cluster)[0]}
    plain["signing_key"] = cluster.backend_config["signing_key"].reveal()
    inner = members.double.map([1, 2], name="inner").with_execution("redis", plain)
    assert submit([inner], plain).results(timeout=120) == [[2, 4]]


@pytest.mark.slow
def test_monitors_are_told_no_secrets(cluster: LocalCluster) -> None:
    environment = {**os.environ, "GRAFLOW_REDIS_URL": cluster.redis_url.reveal()}
    environment["GRAFLOW_SIGNING_KEY"] = cluster.backend_config["signing_key"].reveal()
    celery = str(Path(sys.executable).with_name("celery"))
    for command in (["report"], ["inspect", "conf"], ["inspect", "stats"]):
        done = subprocess.run(
            [celery, "-A", "graflow_celery", *command], env=environment, capture_output=True, text=True, check=False
        )
        for secret in secrets_of(cluster):
            assert secret not in done.stdout + done.stderr


def test_importing_connects_to_nothing(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('connected')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "import graflow_celery\n"
        "from celery import Celery\n"
        "assert isinstance(graflow_celery.app, Celery)\n"
        "graflow_celery.app.conf.broker_url\n"
        "graflow_celery.RedisTaskQueue(); graflow_celery.TaskWorker(); graflow_celery.LocalCluster()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "GRAFLOW_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_worker_process_keeps_its_event_loop_from_member_to_member(one_slot: LocalCluster) -> None:
    for asked in (members.has_the_first_loop, members.has_the_first_loop_inside, members.has_the_first_loop):
        assert submit(asked.map(range(2)), backend_config=one_slot.backend_config).results(timeout=120) == [True, True]


@pytest.mark.slow
def test_a_call_that_holds_the_interpreter_for_longer_than_the_lease_is_no_lost_worker(config: dict[str, Any]) -> None:
    handle = submit(members.holds_the_interpreter.map([6]), backend_config={**config, "lease": 2})
    assert handle.results(timeout=120) == [0]
    assert (handle.status().executions, handle.status().losses) == (1, 0)
