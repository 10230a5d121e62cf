"""Flower against a real worker: every member under its task's own name, with its run and index."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from graflow import workflow
from graflow.core.task import ParallelGroup
from graflow_celery import GroupHandle, LocalCluster, submit
from tests.integration import members
from tests.support import free_port, wait_until

pytest.importorskip("flower")
pytestmark = pytest.mark.redis

LOGIN = "user:secret"


class Flower:
    """A Flower process and its HTTP API."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "celery", "-A", "graflow_celery", "flower", f"--port={self._port}"]
        environment = {**os.environ, "GRAFLOW_REDIS_URL": cluster.redis_url.reveal()}
        self.process = subprocess.Popen(
            [*command, "--address=127.0.0.1", f"--basic-auth={LOGIN}", "--logging=warning"], env=environment
        )

    def get(self, path: str) -> Any:
        login = base64.b64encode(LOGIN.encode()).decode()
        request = Request(f"http://127.0.0.1:{self._port}{path}", headers={"Authorization": f"Basic {login}"})
        with urlopen(request, timeout=5) as response:
            return json.load(response)

    def is_up(self) -> bool:
        try:
            return bool(self.get("/api/workers?refresh=1"))
        except (URLError, ConnectionError):
            return False

    def tasks(self) -> list[dict[str, Any]]:
        return list(self.get("/api/tasks?limit=500").values())


@pytest.fixture(scope="module")
def flower(cluster: LocalCluster) -> Iterator[Flower]:
    started = Flower(cluster)

    def is_listening() -> bool:
        submit(members.noop.map([0]), backend_config=cluster.backend_config).results(timeout=20)
        return bool(started.tasks())

    try:
        wait_until(started.is_up)
        # Flower asks the workers for events some seconds after its start.
        wait_until(is_listening, interval=0.2)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(60)


def shown(flower: Flower, run_id: str, name: str) -> list[dict[str, Any]]:
    """Members of a run that Flower shows as finished, by place."""
    found = [task for task in flower.tasks() if task["name"] == name and run_id in str(task["args"])]
    return sorted((task for task in found if task["state"] in {"SUCCESS", "FAILURE"}), key=lambda task: task["args"])


def test_the_length_of_the_queues_is_shown(flower: Flower, config: dict[str, Any]) -> None:
    wait_until(lambda: flower.get("/api/queues/length")["active_queues"], interval=0.2)
    assert flower.get("/api/queues/length") == {"active_queues": [{"name": "graflow", "messages": 0}]}


def test_a_member_sent_alone_is_shown_by_name_run_and_index(flower: Flower, config: dict[str, Any]) -> None:
    handle = submit(members.double.map([1, 2]), backend_config=config)
    handle.results(timeout=20)
    wait_until(lambda: len(shown(flower, handle.run_id, "double")) == 2)
    assert [task["args"] for task in shown(flower, handle.run_id, "double")] == [
        f"(run_id={handle.run_id!r}, index={index})" for index in range(2)
    ]


def test_a_member_that_fails_alone_is_shown_as_failed(flower: Flower, config: dict[str, Any]) -> None:
    handle = submit(members.fail.map([3]), backend_config=config, policy="best_effort")
    handle.results(timeout=20)
    wait_until(lambda: len(shown(flower, handle.run_id, "fail")) == 1)
    (found,) = shown(flower, handle.run_id, "fail")
    assert found["state"] == "FAILURE"
    assert found["exception"] == "ValueError: no 3"
    assert found["traceback"] == traceback_of(handle, 0)
    assert "members.py" in found["traceback"]


def test_members_that_share_a_message_are_shown_one_by_one(flower: Flower, config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(6)), backend_config={**config, "batch_size": 3}, policy="best_effort")
    handle.results(timeout=20)
    wait_until(lambda: len(shown(flower, handle.run_id, "fail_odd")) == 6)
    found = shown(flower, handle.run_id, "fail_odd")
    assert [task["state"] for task in found] == ["SUCCESS", "FAILURE"] * 3
    for index in (1, 3, 5):
        assert found[index]["exception"] == f"ValueError: {index} is odd"
        assert found[index]["traceback"] == traceback_of(handle, index)


def traceback_of(handle: GroupHandle, index: int) -> str:
    error = handle.outcomes(timeout=1)[index].error
    assert error is not None
    return error.traceback


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "in a batch"])
def test_a_wait_for_a_retry_is_shown_with_the_error_before_it(
    flower: Flower, config: dict[str, Any], count: int
) -> None:
    handle = submit(members.fails_for_long.map(range(count)), backend_config={**config, "batch_size": count})

    def waiting() -> list[dict[str, Any]]:
        tasks = [task for task in flower.tasks() if handle.run_id in str(task["args"])]
        return [task for task in tasks if task["name"] == "fails_for_long" and task["state"] == "RETRY"]

    wait_until(lambda: len(waiting()) == count)
    for task in waiting():
        assert "ValueError: come back in a minute" in task["exception"]
        assert 'raise ValueError("come back in a minute")' in task["traceback"]
        assert "celery_tasks.py" not in task["traceback"]
    handle.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "in a batch"])
def test_how_often_a_member_was_retried_is_shown(
    flower: Flower, config: dict[str, Any], tmp_path: Path, count: int
) -> None:
    marks = [str(tmp_path / str(index)) for index in range(count)]
    handle = submit(members.recovers.map(marks), backend_config={**config, "batch_size": count})
    assert [retries for retries, *_ in handle.results(timeout=60)] == [1] * count

    wait_until(lambda: [task["retries"] for task in shown(flower, handle.run_id, "recovers")] == [1] * count)


def test_a_member_of_a_workflow_is_shown_with_the_workflows_name(flower: Flower, config: dict[str, Any]) -> None:
    with workflow("etl") as wf:
        members.double.map([1], name="shards").with_execution("redis", backend_config=config) >> members.total
        _, context = wf.execute(ret_context=True)
    wait_until(lambda: len(shown(flower, context.session_id, "etl.double")) == 1)


def test_members_that_a_waiting_member_runs_itself_are_shown(flower: Flower, config: dict[str, Any]) -> None:
    def leaves(name: str) -> ParallelGroup:
        made = [members.inner(task_id=f"{name}{index}", x=index) for index in range(12)]
        return ParallelGroup(made, name=name).with_execution("redis", backend_config=config)

    submit(ParallelGroup([leaves("left"), leaves("right")]), backend_config=config).results(timeout=20)

    def inner() -> list[dict[str, Any]]:
        return [task for task in flower.tasks() if task["name"] == "inner" and task["state"] == "SUCCESS"]

    wait_until(lambda: len(inner()) == 24)
