"""`LocalCluster` and `TaskWorker`: started from code, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from graflow import task
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow_celery import LocalCluster, RecordUnreachableError, RedisTaskQueue, TaskWorker, submit
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import PrivateRedis, wait_until

pytestmark = pytest.mark.redis

SCRIPT = """
import signal, sys
from graflow import task
from graflow_celery import LocalCluster, submit

@task
def triple(x):
    return 3 * x

if __name__ == "__main__":
    with LocalCluster(workers=1, imports=["__main__"]) as cluster:
        print(submit(triple.map([1, 2]), backend_config=cluster.backend_config).results(timeout=30))
        print(cluster.workers[0].pid, cluster.redis_url.reveal().rpartition(":")[2], flush=True)
        if sys.argv[1] == "wait":
            signal.pause()
        if sys.argv[1] == "raise":
            raise RuntimeError("on purpose")
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.mark.parametrize(
    ("ending", "sent"),
    [("return", None), ("raise", None), ("wait", signal.SIGINT), ("wait", signal.SIGTERM)],
    ids=["return", "exception", "ctrl-c", "sigterm"],
)
def test_nothing_is_left_behind(ending: str, sent: signal.Signals | None, tmp_path: Path) -> None:
    script, temporary = tmp_path / "script.py", tmp_path / "tmp"
    script.write_text(SCRIPT, encoding="utf-8")
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().strip() == "[3, 6]"
        worker = int(process.stdout.readline().split()[0])
        if sent is not None:
            assert is_alive(worker)
            process.send_signal(sent)
        process.wait(30)
    assert process.returncode == 0 if ending == "return" else process.returncode != 0
    wait_until(lambda: not is_alive(worker))
    assert leftovers(temporary) == []


def test_workers_can_be_killed_and_the_cluster_scaled(tmp_path: Path) -> None:
    with LocalCluster(workers=1, imports=[members.__name__]) as cluster:
        first = cluster.workers[0]
        assert first.pid is not None
        cluster.scale(2)
        assert len({worker.pid for worker in cluster.workers}) == 2
        first.kill(signal.SIGKILL)
        wait_until(lambda: not first.is_alive())
        config = {**cluster.backend_config, "lease": 2.0}
        assert submit(members.noop.map(range(10)), backend_config=config).results(timeout=30) == list(range(10))
        cluster.scale(1)
        cluster.scale(2)
        assert [worker.is_alive() for worker in cluster.workers] == [False, True]


def test_an_existing_redis_is_used_and_left_clean(redis_server: PrivateRedis) -> None:
    with LocalCluster(workers=1, imports=[members.__name__], redis=redis_server.url) as cluster:
        prefix = cluster.backend_config["key_prefix"]
        assert submit(members.double.map([2]), backend_config=cluster.backend_config).results(timeout=30) == [4]
    with redis_server.client() as client:
        assert list(client.scan_iter(f"{prefix}:*")) == []


def test_a_cluster_outside_its_block_says_so() -> None:
    with pytest.raises(GraflowRuntimeError, match="with"):
        _ = LocalCluster().backend_config


def test_secrets_of_a_cluster_are_not_shown(cluster: LocalCluster) -> None:
    password = cluster.redis_url.reveal().split(":")[2].split("@")[0]
    assert password not in repr(cluster.backend_config)
    assert password not in repr(deployment_of(cluster.backend_config).settings)
    for worker in cluster.workers:
        assert password not in Path(f"/proc/{worker.pid}/cmdline").read_text(encoding="utf-8")


def test_a_worker_of_two_slots_runs_two_members_at_once(no_workers: LocalCluster, tmp_path: Path) -> None:
    config = {**no_workers.backend_config, "queue": "two"}
    with TaskWorker(config, imports=[members.__name__], concurrency=2):
        pids = submit(members.meet.starmap([(str(tmp_path), 2)] * 2), backend_config=config).results(timeout=30)
    assert len(set(pids)) == 2


def test_a_worker_in_this_process_takes_a_registry(no_workers: LocalCluster) -> None:
    config: dict[str, Any] = {**no_workers.backend_config, "queue": "threaded"}
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    registry.get().register_module(members)
    with TaskWorker(config, resolver_registry=registry) as worker:
        assert worker.pid == os.getpid()
        handle = submit(members.pid.map([1, 2]), backend_config=config)
        assert handle.results(timeout=20) == [os.getpid()] * 2
        nested = members.nested(2, 3, config)
        assert submit([nested], backend_config=config).results(timeout=20) == [None]


def test_a_worker_takes_settings_or_a_queue_and_nothing_else(no_workers: LocalCluster) -> None:
    queue = RedisTaskQueue(backend_config=no_workers.backend_config)
    assert TaskWorker(queue).settings == queue.settings
    assert TaskWorker(queue=queue).settings == queue.settings
    with pytest.raises(ConfigError, match="settings or a RedisTaskQueue"):
        TaskWorker(object())
    with pytest.raises(ConfigError, match="concurrency"):
        TaskWorker(queue, concurrency=0)


def test_a_worker_without_its_redis_does_not_start() -> None:
    with pytest.raises(RecordUnreachableError):
        TaskWorker({"url": "redis://127.0.0.1:1/0"}).start()


def test_a_worker_that_cannot_import_its_modules_says_so(
    no_workers: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = TaskWorker(no_workers.backend_config, imports=["no.such.module"])
    with pytest.raises(GraflowRuntimeError, match="ended before"):
        worker.start()
    worker.stop()
    assert "no.such.module" in capfd.readouterr().err


def test_stopping_lets_the_running_member_finish(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "stopping"}
    worker = TaskWorker(config, imports=[members.__name__]).start()
    handle = submit(members.nap.map([1.0, 0.0, 0.0]), backend_config={**config, "batch_size": 3})
    wait_until(lambda: handle.status().running)
    worker.stop(timeout=10)
    assert handle.status().succeeded >= 1
    with TaskWorker(config, imports=[members.__name__]):
        assert handle.results(timeout=10) == [1.0, 0.0, 0.0]
    assert handle.status().losses == 0


def test_modules_can_be_given_per_resolver(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "resolvers"}
    with TaskWorker(config, imports={"etl": [members.__name__]}) as worker:
        info = {found.worker_id: found.info for found in deployment_of(config).workers()}[worker.name]
    assert members.__name__ in info["modules"]
    assert info["slots"] == 1


def test_functions_of_a_notebook_work(config: dict[str, Any]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "task": task}
    exec("@task\ndef from_a_cell(x):\n    return x + 1\n", namespace)
    assert submit(namespace["from_a_cell"].map([1]), backend_config=config).results(timeout=20) == [2]


def test_temporary_folders_are_gone() -> None:
    before = set(Path(tempfile.gettempdir()).glob("graflow-*"))
    with LocalCluster(workers=0):
        assert set(Path(tempfile.gettempdir()).glob("graflow-*")) - before
    assert set(Path(tempfile.gettempdir()).glob("graflow-*")) <= before
