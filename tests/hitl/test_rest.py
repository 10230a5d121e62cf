from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from graflow.api.app import create_feedback_api, create_feedback_api_with_redis
from graflow.api.endpoints.feedback import router
from graflow.api.main import create_app_from_args, main, parse_args
from graflow.exceptions import ConfigError
from graflow.hitl import FeedbackRequest, FeedbackResponse
from tests.hitl.backends import InMemoryBackend, approval

FIELDS = {
    *("feedback_id", "task_id", "session_id", "feedback_type", "prompt", "options", "metadata", "created_at"),
    *("timeout", "status", "channel_key", "write_to_channel"),
}


@pytest.fixture
def app():
    return create_feedback_api(InMemoryBackend())


@pytest.fixture
def manager(app):
    return app.state.feedback_manager


@pytest.fixture
def client(app):
    with TestClient(app, follow_redirects=False) as made:
        yield made


@pytest.fixture
def ask(manager):
    def store(feedback_id="question1", kind="approval", **more):
        fields = {"task_id": "t", "session_id": "s", "feedback_type": kind, "prompt": "Go <b>on</b>?", **more}
        manager.store_request(FeedbackRequest(feedback_id=feedback_id, **fields))
        return feedback_id

    return store


# -- what it is --------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(client):
    told = client.get("/").json()
    assert told.keys() >= {"name", "version", "description", "docs", "redoc", "openapi", "health", "web_ui_enabled"}
    assert told["endpoints"].keys() == {"api", "web_ui"}
    assert {"list", "feedback_form"} <= told["endpoints"]["web_ui"].keys()
    health = client.get("/health").json()
    assert (health["status"], health["service"], health["version"]) == ("healthy", "graflow-feedback-api", "1.0.0")


def test_documentation_needs_no_other_site(client):
    openapi = client.get("/openapi.json").json()
    assert openapi["info"]["title"] == "Graflow Feedback API"
    assert "/api/feedback" in openapi["paths"]
    for path in ("/docs", "/redoc", "/ui/feedback/"):
        shown = client.get(path)
        assert shown.status_code == 200
        assert "://" not in shown.text
        assert "<script" not in shown.text
    assert client.get("/ui/assets/feedback.css").headers["content-type"].startswith("text/css")


def test_pages_can_be_left_out():
    client = TestClient(create_feedback_api(InMemoryBackend(), enable_web_ui=False))
    assert client.get("/ui/feedback/").status_code == 404
    assert "web_ui" not in client.get("/").json()["endpoints"]


def test_a_router_without_a_manager_says_what_is_missing():
    app = FastAPI()
    app.include_router(router)
    for answer in (TestClient(app).get("/api/feedback"), TestClient(app).delete("/api/feedback/x")):
        assert answer.status_code == 500
        assert "FeedbackManager not initialized" in answer.json()["detail"]


# -- REST --------------------------------------------------------------------------------------------------------------


def test_pending_questions_are_listed(client, ask):
    ask("a")
    ask("b", session_id="other")
    ask("c", status="completed")
    told = client.get("/api/feedback").json()
    assert told["count"] == 2
    assert told["requests"][0].keys() == FIELDS
    assert [r["feedback_id"] for r in client.get("/api/feedback?session_id=other").json()["requests"]] == ["b"]


def test_a_question_is_answered_once(client, ask):
    ask()
    assert client.get("/api/feedback/question1").json()["response"] is None
    answer = client.post("/api/feedback/question1/respond", json={"approved": True, "responded_by": "ann"})
    assert answer.status_code == 200
    assert (answer.json()["approved"], answer.json()["response_type"]) == (True, "approval")
    late = client.post("/api/feedback/question1/respond", json={"approved": False})
    assert late.status_code == 400
    assert "by ann" in late.json()["detail"]
    told = client.get("/api/feedback/question1").json()
    assert (told["request"]["status"], told["response"]["approved"]) == ("completed", True)


def test_a_late_answer_is_taken(client, ask):
    ask(status="timeout")
    assert client.post("/api/feedback/question1/respond", json={"approved": True}).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("approval", {}, "approved"),
        ("selection", {"selected": "c"}, "selected"),
        ("text", {"text": "x" * 300_000}, "text"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_field(client, ask, kind, body, field):
    ask(kind=kind, options=["a", "b"] if kind == "selection" else None)
    refused = client.post("/api/feedback/question1/respond", json=body)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", field])
    assert client.get("/api/feedback/question1").json()["request"]["status"] == "pending"


def test_an_empty_session_in_the_address_is_none(client, ask):
    ask()
    assert client.get("/api/feedback?session_id=").json()["count"] == 1
    assert "Total: 1 request(s)" in client.get("/ui/feedback/?session_id=").text


def test_unknown_questions_are_not_found(client):
    for answer in (
        client.get("/api/feedback/nobody"),
        client.get("/api/feedback/..%2F..%2Fetc"),
        client.post("/api/feedback/nobody/respond", json={}),
        client.delete("/api/feedback/nobody"),
    ):
        assert answer.status_code == 404
        assert "not found" in answer.json()["detail"].lower()
    assert client.get("/api/feedback/nobody").json()["detail"] == "Feedback request nobody not found"


def test_a_question_is_withdrawn_unless_it_is_settled(client, ask, manager):
    ask()
    assert client.delete("/api/feedback/question1").json() == {
        "message": "Feedback request cancelled",
        "feedback_id": "question1",
    }
    assert client.delete("/api/feedback/question1").status_code == 409
    assert client.post("/api/feedback/question1/respond", json={"approved": True}).status_code == 400
    ask("other")
    manager.provide_feedback("other", approval())
    assert client.delete("/api/feedback/other").status_code == 409
    assert manager.get_request("other").status == "completed"


# -- pages -------------------------------------------------------------------------------------------------------------


def test_the_page_lists_what_can_be_answered_without_giving_ids_away(client, ask):
    assert "No pending feedback requests" in client.get("/ui/feedback/").text
    ask("abcdefghijklmnop")
    ask("late-question", status="timeout")
    ask("done", status="completed")
    shown = client.get("/ui/feedback/").text
    assert "Pending Feedback Requests" in shown
    assert "Total: 2 request(s)" in shown
    assert "a" + "*" * 14 + "p" in shown
    assert "abcdefghijklmnop" not in shown
    assert "Go &lt;b&gt;on&lt;/b&gt;?" in shown
    assert "Total: 1 request(s)" in client.get("/ui/feedback/?n_recent=1").text
    assert "No pending" in client.get("/ui/feedback/?session_id=nobody").text


@pytest.mark.parametrize(
    ("kind", "form", "words", "field", "value"),
    [
        ("approval", {"approved": "false", "reason": "no"}, ["Approve", "Reject"], "approved", False),
        ("text", {"text": "<i>"}, ["Your Response"], "text", "<i>"),
        ("text", {"text": ""}, ["Your Response"], "text", ""),
        ("selection", {"selected": "b"}, ["Select an Option"], "selected", "b"),
        ("multi_selection", {"selected_multiple": ["a", "b"]}, ["checkbox"], "selected_multiple", ["a", "b"]),
        ("multi_selection", {}, ["checkbox"], "selected_multiple", []),
        ("custom", {"custom_data": '{"n": 1}'}, ["JSON"], "custom_data", {"n": 1}),
    ],
)
def test_each_kind_has_its_form(client, ask, manager, kind, form, words, field, value):
    ask(kind=kind, options=["a", "b"] if "selection" in kind else None, metadata={"checkpoint_path": "/secret/x"})
    shown = client.get("/ui/feedback/question1")
    assert shown.status_code == 200
    assert all(word in shown.text for word in ["Feedback Request", 'lang="en"', *words])
    assert "/secret/x" not in shown.text
    sent = client.post("/ui/feedback/question1/submit", data={**form, "responded_by": "ann"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/ui/feedback/question1/success")
    assert getattr(manager.get_response("question1"), field) == value
    done = client.get(sent.headers["location"]).text
    assert "Feedback Submitted" in done
    assert "By: ann" in done
    if kind == "approval":
        assert "Rejected" in done
        assert "Reason: no" in done


def test_a_second_submit_ends_on_a_page(client, ask, manager):
    ask()
    manager.provide_feedback("question1", approval(by="bob"))
    shown = client.get("/ui/feedback/question1")
    assert (shown.status_code, shown.headers["location"]) == (307, "/ui/feedback/question1/expired")
    again = client.post("/ui/feedback/question1/submit", data={"approved": "false"}, follow_redirects=True)
    assert again.status_code == 200
    assert "Request Expired" in again.text
    assert "completed" in again.text
    assert "by bob" in again.text
    assert manager.get_response("question1").approved is True


def test_forms_with_mistakes_come_back(client, ask):
    ask(kind="custom")
    bad = client.post("/ui/feedback/question1/submit", data={"custom_data": "{no"})
    assert bad.status_code == 400
    assert "{no" in bad.text
    ask("other")
    assert client.post("/ui/feedback/other/submit", data={}).status_code == 422


def test_a_question_that_takes_an_answer_is_not_said_to_take_none(client, ask):
    for name, status in (("a", "pending"), ("b", "timeout")):
        shown = client.get(f"/ui/feedback/{ask(name, status=status)}/expired")
        assert shown.status_code == 200
        assert f"is {status}; it can still be answered" in shown.text
        assert f'href="/ui/feedback/{name}"' in shown.text


def test_programs_that_look_at_the_head_of_a_page_answer_nothing(client, ask, manager):
    ask()
    pages = ["/ui/feedback/", "/ui/feedback/question1", "/ui/feedback/question1/expired"]
    for path in pages:
        looked = client.head(path)
        assert (looked.status_code, looked.content) == (200, b"")
        assert looked.headers["content-type"] == client.get(path).headers["content-type"]
    assert client.head("/ui/feedback/nobody").status_code == 404
    assert client.head("/ui/feedback/question1/submit").status_code == 405
    assert manager.get_response("question1") is None


def test_a_query_that_makes_no_sense_is_told_on_a_page(client):
    shown = client.get("/ui/feedback/?n_recent=many")
    assert shown.status_code == 422
    assert shown.headers["content-type"].startswith("text/html")
    assert "n_recent" in shown.text
    assert client.post("/api/feedback/q/respond", json={"approved": "perhaps"}).json()["detail"][0]["loc"] == [
        *("body", "approved")
    ]


def test_what_is_not_found_is_a_page(client, ask):
    for shown in (client.get("/ui/feedback/nobody"), client.post("/ui/feedback/nobody/submit", data={})):
        assert shown.status_code == 404
        assert shown.headers["content-type"].startswith("text/html")
    ask()
    assert client.get("/ui/feedback/question1/success").status_code == 404


# -- who may -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
        {"Origin": "null"},
    ],
    ids=["origin", "site", "same-site", "null"],
)
def test_pages_of_other_sites_change_nothing(client, ask, manager, headers):
    ask()
    for sent in (
        client.post("/ui/feedback/question1/submit", data={"approved": "true"}, headers=headers),
        client.post("/api/feedback/question1/respond", json={"approved": True}, headers=headers),
        client.delete("/api/feedback/question1", headers=headers),
    ):
        assert sent.status_code == 403
    assert manager.get_request("question1").status == "pending"
    same = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}  # as browsers send from a page without referrers
    assert client.post("/ui/feedback/question1/submit", data={"approved": "true"}, headers=same).status_code == 303


def test_other_names_of_this_machine_are_not_served(app, client):
    assert client.get("/api/feedback", headers={"Host": "rebound.example"}).status_code == 421
    named = TestClient(create_feedback_api(InMemoryBackend(), allowed_hosts=["tools.example"]))
    assert named.get("/api/feedback", headers={"Host": "tools.example:8000"}).status_code == 200


def test_no_other_origin_reads_unless_it_is_named(client, ask):
    foreign = {"Origin": "https://tools.example"}
    assert "access-control-allow-origin" not in client.get("/api/feedback", headers=foreign).headers
    app = create_feedback_api(InMemoryBackend(), cors_origins=["https://tools.example"])
    named = TestClient(app)
    shown = named.get("/api/feedback", headers=foreign).headers
    assert shown["access-control-allow-origin"] == "https://tools.example"
    assert "access-control-allow-credentials" not in shown
    assert named.delete("/api/feedback/x", headers=foreign).status_code == 404
    open_to_all = TestClient(create_feedback_api(InMemoryBackend(), cors_origins=["*"]))
    assert open_to_all.get("/api/feedback", headers=foreign).headers["access-control-allow-origin"] == "*"
    assert open_to_all.delete("/api/feedback/x", headers=foreign).status_code == 403
    with pytest.raises(ConfigError):
        create_feedback_api(InMemoryBackend(), cors_origins="*")


def test_long_bodies_are_refused(client, ask):
    ask(kind="text")
    assert client.post("/api/feedback/question1/respond", json={"text": "x" * 2_000_000}).status_code == 413


def test_browsers_are_told_to_do_no_more_than_the_pages_need(client):
    headers = client.get("/ui/feedback/").headers
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


# -- command line ------------------------------------------------------------------------------------------------------


def test_the_command_line_has_the_options_of_its_settings():
    args = parse_args([])
    assert (args.backend, args.host, args.port, args.workers, args.redis_expiration_days) == (
        *("filesystem", "127.0.0.1", 8000, 1, 7),
    )
    given = "--backend redis --redis-host nowhere --redis-port 1 --redis-db 2 --title T --disable-web-ui --reload"
    args = parse_args([*given.split(), "--cors-origins", "https://a.example", "--enable-cors", "--log-level", "debug"])
    app = create_app_from_args(args)
    assert app.title == "T"
    place = app.state.feedback_manager._backend.place()
    assert (place["host"], place["port"], place["db"], place["expiration_days"]) == ("nowhere", 1, 2, 7)
    assert create_feedback_api_with_redis("there", title="U").title == "U"


def test_without_a_login_it_listens_on_loopback_alone():
    with pytest.raises(SystemExit, match="no login"):
        main(["--host", "0.0.0.0"])


def test_answers_reach_a_file_that_another_manager_reads(tmp_path):
    app = create_app_from_args(parse_args(["--data-dir", str(tmp_path)]))
    app.state.feedback_manager.store_request(
        FeedbackRequest(feedback_id="q", task_id="t", session_id="s", feedback_type="text", prompt="?")
    )
    TestClient(app).post("/api/feedback/q/respond", json={"text": "hello"})
    assert (tmp_path / "responses/q.json").exists()
    assert isinstance(app.state.feedback_manager.get_response("q"), FeedbackResponse)
