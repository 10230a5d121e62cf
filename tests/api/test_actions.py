"""What is asked of runs over HTTP: first as a plan, then as the act that the plan agreed to."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.api.flows import Flows, Json, problem, reached, settled


@pytest.fixture
def failed(client: TestClient) -> str:
    """A run of `weak`, whose last step failed."""
    return client.post("/api/v1/weak/execute").json()["flow_id"]


@pytest.fixture
def held(client: TestClient) -> str:
    """A run of `held`, in its step."""
    flow_id = client.post("/api/v1/held/execute-async").json()["flow_id"]
    reached(client, "held", flow_id, lambda status: status == "running")
    return flow_id


def of(plan: Json) -> dict[str, str]:
    return {step["step"]: step["action"] for step in plan["steps"]}


@pytest.mark.parametrize(
    ("verb", "rest", "body", "steps"),
    [
        ("resume", "", None, {"begin": "reuse", "end": "run"}),
        ("retry", "/end", {"downstream": "all"}, {"begin": "reuse", "end": "run"}),
        ("retry", "/end", {"ask_again": True}, {"begin": "reuse", "end": "run"}),
        ("fork", "", {"from_step": "begin"}, {"begin": "run", "end": "run"}),
    ],
)
def test_a_plan_does_nothing_and_its_digest_agrees_to_it(
    client: TestClient, flows: Flows, failed: str, verb: str, rest: str, body: Json | None, steps: dict[str, str]
) -> None:
    path = f"/api/v1/weak/{verb}/{failed}{rest}"
    before = client.get(f"/api/v1/weak/status/{failed}").json()
    answer = client.post(f"{path}?dry_run=true", json=body)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert (plan["verb"], of(plan), answer.headers["etag"]) == (verb, steps, f'"{plan["digest"]}"')
    assert client.get(f"/api/v1/weak/status/{failed}").json() == before
    flows.is_broken = False
    answer = client.post(path, json=body, headers={"If-Match": f'"{plan["digest"]}"'})
    assert answer.status_code == 202, answer.text
    made = answer.json()["flow_id"]
    assert answer.headers["location"] == f"/api/v1/weak/status/{made}"
    assert (made == failed) == (verb != "fork")
    assert settled(client, "weak", made)["outputs"] == 2


def test_an_act_by_a_plan_that_holds_no_longer_gives_the_new_one(client: TestClient, failed: str) -> None:
    path = f"/api/v1/weak/resume/{failed}"
    old = client.post(f"{path}?dry_run=true").json()
    assert client.post(path).status_code == 202
    settled(client, "weak", failed)
    answer = client.post(path, headers={"If-Match": f'"{old["digest"]}"'})
    told = problem(answer, 412, "plan-outdated")
    assert told["plan"]["digest"] != old["digest"]
    assert answer.headers["etag"] == f'"{told["plan"]["digest"]}"'
    assert client.post(path, headers={"If-Match": answer.headers["etag"]}).status_code == 202


@pytest.mark.parametrize("verb", ["resume", "cancel", "pause"])
def test_an_action_that_the_state_does_not_allow_names_those_that_it_does(client: TestClient, verb: str) -> None:
    flow_id = client.post("/api/v1/sums/execute", json={"inputs": {"a": 1}}).json()["flow_id"]
    told = problem(client.post(f"/api/v1/sums/{verb}/{flow_id}"), 409, "action-refused")
    assert told["allowed_actions"] == ["retry", "fork", "purge"]
    assert "completed" in told["detail"]


def test_a_run_that_runs_is_not_resumed(client: TestClient, held: str) -> None:
    told = problem(client.post(f"/api/v1/held/resume/{held}"), 409, "action-refused")
    assert told["allowed_actions"] == ["pause", "cancel", "fork"]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_run_is_stopped_and_the_journal_has_who_asked(client: TestClient, flows: Flows, held: str, verb: str) -> None:
    plan = client.post(f"/api/v1/held/{verb}/{held}?dry_run=true").json()
    assert of(plan) == {"hold": "run" if verb == "pause" else "cancel"}
    answer = client.post(f"/api/v1/held/{verb}/{held}", json={"reason": "lunch"})
    assert answer.status_code == 202
    flows.gate.set()
    settled(client, "held", held)
    asked = [line for line in client.app.state.service.runner.events(held) if line.kind == f"request.{verb}"]
    assert [line.data for line in asked] == [{"by": "http", "reason": "lunch"}]


def test_delete_cancels_and_purges_only_what_has_ended(client: TestClient, flows: Flows, held: str) -> None:
    path = f"/api/v1/held/flows/{held}"
    told = problem(client.delete(f"{path}?purge=true"), 409, "action-refused")
    assert "purge" not in told["allowed_actions"]
    assert client.delete(f"{path}?dry_run=true").json()["verb"] == "cancel"
    assert client.delete(path).status_code == 202
    flows.gate.set()
    assert settled(client, "held", held)["status"] == "cancelled"
    problem(client.delete(f"{path}?purge=true&dry_run=true"), 422, "request-invalid")
    assert client.delete(f"{path}?purge=true").status_code == 204
    problem(client.get(path), 404, "not-found")
    problem(client.delete(f"{path}?purge=true"), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("retry/{}/nowhere", {}, 404),
        ("retry/{}/end", {"index": 0}, 404),
        ("retry/{}/end", {"index": -1}, 422),
        ("retry/{}/end", {"downstream": "most"}, 422),
        ("retry/{}/end", {"ask_again": "often"}, 422),
        ("fork/{}", {}, 422),
        ("fork/{}", {"from_step": "nowhere"}, 404),
        ("fork/{}", {"from_step": "begin", "inputs": {"x": 1}}, 422),
        ("resume/{}", {"on_change": "force"}, 422),
        ("resume/none", {}, 404),
        ("retry/{}/begin", {"visit": 9}, 404),
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_acts_that_make_no_sense_are_refused(
    client: TestClient, failed: str, path: str, body: Json, status: int, query: str
) -> None:
    answer = client.post(f"/api/v1/weak/{path.format(failed)}{query}", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


def test_several_are_asked_at_once_and_each_is_answered(client: TestClient, flows: Flows, failed: str) -> None:
    flows.is_broken = False
    done = client.post("/api/v1/sums/execute", json={"inputs": {"a": 1}}).json()["flow_id"]
    answer = client.post("/api/v1/runs/actions", json={"action": "resume", "ids": [failed, done, "none", failed]})
    items = {each["flow_id"]: each for each in answer.json()["items"]}
    assert list(items) == [failed, done, "none"]
    assert items[failed]["is_accepted"] is True
    assert (items[done]["code"], items[done]["allowed_actions"]) == ("action-refused", ["retry", "fork", "purge"])
    assert (items["none"]["code"], items["none"]["status"]) == ("not-found", None)
    settled(client, "weak", failed)
    answer = client.post("/api/v1/runs/actions", json={"action": "purge", "ids": [failed, done]})
    assert [each["is_accepted"] for each in answer.json()["items"]] == [True, True]
    assert client.get("/api/v1/runs").json()["items"] == []


def test_so_many_at_once_and_not_more(client: TestClient) -> None:
    for ids in ([], [str(number) for number in range(101)]):
        answer = client.post("/api/v1/runs/actions", json={"action": "cancel", "ids": ids})
        problem(answer, 422, "request-invalid")
