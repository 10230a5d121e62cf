"""Workers, queues and groups as they are told over HTTP, with real workers."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
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


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_members_of_a_flow_are_running_as_soon_as_workers_take_them(
    config: dict[str, Any], tmp_path: Path, store: str
) -> None:
    url = f"sqlite:///{tmp_path}/flows.db" if store == "sqlite" else config["url"].reveal()
    marks = [str(tmp_path / f"mark{number}") for number in range(3)]
    with FlowRunner(url, config=config, recovery=False) as runner, ThreadPoolExecutor(1) as pool:

        def held() -> None:
            members.reports_and_waits.map(marks, name="held").with_execution("redis", {**config, "batch_size": 1})

        runner.register(held, "held")
        client = TestClient(create_app(runner), base_url="http://127.0.0.1")
        ended = pool.submit(runner.execute, "held", flow_id=f"f-{store}")
        base = f"held/flows/f-{store}/steps/held"

        def rows(**parameters: Any) -> list[Any]:
            answer = client.get(f"/api/v1/{base}/members", params=parameters)
            return answer.json()["rows"] if answer.status_code == 200 else []

        wait_until(lambda: len(rows(status="running")) == 2)  # as many as there are slots
        taken = [row[0] for row in rows(status="running")]
        (waiting,) = {0, 1, 2} - set(taken)
        assert [row[1] for row in rows()] == ["pending" if index == waiting else "running" for index in range(3)]
        assert [row[0] for row in rows(status="pending")] == [waiting]
        assert all("@" in row[3] and row[4] is not None and row[5] is None for row in rows(status="running"))
        strip = got(client, f"{base}/strip")
        assert strip["counts"] == {"running": 2, "pending": 1}
        assert [bucket == {"r": 1} for bucket in strip["buckets"]] == [index != waiting for index in range(3)]
        half = {"done": 1, "total": 2, "message": "half"}
        wait_until(lambda: got(client, f"{base}/members/{taken[0]}")["progress"] == half)
        known = client.get(f"/api/v1/{base}/members")
        same = client.get(f"/api/v1/{base}/members", headers={"If-None-Match": known.headers["etag"]})
        assert same.status_code == 304

        Path(marks[taken[0]]).touch()
        wait_until(lambda: {row[0] for row in rows(status="running")} == {taken[1], waiting})
        wait_until(lambda: [row[1] for row in rows(offset=taken[0], limit=1)] == ["completed"])
        for mark in marks:
            Path(mark).touch()
        assert ended.result(60).outputs == ["ended"] * 3
        assert [row[1] for row in rows()] == ["completed"] * 3
        assert got(client, f"{base}/strip")["counts"] == {"completed": 3}
        runner.store.delete(f"f-{store}")


def test_workers_tell_which_members_they_run_and_queues_who_listens(
    client: TestClient, config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    handle = submit(members.reports_and_waits.map([str(mark)], name="held"), backend_config=config)
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
    mark.touch()  # else its slot is taken from the tests after this one
    assert handle.results(timeout=120) == ["ended"]
