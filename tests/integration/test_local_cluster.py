"""`LocalCluster` and `TaskWorker`: started from code, and gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow import task, workflow
from graflow.channels.redis_channel import RedisChannel
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow_celery import LocalCluster, RecordUnreachableError, RedisTaskQueue, TaskWorker, local, submit
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import PrivateRedis, wait_until

pytestmark = pytest.mark.redis

SCRIPT = """
import signal, sys
from graflow import task
from graflow_celery import LocalCluster, submit
from tests.support import never, wait_until

@task
def triple(x):
    return 3 * x

if __name__ == "__main__":
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # also where the tests were started by nohup, or by a script with `&`
    with LocalCluster(workers=1, concurrency=2, imports=["__main__"]) as cluster:
        print(submit(triple.map([1, 2]), backend_config=cluster.backend_config).results(timeout=120))
        print(cluster.workers[0].pid, cluster.redis_url.reveal().rpartition(":")[2], flush=True)
        if sys.argv[1] == "wait":
            wait_until(never, 60)  # `signal.pause` would miss a signal that comes just before it
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


def processes_in(folder: Path) -> list[str]:
    """Processes whose temporary files would be in a folder: workers, the children of their pools, servers, keepers."""
    mark, found = f"TMPDIR={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found


def test_no_password_reaches_somebody_who_takes_the_port_first(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    free_port = local._free_port
    listeners: list[socket.socket] = []

    def taken() -> int:
        if listeners:
            return free_port()
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=answer, args=(listeners[0],), daemon=True).start()
        return int(listeners[0].getsockname()[1])

    def answer(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                with line:
                    while data := line.recv(65536):
                        heard.append(data)
                        line.sendall(b"+PONG\r\n")

    monkeypatch.setattr(local, "_free_port", taken)
    with LocalCluster(workers=0) as cluster:
        assert f":{listeners[0].getsockname()[1]}/" not in cluster.redis_url.reveal()
        assert redis.Redis.from_url(cluster.redis_url.reveal()).ping()
    listeners[0].close()
    assert heard == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "sent"),
    [
        *(("return", None), ("raise", None), ("wait", signal.SIGINT), ("wait", signal.SIGTERM)),
        *(("wait", signal.SIGHUP), ("wait", signal.SIGQUIT), ("wait", signal.SIGKILL)),
    ],
    ids=["return", "exception", "ctrl-c", "sigterm", "hang-up", "quit", "kill"],
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
        process.wait(60)
    assert process.returncode == 0 if ending == "return" else process.returncode != 0
    wait_until(lambda: not (is_alive(worker) or leftovers(temporary) or processes_in(temporary)))


BUSY = """
import sys, threading
from graflow import task
from graflow_celery import LocalCluster, submit
from graflow_celery.deployment import deployment_of
from tests.support import never, wait_until

@task(inject_context=True)
def busy(context, x):
    context.progress(0)
    wait_until(never, 60)

def tell_when_stopping(record):
    wait_until(lambda: not record.live_workers())
    print("stopping", flush=True)

if __name__ == "__main__":
    with LocalCluster(workers=2, imports=["__main__"], redis=next(iter(sys.argv[1:]), None)) as cluster:
        handle = submit(busy.map([1, 2]), backend_config=cluster.backend_config)
        wait_until(lambda: len(handle.progress()) == 2)
        record = deployment_of(cluster.backend_config).record
        threading.Thread(target=tell_when_stopping, args=[record], daemon=True).start()
        print(*(worker.pid for worker in cluster.workers), flush=True)
        wait_until(never, 60)
"""


def busy_cluster(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A program whose cluster has workers in the middle of members that last a minute, and their processes."""
    script = folder / "busy.py"
    script.write_text(BUSY, encoding="utf-8")
    program = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert program.stdout is not None
    workers = [int(text) for text in program.stdout.readline().split()]
    assert len(workers) == 2
    return program, workers


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_running_members_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program, workers = busy_cluster(tmp_path)
    assert program.stdout is not None
    with program.stdout:
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline().strip() == "stopping"
        program.send_signal(signal.SIGINT)
        program.wait(60)
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_workers_in_the_middle_of_a_member_end_after_the_program_was_killed(
    redis_server: PrivateRedis, tmp_path: Path
) -> None:
    program, workers = busy_cluster(tmp_path, redis_server.url)
    assert program.stdout is not None
    with program.stdout:
        program.kill()
        program.wait(60)
    wait_until(lambda: not any(map(is_alive, workers)))


@pytest.mark.slow
def test_workers_can_be_killed_and_the_cluster_scaled(tmp_path: Path) -> None:
    with LocalCluster(workers=1, imports=[members.__name__]) as cluster:
        first = cluster.workers[0]
        assert first.pid is not None
        cluster.scale(2)
        assert len({worker.pid for worker in cluster.workers}) == 2
        first.kill(signal.SIGKILL)
        assert not first.is_alive()
        config = {**cluster.backend_config, "lease": 2.0}
        assert submit(members.noop.map(range(10)), backend_config=config).results(timeout=120) == list(range(10))
        cluster.scale(1)
        cluster.scale(2)
        assert [worker.is_alive() for worker in cluster.workers] == [True, True]


@pytest.mark.slow
def test_starting_twice_starts_once(no_workers: LocalCluster) -> None:
    with TaskWorker(no_workers.backend_config).start() as worker:
        first = worker.pid
        assert worker.start().pid == first
    with LocalCluster(workers=0).start() as cluster:
        url = cluster.redis_url
        assert cluster.start().redis_url == url
    assert cluster.start().redis_url != url
    cluster.stop()


@pytest.mark.slow
def test_an_existing_redis_is_used_within_a_prefix_and_left_clean(
    redis_server: PrivateRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisChannel, "drop", lambda *_: None)  # so that they can be looked at
    with LocalCluster(workers=1, imports=[members.__name__], redis=redis_server.url) as cluster:
        prefix = cluster.backend_config["key_prefix"]
        assert submit(members.double.map([2]), backend_config=cluster.backend_config).results(timeout=120) == [4]
        with workflow("by channel") as flow:
            members.use_channel.map([1, 2], name="users").with_execution("redis", cluster.backend_config)
            flow.execute()
        keys = [key.decode() for key in redis_client.scan_iter()]
        assert [key for key in keys if not key.startswith(f"{prefix}:")] == []
        assert [key for key in keys if key.startswith(f"{prefix}:channel:")] != []
    assert list(redis_client.scan_iter(f"{prefix}:*")) == []


def test_a_cluster_outside_its_block_says_so() -> None:
    with pytest.raises(GraflowRuntimeError, match="with"):
        _ = LocalCluster().backend_config


@pytest.mark.slow
def test_a_worker_of_two_slots_runs_two_members_at_once(no_workers: LocalCluster, tmp_path: Path) -> None:
    config = {**no_workers.backend_config, "queue": "two"}
    with TaskWorker(config, imports=[members.__name__], concurrency=2):
        pids = submit(members.meet.starmap([(str(tmp_path), 2)] * 2), backend_config=config).results(timeout=120)
    assert len(set(pids)) == 2


def test_a_worker_in_this_process_uses_its_registry_and_as_many_threads_as_asked(
    no_workers: LocalCluster, tmp_path: Path
) -> None:
    config: dict[str, Any] = {**no_workers.backend_config, "queue": "threaded", "batch_size": 1}
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    imports = {"default": [members.__name__]}
    with TaskWorker(config, resolver_registry=registry, imports=imports, concurrency=3) as worker:
        assert worker.pid == os.getpid()
        three = members.meet.starmap([(str(tmp_path), 3)] * 3)
        assert submit(three, backend_config=config).results(timeout=120) == [os.getpid()] * 3
        assert submit([members.nested(2, 3, config)], backend_config=config).results(timeout=120) == [None]
        with pytest.raises(GraflowRuntimeError, match="process of its own"):
            worker.kill()
    assert worker.pid is None


def test_a_worker_takes_settings_or_a_queue_with_the_registry_of_the_queue(no_workers: LocalCluster) -> None:
    queue = RedisTaskQueue(backend_config=no_workers.backend_config)
    assert TaskWorker(queue).settings == queue.settings
    assert TaskWorker(queue=queue).settings == queue.settings
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    registry.get().register_module(members)
    config = {**no_workers.backend_config, "queue": "registry-of-its-own"}
    with TaskWorker(RedisTaskQueue(backend_config=config, resolver_registry=registry)):
        assert submit(members.pid.map([1]), backend_config=config).results(timeout=120) == [os.getpid()]


@pytest.mark.parametrize(
    "given",
    [
        {"imports": "tests.integration.members"},
        {"imports": {"etl": "tests.integration.members"}},
        {"imports": [5]},
        {"imports": None},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": "2"},
        {"queue": ""},
        {"queue": 5},
        {"resolver_registry": 5},
    ],
    ids=repr,
)
def test_what_a_worker_cannot_take_is_refused_by_name(given: dict[str, Any], no_workers: LocalCluster) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        TaskWorker(no_workers.backend_config, **given)


@pytest.mark.parametrize(
    "given", [{"workers": -1}, {"workers": "2"}, {"concurrency": 0}, {"redis": 5}, {"redis": {"port": 6379}}], ids=repr
)
def test_what_a_cluster_cannot_take_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        LocalCluster(**given)


def test_a_cluster_cannot_have_less_than_no_workers(no_workers: LocalCluster) -> None:
    with pytest.raises(ConfigError, match="workers"):
        no_workers.scale(-1)


@pytest.mark.slow
def test_modules_may_be_given_as_such(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "modules"}
    with TaskWorker(config, imports=[members]):
        assert submit(members.double.map([4]), backend_config=config).results(timeout=120) == [8]


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


@pytest.mark.slow
def test_stopping_lets_the_running_member_finish(no_workers: LocalCluster, tmp_path: Path) -> None:
    mark, record = tmp_path / "end", deployment_of(no_workers.backend_config).record
    config = {**no_workers.backend_config, "queue": "stopping"}
    worker = TaskWorker(config, imports=[members.__name__]).start()
    handle = submit(members.held.map([str(mark), *[str(tmp_path)] * 2]), backend_config={**config, "batch_size": 3})
    wait_until(lambda: handle.status().running)
    worker.ask_to_stop()
    wait_until(lambda: worker.name not in {found.worker_id for found in record.live_workers()})
    mark.touch()
    worker.stop(timeout=20)
    assert handle.status().succeeded >= 1
    with TaskWorker(config, imports=[members.__name__]):
        assert handle.results(timeout=120) == [str(mark), *[str(tmp_path)] * 2]
    assert handle.status().losses == 0


@pytest.mark.slow
def test_modules_can_be_given_per_resolver(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "resolvers"}
    with TaskWorker(config, imports={"etl": [members.__name__]}) as worker:
        info = {found.worker_id: found.info for found in deployment_of(config).workers()}[worker.name]
    assert members.__name__ in info["modules"]
    assert info["slots"] == 1


def test_functions_of_a_notebook_work(config: dict[str, Any]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "task": task}
    exec("@task\ndef from_a_cell(x):\n    return x + 1\n", namespace)
    assert submit(namespace["from_a_cell"].map([1]), backend_config=config).results(timeout=120) == [2]
