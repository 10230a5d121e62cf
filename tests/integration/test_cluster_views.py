"""Workers, queues and groups as they are told over HTTP, with real workers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient

from graflow.api.app import create_app
from graflow.flows import FlowRunner
from graflow_celery import submit
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def client(config: dict[str, Any]) -> TestClient:
    return TestClient(create_app(FlowRunner("memory://", config=config, recovery=False)), base_url="http://127.0.0.1")


def got(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_group_outside_of_flows_is_listed_and_shown_with_its_members(
    client: TestClient, config: dict[str, Any]
) -> None:
    handle = submit(members.fail_odd.map(range(4), name="odd"), backend_config=config)
    wait_until(lambda: handle.status().state.is_final)
    row = next(each for each in got(client, "groups")["items"] if each["run_id"] == handle.run_id)
    assert (row["status"], row["size"], row["counts"]) == ("failed", 4, {"completed": 2, "failed": 2})
    group = got(client, f"groups/{handle.run_id}")
    assert group["started_at"] <= group["completed_at"]
    told = got(client, f"groups/{handle.run_id}/members", status="failed")
    assert [each[:3] for each in told["rows"]] == [[1, "failed", 1], [3, "failed", 1]]
    assert (told["total"], told["size"]) == (2, 4)
    assert all("@" in each[3] and each[4] <= each[5] for each in told["rows"])
    member = got(client, f"groups/{handle.run_id}/members/1")
    assert (member["status"], member["error_data"]["type"]) == ("failed", "ValueError")
    assert client.get(f"/api/v1/groups/{handle.run_id}/members/4").status_code == 404
    assert client.get("/api/v1/groups/nothing").status_code == 404


def test_workers_tell_what_they_ended_and_lost_and_whose_code_it_is(
    client: TestClient, config: dict[str, Any], tmp_path: Path
) -> None:
    def real() -> list[dict[str, Any]]:  # other tests enter workers of the same deployment that are none
        return [worker for worker in got(client, "workers")["items"] if worker["version"]]

    before = {worker["name"]: worker for worker in real()}

    def since(what: str) -> int:
        nothing = {"done": 0, "lost": 0}
        return sum(worker[what] - before.get(worker["name"], nothing)[what] for worker in real())

    submit(members.double.map(range(5)), backend_config=config).results(60)
    submit(members.die_once.map([str(tmp_path / "died")]), backend_config=config).results(60)
    wait_until(lambda: since("done") >= 6 and since("lost") >= 1)  # what was done before may be told as late
    queues = {queue["name"]: queue["done"] for queue in got(client, "queues")["items"]}
    assert queues["graflow"] >= 6
    assert sum(worker["is_same_code"] for worker in real()) >= 2


def test_a_queue_tells_since_when_its_oldest_message_waits(client: TestClient, config: dict[str, Any]) -> None:
    queue = f"alone-{uuid.uuid4().hex}"  # others leave groups in theirs
    nobody = {**config, "queue": queue}
    first, second = (submit(members.double.map([1]), backend_config=nobody) for _ in range(2))
    since = got(client, f"groups/{first.run_id}")["started_at"]

    def oldest() -> str | None:
        queues = {queue["name"]: queue for queue in got(client, "queues")["items"]}
        return queues[queue]["oldest"] if queue in queues else None

    told = oldest()
    assert told is not None
    assert abs(datetime.fromisoformat(told) - datetime.fromisoformat(since)) < timedelta(milliseconds=2)
    first.cancel()
    second.cancel()
    assert oldest() is None, "messages that are left over stand for nothing"


def test_workers_tell_which_members_they_run_and_queues_who_listens(
    client: TestClient, config: dict[str, Any], tmp_path: Path
) -> None:
    handle = submit(members.reports_and_waits.map([str(tmp_path / "mark")], name="held"), backend_config=config)
    busy: list[dict[str, Any]] = []

    def is_told() -> bool:
        busy[:] = [worker for worker in got(client, "workers")["items"] if worker["busy"]]
        return bool(busy)

    wait_until(is_told)
    assert (busy[0]["status"], busy[0]["busy"], busy[0]["slots"]) == ("running", 1, 1)
    assert busy[0]["now"] == [{"run_id": handle.run_id, "name": "held", "index": 0}]
    assert busy[0]["beat"].endswith("Z")
    running = got(client, f"groups/{handle.run_id}/members")["rows"]
    assert [(row[0], row[1], row[3]) for row in running] == [(0, "running", busy[0]["name"])]
    half = {"done": 1, "total": 2, "message": "half"}
    wait_until(lambda: got(client, f"groups/{handle.run_id}/members/0").get("progress") == half)
    queue = next(each for each in got(client, "queues")["items"] if each["workers"])
    assert (queue["workers"], queue["slots"]) == (2, 2)
    handle.cancel()
