"""What must not answer a question: each attack is tried, and the question is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from graflow import task
from graflow.api.http.auth import Auth, Role, Token
from graflow.flows import FlowRunner
from graflow.questions import Question
from graflow.questions.links import Link, link_token
from graflow.signing import SigningKeys
from tests.api.conftest import Clients
from tests.support import wait_until

KEY = "k1:" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
ANN, BOB, CAROL, EVE = (f"{name}-0123456789abcdef" for name in ("ann", "bob", "carol", "eve"))
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", KEY)


@pytest.fixture
def guarded(clients: Clients, runner: FlowRunner) -> TestClient:
    tokens = [
        Token(Role.OPERATE, ANN, "ann"),
        Token(Role.OPERATE, BOB, "bob", frozenset({"finance"})),
        Token(Role.VIEW, CAROL, "carol"),
        Token(Role.OPERATE, EVE, "eve"),
    ]
    return clients(runner, auth=Auth(tokens))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def asked(runner: FlowRunner, body: Callable[[Any], Any]) -> Question:
    @task("ask", inject_context=True)
    def ask(context: Any) -> Any:
        return body(context)

    runner.register(lambda: ask, "asks")
    flow_id = runner.submit("asks")
    wait_until(lambda: runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None)
    return runner.questions(flow_id=flow_id)[0]


def of_ann(context: Any) -> Any:
    return context.ask("Pay <script>alert(1)</script>?", of=["ann", "carol"], deadline=3600)


def _foreign_origin(client: TestClient, runner: FlowRunner, question: Question) -> int:
    headers = {**bearer(ANN), "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    return client.post(f"/api/v1/questions/{question.id}/answers", json={"value": True}, headers=headers).status_code


def _rebinding(client: TestClient, runner: FlowRunner, question: Question) -> int:
    headers = {**bearer(ANN), "Host": "evil.example"}
    return client.post(f"/api/v1/questions/{question.id}/answers", json={"value": True}, headers=headers).status_code


def _forged_link(client: TestClient, runner: FlowRunner, question: Question) -> int:
    keys = SigningKeys({"k1": b"o" * 32})
    token = link_token(keys, Link(question.id, "ann", runner.store.now() + 60))
    return client.post(f"/answer/{token}", data={"value": "true"}).status_code


def _expired_link(client: TestClient, runner: FlowRunner, question: Question) -> int:
    keys = SigningKeys.from_environment()
    assert keys is not None
    token = link_token(keys, Link(question.id, "ann", runner.store.now() - 1))
    return client.post(f"/answer/{token}", data={"value": "true"}).status_code


def _looking(client: TestClient, runner: FlowRunner, question: Question) -> int:
    link = runner.answer_link(question.id, for_="ann")
    return client.get(f"{link}?value=true&approved=true").status_code


def _oversize(client: TestClient, runner: FlowRunner, question: Question) -> int:
    body = {"value": True, "reason": "x" * 300_000}
    return client.post(f"/api/v1/questions/{question.id}/answers", json=body, headers=bearer(ANN)).status_code


def _vote_of_another(client: TestClient, runner: FlowRunner, question: Question) -> int:
    body = {"value": True, "by": "ann"}
    return client.post(f"/api/v1/questions/{question.id}/answers", json=body, headers=bearer(EVE)).status_code


def _vote_of_another_by_its_name(client: TestClient, runner: FlowRunner, question: Question) -> int:
    body = {"approved": True, "responded_by": "ann"}
    return client.post(f"/api/feedback/{question.id}/respond", json=body, headers=bearer(EVE)).status_code


def _only_viewing(client: TestClient, runner: FlowRunner, question: Question) -> int:
    return client.post(
        f"/api/v1/questions/{question.id}/answers", json={"value": True}, headers=bearer(CAROL)
    ).status_code


def _nobody(client: TestClient, runner: FlowRunner, question: Question) -> int:
    return client.post(f"/api/feedback/{question.id}/respond", json={"approved": True}).status_code


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        (_foreign_origin, 403),
        (_rebinding, 421),
        (_forged_link, 404),
        (_expired_link, 404),
        (_looking, 200),
        (_oversize, 422),
        (_vote_of_another, 403),
        (_vote_of_another_by_its_name, 422),
        (_only_viewing, 403),
        (_nobody, 401),
    ],
    ids=lambda given: given.__name__.strip("_") if callable(given) else str(given),
)
def test_no_attack_answers(
    guarded: TestClient, runner: FlowRunner, attack: Callable[[TestClient, FlowRunner, Question], int], status: int
) -> None:
    question = asked(runner, of_ann)
    assert attack(guarded, runner, question) == status
    after = runner.question(question.id)
    assert (after.is_open, after.votes) == (True, [])


def test_programs_that_look_at_the_head_of_a_link_answer_nothing(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, of_ann)
    link = runner.answer_link(question.id, for_="ann")
    page, head = guarded.get(link), guarded.head(f"{link}?value=true")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-security-policy"] == page.headers["content-security-policy"]
    assert head.headers["content-length"] == page.headers["content-length"]
    assert guarded.head(f"{link}x").status_code == 404
    assert guarded.head("/plain/feedback", follow_redirects=False).status_code == 303, "as for whoever has no login"
    assert guarded.head("/plain/feedback", headers=bearer(CAROL)).status_code == 200
    assert runner.question(question.id).votes == []


def test_whose_answer_was_refused_is_on_record(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, of_ann)
    link, address = runner.answer_link(question.id, for_="ann"), f"/api/v1/questions/{question.id}/answers"
    guarded.post(address, json={"value": True}, headers=bearer(EVE))
    guarded.post(address, json={"value": "yes"}, headers=bearer(ANN))
    guarded.post(address, json={"value": False}, headers=bearer(ANN))
    guarded.post(link, data={"value": "true"})
    lines = [line for line in runner.audit(question.id) if line["what"] == "refused"]
    assert [(line["who"], line["via"], line["data"]["why"]) for line in lines] == [
        ("eve", "rest", "not asked"),
        ("ann", "rest", "invalid"),
        ("ann", "link", "too late"),
    ]


def test_who_has_looked_at_a_question_is_on_record_once_and_looks_at_heads_are_not(
    guarded: TestClient, runner: FlowRunner
) -> None:
    question = asked(runner, of_ann)
    link, address = runner.answer_link(question.id, for_="ann"), f"/api/v1/questions/{question.id}"
    guarded.head(link)
    first = guarded.get(address, headers=bearer(CAROL))
    again = guarded.get(address, headers={**bearer(CAROL), "If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304, "what is looked at again is as it was"
    guarded.get(f"/plain/feedback/{question.id}", headers=bearer(CAROL))
    guarded.get(f"/api/feedback/{question.id}", headers=bearer(EVE))
    for _ in range(2):
        assert guarded.get(link).status_code == 200
    lines = [line for line in runner.audit(question.id) if line["what"] == "viewed"]
    assert [(line["who"], line["via"], line["data"]["verified"]) for line in lines] == [
        ("carol", "rest", True),
        ("eve", "rest", True),
        ("ann", "link", True),
    ]
    assert runner.question(question.id).is_open


def test_links_that_do_not_hold_are_on_record(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, of_ann)
    for _ in range(20):
        assert _forged_link(guarded, runner, question) == 404
    assert _expired_link(guarded, runner, question) == 404
    keys = SigningKeys({"k1": b"o" * 32})
    nowhere = link_token(keys, Link("q-nowhere", "ann", runner.store.now() + 60))
    assert guarded.post(f"/answer/{nowhere}", data={"value": "true"}).status_code == 404
    lines = [line for line in runner.audit(question.id) if line["what"] == "refused"]
    told = [(line["who"], line["via"], line["data"]) for line in lines]
    forged, expired = (("ann", "link", {"why": f"{kind} link", "verified": False}) for kind in ("forged", "expired"))
    assert told == [forged] * 10 + [expired]


def test_a_token_that_may_only_view_answers_by_a_link_if_at_all(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, of_ann)
    address = f"/api/v1/questions/{question.id}"
    assert guarded.post(f"{address}/answers", json={"value": True}, headers=bearer(CAROL)).status_code == 403
    form = guarded.get(f"/plain/feedback/{question.id}", headers=bearer(CAROL)).text
    assert "<button" not in form
    assert guarded.post(runner.answer_link(question.id, for_="carol"), data={"value": "true"}).status_code == 200
    assert runner.question(question.id).settled_by == "carol"


def test_what_is_settled_or_withdrawn_takes_no_answer_also_by_a_link_that_is_used_again(
    guarded: TestClient, runner: FlowRunner
) -> None:
    question = asked(runner, lambda context: context.ask("Pay?", of=["ann", "bob"]))
    links = {person: runner.answer_link(question.id, for_=person) for person in ("ann", "bob")}
    assert guarded.post(links["ann"], data={"value": "false"}).status_code == 200
    assert guarded.post(links["ann"], data={"value": "true"}).status_code == 409
    assert guarded.post(links["bob"], data={"value": "true"}).status_code == 409
    assert runner.question(question.id).value is False

    gone = asked(runner, lambda context: context.ask("Pay more?", of=["ann"]))
    link = runner.answer_link(gone.id, for_="ann")
    runner.withdraw(gone.id, "no need")
    assert guarded.post(link, data={"value": "true"}).status_code == 410
    answers = f"/api/v1/questions/{gone.id}/answers"
    assert guarded.post(answers, json={"value": True}, headers=bearer(ANN)).status_code == 410
    assert runner.question(gone.id).value is None


def test_what_was_stored_to_be_shown_is_text_on_every_page(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, of_ann)
    page = guarded.get(runner.answer_link(question.id, for_="ann"))
    assert "<script" not in page.text
    assert "Pay &lt;script&gt;alert(1)&lt;/script&gt;?" in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    shown = guarded.get(f"/api/v1/questions/{question.id}", headers=bearer(ANN))
    assert shown.headers["content-type"] == "application/json"
    assert shown.headers["x-content-type-options"] == "nosniff"


# -- who somebody is ---------------------------------------------------------------------------------------------------


def test_whoever_has_a_token_of_their_own_answers_under_their_name_and_in_their_roles(
    guarded: TestClient, runner: FlowRunner
) -> None:
    question = asked(runner, lambda context: context.ask("Pay?", of=["ann", "role:finance"], needs=2))
    mine = {who: guarded.get("/api/v1/questions?of=me", headers=bearer(who)).json()["items"] for who in (ANN, BOB, EVE)}
    assert [len(found) for found in mine.values()] == [1, 1, 0]
    address = f"/api/v1/questions/{question.id}/answers"
    assert guarded.post(address, json={"value": True, "by": "zed"}, headers=bearer(ANN)).status_code == 202
    assert guarded.post(address, json={"value": True}, headers=bearer(BOB)).status_code == 201
    votes = runner.question(question.id).votes
    assert [(vote.person, vote.verified, vote.via) for vote in votes] == [("ann", True, "rest"), ("bob", True, "rest")]


def test_an_answer_under_an_id_alone_is_that_of_whoever_has_logged_in(guarded: TestClient, runner: FlowRunner) -> None:
    question = asked(runner, lambda context: context.request_approval("Deploy?", timeout=600))
    listed = guarded.get("/api/feedback", headers=bearer(EVE)).json()
    assert [each["feedback_id"] for each in listed["requests"]] == [question.id]
    body = {"approved": True, "responded_by": "ann"}
    told = guarded.post(f"/api/feedback/{question.id}/respond", json=body, headers=bearer(EVE))
    assert (told.status_code, told.json()["responded_by"]) == (200, "eve")
    again = guarded.post(f"/api/feedback/{question.id}/respond", json=body, headers=bearer(ANN))
    assert (again.status_code, "eve" in again.json()["detail"]) == (400, True)
    assert runner.question(question.id).settled_by == "eve"


def test_others_are_asked_instead_and_the_links_and_votes_of_the_first_are_dead(
    guarded: TestClient, runner: FlowRunner
) -> None:
    question = asked(runner, lambda context: context.ask("Pay?", of=["ann", "eve"], needs=2))
    link = runner.answer_link(question.id, for_="ann")
    address = f"/api/v1/questions/{question.id}"
    assert guarded.post(f"{address}/answers", json={"value": True}, headers=bearer(EVE)).status_code == 202
    few = guarded.post(f"{address}/reassign", json={"of": ["bob"]}, headers=bearer(EVE))
    assert few.status_code == 422
    told = guarded.post(f"{address}/reassign", json={"of": ["ann", "bob"], "reason": "eve left"}, headers=bearer(ANN))
    assert (told.status_code, told.json()["of"], told.json()["votes"]) == (200, ["ann", "bob"], [])
    assert guarded.post(f"{address}/answers", json={"value": True}, headers=bearer(EVE)).status_code == 403
    runner.reassign(question.id, ["bob", "role:finance"])
    assert guarded.post(link, data={"value": "true"}).status_code == 403
    lines = [line for line in runner.audit(question.id) if line["what"] == "reassigned"]
    assert [(line["who"], line["data"]["of"]) for line in lines] == [
        ("ann", ["ann", "bob"]),
        ("python", ["bob", "role:finance"]),
    ]


def test_one_link_and_one_token_answer_so_often_and_no_more(
    guarded: TestClient, runner: FlowRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = guarded.app
    monkeypatch.setattr(app.state.answers, "_most", 2)
    monkeypatch.setattr(app.state.link_answers, "_most", 2)
    question = asked(runner, of_ann)
    link, address = runner.answer_link(question.id, for_="ann"), f"/api/v1/questions/{question.id}/answers"
    assert [guarded.post(link, data={"value": "3"}).status_code for _ in range(3)] == [422, 422, 429]
    told = [guarded.post(address, json={"value": 3}, headers=bearer(ANN)).status_code for _ in range(3)]
    assert told == [422, 422, 429]
    assert guarded.post(address, json={"value": 3}, headers=bearer(EVE)).status_code == 403
    assert runner.question(question.id).is_open
