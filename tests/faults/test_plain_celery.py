"""The same faults with the record switched off: if plain Celery lost nothing, the other cases would prove nothing."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from celery.result import GroupResult

from graflow_celery.broker.app import DEFAULTS
from tests.faults.harness import ROWS, Cluster, Group, Row, Worker, kill_all, wait_until_idle
from tests.support import PrivateRedis, private_redis, wait_until


class Plain:
    """A server, plain Celery workers, and a load as a plain Celery group."""

    def __init__(self, server: PrivateRedis, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.workers: list[Worker] = []
        self.app = Celery("plain", set_as_current=False, broker=server.url, backend=server.url)
        self.app.conf.update(DEFAULTS)
        self.app.conf.update(task_default_queue="plain", task_ignore_result=False)
        # What is counted is what members wrote; a waiter of Celery's own would hang when its server goes away.
        self.app.backend.add_pending_result = lambda result, **_: result
        self.app.backend.on_task_call = lambda *_: None
        self._cluster = Cluster(server, folder)

    def start(self, count: int, concurrency: int = 2) -> None:
        fresh = []
        for _ in range(count):
            name = f"plain{len(self.workers)}@here"
            command = [
                *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.faults.plain", "worker"),
                *("--hostname", name, "--concurrency", str(concurrency), "-Q", "plain", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ]
            environment = self._cluster.environment({"PLAIN_REDIS_URL": self.server.url})
            fresh.append(Worker(name, command, environment, self.folder / f"{name}.log"))
        self.workers += fresh
        for worker in fresh:
            wait_until(lambda worker=worker: " ready." in worker.log, 30, worker.name)

    def submit(self, n: int, last: Any = 0.1, task: str = "plain.work") -> tuple[GroupResult, Group]:
        folder = self.folder / "load"
        folder.mkdir()
        members = [self.app.signature(task, args=([index, str(folder), last],), app=self.app) for index in range(n)]
        return group(members, app=self.app).apply_async(), Group(None, folder, n, "plain")

    def results(self) -> int:
        """Members whose result is there; read without Celery, whose own waiter dies with its connection."""
        client = self.server.client()
        texts = client.mget(list(client.scan_iter("celery-task-meta-*", count=1000)) or [b"none"])
        return sum(1 for text in texts if text is not None and json.loads(text)["status"] == "SUCCESS")

    def settle(self, load: Group, seconds: float = 4.0) -> None:
        """Until nothing has happened for a while."""
        last, since = -1, time.monotonic()

        def quiet() -> bool:
            nonlocal last, since
            seen = load.count("started") + load.count("finished")
            if seen != last:
                last, since = seen, time.monotonic()
            return time.monotonic() - since > seconds

        wait_until(quiet, 60, interval=0.1)

    def row(self, case: str, fault: str, load: Group) -> Row:
        finished = {int(line[0]) for line in load.lines("finished")}
        starts = load.starts()
        lost = load.n - len(finished)
        twice = sum(1 for index in finished if starts[index] > 1)
        row = Row(
            case, fault, load.n, len(finished), lost, twice, load.count("started"), 0, None, 0.0, "plain Celery"
        )  # fmt: skip
        ROWS.append(row)
        return row

    def stop(self) -> None:
        kill_all(self.workers)


@contextmanager
def plain(folder: Path, workers: int = 2, concurrency: int = 2) -> Iterator[Plain]:
    with private_redis() as server:
        made = Plain(server, folder)
        try:
            made.start(workers, concurrency)
            yield made
        finally:
            made.stop()
            made.app.close()


def test_plain_celery_loses_members_when_its_server_forgets_everything(tmp_path: Path) -> None:
    with plain(tmp_path) as running:
        _, load = running.submit(200, 50, task="plain.held")
        load.wait_for("finished", 50)
        running.server.restart()
        load.let_go()
        running.settle(load)
        row = running.row("5", "kill -9 Redis without persistence", load)
        assert row.lost > 20
        assert running.results() < 150, "and what was done before is gone as well"


def test_plain_celery_runs_a_doubled_message_twice(tmp_path: Path) -> None:
    with plain(tmp_path, workers=0) as running:
        _, load = running.submit(40, 0.02)
        client = running.server.client()
        client.rpush("plain", *client.lrange("plain", 0, -1))
        running.start(1)
        running.settle(load)
        row = running.row("13", "every message twice", load)
        assert row.twice == 40
        assert row.executions == 80


def test_plain_celery_loses_what_a_frozen_worker_took(tmp_path: Path) -> None:
    with plain(tmp_path, concurrency=1) as running:
        wait_until_idle(running.server, 2)
        for worker in running.workers:
            worker.signal(signal.SIGSTOP)
        _, load = running.submit(6, 0.05)
        client = running.server.client()
        wait_until(lambda: client.llen("plain") == 4, 60)
        for worker in running.workers:
            worker.kill()
        running.workers.clear()
        running.start(2)
        running.settle(load, 20.0)
        row = running.row("15", "frozen between pop and note, killed", load)
        assert row.lost == 2


@pytest.mark.parametrize("task", ["plain.poison", "plain.poison_again"])
def test_plain_celery_never_runs_a_poison_member_again_or_runs_it_without_end(tmp_path: Path, task: str) -> None:
    with plain(tmp_path, workers=1) as running:
        _, load = running.submit(10, "kill", task=task)
        wait_until(lambda: load.starts()[3] > 4 or (task == "plain.poison" and load.count("finished") >= 8), 60)
        if task == "plain.poison":
            running.settle(load, 3.0)
        row = running.row("16", f"poison member ({'reject_on_worker_lost' if 'again' in task else 'defaults'})", load)
        starts = load.starts()[3]
        assert (starts == 1) if task == "plain.poison" else (starts > 4), "nothing bounds the attempts"
        assert row.lost >= 1
