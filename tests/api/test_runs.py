"""Runs over HTTP as they are: lists, states, summaries, tags."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from graflow import task
from graflow.flows import FlowRunner
from graflow.state import MemoryStore
from tests.api.conftest import Clients
from tests.api.flows import Flows, problem, reached, settled


def run(client: TestClient, flow: str = "sums", **body: object) -> str:
    if flow == "sums":
        body.setdefault("inputs", {"a": 1})
    answer = client.post(f"/api/v1/{flow}/execute", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["flow_id"]


def test_the_state_of_a_run_has_a_tag(client: TestClient, flows: Flows) -> None:
    flow_id = client.post("/api/v1/held/execute-async").json()["flow_id"]
    reached(client, "held", flow_id, lambda status: status == "running")
    path = f"/api/v1/held/status/{flow_id}"
    tag = client.get(path).headers["etag"]
    answer = client.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    client.post(f"/api/v1/held/cancel/{flow_id}")
    answer = client.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.headers["etag"] != tag) == (200, True)
    assert answer.json()["status"] in {"cancelling", "cancelled"}


def test_what_utf8_cannot_write_is_answered_all_the_same(client: TestClient, runner: FlowRunner) -> None:
    runner.register(lambda: task("halves")(lambda: ["\ud83d", 1.5]), "half_a_character")
    flow_id = run(client, "half_a_character")
    assert client.get(f"/api/v1/half_a_character/status/{flow_id}").json()["outputs"] == ["\ud83d", 1.5]


@pytest.mark.parametrize("path", ["sums/status/none", "sums/flows/none", "nowhere/flows", "nowhere/active-flows"])
def test_what_is_not_there_is_not_found(client: TestClient, path: str) -> None:
    problem(client.get(f"/api/v1/{path}"), 404, "not-found")


def test_a_run_of_another_flow_is_not_found_under_this_one(client: TestClient) -> None:
    flow_id = run(client)
    told = problem(client.get(f"/api/v1/weak/status/{flow_id}"), 404, "not-found")
    assert "'sums'" in told["detail"]
    problem(client.delete(f"/api/v1/weak/flows/{flow_id}"), 404, "not-found")


def test_lists_come_in_pages(client: TestClient) -> None:
    made = [run(client) for _ in range(5)]
    for path in ("runs", "sums/flows"):
        found, cursor = [], None
        while True:
            given = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = client.get(f"/api/v1/{path}", params=given).json()
            found += [row["flow_id"] for row in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == made[::-1]


def test_lists_are_narrowed(client: TestClient, flows: Flows) -> None:
    good, bad = run(client), run(client, "weak")
    held = client.post("/api/v1/held/execute-async").json()["flow_id"]
    reached(client, "held", held, lambda status: status == "running")

    def ids(path: str) -> set[str]:
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return {row["flow_id"] for row in answer.json()["items"]}

    assert ids("runs") == {good, bad, held}
    assert ids("runs?status=failed,running") == ids("runs?status=failed&status=running") == {bad, held}
    assert ids("runs?flow=weak") == ids("weak/flows") == {bad}
    assert ids(f"runs?search={good}") == {good}
    assert ids("runs?since=1h") == {good, bad, held}
    assert ids("runs?since=2999-01-01") == ids("weak/flows?since=2999-01-01T00:00:00Z") == set()
    assert ids("held/active-flows") == ids("held/active-flows?status=running,failed") == {held}
    assert ids("weak/active-flows") == ids("held/active-flows?status=failed") == set()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        *(("status=sleeping", 422), ("since=yesterday", 422), ("since=99999999999w", 422), ("limit=0", 422)),
        *(("limit=201", 422), ("limit=x", 422), ("cursor=x", 400), ("cursor=", 400)),
    ],
)
@pytest.mark.parametrize("path", ["runs", "sums/flows", "sums/active-flows"])
def test_questions_that_make_no_sense_are_refused(client: TestClient, path: str, query: str, status: int) -> None:
    answer = client.get(f"/api/v1/{path}?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_rows_are_light_and_tell_what_happens(client: TestClient, flows: Flows) -> None:
    bad = run(client, "weak")
    held = client.post("/api/v1/held/execute-async").json()["flow_id"]
    reached(client, "held", held, lambda status: status == "running")
    page = client.get("/api/v1/runs").json()
    rows = {row["flow_id"]: row for row in page["items"]}
    assert rows[bad]["error"] == "ValueError: page 17 has no text"
    assert rows[bad]["counts"] == {"completed": 1, "failed": 1}
    assert [(step["step"], step["status"]) for step in rows[held]["now"]] == [("hold", "running")]
    assert not {"inputs", "outputs", "steps", "error_data"} & set(rows[bad])
    assert page["now"].endswith("Z")


def test_lists_have_tags(client: TestClient) -> None:
    run(client)
    for path in ("runs", "sums/flows", "sums/active-flows"):
        tag = client.get(f"/api/v1/{path}").headers["etag"]
        assert client.get(f"/api/v1/{path}", headers={"If-None-Match": f'"x", {tag}'}).status_code == 304
    tag = client.get("/api/v1/runs").headers["etag"]
    run(client)
    assert client.get("/api/v1/runs", headers={"If-None-Match": tag}).status_code == 200


def test_a_summary_says_what_may_be_done_and_why_not(client: TestClient) -> None:
    flow_id = run(client, "weak")
    told = client.get(f"/api/v1/weak/flows/{flow_id}").json()
    allowed = {name for name, each in told["allowed_actions"].items() if each["is_allowed"]}
    assert allowed == {"resume", "retry", "fork", "purge"}
    assert told["allowed_actions"]["cancel"] == {"is_allowed": False, "reason": "The run is failed"}
    assert (told["status"], told["error"], told["lineage"]) == ("failed", "ValueError: page 17 has no text", None)
    assert "steps" not in told
    events = client.app.state.service.runner.events(flow_id)
    assert told["cursor"] == events[-1].seq


def test_a_summary_names_where_a_run_comes_from(client: TestClient, flows: Flows) -> None:
    first = run(client, "weak")
    flows.is_broken = False
    answer = client.post(f"/api/v1/weak/fork/{first}", json={"from_step": "end"})
    second = answer.json()["flow_id"]
    settled(client, "weak", second)
    lineage = client.get(f"/api/v1/weak/flows/{second}").json()["lineage"]
    assert lineage == {"parent_flow_id": first, "parent_flow_name": "weak", "parent_step": "end"}


def test_runs_of_flows_that_are_not_registered_here_are_seen_and_not_gone_on_with(clients: Clients) -> None:
    store = MemoryStore()
    first = FlowRunner(store)
    Flows(first)
    state = first.execute("weak")
    client = clients(FlowRunner(store))
    assert [row["flow_id"] for row in client.get("/api/v1/weak/flows").json()["items"]] == [state.flow_id]
    allowed = client.get(f"/api/v1/weak/flows/{state.flow_id}").json()["allowed_actions"]
    assert allowed["resume"]["is_allowed"] is False
    assert "not registered" in allowed["resume"]["reason"]
    assert allowed["purge"]["is_allowed"] is True
    problem(client.post(f"/api/v1/weak/resume/{state.flow_id}"), 404, "not-found")
