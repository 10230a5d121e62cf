"""What steps and members said, over HTTP."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient

from graflow import parallel, task, workflow
from graflow.api.runs import logs
from graflow.core.context import TaskExecutionContext
from graflow.flows import FlowRunner
from graflow.state import MemoryStore
from graflow.state.changes import Change, Entry
from graflow.state.statuses import Move
from tests.api.conftest import Clients
from tests.api.flows import problem
from tests.state.support import AT, begin, group_row, member

LOGS = "/api/v1/analysis/flows/f1/logs"


def outcome(index: int, *texts: str, level: str = "OUT", attempts: int = 1) -> dict[str, Any]:
    said = [[AT + place, level, text] for place, text in enumerate(texts)]
    told = {"value": 1, **({"said": said} if said else {})}
    return {"index": index, "success": True, "worker": "ada-0", "attempts": attempts, "outcome": told}


class Spoken:
    """A run with a group `g` whose members say something as they end."""

    def __init__(self, size: int) -> None:
        self.store = MemoryStore()
        self.epoch = begin(self.store)
        self.append([Entry("step.started", "g", 1, attempt=1, data={"node": "g"})], steps=[group_row(size)])

    def end(self, *outcomes: dict[str, Any]) -> None:
        entry = Entry("group.members", "g", 1, attempt=1, data={"node": "g", "outcomes": outcomes})
        self.append([entry], members=[member(each["index"]) for each in outcomes])

    def append(self, entries: list[Entry], **rows: Any) -> None:
        self.store.append(Change("f1", Move.STEP, self.epoch, AT + 2, entries, **rows))


def texts(client: TestClient, **parameters: Any) -> list[str]:
    """The texts of all pages."""
    found: list[str] = []
    while True:
        answer = client.get(LOGS, params=parameters)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [line["text"] for line in page["lines"]]
        if page["next_cursor"] is None:
            return found
        assert page["next_cursor"] != parameters.get("after"), "each page goes on"
        parameters["after"] = page["next_cursor"]


def test_lines_say_who_said_them_when_and_how(clients: Clients) -> None:
    spoken = Spoken(3)
    spoken.end(outcome(2, "begins", "ends", attempts=4), outcome(0))
    client = clients(spoken.store)

    answer = client.get(LOGS)

    assert answer.json()["lines"] == [
        {
            "at": f"2023-11-14T22:13:2{place}Z",
            "level": "OUT",
            "text": text,
            "step": "g",
            "visit": 1,
            "index": 2,
            "attempt": 4,
            "worker": "ada-0",
        }
        for place, text in enumerate(["begins", "ends"])
    ]
    assert client.get(LOGS, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.get("/api/v1/server").json()["features"]["logs"] is True


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_leave_nothing_out_and_tell_nothing_twice(clients: Clients, limit: int) -> None:
    spoken = Spoken(5)
    spoken.end(outcome(0, "a", "b"), outcome(1), outcome(2, "c"))
    spoken.end(outcome(3), outcome(4, "d", "e", "f"))

    assert texts(clients(spoken.store), limit=limit) == list("abcdef")


def test_the_last_cursor_goes_on_with_what_is_said_later(clients: Clients) -> None:
    spoken = Spoken(3)
    client = clients(spoken.store)
    spoken.end(outcome(1, "first"))
    last = client.get(LOGS).json()
    assert last["next_cursor"] is None
    assert texts(client, after=last["cursor"]) == []

    spoken.end(outcome(0, "second"), outcome(2))
    assert texts(client, after=last["cursor"]) == ["second"]


def test_one_may_ask_for_a_member_an_attempt_a_level_and_a_text(clients: Clients) -> None:
    spoken = Spoken(6)
    spoken.end(outcome(0, "Page 17", "page 18"), outcome(1, "page 17 is gone", level="ERR", attempts=2))
    spoken.end(outcome(2, "looks", level="DEBUG"), outcome(3, "breaks", level="CRITICAL"), outcome(4, "!", level="ODD"))
    client = clients(spoken.store)

    assert texts(client, step="g", index=0) == ["Page 17", "page 18"]
    assert texts(client, attempt=2) == ["page 17 is gone"]
    assert texts(client, visit=2) == []
    assert texts(client, level="WARNING") == ["page 17 is gone", "breaks"]
    assert texts(client, level="INFO") == ["Page 17", "page 18", "page 17 is gone", "breaks", "!"]
    assert texts(client, search="PAGE 17") == ["Page 17", "page 17 is gone"]


def test_a_page_has_no_more_bytes_than_it_may_unless_one_line_has(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 10)
    spoken = Spoken(1)
    spoken.end(outcome(0, "ä" * 20, "b" * 6, "c" * 4, "d"))
    client = clients(spoken.store)

    first = client.get(LOGS).json()
    second = client.get(LOGS, params={"after": first["next_cursor"]}).json()

    assert [[line["text"] for line in page["lines"]] for page in (first, second)] == [["ä" * 20], ["b" * 6, "c" * 4]]
    assert texts(client, after=second["next_cursor"]) == ["d"]


def test_a_page_ends_where_a_search_has_looked_long_enough(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LOOKED_AT", 3)
    spoken = Spoken(8)
    spoken.end(*(outcome(index, f"member {index}") for index in range(8)))
    client = clients(spoken.store)

    page = client.get(LOGS, params={"search": "member 7"}).json()

    assert page["lines"] == []
    assert texts(client, search="member 7", after=page["next_cursor"]) == ["member 7"]


@pytest.mark.parametrize("cursor", ["", "1", "1.2", "1.2.x", "-1.0.0", "1.2.3.4", "٣.0.0"])
def test_a_cursor_of_somebody_else_is_refused(clients: Clients, cursor: str) -> None:
    problem(clients(Spoken(1).store).get(LOGS, params={"after": cursor}), 400, "cursor-invalid")


def test_what_is_not_there_has_no_lines(clients: Clients) -> None:
    client = clients(Spoken(1).store)

    problem(client.get(LOGS, params={"step": "h"}), 404, "not-found")
    problem(client.get(LOGS, params={"step": "g", "visit": 2}), 404, "not-found")
    problem(client.get(LOGS.replace("f1", "f2")), 404, "not-found")
    problem(client.get(LOGS, params={"limit": 1001}), 422, "request-invalid")


def test_a_step_may_have_slashes_in_its_name(clients: Clients) -> None:
    spoken = Spoken(2)
    spoken.append([Entry("step.started", "a/b", 1)], steps=[group_row(3, "a/b")])
    client, run = clients(spoken.store), LOGS.removesuffix("/logs")

    assert client.get(f"{run}/steps/a%2Fb").json()["step"] == "a/b"
    assert client.get(f"{run}/steps/a%2Fb/members").json()["size"] == 3
    assert client.get(f"{run}/steps/a%2Fb/members/2").json()["index"] == 2
    assert client.get(f"{run}/steps/a%2Fb/strip").json()["size"] == 3
    assert client.get(f"{run}/steps/a%2Fb/payload/outputs").json()["preview"] is None


# -- what steps in this process say ------------------------------------------------------------------------------------


@task(inject_context=True)
def talk(context: TaskExecutionContext, name: str) -> None:
    print(name, "begins")
    if name == "loud":
        logging.getLogger("theirs").warning("careful")
        with workflow("inner") as inner:
            talk(task_id="within", name="inner")
            inner.execute()
    if name == "weak":
        raise ValueError("no more")


@task(inject_context=True)
def rest(context: TaskExecutionContext) -> None:
    print("sleeps", end="")
    context.flow.sleep(0.05)  # type: ignore[union-attr]


def talking() -> None:
    loud, both = talk(task_id="loud", name="loud"), parallel(talk(task_id="a", name="a"), talk(task_id="b", name="b"))
    weak = talk(task_id="weak", name="weak")
    loud >> both.set_group_name("both") >> weak


def resting() -> None:
    rest(task_id="rest")


@contextmanager
def own_streams() -> Iterator[None]:
    """The streams and log handlers of the process are as they were afterwards."""
    root = logging.getLogger()
    before = sys.stdout, sys.stderr, list(root.handlers)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        yield
    finally:
        sys.stdout, sys.stderr, root.handlers = before


def spoken_here(clients: Clients, flow: Any) -> TestClient:
    runner = FlowRunner("memory://", recovery=False)
    runner.register(flow)
    with own_streams():
        runner.execute(flow.__name__, {}, "f1")
    return clients(runner)


def test_steps_here_are_heard_where_the_settings_say_so(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_FLOW_ENGINE_KEEP_LOGS", "true")
    client = spoken_here(clients, talking)
    lines = client.get("/api/v1/talking/flows/f1/logs").json()["lines"]

    told = [(line["step"], line["index"], line["attempt"], line["level"], line["text"]) for line in lines]
    assert told[:3] == [
        ("loud", None, 1, "OUT", "loud begins"),
        ("loud", None, 1, "WARNING", "careful"),
        ("loud", None, 1, "OUT", "inner begins"),
    ]
    assert sorted(told[3:5]) == [("both", 0, 1, "OUT", "a begins"), ("both", 1, 1, "OUT", "b begins")]
    assert told[5:] == [("weak", None, 1, "OUT", "weak begins")]
    journal = client.get("/api/v1/talking/flows/f1/events", headers={"Accept": "application/json"})
    assert "begins" not in journal.text, "the journal tells what happened, not what was said"


def test_what_a_step_said_before_it_was_put_away_is_kept(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_FLOW_ENGINE_KEEP_LOGS", "true")

    lines = spoken_here(clients, resting).get("/api/v1/resting/flows/f1/logs").json()["lines"]

    assert [line["text"] for line in lines] == ["sleeps", "sleeps"], "it starts again from its beginning"


def test_nothing_is_kept_of_steps_here_unless_the_settings_say_so(clients: Clients) -> None:
    before = sys.stdout
    client = spoken_here(clients, talking)

    assert client.get("/api/v1/talking/flows/f1/logs").json()["lines"] == []
    assert sys.stdout is before


def test_a_log_is_kept_as_a_file_of_text_however_long_it_is(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 10)
    spoken = Spoken(3)
    spoken.end(outcome(0, "Page 17\n", "<b>18</b>", "c" * 50), outcome(1, "gone", level="ERR"))
    client = clients(spoken.store)

    answer = client.get(LOGS, params={"download": 1, "limit": 1})
    assert answer.text.splitlines() == [
        "2023-11-14T22:13:20Z OUT      g[0]: Page 17",
        "2023-11-14T22:13:21Z OUT      g[0]: <b>18</b>",
        f"2023-11-14T22:13:22Z OUT      g[0]: {'c' * 50}",
        "2023-11-14T22:13:20Z ERR      g[1]: gone",
    ]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="log.txt"'
    assert "sandbox" in answer.headers["content-security-policy"]
    grave = client.get(LOGS, params={"download": 1, "level": "WARNING", "index": 1})
    assert grave.text == "2023-11-14T22:13:20Z ERR      g[1]: gone\n"
    problem(client.get(LOGS, params={"download": 1, "after": "x"}), 400, "cursor-invalid")
