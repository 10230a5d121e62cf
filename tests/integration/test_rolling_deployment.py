"""Workers with other code live side by side: what one does not know is run by those that do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from graflow.exceptions import TaskResolutionError, UnknownTaskError
from graflow.secret import Secret
from graflow_celery import MemberState, submit
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.worker.others import OtherWorkers, name_in_table
from tests.record_support import make_spec, open_group
from tests.support import PrivateRedis, private_redis, wait_until
from tests.worker_support import celery_worker

pytestmark = pytest.mark.redis

OLD = "from graflow import task\n\n\n@task\ndef charge(x):\n    return x\n"
NEW = OLD + "\n\n@task\ndef refund(x):\n    return -x\n"

OLDER = """
from graflow_celery.worker import celery_tasks

check = celery_tasks._check
celery_tasks._check = lambda hint, *_: check(hint, 1)
"""


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    with private_redis() as server:
        yield server


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """One module before and after a deployment, each in a folder of its own; this process has the later one."""
    folders = {"old": tmp_path / "old", "new": tmp_path / "new"}
    for folder, code in zip(folders.values(), (OLD, NEW), strict=True):
        folder.mkdir()
        (folder / "rolling_shop.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(folders["new"])
    importlib.invalidate_caches()
    yield folders
    sys.modules.pop("rolling_shop", None)


@pytest.mark.slow
def test_a_task_that_an_old_worker_lacks_is_run_by_a_new_one(server: PrivateRedis, shops: dict[str, Path]) -> None:
    config: dict[str, Any] = {"url": Secret(server.url), "queue": "graflow"}
    options = ("-c", "1", "--graflow-import", "rolling_shop")
    refund = importlib.import_module("rolling_shop").refund
    with ExitStack() as workers:
        # Given an old worker alone: members that it does not know fail when nobody has come for a while, and say so
        log = workers.enter_context(celery_worker(config, shops["old"], *options, GRAFLOW_SWEEP_INTERVAL="0.3"))
        [alone] = submit(refund.map([1]), {"url": server.url, "worker_wait": 1}).outcomes(timeout=60)
        assert alone.state is MemberState.FAILED
        assert alone.error is not None
        for named in ("rolling_shop:refund", "graflow@here", "no live worker knows"):
            assert named in alone.error.message

        # When some members wait for the deployment, and a new worker comes
        handle = submit(refund.map(range(20)), {"url": server.url, "worker_wait": 60})
        wait_until(lambda: "are given back" in log.read_text(encoding="utf-8"), 60)
        workers.enter_context(
            celery_worker(config, shops["new"], *options, "-n", "new@here", GRAFLOW_SWEEP_INTERVAL="0.3")
        )

        # Then that one runs them all, each once
        outcomes = handle.outcomes(timeout=120)
    assert [outcome.value for outcome in outcomes] == [-x for x in range(20)]
    assert {outcome.worker for outcome in outcomes} == {"new@here"}
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert handle.status().executions == 20


def test_a_worker_of_an_older_format_leaves_groups_to_those_that_read_them(
    server: PrivateRedis, shops: dict[str, Path]
) -> None:
    config: dict[str, Any] = {"url": Secret(server.url), "queue": "graflow"}
    charge = importlib.import_module("rolling_shop").charge
    options = ("-c", "1", "--graflow-import", "rolling_shop")
    (shops["old"] / "older.py").write_text(OLDER, encoding="utf-8")
    sweeping = {"GRAFLOW_SWEEP_INTERVAL": "0.3"}
    with ExitStack() as workers:
        # Given a worker that reads messages of the version before
        with celery_worker(config, shops["old"], *options, "--graflow-import", "older", **sweeping) as log:
            # When it takes messages of a group, among them such with whole blocks
            handle = submit(charge.map(range(40)), {"url": server.url, "queue_wait": 1, "worker_wait": 60})
            wait_until(lambda: "leaves it to others" in log.read_text(encoding="utf-8"), 60)
            status = handle.status()

            # Then it has refused them by name, and touched nothing
            assert handle.run_id in log.read_text(encoding="utf-8")
            assert (status.executions, status.recorded) == (0, 0)

            # And one of now, which takes its place, runs all of it, each member once
            workers.enter_context(celery_worker(config, shops["new"], *options, "-n", "new@here", **sweeping))
        outcomes = handle.outcomes(timeout=90)
    assert [outcome.value for outcome in outcomes] == list(range(40))
    assert {(outcome.worker, outcome.attempts, outcome.losses) for outcome in outcomes} == {("new@here", 1, 0)}


@pytest.fixture
def deployment(server: PrivateRedis) -> Deployment:
    made = deployment_of({"url": server.url})
    beats = made.record.workers.beat
    beats("old 1", {"queues": ["graflow"], "tasks": ["shop:charge"]})
    beats("elsewhere 2", {"queues": ["other"], "tasks": ["shop:refund", "shop:audit"]})
    return made


def unknown(name: str) -> UnknownTaskError:
    return UnknownTaskError(f"Worker 'old' cannot run '{name}'", f"shop:{name}")


def test_a_member_fails_only_when_nobody_has_known_it_for_as_long_as_its_group_waits(deployment: Deployment) -> None:
    spec = make_spec(n=1, queue="graflow", meta={"worker_wait": 0.5})
    assert deployment.record.open(spec, [b""]).created

    assert OtherWorkers(deployment, spec, "old").wait_for(unknown("audit")) > 0
    with pytest.raises(
        TaskResolutionError, match=r"'old' cannot run 'audit'; no live worker knows 'shop:audit' \(seen: old\)"
    ):
        wait_until(lambda: OtherWorkers(deployment, spec, "old").wait_for(unknown("audit")) == 0)


def test_a_worker_that_knows_it_ends_the_wait(deployment: Deployment) -> None:
    spec = make_spec(n=1, queue="graflow", meta={"worker_wait": 0.0})
    assert deployment.record.open(spec, [b""]).created
    deployment.record.workers.beat("new 3", {"queues": ["graflow"], "tasks": ["shop:charge", "shop:refund"]})

    assert OtherWorkers(deployment, spec, "old").wait_for(unknown("refund")) > 0
    assert deployment.record.lacking("run", "shop:refund", is_known=False) == 0


def test_a_worker_that_knows_it_in_another_table_does_not_know_it(deployment: Deployment) -> None:
    spec = make_spec(n=1, queue="graflow", meta={"worker_wait": 0.0})
    assert deployment.record.open(spec, [b""]).created
    told = [name_in_table("shop:refund", "my shop"), name_in_table("shop:charge", "default")]
    assert told == ["my shop=shop:refund", "shop:charge"]
    deployment.record.workers.beat("other 3", {"queues": ["graflow"], "tasks": told})

    with pytest.raises(TaskResolutionError, match="no live worker knows 'shop:refund'"):
        OtherWorkers(deployment, spec, "old").wait_for(unknown("refund"))
    assert OtherWorkers(deployment, spec, "old").wait_for(UnknownTaskError("unknown", told[0])) > 0


def test_what_a_worker_knows_goes_with_its_entry(deployment: Deployment) -> None:
    record = deployment.record
    assert record.workers.tasks(["old 1", "nobody"]) == [{"shop:charge"}, set()]
    record.workers.forget("old 1")
    assert record.workers.tasks(["old 1"]) == [set()]

    # One that was dropped and beats again tells it again
    record.workers.beat("old 1", {"queues": ["graflow"], "tasks": ["shop:charge"]})
    assert record.workers.tasks(["old 1"]) == [{"shop:charge"}]


def test_a_member_that_is_given_back_was_not_executed(deployment: Deployment) -> None:
    open_group(deployment.record, n=2)
    record = deployment.record
    record.claim("run", [0, 1], "w")
    for _ in range(2):  # its answer may be lost
        assert record.retry("run", "w", 0, 1, 0.0, unrun=True).released == [0]

    status = record.status("run")
    assert (status.executions, status.retries, status.running, status.retrying) == (1, 0, 1, 1)
    [again] = record.claim("run", [0], "x").granted
    assert (again.attempt, again.retries, again.losses) == (1, 0, 0)
