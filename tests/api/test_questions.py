"""Questions over HTTP: lists, answers and their refusals, signals, and the page behind a signed link."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient

from graflow import task
from graflow.flows import FlowRunner
from graflow.state import FlowStatus
from tests.flows.support import asked
from tests.state.support import new_flow

KEY = "k1:" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", KEY)


def code_of(answer: Any) -> str:
    found: str = answer.json()["type"].rpartition(":")[2]
    return found


def test_a_question_is_found_and_answered_and_its_flow_goes_on(client: TestClient, runner: FlowRunner) -> None:
    flow_id, question = asked(runner, "Which?", Literal["stable", "beta"])
    assert client.get("/api/v1/server").json()["features"]["questions"] is True
    (listed,) = client.get("/api/v1/questions").json()["items"]
    one = client.get(f"/api/v1/questions/{question.id}")
    assert one.json() == {**listed, "version": 2}, "its log tells who has looked"
    assert listed["schema"]["enum"] == ["stable", "beta"]
    assert (
        client.get(f"/api/v1/questions/{question.id}", headers={"If-None-Match": one.headers["ETag"]}).status_code
        == 304
    )

    address = f"/api/v1/questions/{question.id}/answers"
    wrong = client.post(address, json={"value": "alpha", "by": "ann"})
    assert (wrong.status_code, code_of(wrong)) == (422, "answer-invalid")
    answered = client.post(address, json={"value": "beta", "by": "ann", "reason": "new"})
    assert (answered.status_code, answered.json()["state"]) == (201, "answered")
    assert runner.wait(flow_id, 30).outputs == "beta"
    assert client.post(address, json={"value": "beta", "by": "ann"}).status_code == 200
    late = client.post(address, json={"value": "stable", "by": "bob"})
    assert (late.status_code, code_of(late), late.json()["answered_by"]) == (409, "question-settled", "ann")
    lines = client.get(f"/api/v1/questions/{question.id}/audit").json()["lines"]
    assert [line["what"] for line in lines][:5] == ["asked", "viewed", "refused", "voted", "settled"]
    assert lines[1]["via"] == "rest"
    assert lines[1]["data"]["verified"] is False
    assert client.get("/api/v1/questions").json()["items"] == []
    assert len(client.get("/api/v1/questions", params={"state": "settled"}).json()["items"]) == 1


def test_open_questions_are_counted_and_a_refusal_names_the_field(client: TestClient, runner: FlowRunner) -> None:
    assert client.get("/api/v1/questions/count").json() == {"count": 0, "is_more": False}
    schema = {
        "type": "object",
        "properties": {"size": {"type": "object", "properties": {"height": {"type": "integer"}}}},
    }
    _, question = asked(runner, "How large?", schema, of=["ann"])
    assert client.get("/api/v1/questions/count").json() == {"count": 1, "is_more": False}
    assert client.get("/api/v1/questions/count", params={"of": "bob"}).json()["count"] == 0
    address = f"/api/v1/questions/{question.id}/answers"
    wrong = client.post(address, json={"value": {"size": {"height": "tall"}}, "by": "ann"}).json()["errors"]
    assert [each["at"] for each in wrong] == [["value", "size", "height"]]
    assert "'tall' is not of type 'integer'" in wrong[0]["why"]
    whole = client.post(address, json={"value": 3, "by": "ann"}).json()["errors"]
    assert [each["at"] for each in whole] == [["value"]]


def test_what_a_question_is_about_is_shown_without_its_secrets(client: TestClient, runner: FlowRunner) -> None:
    _, question = asked(runner, "Pay?", about={"sum": 3, "api_key": "hidden-key"})
    (listed,) = client.get("/api/v1/questions").json()["items"]
    assert listed["subject"] == {"sum": 3, "api_key": "***"}
    page = client.get(f"/plain/feedback/{question.id}").text
    assert "&#34;sum&#34;: 3" in page
    assert "hidden-key" not in page


def test_what_a_large_question_is_about_is_only_told_from_others(client: TestClient, runner: FlowRunner) -> None:
    asked(runner, "Pay?", about="x" * 20_000)
    (listed,) = client.get("/api/v1/questions").json()["items"]
    assert listed["subject"] is None


def test_answers_of_others_and_to_what_is_gone_are_refused(client: TestClient, runner: FlowRunner) -> None:
    _, question = asked(runner, "Pay?", of=["alice", "bob"], needs=2)
    address = f"/api/v1/questions/{question.id}"
    for by in ("mallory", "alice"):  # the second is only said to be one, and two people are needed
        assert client.post(f"{address}/answers", json={"value": True, "by": by}).status_code == 403
    assert client.post("/api/v1/questions/q-0/answers", json={"value": True}).status_code == 404
    assert client.post(f"{address}/remind").status_code == 200
    assert client.post(f"{address}/withdraw", json={"reason": "no need"}).json()["state"] == "withdrawn"
    gone = client.post(f"{address}/answers", json={"value": True, "by": "alice"})
    assert gone.status_code in {403, 410}
    assert client.post(f"{address}/withdraw", json={}).status_code == 410
    assert client.post(f"{address}/remind").status_code == 410


def test_a_call_that_comes_again_under_its_key_is_counted_once(client: TestClient, runner: FlowRunner) -> None:
    _, question = asked(runner, "How many?", int)
    address, headers = f"/api/v1/questions/{question.id}/answers", {"Idempotency-Key": "one"}
    assert client.post(address, json={"value": 3, "by": "ann"}, headers=headers).status_code == 201
    assert client.post(address, json={"value": 4, "by": "ann"}, headers=headers).status_code == 200
    assert runner.question(question.id).value == 3


def test_a_signal_reaches_its_flow(client: TestClient, runner: FlowRunner) -> None:
    @task("wait", inject_context=True)
    def wait(context: Any) -> Any:
        return context.wait_for("bank")

    runner.register(lambda: wait, "waits")
    flow_id = runner.submit("waits")
    address = f"/api/v1/flows/{flow_id}/signals/bank"
    told = client.post(address, json={"value": {"paid": 3}, "id": "e1"})
    assert (told.status_code, told.json()) == (202, {"is_new": True})
    assert runner.wait(flow_id, 30).outputs == {"paid": 3}
    assert client.post(address, json={"value": 1}).status_code == 409
    assert client.post("/api/v1/flows/nobody/signals/bank", json={}).status_code == 404


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_link_shows_a_form_and_only_its_form_answers(client: TestClient, runner: FlowRunner) -> None:
    flow_id, question = asked(runner, "Pay <b>3</b>?", of=["alice", "bob"], needs=2)
    links = {person: runner.answer_link(question.id, for_=person) for person in ("alice", "bob")}
    page = client.get(links["alice"])
    assert page.status_code == 200
    assert "Pay &lt;b&gt;3&lt;/b&gt;?" in page.text
    assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert not runner.question(question.id).votes, "looking answers nothing"

    assert client.post(links["alice"], data={"value": "true", "reason": "due"}).status_code == 200
    assert runner.question(question.id).is_open, "two people are needed, and a link is one"
    assert client.post(links["alice"], data={"value": "true"}).status_code == 200
    assert runner.question(question.id).is_open
    assert client.post(links["bob"], data={"value": "true"}).status_code == 200
    assert runner.wait(flow_id, 30).outputs is True
    assert client.post(links["alice"], data={"value": "false"}).status_code == 409
    assert "nothing is left to do" in client.get(links["bob"]).text
    assert [vote.via for vote in runner.question(question.id).votes] == ["link", "link"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Content-Type": "text/plain"}, 415),
    ],
    ids=["origin", "cross-site", "rebinding", "type"],
)
def test_no_other_site_answers_with_a_link(
    client: TestClient, runner: FlowRunner, headers: dict[str, str], status: int
) -> None:
    _, question = asked(runner, "Pay?")
    link = runner.answer_link(question.id, for_="alice")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post(link, content="value=true", headers={**kind, **headers}).status_code == status
    assert runner.question(question.id).is_open


def test_links_that_are_forged_or_over_or_for_another_question_open_nothing(
    client: TestClient, runner: FlowRunner
) -> None:
    _, question = asked(runner, "Pay?", of=["alice"], deadline=3600)
    link = runner.answer_link(question.id, for_="alice")
    store: Any = runner.store
    for forged in (link[:-2], link.replace(".", "x."), "/answer/x", "/answer/x.k1~y"):
        assert client.get(forged).status_code == 404
        assert client.post(forged, data={"value": "true"}).status_code == 404
    assert client.post(link, data={"value": '"' + "x" * 300_000 + '"'}).status_code == 422
    real = store.clock
    store.clock = lambda: real() + 3601
    assert client.post(link, data={"value": "true"}).status_code == 404
    store.clock = real
    assert runner.question(question.id).is_open


def test_runs_that_wait_for_somebody_are_told_from_those_in_a_queue(client: TestClient, runner: FlowRunner) -> None:
    waiting, _ = asked(runner, "May it?", bool)
    queued = "of-a-flow-that-nobody-here-knows"
    runner.store.create(new_flow(queued, status=FlowStatus.QUEUED))

    def listed(**query: Any) -> list[str]:
        found = client.get("/api/v1/runs", params=query)
        assert found.status_code == 200, found.text
        return [row["flow_id"] for row in found.json()["items"]]

    assert listed(status="waiting") == [waiting]
    assert listed(status="waiting,completed") == [waiting]
    assert set(listed(status="queued,waiting")) == {waiting, queued}
    refused = client.get("/api/v1/runs", params={"status": "asleep"})
    assert (refused.status_code, "running, waiting, not 'asleep'" in refused.json()["detail"]) == (422, True)
    short = client.get("/api/v1/runs", params={"status": "waiting", "limit": 1}).json()
    assert [row["flow_id"] for row in short["items"]] == [waiting]
    assert client.get("/api/v1/runs", params={"status": "resting"}).status_code == 422
