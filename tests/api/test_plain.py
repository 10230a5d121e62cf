"""Questions on pages without scripts: forms made on the server, what they send, who may, and from where."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.datastructures import FormData

from graflow.api.http.auth import Auth, Role
from graflow.api.plain.fields import blamed, filled, form_of, is_right
from graflow.flows import FlowRunner
from graflow.protocols import MISSING
from graflow.questions.answers import AnswerType
from tests.api.conftest import Clients
from tests.api.test_questions import asked

TOKEN = "operate-token-of-sixteen"
VIEW = "view-token-of-sixteen-too"


class Place(BaseModel):
    region: str
    copies: int = 2


class Release(BaseModel):
    version: str
    channel: Literal["stable", "beta"] = "beta"
    where: Place
    mirror: Place | None = None
    tags: list[Literal["fast", "small"]] = []
    sizes: list[int] = []
    ready: bool = False


def sent(*pairs: tuple[str, str]) -> FormData:
    return FormData(list(pairs))


WHOLE = [("value.version", "1.2"), ("value.channel", '"stable"'), ("value.where.region", "north")]
UNTOUCHED = [
    ("value.where.copies", "2"),
    ("value.mirror.region", ""),
    ("value.mirror.copies", "2"),
    ("value.sizes", ""),
]
FILLED: list[tuple[str, Any, list[tuple[str, str]], Any]] = [
    ("approved", bool, [("value", "true")], True),
    ("rejected", bool, [("value", "false")], False),
    ("text", str, [("value", "a <b>")], "a <b>"),
    ("no-text", str, [("value", "")], ""),
    ("number", int, [("value", "7")], 7),
    ("fraction", float, [("value", "1.5")], 1.5),
    ("choice", Literal["red", "green"], [("value", '"green"')], "green"),
    ("several", list[Literal["a", "b"]], [("value", '"a"'), ("value", '"b"')], ["a", "b"]),
    ("lines", list[int], [("value", "1\r\n 2 \r\n")], [1, 2]),
    ("json", list[dict[str, int]], [("value", '[{"a": 1}]')], [{"a": 1}]),
    (
        "model",
        Release,
        [*WHOLE, *UNTOUCHED, ("value.tags", '"small"'), ("value.ready", "true")],
        {
            "version": "1.2",
            "channel": "stable",
            "where": {"region": "north", "copies": 2},
            "tags": ["small"],
            "ready": True,
        },
    ),
    (
        "optional-model",
        Release,
        [*WHOLE, ("value.mirror.region", "south"), ("value.mirror.copies", "2")],
        {
            "version": "1.2",
            "channel": "stable",
            "where": {"region": "north"},
            "mirror": {"region": "south", "copies": 2},
        },
    ),
]


@pytest.mark.parametrize(("answer", "pairs", "value"), [case[1:] for case in FILLED], ids=[case[0] for case in FILLED])
def test_forms_give_the_value_that_was_typed(answer: Any, pairs: list[tuple[str, str]], value: Any) -> None:
    form = form_of(AnswerType(answer).schema)
    assert filled(form, sent(*pairs)) == value
    assert is_right(form)


@pytest.mark.parametrize(
    ("answer", "pairs", "field", "why"),
    [
        (bool, [], "value", "needed"),
        (bool, [("value", "yes")], "value", "needed"),
        (int, [("value", "many")], "value", "many is no number"),
        (Literal["red"], [("value", "red")], "value", "no JSON"),
        (dict, [("value", "[" * 100_000)], "value", "no JSON"),
        (Release, [("value.version", "1"), ("value.where.copies", "x")], "value.where.copies", "x is no number"),
    ],
    ids=["undecided", "odd", "number", "option", "deep", "inside"],
)
def test_forms_say_which_field_is_wrong(answer: Any, pairs: list[tuple[str, str]], field: str, why: str) -> None:
    form = form_of(AnswerType(answer).schema)
    filled(form, sent(*pairs))
    assert not is_right(form)
    found = form
    for name in field.split(".")[1:]:
        (found,) = [each for each in found.fields if each.label == name]
    assert why in found.wrong


def test_what_the_server_refuses_is_told_by_its_field_and_what_has_none_is_given_back() -> None:
    form = form_of(AnswerType(Release).schema)
    left = blamed(form, [{"at": ["value", "where", "region"], "why": "too far"}, {"at": ["value", "x"], "why": "odd"}])
    where = next(each for each in form.fields if each.label == "where")
    assert (where.fields[0].wrong, left) == ("too far", ["odd"])


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"anyOf": [5]},
    ],
    ids=["nowhere", "itself", "circle", "number"],
)
def test_a_schema_that_leads_nowhere_is_a_field_for_json(schema: dict[str, Any]) -> None:
    form = form_of(schema)
    assert form.kind == "json"
    assert filled(form, sent(("value", "3"))) == 3
    assert filled(form_of(schema), sent()) is MISSING


def test_a_question_is_found_answered_and_told_of_without_scripts(client: TestClient, runner: FlowRunner) -> None:
    flow_id, question = asked(runner, "Release <b>it</b>?", Release)
    listed = client.get("/plain/feedback")
    assert f'href="/plain/feedback/{question.id}"' in listed.text
    assert "Release &lt;b&gt;it&lt;/b&gt;?" in listed.text
    address = f"/plain/feedback/{question.id}"
    assert 'name="value.where.region"' in client.get(address).text
    wrong = client.post(address, data={"value.version": "1.2", "value.where.copies": "x", "reason": "soon"})
    assert wrong.status_code == 422
    assert "x is no number" in wrong.text
    assert 'value="1.2"' in wrong.text, "what was typed is kept"
    assert ">soon</textarea>" in wrong.text
    assert runner.question(question.id).is_open

    right = {"value.version": "1.2", "value.channel": '"beta"', "value.where.region": "north", "by": "ann"}
    done = client.post(address, data=right)
    assert done.status_code == 200, "after a redirect, so that a reload answers nothing again"
    assert "answered by ann" in done.text
    assert runner.wait(flow_id, 30).status == "completed"
    late = client.post(address, data=right | {"value.version": "2"})
    assert late.status_code == 409
    assert "came too late" in late.text
    assert question.id not in client.get("/plain/feedback").text
    assert question.id in client.get("/plain/feedback?show=settled").text
    assert client.get("/plain/feedback/q-0").status_code == 404


def test_plain_pages_want_the_same_login_and_know_the_same_roles(clients: Clients, runner: FlowRunner) -> None:
    flow_id, question = asked(runner, "Pay?")
    auth = Auth([(Role.OPERATE, TOKEN), (Role.VIEW, VIEW)])
    client = clients(runner, auth=auth, root_path="/x/y")
    address = f"/plain/feedback/{question.id}"
    for path in ("/plain/feedback", address):
        sent_away = client.get(path, follow_redirects=False)
        assert (sent_away.status_code, sent_away.headers["Location"]) == (303, "/x/y/plain/login")
        assert "Pay?" not in sent_away.text
    assert client.post(address, data={"value": "true"}, follow_redirects=False).status_code == 303
    assert runner.question(question.id).is_open

    assert client.post("/plain/login", data={"token": "wrong"}, follow_redirects=False).status_code == 401

    def session_of(token: str) -> dict[str, str]:
        entered = client.post("/plain/login", data={"token": token}, follow_redirects=False)
        assert (entered.status_code, entered.headers["Location"]) == (303, "/x/y/plain/feedback")
        client.cookies.clear()
        return {"Cookie": entered.headers["set-cookie"].partition(";")[0], "Origin": "http://127.0.0.1"}

    viewer = session_of(VIEW)
    assert "Approve" not in client.get(address, headers=viewer).text
    assert client.post(address, data={"value": "true"}, headers=viewer).status_code == 403
    operator = session_of(TOKEN)
    foreign = client.post(address, data={"value": "true"}, headers=operator | {"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert runner.question(question.id).is_open
    answered = client.post(address, data={"value": "true"}, headers=operator, follow_redirects=False)
    assert (answered.status_code, answered.headers["Location"]) == (303, f"/x/y{address}")
    assert runner.wait(flow_id, 30).outputs is True
    vote = runner.question(question.id).votes[0]
    assert (vote.via, vote.verified) == ("page", True)
    client.post("/plain/logout", headers=operator, follow_redirects=False)
    assert client.get("/plain/feedback", headers=operator, follow_redirects=False).status_code == 303


def test_the_style_of_plain_pages_follows_the_theme_of_the_system(client: TestClient) -> None:
    style = client.get("/static/plain.css").text
    assert "@media (prefers-color-scheme: dark) { :root {" in style
    assert "data-theme" not in style
    assert "--back: #0f1216" in style
