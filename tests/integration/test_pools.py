"""Workers in every pool: what members return and raise, and the limits of their time."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from graflow import task
from graflow.queue.base import TaskSpec
from graflow_celery import LocalCluster, RedisTaskQueue, submit
from tests.cluster_support import MEMBERS, secrets_of
from tests.integration import members
from tests.support import wait_until
from tests.worker_support import celery_worker

pytestmark = pytest.mark.redis

NAME = "typed_by_a_user"
MODULE = """
import asyncio
import os
import threading
import time
from graflow import task

@task
def thrice(x):
    return 3 * x

@task
async def soon(x):
    value = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, value.set_result, 3 * x)
    return await value

@task
def beginning(x):
    begun = time.monotonic()
    threading.Event().wait(0.4)
    return begun, os.getpid()

@task
def waits(seconds):
    threading.Event().wait(seconds)
"""


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module in the folder that workers are started in."""
    (tmp_path / f"{NAME}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(NAME)
    del sys.modules[NAME]


@pytest.mark.parametrize(
    "pool",
    ["prefork", *(pytest.param(pool, marks=pytest.mark.slow) for pool in ("threads", "solo", "gevent", "eventlet"))],
)
def test_the_command_runs_members_in_every_pool(
    pool: str, no_workers: LocalCluster, tmp_path: Path, typed: ModuleType
) -> None:
    if pool in {"gevent", "eventlet"}:
        pytest.importorskip(pool)
    config = {**no_workers.backend_config, "queue": f"pool-{pool}", "lease": 3.0}
    mark = tmp_path / "end"
    imports = ["--graflow-import", NAME, f"--graflow-import=etl={NAME}", "--graflow-import", MEMBERS]
    with celery_worker(config, tmp_path, *imports, "-P", pool, "-c", "2", "-l", "DEBUG") as log:
        assert submit(typed.thrice.map([1, 2]), config).results(timeout=120) == [3, 6]
        assert submit(typed.soon.map([1, 2, 3]), config).results(timeout=120) == [3, 6, 9]
        (lambdas,) = submit(task(id="plus")(lambda x: x + 1).map([1]), config).outcomes(timeout=120)
        assert (lambdas.value, lambdas.worker) == (2, f"pool-{pool}@here")
        (failed,) = submit(task(id="bad")(lambda x: 1 / 0).map([1]), config).outcomes(timeout=120)
        assert failed.error is not None
        assert failed.error.type == "ZeroDivisionError"
        (over,) = submit(members.held_over_time.map([str(mark)]), config).outcomes(timeout=120)
        mark.touch()
        assert over.state == "TIMED_OUT"
        assert over.error is not None
        assert over.error.type == "graflow.exceptions.TaskTimeoutError"
        if pool in {"prefork", "threads", "solo"}:
            copies = members.status_of_a_copy_that_is_ended(task_id="one") | members.in_a_pool(
                task_id="two", method="fork"
            )
            assert submit(copies, config).results(timeout=120) == [-signal.SIGTERM, [1, 4, 9]]
        queue = RedisTaskQueue(backend_config=config)
        queue.enqueue(TaskSpec(typed.thrice(task_id="alone", x=1), None))
        wait_until(queue.is_empty)
    text = log.read_text(encoding="utf-8")
    for secret in secrets_of(no_workers):
        assert secret not in text


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pools_without_limits_of_their_own_raise_the_soft_time_limit_inside_the_member(
    pool: str, no_workers: LocalCluster, tmp_path: Path
) -> None:
    config = {**no_workers.backend_config, "queue": f"soft-{pool}"}
    marks = [str(tmp_path / name) for name in ("one", "two")]
    with celery_worker(config, tmp_path, "-P", pool, "-c", "1", "--graflow-import", MEMBERS) as log:
        group = [members.tidies_up(task_id=mark, mark=mark) for mark in marks]
        outcomes = submit([*group, members.softly_waiting(task_id="async", x=1)], config).outcomes(timeout=120)
        assert [outcome.state for outcome in outcomes] == ["TIMED_OUT"] * 3
        assert {outcome.error.type for outcome in outcomes if outcome.error} == {"graflow.exceptions.TaskTimeoutError"}
        assert [Path(mark).read_text(encoding="utf-8") for mark in marks] == ["tidied up"] * 2
        assert submit(members.double.map([4]), config).results(timeout=120) == [8]
    assert "soft_time_limit" not in log.read_text(encoding="utf-8")


LIMITS = """
task_time_limit = 1
worker_max_tasks_per_child = 1
task_annotations = {"graflow.run": {"rate_limit": "2/s"}}
"""


@pytest.mark.slow
def test_limits_of_a_whole_worker_count_for_each_member(
    no_workers: LocalCluster, tmp_path: Path, typed: ModuleType
) -> None:
    config = {**no_workers.backend_config, "queue": "limited", "batch_size": 5}
    (tmp_path / "celeryconfig.py").write_text(LIMITS, encoding="utf-8")
    with celery_worker(config, tmp_path, "--graflow-import", NAME, "-P", "prefork", "-c", "1"):
        outcomes = submit(typed.beginning.map(range(5)), config).outcomes(timeout=60)
    assert [outcome.state for outcome in outcomes] == ["SUCCEEDED"] * 5  # 2 s in one message, of which each may take 1
    begun, pids = zip(*(outcome.value for outcome in outcomes), strict=True)
    assert len(set(pids)) == 5
    assert max(begun) - min(begun) > 1.5  # four pauses of half a second each


@pytest.mark.slow
@pytest.mark.parametrize("limit", [("--soft-time-limit", "1", "-P", "prefork"), ("--time-limit", "1", "-P", "threads")])
def test_a_time_limit_of_a_whole_worker_ends_one_member_and_is_named(
    limit: tuple[str, ...], no_workers: LocalCluster, tmp_path: Path, typed: ModuleType
) -> None:
    config = {**no_workers.backend_config, "queue": f"limited{limit[0]}", "batch_size": 2}
    with celery_worker(config, tmp_path, "--graflow-import", NAME, "-c", "1", *limit):
        over, after = submit(typed.waits.map([3, 0]), config).outcomes(timeout=60)
    assert (over.state, after.state) == ("TIMED_OUT", "SUCCEEDED")
    assert over.error is not None
    assert "timeout of 1 s" in over.error.message
