"""What a worker that has nothing to do costs its server, and how it takes work up again."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graflow_celery import submit
from graflow_celery.worker.main.housekeeping import REST
from tests.faults.harness import Cluster, Worker, cluster
from tests.integration import members
from tests.support import PrivateRedis, pass_time, private_redis, wait_until

pytestmark = pytest.mark.redis


@contextmanager
def plain_worker(server: PrivateRedis, folder: Path, concurrency: int = 4) -> Iterator[Worker]:
    """A worker as the README starts it, with all that Celery does by itself."""
    command = [
        *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "graflow_celery", "worker"),
        *("--concurrency", str(concurrency), "--graflow-import", members.__name__, "--loglevel", "INFO"),
    ]
    environment = {**os.environ, "GRAFLOW_REDIS_URL": server.url}
    worker = Worker("plain", command, environment, folder / f"{uuid.uuid4().hex}.log")
    try:
        wait_until(lambda: " ready." in worker.log)
        with server.client() as client:
            wait_until(lambda: rests(client))
        yield worker
    finally:
        worker.kill()


def rests(client: object) -> bool:
    """Whether a worker has told that it is silent for a while, and waits for messages."""
    seen = client.zrange("graflow:workers", 0, -1, withscores=True)  # type: ignore[attr-defined]
    seconds, _ = client.time()  # type: ignore[attr-defined]
    return any(score > (seconds + 2) * 1000 for _, score in seen)


def commands(server: PrivateRedis) -> int:
    with server.client() as client:
        return int(client.info("stats")["total_commands_processed"])


@pytest.mark.slow
def test_an_idle_worker_sends_at_most_two_commands_a_second_those_of_scripts_included(tmp_path: Path) -> None:
    with private_redis() as server, plain_worker(server, tmp_path):
        pass_time(1)  # what Celery does at the start of a worker
        before = commands(server)
        pass_time(2 * REST)
        asked = 3  # by the calls that count, and by what a client says when it connects
        assert commands(server) - before - asked <= 2 * 2 * REST


@pytest.mark.slow
def test_a_worker_killed_at_rest_is_missed_as_soon_as_a_group_is_open(
    tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server, key_prefix="rest") as running:
        running.start(2, imports=(members.__name__,))
        wait_until(lambda: all_rest(running))
        dead, alive = running.workers
        dead.kill()
        handle = submit(members.held.map([str(tmp_path / "end")]), running.config)
        wait_until(lambda: {seen.worker_id for seen in running.record.live_workers(4)} == {alive.name}, 7)
        (tmp_path / "end").touch()
        handle.results(timeout=120)


@pytest.mark.slow
def test_a_worker_of_four_slots_holds_ten_connections_at_most_once_it_has_worked(tmp_path: Path) -> None:
    with private_redis() as server, plain_worker(server, tmp_path):
        (tmp_path / "met").mkdir()
        config = {"url": server.url, "batch_size": 1}
        pids = submit(members.meet.starmap([(str(tmp_path / "met"), 4)] * 4), config).results(timeout=120)
        assert len(set(pids)) == 4, "each slot has worked"
        submit(members.double.map(range(40)), config, then=members.total).continuation().results(timeout=120)

        with server.client() as client:
            wait_until(lambda: len(client.client_list()) - own_connections(server.port) <= 10)


def own_connections(port: int) -> int:
    """Sockets of this process, which submits, that lead to a port."""
    links = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in links for row in rows)


def all_rest(running: Cluster) -> bool:
    client = running.server.client()
    seconds, _ = client.time()
    scores = [score for _, score in client.zrange("rest:workers", 0, -1, withscores=True)]
    return len(scores) == len(running.workers) and min(scores) > (seconds + 2) * 1000


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_takes_no_message_off_the_queue_any_more(
    tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server, key_prefix="told") as running:
        running.start(imports=(members.__name__,))
        # Given a worker with a free slot that waits for a member to end
        held = submit(members.held.map([str(tmp_path / "end")]), running.config)
        wait_until(lambda: held.status().running)
        running.workers[0].signal(signal.SIGTERM)
        wait_until(lambda: not waits_for_messages(running), 60)

        # When there is something to do
        handle = submit(members.double.map([1]), running.config)
        running.start(imports=(members.__name__,))

        # Then another one does it, at once
        assert handle.results(timeout=120) == [2]
        assert running.workers[0].process.poll() is None
        (tmp_path / "end").touch()
        assert running.workers[0].process.wait(20) == 0


def waits_for_messages(running: Cluster) -> bool:
    return any(seen["cmd"] == "brpop" and "b" in seen["flags"] for seen in running.server.client().client_list())


def test_a_broker_on_a_unix_socket_is_waited_for_as_any_other_and_keeps_priorities(tmp_path: Path) -> None:
    with private_redis(unix_socket=True) as server, cluster(tmp_path, workers=0, server=server) as running:
        running.start(imports=(members.__name__,), concurrency=1)
        mark = tmp_path / "end"
        held = submit(members.held.map([str(mark)]), running.config)
        wait_until(lambda: held.status().running)
        late = submit(members.unhurried.map(range(2)), running.config)
        soon = submit(members.urgent.map(range(2)), running.config)
        mark.touch()
        assert max(soon.results(timeout=20)) < min(late.results(timeout=20))
        with server.client() as client, client.monitor() as seen:
            waits = (command["command"] for command in seen.listen() if command["command"].startswith("BRPOP"))
            assert next(waits).split()[-1] == "5"
