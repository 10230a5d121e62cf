"""Options of single members, `@task(options=...)`, against real workers."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from graflow.exceptions import NoWorkerError
from graflow_celery import LocalCluster, attach, submit
from graflow_celery.worker import TaskWorker
from tests.cluster_support import MEMBERS
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


def test_members_go_to_the_workers_of_their_own_queue_and_no_others(cluster: LocalCluster) -> None:
    config = cluster.backend_config
    group = [
        members.on_another_queue(task_id="apart", x=1),
        *(members.pid(task_id=f"here{index}", x=index) for index in range(4)),
    ]
    handle = submit(group, backend_config=config)
    wait_until(lambda: handle.status().succeeded == 4)
    assert handle.status().pending == 1
    with TaskWorker(config, queue="elsewhere", imports=[MEMBERS]) as worker:
        outcomes = handle.outcomes(timeout=20)
        assert [outcome.task_id for outcome in outcomes if worker.name in (outcome.worker or "")] == ["apart"]


def test_members_of_a_higher_priority_start_first_when_there_is_a_backlog(one_slot: LocalCluster) -> None:
    config = one_slot.backend_config
    blocking = submit(members.nap.map([1.0]), backend_config=config)
    wait_until(lambda: blocking.status().running)
    late = submit(members.stamp.map(range(3)), backend_config={**config, "batch_size": 1})
    lazy = submit(members.unhurried.map(range(2)), backend_config=config)
    soon = submit(members.urgent.map(range(3)), backend_config=config)
    assert max(soon.results(timeout=20)) < min([*late.results(timeout=20), *lazy.results(timeout=20)])


def test_each_member_is_executed_as_often_as_it_allows_itself(config: dict[str, Any], tmp_path: Path) -> None:
    mark, died = tmp_path / "runs", tmp_path / "died"
    group = [
        members.poison_once(task_id="once", mark=str(mark)),
        members.die_once(task_id="again", mark=str(died)),
        members.poison(task_id="twice", x=0),
    ]
    handle = submit(group, backend_config=config)
    found = [(str(outcome.state), outcome.attempts) for outcome in handle.outcomes(timeout=30)]
    assert found == [("LOST", 1), ("SUCCEEDED", 2), ("LOST", 2)]
    assert mark.read_text(encoding="utf-8") == "ran\n"


def test_a_member_for_a_queue_without_a_worker_is_told_of_with_what_to_do(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    impatient = {**config, "worker_wait": 0.3}
    group = [members.on_another_queue(task_id="apart", x=1), members.noop(task_id="here", x=2)]
    handle = submit(group, backend_config=impatient)
    with caplog.at_level(logging.WARNING), pytest.raises(TimeoutError):
        handle.results(timeout=3)
    [*told] = [record.getMessage() for record in caplog.records if "No worker" in record.getMessage()]
    assert told
    assert all(
        re.search(
            r"queue 'elsewhere' at .*where [1-9][0-9]* messages wait .*worker -Q elsewhere --graflow-import", text
        )
        for text in told
    )
    with pytest.raises(NoWorkerError, match="'elsewhere'") as caught:
        attach(handle.run_id, {**impatient, "on_no_worker": "error"}).results(timeout=10)
    assert caught.value.queue == "elsewhere"
    handle.cancel()
