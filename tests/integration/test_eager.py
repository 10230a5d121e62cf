"""Celery's `task_always_eager`, as test set-ups have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graflow_celery
from graflow import task, workflow
from graflow_celery import LocalCluster, submit
from tests.integration import members

pytestmark = pytest.mark.redis


@pytest.fixture
def eager() -> Iterator[None]:
    graflow_celery.app.conf.task_always_eager = True
    yield
    graflow_celery.app.conf.task_always_eager = False


@pytest.mark.usefixtures("eager")
def test_what_is_submitted_has_run_here_when_submit_returns(no_workers: LocalCluster) -> None:
    handle = submit(members.double.map([1, 2]), no_workers.backend_config, then=members.total)
    assert handle.status().succeeded == 2
    assert handle.results(timeout=1) == [2, 4]
    assert handle.continuation().results(timeout=120) == [6]


@pytest.mark.usefixtures("eager")
def test_a_member_that_has_to_wait_for_its_retry_is_run_by_whoever_waits(
    no_workers: LocalCluster, tmp_path: Path
) -> None:
    handle = submit(members.recovers.map([str(tmp_path / "mark")]), no_workers.backend_config)
    assert handle.status().succeeded == 0
    (outcome,) = handle.outcomes(timeout=120)
    assert (outcome.error, outcome.attempts > 1) == (None, True)


@pytest.mark.usefixtures("eager")
def test_what_is_retried_has_run_here_when_retry_returns(no_workers: LocalCluster, tmp_path: Path) -> None:
    then = members.sum_in_folder(folder=str(tmp_path), task_id="sum")
    handle = submit(
        members.needs_file.starmap([(x, str(tmp_path)) for x in range(3)]), no_workers.backend_config, then=then
    )
    assert handle.status().failed == 1
    (tmp_path / "file").touch()
    assert handle.retry() == [1]
    assert handle.status().succeeded == 3
    assert handle.continuation().results(timeout=120) == [3]


@pytest.mark.usefixtures("eager")
def test_a_workflow_needs_no_server() -> None:
    ran: list[int] = []

    @task
    def note(x: int) -> int:
        ran.append(x)
        return 2 * x

    @task
    def following(group: Any) -> Any:
        return group

    with workflow("eager") as wf:
        note.map([1, 2], name="group").with_execution("redis", {"url": "redis://127.0.0.1:1/0"}) >> following
        assert wf.execute() == [2, 4]
    assert ran == [1, 2]
