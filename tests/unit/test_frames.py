"""Frames in the broker's Redis that are no messages of Celery's: told apart before they can harm a worker."""

from __future__ import annotations

import base64
import bz2
import json
import logging
import lzma
import zlib
from contextlib import suppress
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.transport.virtual.base import Transport as KombuTransport

from graflow_celery.broker.frames import fault_of
from graflow_celery.broker.messages import run_message
from graflow_celery.broker.transport import HigherFirst, Transport
from graflow_celery.record import GroupSpec

HINT = {"version": 1, "run_id": "r", "ranges": [[0, 0]]}


def frame(body: object = ([], HINT, {}), *, raw: bytes | None = None, **parts: Any) -> dict[str, Any]:
    """A message as kombu writes it; `headers` and `properties` go over what is usual."""
    content = json.dumps(body).encode() if raw is None else raw
    headers = {"lang": "py", "task": "graflow.run", "id": "1", "retries": 0, "timelimit": [None, None], "eta": None}
    properties = {
        "delivery_mode": 2,
        "delivery_tag": "tag",
        "delivery_info": {"exchange": "", "routing_key": "graflow"},
        "body_encoding": "base64",
        "priority": 0,
        "correlation_id": "1",
        "reply_to": "2",
    }
    return {
        "body": base64.b64encode(content).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**headers, **parts.pop("headers", {})},
        "properties": {**properties, **parts.pop("properties", {})},
        **parts,
    }


def without(part: str, of: str | None = None) -> dict[str, Any]:
    made = frame()
    del (made if of is None else made[of])[part]
    return made


GOOD = {
    "a hint": frame(),
    "an entry": frame([[], {"a": [[[1]]]}, {"callbacks": None, "chord": None}], headers={"task": "graflow.entry"}),
    "of a chord": frame([[], HINT, {"chord": {"task": "graflow.finish"}, "callbacks": None}]),
    "with limits": frame(headers={"timelimit": [2.5, 2]}),
    "of a user's own task": frame([[1, "a"], {}, {}], headers={"task": "mine", "eta": "2027-01-01T00:00:00+00:00"}),
    "in the first form": frame({"task": "mine", "id": "1", "args": [], "kwargs": {}}, headers={}) | {"headers": {}},
    "restored": {**frame(), "redelivered": True},
    "compressed": frame(raw=zlib.compress(b"[[], {}, {}]"), headers={"compression": "application/x-gzip"}),
    "compressed otherwise": frame(raw=bz2.compress(b"[[], {}, {}]"), headers={"compression": "application/x-bz2"}),
    "not encoded": frame(properties={"body_encoding": "utf-8"}) | {"body": "[[], {}, {}]"},
    "of another content type, which Celery refuses": frame(raw=b"\x80", **{"content-type": "application/x-evil"}),
}
BAD: dict[str, Any] = {
    "null": None, "a list": [], "a number": 1, "a text": "x",
    "no properties": without("properties"), "no body": without("body"), "headers null": frame() | {"headers": None},
    "no headers": without("headers"), "headers a list": frame() | {"headers": [1]},
    "headers a text": frame() | {"headers": "x"}, "properties null": frame() | {"properties": None},
    "no tag": without("delivery_tag", "properties"), "no place": without("delivery_info", "properties"),
    "body no base64": frame() | {"body": "###"}, "body null": frame() | {"body": None},
    "unknown body encoding": frame(properties={"body_encoding": "rot13"}),
    "unknown charset": frame(**{"content-encoding": "klingon"}), "content type null": frame(**{"content-type": None}),
    "body an object": frame({}), "body a number": frame(1), "arguments a list": frame([[], [], {}]),
    "positional ones a text": frame(["x", {}, {}]), "embedded null": frame([[], {}, None]),
    "followers a number": frame([[], {}, {"callbacks": 1}]), "chord a text": frame([[], {}, {"chord": "x"}]),
    "body no JSON": frame(raw=b"garbage"), "body deep": frame(raw=b"[" * 100_000),
    "task null": frame(headers={"task": None}), "task a list": frame(headers={"task": ["graflow.run"]}),
    "id null": frame(headers={"id": None}), "id an object": frame(headers={"id": {"a": 1}}),
    "eta a text": frame(headers={"task": "mine", "eta": "tomorrow"}),
    "eta at the end of time": frame(headers={"task": "mine", "eta": "9999-12-31T23:59:59"}),
    "a hint that is to wait": frame(headers={"eta": "2027-01-01T00:00:00"}),
    "a hint that is to expire": frame(headers={"expires": "2001-01-01T00:00:00"}),
    "expires an object": frame(headers={"task": "mine", "expires": {}}),
    "retries a text": frame(headers={"retries": "x"}), "limits of texts": frame(headers={"timelimit": ["x", "y"]}),
    "limits below zero": frame(headers={"timelimit": [-1, -1]}),
    "priority a text": frame(properties={"priority": "high"}), "tag a number": frame(properties={"delivery_tag": 1}),
    "a hint of 5 MB": frame([[], {**HINT, "run_id": "x" * 5_000_000}, {}]),
    "a bomb": frame(raw=zlib.compress(bytes(1 << 27), 1), headers={"compression": "application/x-gzip"}),
    "a bomb of another kind": frame(raw=lzma.compress(bytes(1 << 24)), headers={"compression": "application/x-lzma"}),
    "an unknown compression": frame(headers={"compression": "zstd"}),
    "a broken one": frame(raw=b"x\x9c", headers={"compression": "application/x-gzip"}),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_celery_writes_is_delivered(name: str) -> None:
    assert fault_of(GOOD[name], "graflow") is None


def test_what_the_publisher_writes_is_delivered() -> None:
    message = run_message(GroupSpec("r", "g", 3, "d"), [0, 2])
    assert fault_of(frame([[], message["kwargs"], {}]), "graflow") is None


@pytest.mark.parametrize("name", BAD)
def test_what_would_harm_a_worker_is_told_apart(name: str) -> None:
    assert fault_of(BAD[name], "graflow")


@pytest.mark.parametrize(
    "queue",
    [
        *("w@here.celery.pidbox", "0b5e.reply.graflow.control.pidbox"),
        *(
            f"{prefix}.7138d049-99f2-4f9f-b83f-800511eac8e3"
            for prefix in ("celeryev", "graflow.events", "team:etl.events")
        ),
    ],
)
def test_commands_and_events_are_no_tasks_and_framed_like_them(queue: str) -> None:
    command = frame({"method": "ping", "arguments": {}}) | {"headers": {"clock": 1, "expires": 5.0}}
    assert fault_of(command, queue) is None
    assert fault_of(command | {"properties": {}}, queue)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_no_frame_raises_anything(data: st.DataObject) -> None:
    junk = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    )
    made = frame()
    for at in data.draw(st.lists(st.sampled_from(["", "headers", "properties"]), min_size=1, max_size=3)):
        inside = made.get(at, made) if at else made
        if isinstance(inside, dict) and inside:
            inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(junk)
    fault_of(made, "graflow")


# -- in the transport --------------------------------------------------------------------------------------------------


class Reading(HigherFirst):
    """A channel that has read one item."""

    connection_errors = (ConnectionError,)

    def __init__(self, item: bytes, transport: Any) -> None:  # no connection is made
        self._in_poll, self._item, self.connection = True, item, transport
        self._queue_cycle = SimpleNamespace(rotate=lambda _: None)

    client = property(lambda self: SimpleNamespace(connection=None, parse_response=lambda *_, **__: (b"q", self._item)))

    def _flush_brpop_reauth(self) -> None:
        """There is no token."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    got: list[Any] = []
    monkeypatch.setattr(KombuTransport, "_deliver", lambda _self, message, _queue: got.append(message))
    return got


def read(item: bytes) -> None:
    transport = object.__new__(Transport)
    Reading(item, transport)._brpop_read()


def test_a_message_is_handed_on(delivered: list[Any]) -> None:
    read(json.dumps(frame()).encode())
    assert delivered == [frame()]


@pytest.mark.parametrize("item", [b"garbage", b"", b"\x00\xff\xfe", b"[" * 100_000, b"null", b'{"body": 1}'])
def test_what_is_no_message_is_dropped_with_a_line_and_the_channel_reads_on(
    item: bytes, delivered: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), suppress(Empty):
        read(item)
    assert delivered == []
    assert "is dropped" in caplog.text


def test_what_a_consumer_raises_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mine")

    monkeypatch.setattr(KombuTransport, "_deliver", fail)
    with pytest.raises(ValueError, match="mine"):
        read(json.dumps(frame()).encode())
