"""What a worker says of what it is started with: modules, keys, names, queues."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graflow_celery import LocalCluster, submit
from tests.faults.harness import Cluster, Worker, cluster
from tests.integration import members
from tests.support import PrivateRedis, private_redis, wait_until
from tests.worker_support import celery_worker, last_words

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
def test_a_worker_whose_module_cannot_be_imported_names_it_and_ends(source: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "broken_tasks.py").write_text(source, encoding="utf-8")
    told = last_words(tmp_path, "--graflow-import", "broken_tasks", in_users_code=True)
    assert told.startswith(f"Cannot import the task module 'broken_tasks': {said}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--graflow-import", "no.such.module"],
            "Cannot import the task module 'no.such.module': there is no 'no' in",
        ),
        (["--graflow-import", "etl="], "--graflow-import takes MODULE or ID=MODULE, not 'etl='"),
        (["--graflow-import", ""], "--graflow-import takes MODULE or ID=MODULE, not ''"),
        (["--graflow-key-file", "no-such-file"], "no-such-file cannot be read"),
    ],
    ids=["module", "no module of a resolver", "no module", "key file"],
)
def test_a_worker_that_is_told_what_it_cannot_do_says_so_once_and_ends(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    assert said in last_words(tmp_path, *arguments)


@pytest.mark.slow
def test_a_worker_ends_where_its_environment_is_wrong(tmp_path: Path) -> None:
    assert "malformed" in last_words(tmp_path, GRAFLOW_SIGNING_KEY="no key")
    with private_redis(options=["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]) as evicting:
        assert "allkeys-lru" in last_words(tmp_path, GRAFLOW_REDIS_URL=evicting.url)


def test_a_worker_that_can_run_no_member_warns(tmp_path: Path, no_workers: LocalCluster) -> None:
    with celery_worker({"url": no_workers.redis_url, "queue": "idle"}, tmp_path) as log:
        assert "This worker can run no member" in log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_two_workers_of_one_name_are_both_counted_and_the_second_says_so(
    tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server) as running:
        workers = [start(running, "--hostname", "same@here") for _ in range(2)]
        wait_until(lambda: len(running.record.live_workers()) == 2)
        assert {seen.worker_id for seen in running.record.live_workers()} == {"same@here"}
        assert {seen.info["pid"] for seen in running.record.live_workers()} == {worker.pid for worker in workers}
        wait_until(lambda: any("2 workers are called 'same@here'" in worker.log for worker in workers))
        workers[0].process.terminate()
        workers[0].process.wait(60)
        assert [seen.info["pid"] for seen in running.record.live_workers()] == [workers[1].pid]


@pytest.mark.parametrize("queue", ["wörter", "p q", "it's"])
def test_a_queue_of_any_name_that_is_accepted_is_consumed(
    queue: str, tmp_path: Path, redis_server: PrivateRedis
) -> None:
    with cluster(tmp_path, workers=0, server=redis_server, key_prefix="a'b$c", queue=queue) as running:
        start(running, f"--queues={queue}")
        handle = submit(members.double.map([1, 2]), running.config, then=members.total)
        assert handle.results(timeout=120) == [2, 4]
        assert handle.continuation().results(timeout=120) == [6]
