"""Flows started over HTTP: once, however often they are asked for."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from graflow.flows import FlowRunner
from tests.api.conftest import Clients
from tests.api.flows import Flows, problem, settled

SUMS = "/api/v1/sums/execute-async"


def test_a_flow_is_started_and_its_state_is_where_the_answer_says(client: TestClient) -> None:
    answer = client.post(SUMS, json={"inputs": {"a": "1"}, "metadata": {"who": "me"}})
    assert answer.status_code == 202
    flow_id = answer.json()["flow_id"]
    assert answer.headers["location"] == f"/api/v1/sums/status/{flow_id}"
    state = settled(client, "sums", flow_id)
    assert (state["status"], state["outputs"], state["inputs"]["a"], state["metadata"]) == (
        *("completed", 3, 1),
        {"who": "me"},
    )
    assert [step["step_name"] for step in state["steps"]] == ["add"]


def test_an_id_of_ones_own_starts_one_flow(client: TestClient) -> None:
    body = {"inputs": {"a": 1}, "flow_id": "mine"}
    assert [client.post(SUMS, json=body).status_code for _ in range(3)] == [202, 200, 200]
    told = problem(client.post(SUMS, json={"inputs": {"a": 2}, "flow_id": "mine"}), 409, "flow-conflict")
    assert "mine" in told["detail"]


def test_a_key_starts_one_flow_also_after_the_server_has_died(clients: Clients, runner: FlowRunner, tmp_path) -> None:
    store, key = f"sqlite:///{tmp_path}/flows.db", {"Idempotency-Key": "k-1"}
    answers = []
    for _ in range(2):
        made = FlowRunner(store)
        Flows(made)
        answers.append(clients(made).post(SUMS, json={"inputs": {"a": 1}}, headers=key))
    first, second = answers
    assert (first.status_code, second.status_code) == (202, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["flow_id"] == second.json()["flow_id"]
    assert first.headers["location"] == second.headers["location"]


@pytest.mark.parametrize("other", [{"inputs": {"a": 2}}, {"inputs": {"a": 1}, "metadata": {"x": 1}}])
@pytest.mark.parametrize("verb", ["execute", "execute-async"])
def test_a_key_with_another_payload_is_refused(client: TestClient, other: dict[str, object], verb: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    assert client.post(f"/api/v1/sums/{verb}", json={"inputs": {"a": 1}}, headers=key).status_code in {200, 202}
    problem(client.post(f"/api/v1/sums/{verb}", json=other, headers=key), 422, "idempotency-key-reused")


def test_the_same_key_of_another_flow_is_another_one(client: TestClient, flows: Flows) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = client.post(SUMS, json={"inputs": {"a": 1}}, headers=key).json()
    second = client.post("/api/v1/weak/execute-async", headers=key).json()
    assert first["flow_id"] != second["flow_id"]


def test_many_at_once_with_one_key_start_one_flow(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda _: client.post(SUMS, json={"inputs": {"a": 1}}, headers={"Idempotency-Key": "k"}), range(8)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["flow_id"] for answer in answers}) == 1


def test_execute_answers_when_the_flow_rests(client: TestClient) -> None:
    answer = client.post("/api/v1/sums/execute", json={"inputs": {"a": 1, "b": 5}})
    assert (answer.status_code, answer.json()["status"], answer.json()["outputs"]) == (200, "completed", 6)
    answer = client.post("/api/v1/weak/execute")
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"] == "ValueError: page 17 has no text"


def test_execute_waits_for_so_long_alone(client: TestClient, flows: Flows) -> None:
    answer = client.post("/api/v1/held/execute?wait=0", json={"flow_id": "h"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/api/v1/held/status/h")
    flows.gate.set()
    assert client.post("/api/v1/held/execute", json={"flow_id": "h"}).json()["outputs"] == "let go"


def test_execute_with_the_key_of_one_that_runs_is_in_progress(client: TestClient, flows: Flows) -> None:
    key = {"Idempotency-Key": "k"}
    assert client.post("/api/v1/held/execute?wait=0", headers=key).status_code == 202
    problem(client.post("/api/v1/held/execute", headers=key), 409, "in-progress")
    flows.gate.set()
    settled(client, "held", client.post("/api/v1/held/execute-async", headers=key).json()["flow_id"])
    answer = client.post("/api/v1/held/execute", headers=key)
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (200, "true")
    assert answer.json()["status"] == "completed"


@pytest.mark.parametrize("verb", ["execute", "execute-async"])
def test_what_cannot_be_started_is_refused_and_says_why(client: TestClient, verb: str) -> None:
    told = problem(client.post(f"/api/v1/sunms/{verb}", json={}), 404, "not-found")
    assert "sums" in told["detail"]
    told = problem(client.post(f"/api/v1/sums/{verb}", json={"inputs": {"a": "x", "c": 1}}), 422, "inputs-invalid")
    assert "a: " in told["detail"]
    assert "c: " in told["detail"]
    assert client.get("/api/v1/sums/flows").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"inputs": []}',
        b'{"inputs": {"a": NaN}}',
        b'{"metadata": {"a": 1e999}}',
        b'{"inputs": {"a": "\\ud800"}}',
        b'{"metadata": {"\\udfff": 1}}',
        b'{"metadata": {"a": ' + b"[" * 200 + b"]" * 200 + b"}}",
        b'{"flow_id": ""}',
        b'{"flow_id": "a/b"}',
        b'{"flow_id": ".."}',
        b'{"flow_id": "a\\u0000b"}',
        b'{"flow_id": 7}',
        b'{"unknown": 7}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_such_body_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post(SUMS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/api/v1/sums/flows").json()["items"] == []


def test_a_number_that_json_does_not_have_is_named(client: TestClient) -> None:
    answer = client.post(
        SUMS,
        content=f'{{"inputs": {{"a": {math.inf}}}}}'.replace("inf", "Infinity"),
        headers={"Content-Type": "application/json"},
    )
    assert "inputs" in problem(answer, 422, "request-invalid")["detail"]


def test_secrets_are_not_told(client: TestClient) -> None:
    answer = client.post("/api/v1/sums/execute", json={"inputs": {"a": 1, "password": "hunter2"}})
    assert "hunter2" not in answer.text
    flow_id = answer.json()["flow_id"]
    for path in (f"sums/flows/{flow_id}", "sums/flows", "runs", f"sums/status/{flow_id}"):
        assert "hunter2" not in client.get(f"/api/v1/{path}").text


def test_addresses_are_those_behind_a_proxy(clients: Clients, runner: FlowRunner, flows: Flows) -> None:
    client = clients(runner, root_path="/x/y/")
    for path in (SUMS, f"/x/y{SUMS}"):  # one proxy takes its prefix off, another does not
        answer = client.post(path, json={"inputs": {"a": 1}})
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"].startswith("/x/y/api/v1/sums/status/")
