from __future__ import annotations

import hashlib
import hmac
import json
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from graflow.exceptions import ConfigError
from graflow.hitl import FeedbackRequest, FeedbackResponse, SlackFeedbackHandler, WebhookFeedbackHandler


@pytest.fixture
def receiver():
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(302 if self.path == "/moved" else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def _request(**changes):
    fields = {"feedback_id": "q", "task_id": "t", "session_id": "s", "feedback_type": "text", "prompt": "a <b> & c"}
    return FeedbackRequest(**{**fields, **changes})


def test_webhooks_get_each_event_signed(receiver):
    url, got = receiver
    handler = WebhookFeedbackHandler(url, {"X-Mine": "1"}, secret="key")
    handler.on_request_created(_request())
    handler.on_response_received(_request(), FeedbackResponse(feedback_id="q", response_type="text", text="x"))
    handler.on_request_timeout(_request())
    created, received, late = (json.loads(body) for _, _, body in got)
    head = {"event_type", "timestamp", "feedback_id", "task_id", "session_id", "feedback_type"}
    assert created.keys() == head | {"prompt", "options", "timeout", "metadata", "created_at"}
    assert received["response"].keys() == {
        *("approved", "reason", "text", "selected", "selected_multiple", "custom_data", "responded_by", "responded_at")
    }
    assert late.keys() == head | {"prompt", "timeout"}
    assert [each["event_type"] for each in (created, received, late)] == [
        "request_created",
        "response_received",
        "request_timeout",
    ]
    _, headers, body = got[0]
    at, mac = (part.partition("=")[2] for part in headers["Graflow-Signature"].split(","))
    assert mac == hmac.new(b"key", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Mine"] == "1"


def test_a_receiver_can_tell_an_event_that_comes_twice_from_another(receiver):
    url, got = receiver
    handler = WebhookFeedbackHandler(url)
    response = FeedbackResponse(feedback_id="q", response_type="text", text="x")
    for _ in range(2):
        handler.on_request_created(_request())
        handler.on_response_received(_request(), response)
        handler.on_request_timeout(_request())
    handler.on_request_created(_request(feedback_id="other"))
    handler.on_request_created(_request(metadata={"notice_id": "q.3"}))
    keys = [headers["Idempotency-Key"] for _, headers, _ in got]
    assert keys[:2] == keys[3:5] == ["q.request_created", "q.response_received"]
    assert keys[6:] == ["other.request_created", "q.3"]
    assert len(set(keys)) == 6, "each time that nobody answers in time is another event"


def test_redirects_are_not_followed(receiver):
    url, got = receiver
    with pytest.raises(urllib.error.HTTPError):
        WebhookFeedbackHandler(f"{url}/moved").on_request_timeout(_request())
    assert [path for path, _, _ in got] == ["/moved"]


def test_slack_is_told_what_was_answered_by_kind(receiver):
    url, got = receiver
    handler = SlackFeedbackHandler(url, feedback_ui_url="https://here/ui/{feedback_id}")
    handler.on_request_created(_request())
    for kind, answer in (
        ("text", {"text": "<hello>"}),
        ("approval", {"approved": False}),
        ("selection", {"selected": "a"}),
        ("multi_selection", {"selected_multiple": ["a", "b"]}),
        ("custom", {"custom_data": {"n": 1}}),
    ):
        handler.on_response_received(
            _request(feedback_type=kind), FeedbackResponse(feedback_id="q", response_type=kind, **answer)
        )
    created, *answered = (json.loads(body) for _, _, body in got)
    assert "https://here/ui/q" in json.dumps(created)
    texts = [message["blocks"][1]["text"]["text"] for message in answered]
    expected = ["Answer: &lt;hello&gt;", "❌ Rejected", "Selected: a", "Selected: a, b", 'Answer: `{"n": 1}`']
    assert [text.split("\n")[1] for text in texts] == expected
    assert texts[0].startswith("*a &lt;b&gt; &amp; c*")


def test_only_web_addresses_will_do():
    with pytest.raises(ConfigError):
        WebhookFeedbackHandler("file:///etc/passwd")
