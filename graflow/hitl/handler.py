"""Who is told about questions: any object with three methods, a webhook, a Slack channel."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from graflow.exceptions import ConfigError
from graflow.foreign import attempt
from graflow.hitl.types import FeedbackRequest, FeedbackResponse, FeedbackType
from graflow.text.shown import get_logger

_log = get_logger(__name__)

NOTICE: Final = "notice_id"
"""The key in a question's metadata under which handlers that are channels of a flow find what they are told named."""

_SHOWN: Final = 2000  # characters of a text in a Slack message


class FeedbackHandler:
    """Told about the questions that it is given to, in the asking process; what it raises changes nothing."""

    def on_request_created(self, request: FeedbackRequest) -> None:
        """A question was asked, for the first time."""

    def on_response_received(self, request: FeedbackRequest, response: FeedbackResponse) -> None:
        """The task has taken the answer."""

    def on_request_timeout(self, request: FeedbackRequest) -> None:
        """The task no longer waits in place; the question can still be answered."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:  # an error then: what is sent is meant for one place
        return None


class WebhookFeedbackHandler(FeedbackHandler):
    """Posts each event as JSON, with a header `Idempotency-Key`.

    An event that may have been told before has the same key, so that a receiver which keeps the keys for a while drops
    what comes twice: that is when a process dies between telling it and noting that.

    Args:
        webhook_url: Where to; redirects are not followed.
        headers: Sent with each event.
        timeout: Seconds to wait for the receiver.
        secret: Signs each body: `Graflow-Signature: t=<seconds>,v1=<hex HMAC-SHA256 of "<seconds>.<body>">`.

    Raises:
        ConfigError: The URL is none of `http` or `https`.
    """

    def __init__(
        self,
        webhook_url: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        *,
        secret: str | bytes | None = None,
    ) -> None:
        self.webhook_url = _checked_url(webhook_url)
        self.headers = dict(headers or {})
        self.timeout = timeout
        self._secret = secret.encode() if isinstance(secret, str) else secret

    def on_request_created(self, request: FeedbackRequest) -> None:
        told = {name: getattr(request, name) for name in ("prompt", "options", "timeout", "metadata", "created_at")}
        self._send("request_created", request, told)

    def on_response_received(self, request: FeedbackRequest, response: FeedbackResponse) -> None:
        answer = response.to_dict()
        del answer["feedback_id"], answer["response_type"]
        self._send("response_received", request, {"response": answer})

    def on_request_timeout(self, request: FeedbackRequest) -> None:
        self._send("request_timeout", request, {"prompt": request.prompt, "timeout": request.timeout})

    def _send(self, event_type: str, request: FeedbackRequest, more: Mapping[str, Any]) -> None:
        event = {
            "event_type": event_type,
            "timestamp": datetime.now(UTC).isoformat(),
            "feedback_id": request.feedback_id,
            "task_id": request.task_id,
            "session_id": request.session_id,
            "feedback_type": request.feedback_type.value,
            **more,
        }
        body, headers = json.dumps(event).encode(), {"Idempotency-Key": _name_of(event, request), **self.headers}
        if self._secret is not None:
            headers["Graflow-Signature"] = signature_of(body, self._secret, int(time.time()))
        post(self.webhook_url, body, headers, self.timeout)


class SlackFeedbackHandler(FeedbackHandler):
    """Writes each event into a Slack channel.

    Args:
        webhook_url: The incoming webhook.
        channel: The channel.
        feedback_ui_url: The page of a question; `{feedback_id}` in it is filled in, and it becomes a button.
        timeout: Seconds to wait for Slack.

    Raises:
        ConfigError: A URL is none of `http` or `https`.
    """

    def __init__(
        self,
        webhook_url: str,
        channel: str = "#approvals",
        feedback_ui_url: str | None = None,
        *,
        timeout: float = 10.0,
    ) -> None:
        self.webhook_url = _checked_url(webhook_url)
        self.channel = channel
        self.feedback_ui_url = feedback_ui_url and _checked_url(feedback_ui_url)
        self.timeout = timeout

    def on_request_created(self, request: FeedbackRequest) -> None:
        lines = [f"*{_escaped(request.prompt)}*", f"Task `{_escaped(request.task_id)}` asks for {_kind(request)}"]
        if request.options:
            lines += [f"• {_escaped(option)}" for option in request.options]
        self._send("Feedback requested", lines, self._button(request))

    def on_response_received(self, request: FeedbackRequest, response: FeedbackResponse) -> None:
        lines = [f"*{_escaped(request.prompt)}*", _answer_in_words(response)]
        if response.reason:
            lines.append(f"Reason: {_escaped(response.reason)}")
        if response.responded_by:
            lines.append(f"By: {_escaped(response.responded_by)}")
        self._send("Feedback received", lines)

    def on_request_timeout(self, request: FeedbackRequest) -> None:
        lines = [
            f"*{_escaped(request.prompt)}*",
            f"⏳ No answer within {request.timeout:g} s; it can still be answered",
        ]
        self._send("Feedback outstanding", lines, self._button(request))

    def _button(self, request: FeedbackRequest) -> list[dict[str, Any]]:
        if not self.feedback_ui_url:
            return []
        url = self.feedback_ui_url.replace("{feedback_id}", quote(request.feedback_id, safe=""))
        text = {"type": "plain_text", "text": "Answer"}
        return [{"type": "actions", "elements": [{"type": "button", "text": text, "url": url}]}]

    def _send(self, title: str, lines: list[str], more: list[dict[str, Any]] | None = None) -> None:
        shown = "\n".join(lines)[:_SHOWN]
        message = {
            "channel": self.channel,
            "text": title,
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": title}},
                {"type": "section", "text": {"type": "mrkdwn", "text": shown}},
                *(more or ()),
            ],
        }
        post(self.webhook_url, json.dumps(message).encode(), {}, self.timeout)


def _name_of(event: Mapping[str, Any], request: FeedbackRequest) -> str:
    """What an event is called each time that it is told."""
    if NOTICE in request.metadata:
        return str(request.metadata[NOTICE])
    name = f"{request.feedback_id}.{event['event_type']}"
    return f"{name}.{event['timestamp']}" if event["event_type"] == "request_timeout" else name  # each one is another


def tell(handler: Any, event: str, *what: Any) -> None:
    """Tell a handler, if there is one, by its method of this name; what that raises is logged, and changes nothing."""
    if handler is None:
        return
    attempt(
        lambda: getattr(handler, event)(*what),
        lambda error: _log.warning("%s of %s failed: %s", event, type(handler).__qualname__, error),
    )


def signature_of(body: bytes, secret: bytes, at: int) -> str:
    """The header by which a receiver knows that an event is ours and not an old one."""
    mac = hmac.new(secret, b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """Post JSON to one place.

    Raises:
        urllib.error.URLError: It is not reached, refuses, or redirects.
    """
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url, body, {"Content-Type": "application/json", **headers}, method="POST"
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout):
        pass


def _checked_url(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ConfigError("The URL of a handler begins with http:// or https://")
    return url


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _kind(request: FeedbackRequest) -> str:
    return {
        FeedbackType.APPROVAL: "an approval",
        FeedbackType.TEXT: "a text",
        FeedbackType.SELECTION: "a selection",
        FeedbackType.MULTI_SELECTION: "a selection of several",
        FeedbackType.CUSTOM: "data",
    }[request.feedback_type]


def _answer_in_words(response: FeedbackResponse) -> str:
    if response.response_type is FeedbackType.APPROVAL:
        return "✅ Approved" if response.approved else "❌ Rejected"
    value = response.value
    if isinstance(value, list):
        return "Selected: " + (", ".join(_escaped(str(each)) for each in value) or "none")
    if response.response_type is FeedbackType.CUSTOM:
        return f"Answer: `{_escaped(json.dumps(value))}`"
    return f"{'Selected' if response.selected is not None else 'Answer'}: {_escaped(str(value))}"
