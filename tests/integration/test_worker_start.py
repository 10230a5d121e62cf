"""What a worker says of names and modules that it is started with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graflow_celery import submit
from tests.faults.harness import Cluster, Worker, cluster
from tests.integration import members
from tests.support import PrivateRedis, wait_until

pytestmark = pytest.mark.redis


def start(running: Cluster, *options: str, imports: tuple[str, ...] = (members.__name__,)) -> Worker:
    path = os.pathsep.join([str(running.folder), running.environment()["PYTHONPATH"]])
    (worker,) = running.start(imports=imports, options=options, environment={"PYTHONPATH": path}, wait=False)
    return worker


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; sys.exit(2)", "it ends the program, with sys.exit(2)"),
        ("raise RuntimeError('DATABASE_URL is not set')", "RuntimeError: DATABASE_URL is not set"),
    ],
    ids=["exits", "raises"],
)
def test_a_worker_whose_module_cannot_be_imported_names_it_and_ends_with_1(
    source: str, said: str, tmp_path: Path, redis_server: PrivateRedis
) -> None:
    (tmp_path / "broken_tasks.py").write_text(source, encoding="utf-8")
    with cluster(tmp_path, workers=0, server=redis_server) as running:
        worker = start(running, imports=("broken_tasks",))
        assert worker.process.wait(30) == 1
        assert f"This worker ends: Cannot import the task module 'broken_tasks': {said}" in worker.log


def test_two_workers_of_one_name_are_both_counted_and_the_second_says_so(
    tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server) as running:
        workers = [start(running, "--hostname", "same@here") for _ in range(2)]
        wait_until(lambda: len(running.record.live_workers()) == 2, 30)
        assert {seen.worker_id for seen in running.record.live_workers()} == {"same@here"}
        assert {seen.info["pid"] for seen in running.record.live_workers()} == {worker.pid for worker in workers}
        wait_until(lambda: any("2 workers are called 'same@here'" in worker.log for worker in workers), 15)
        workers[0].process.terminate()
        workers[0].process.wait(20)
        assert [seen.info["pid"] for seen in running.record.live_workers()] == [workers[1].pid]


@pytest.mark.parametrize("queue", ["wörter", "p q", "it's"])
def test_a_queue_of_any_name_that_is_accepted_is_consumed(
    queue: str, tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server, key_prefix="a'b$c", queue=queue) as running:
        start(running, f"--queues={queue}")
        handle = submit(members.double.map([1, 2]), running.config, then=members.total)
        assert handle.results(timeout=30) == [2, 4]
        assert handle.continuation().results(timeout=30) == [6]
