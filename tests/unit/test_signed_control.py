"""Remote control of a worker that has a key: who may look, who may command, and how often."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest

from graflow.signing import generate_key
from graflow_celery.broker.app import GraflowCelery, build_app
from graflow_celery.broker.control import needs_signature
from graflow_celery.settings import Settings

KEY = generate_key()


class Wire:
    """Takes what is published, as it would arrive."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def publish(self, message: dict[str, Any], **_: Any) -> None:
        self.sent.append(json.loads(json.dumps(message)))


def app_with(key: str | None) -> GraflowCelery:
    return build_app(Settings.load({"url": "redis://127.0.0.1:1/0", "signing_key": key}))


def sent(app: GraflowCelery, command: str, arguments: Any = None, **options: Any) -> dict[str, Any]:
    """A command as it leaves an application."""
    wire = Wire()
    app.control.mailbox._publish(command, arguments or {}, channel=object(), producer=wire, **options)
    return wire.sent[0]


class Worker:
    """The end of remote control of a worker, which notes what it is told."""

    def __init__(self, key: str | None = KEY) -> None:
        self.obeyed: list[tuple[str, dict[str, Any]]] = []
        handlers = {name: self._handler(name) for name in ("shutdown", "pool_grow", "ping", "enable_events", "hello")}
        self.node = app_with(key).control.mailbox.Node("w@here", state=None, channel=object(), handlers=handlers)

    def _handler(self, name: str) -> Any:
        return lambda _state, **arguments: self.obeyed.append((name, arguments))


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY", raising=False)
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY_FILE", raising=False)


def test_a_signed_command_is_obeyed_once() -> None:
    worker, command = Worker(), sent(app_with(KEY), "pool_grow", {"n": 2})
    for _ in range(3):
        worker.node.handle_message(copy.deepcopy(command))
    assert worker.obeyed == [("pool_grow", {"n": 2})]


def test_whoever_lacks_the_key_may_look_and_not_command(caplog: pytest.LogCaptureFixture) -> None:
    worker, stranger = Worker(), app_with(None)
    for command in ("shutdown", "pool_grow", "hello", "ping", "enable_events"):
        worker.node.handle_message(sent(stranger, command))
    assert [name for name, _ in worker.obeyed] == ["ping", "enable_events"]
    assert "Command shutdown is refused: it is not signed" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"method": "shutdown"},
        {"arguments": {"n": 99}},
        {"destination": ["w@here"]},
        {"sent_at": 0.0},
        {"nonce": "another"},
        {"signature": "x"},
        {"signature": None},
        {"method": ["pool_grow"]},
        {"pattern": "(a+)+$", "matcher": "pcre"},
    ],
)
def test_a_command_of_which_anything_was_changed_is_refused(change: dict[str, Any]) -> None:
    worker = Worker()
    worker.node.handle_message({**sent(app_with(KEY), "pool_grow", {"n": 2}), **change})
    assert worker.obeyed == []


def test_a_command_that_was_kept_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, command = Worker(), sent(app_with(KEY), "shutdown")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    worker.node.handle_message(command)
    assert worker.obeyed == []


def test_a_worker_without_a_key_obeys_as_before_and_understands_signed_commands() -> None:
    worker = Worker(key=None)
    worker.node.handle_message(sent(app_with(None), "shutdown"))
    worker.node.handle_message(sent(app_with(KEY), "pool_grow", {"n": 1}))
    assert worker.obeyed == [("shutdown", {}), ("pool_grow", {"n": 1})]


def test_what_looks_at_a_worker_is_not_signed() -> None:
    assert "signature" not in sent(app_with(KEY), "ping")
    assert [name for name in ("stats", "active", "ping", "enable_events") if needs_signature(name)] == []
    assert needs_signature("made up later")
