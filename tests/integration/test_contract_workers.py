"""Workers in every form that is promised, what members see on them, and what nobody ever sees: secrets."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow import task, workflow
from graflow.core.serialization import dumps
from graflow.core.task import ParallelGroup
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.queue.base import TaskSpec
from graflow.utils.redis_utils import create_redis_client
from graflow_celery import LocalCluster, RedisTaskQueue, TaskWorker, submit
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis

MODULE = """
from graflow import task

@task
def thrice(x):
    return 3 * x
"""
LIMITED_MODULE = """
import os
import threading
import time
from graflow import task

@task
def beginning(x):
    begun = time.monotonic()
    threading.Event().wait(0.4)
    return begun, os.getpid()

@task
def waits(seconds):
    threading.Event().wait(seconds)
"""
LIMITS = """
task_time_limit = 1
worker_max_tasks_per_child = 1
task_annotations = {"graflow.run": {"rate_limit": "2/s"}}
"""
GREEN_MODULE = """
import asyncio
import threading
from graflow import task

@task
async def soon(x):
    value = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, value.set_result, 3 * x)
    return await value

@task(options={"time_limit": 1})
def limited(x):
    threading.Event().wait(20)
"""


@contextmanager
def celery_worker(config: dict[str, Any], folder: Path, queue: str, *arguments: str) -> Iterator[Path]:
    """`celery -A graflow_celery worker …` as a user types it in a folder of their own; gives its log."""
    log = folder / "worker.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFLOW_", "PYTHONPATH"))}
    name = f"{queue}@here"
    command = [*("celery", "-A", "graflow_celery", "worker", "-n", name, "-Q", queue), *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("celery")), *command[1:]],
            cwd=folder,
            env={**environment, "GRAFLOW_REDIS_URL": config["url"].reveal()},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    record = deployment_of(config).record
    try:
        wait_until(
            lambda: any(worker.worker_id == name for worker in record.live_workers(15)) or process.poll() is not None,
            20,
            log.read_text(encoding="utf-8"),
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(45)  # billiard gives its main process up to 30 s to take note of the last result


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_command_runs_members_in_every_pool(
    pool: str, no_workers: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**no_workers.backend_config, "queue": f"pool-{pool}"}
    (tmp_path / "typed_by_a_user.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "keys").write_text(config["signing_key"].reveal(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import typed_by_a_user

    arguments = ["--graflow-import", "typed_by_a_user", "--graflow-import=etl=typed_by_a_user"]
    keys = ["--graflow-key-file", "keys"]
    with celery_worker(
        config, tmp_path, config["queue"], *arguments, *keys, "-P", pool, "-c", "2", "-l", "DEBUG"
    ) as log:
        assert submit(typed_by_a_user.thrice.map([1, 2]), config).results(timeout=20) == [3, 6]
        assert submit(task(id="plus")(lambda x: x + 1).map([1, 2]), config).results(timeout=20) == [2, 3]
        failing = submit(task(id="bad")(lambda x: 1 / 0).map([1]), config)
        assert failing.outcomes(timeout=20)[0].error.type == "ZeroDivisionError"
        queue = RedisTaskQueue(backend_config=config)
        queue.enqueue(TaskSpec(typed_by_a_user.thrice(task_id="alone", x=1), None))
        wait_until(queue.is_empty)
    text = log.read_text(encoding="utf-8")
    for secret in secrets_of(no_workers):
        assert secret not in text
    del sys.modules["typed_by_a_user"]


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_pools_of_green_threads_run_async_members_and_keep_time_limits(
    pool: str, no_workers: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(pool)
    config = {**no_workers.backend_config, "queue": f"pool-{pool}"}
    (tmp_path / "run_by_green_threads.py").write_text(GREEN_MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import run_by_green_threads

    imports = ["--graflow-import", "run_by_green_threads"]
    (tmp_path / "keys").write_text(config["signing_key"].reveal(), encoding="utf-8")
    keys = ["--graflow-key-file", "keys"]
    with celery_worker(config, tmp_path, config["queue"], *imports, *keys, "-P", pool, "-c", "2"):
        assert submit(run_by_green_threads.soon.map([1, 2, 3]), config).results(timeout=20) == [3, 6, 9]
        (over,) = submit(run_by_green_threads.limited.map([1]), config).outcomes(timeout=20)
    assert over.state == "TIMED_OUT"
    assert over.error is not None
    assert over.error.type == "graflow.exceptions.TaskTimeoutError"
    del sys.modules["run_by_green_threads"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--graflow-import", "no.such.module"], "Cannot import the task module 'no.such.module'"),
        (["--graflow-import", "etl="], "--graflow-import takes MODULE or ID=MODULE, not 'etl='"),
        (["--graflow-import", ""], "--graflow-import takes MODULE or ID=MODULE, not ''"),
        (["--graflow-key-file", "no-such-file"], "no-such-file cannot be read"),
    ],
)
def test_a_worker_that_cannot_do_its_work_ends_and_says_why(
    arguments: list[str], why: str, no_workers: LocalCluster, tmp_path: Path
) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("celery")), "-A", "graflow_celery", "worker", *arguments],
        cwd=tmp_path,
        env={**os.environ, "GRAFLOW_REDIS_URL": no_workers.redis_url.reveal()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert why in done.stdout + done.stderr


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


def test_a_worker_in_this_process_uses_its_registry_and_as_many_threads_as_asked(
    no_workers: LocalCluster, tmp_path: Path
) -> None:
    config = {**no_workers.backend_config, "queue": "in-thread"}
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    with TaskWorker(
        config, resolver_registry=registry, imports={"default": [members.__name__]}, concurrency=3
    ) as worker:
        assert worker.pid == os.getpid()
        three = members.meet.starmap([(str(tmp_path), 3)] * 3)
        assert submit(three, {**config, "batch_size": 1}).results(timeout=30) == [os.getpid()] * 3
        with pytest.raises(GraflowRuntimeError, match="process of its own"):
            worker.kill()
    assert worker.pid is None


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
        outcome = submit(members.noop.map([1]), config).outcomes(timeout=10)[0]
    assert outcome.error is not None
    assert outcome.error.type.endswith("TaskResolutionError")


# -- clusters ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cluster_that_cannot_start_leaves_nothing_behind() -> None:
    before = {entry for entry in Path(tempfile.gettempdir()).glob("graflow-*") if entry.is_dir()}
    cluster = LocalCluster(workers=2, imports=["no.such.module"])
    with pytest.raises(GraflowRuntimeError, match="log says why"):
        cluster.start()
    assert cluster.workers == []
    with pytest.raises(GraflowRuntimeError):
        _ = cluster.redis_url
    assert {entry for entry in Path(tempfile.gettempdir()).glob("graflow-*") if entry.is_dir()} <= before


@pytest.mark.slow
def test_a_cluster_that_was_left_listens_nowhere_and_runs_nothing() -> None:
    with LocalCluster(workers=1, concurrency=2) as cluster:
        worker, url = cluster.workers[0].pid, cluster.redis_url.reveal()
        children = subprocess.run(
            ["pgrep", "-g", str(worker)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) >= 3
        assert submit(task(id="plus")(lambda x: x + 1).map([1]), cluster.backend_config).results(timeout=10) == [2]
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url, retry=None) as client:
        client.ping()


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


def secrets_of(cluster: LocalCluster) -> tuple[str, str]:
    """The password of a cluster's Redis and the secret part of its key."""
    password = cluster.redis_url.reveal().partition("//:")[2].partition("@")[0]
    return password, cluster.backend_config["signing_key"].reveal().partition(":")[2]


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
        handle.continuation().outcomes(timeout=10)
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
    assert submit([inner], plain).results(timeout=10) == [[2, 4]]


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
        assert submit(asked.map(range(2)), backend_config=one_slot.backend_config).results(timeout=20) == [True, True]


@pytest.mark.slow
def test_limits_of_a_whole_worker_count_for_each_member(
    no_workers: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**no_workers.backend_config, "queue": "limited", "batch_size": 5}
    (tmp_path / "run_with_limits.py").write_text(LIMITED_MODULE, encoding="utf-8")
    (tmp_path / "celeryconfig.py").write_text(LIMITS, encoding="utf-8")
    (tmp_path / "keys").write_text(config["signing_key"].reveal(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import run_with_limits

    arguments = ["--graflow-import", "run_with_limits", "--graflow-key-file", "keys", "-P", "prefork", "-c", "1"]
    with celery_worker(config, tmp_path, config["queue"], *arguments):
        outcomes = submit(run_with_limits.beginning.map(range(5)), config).outcomes(timeout=30)
    assert [outcome.state for outcome in outcomes] == ["SUCCEEDED"] * 5  # 2 s in one message, of which each may take 1
    begun, pids = zip(*(outcome.value for outcome in outcomes), strict=True)
    assert len(set(pids)) == 5
    assert max(begun) - min(begun) > 1.5  # four pauses of half a second each
    del sys.modules["run_with_limits"]


@pytest.mark.slow
def test_a_call_that_holds_the_interpreter_for_longer_than_the_lease_is_no_lost_worker(config: dict[str, Any]) -> None:
    handle = submit(members.holds_the_interpreter.map([6]), backend_config={**config, "lease": 2})
    assert handle.results(timeout=30) == [0]
    assert (handle.status().executions, handle.status().losses) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [("--soft-time-limit", "1", "-P", "prefork"), ("--time-limit", "1", "-P", "threads")])
def test_a_time_limit_of_a_whole_worker_ends_one_member_and_is_named(
    limit: tuple[str, ...], no_workers: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**no_workers.backend_config, "queue": f"limited{limit[0]}", "batch_size": 2}
    (tmp_path / "run_over_time.py").write_text(LIMITED_MODULE, encoding="utf-8")
    (tmp_path / "keys").write_text(config["signing_key"].reveal(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import run_over_time

    arguments = ["--graflow-import", "run_over_time", "--graflow-key-file", "keys", "-c", "1", *limit]
    with celery_worker(config, tmp_path, config["queue"], *arguments):
        over, after = submit(run_over_time.waits.map([3, 0]), config).outcomes(timeout=30)
    assert (over.state, after.state) == ("TIMED_OUT", "SUCCEEDED")
    assert over.error is not None
    assert "timeout of 1 s" in over.error.message
    del sys.modules["run_over_time"]
