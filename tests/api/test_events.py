"""Streams of events: what one who watches is told, in which order, and what one who comes back has missed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from graflow.api.http.auth import Auth
from graflow.api.http.problems import ProblemError
from graflow.api.http.service import Service
from graflow.api.live.messages import Message
from graflow.api.live.tail import Listener, Tail
from graflow.flows import FlowRunner
from graflow.state import MemoryStore
from graflow.state.changes import Change, Entry, FlowChanges, StepRow
from graflow.state.hints import Hints
from graflow.state.statuses import Move
from tests.api.conftest import Clients
from tests.api.flows import problem
from tests.state.support import AT, begin, completed, group_row, member, move, new_flow, started, step_change

PATIENCE = 30  # seconds


class Looked:
    """A store, and a tail of it that looks often."""

    def __init__(self, store: MemoryStore | None = None, **settings: Any) -> None:
        self.store = store or MemoryStore()
        self.service = Service(FlowRunner(self.store, recovery=False), Auth())
        self.tail = Tail(self.service, pace=0.005, **settings)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


async def told(listener: Listener, kind: str) -> dict[str, Any]:
    """The data of the next message, which is of this kind."""
    message = await listener.messages.get()
    assert message is not None
    assert message.kind == kind, message
    found: dict[str, Any] = json.loads(message.data)
    return found


def test_a_change_has_the_last_state_of_each_step_that_changed() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        listener = await looked.tail.join("f1", 0)
        looked.store.append(step_change(epoch, 1))
        change = await told(listener, "change")
        assert {step["step"]: step["status"] for step in change["steps"]} == {"s1": "completed", "s2": "running"}
        assert change["run"]["version"] == 3
        assert change["steps"][0]["completed_at"].endswith("Z")
        await looked.tail.close()

    run(work())


def test_how_far_a_step_is_comes_with_it_also_to_one_who_comes_back() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        looked.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("step.started", "rank", 1)], [started("rank")]))
        seen = looked.store.get_flow_state("f1")
        assert seen is not None
        listener = await looked.tail.join("f1", None)
        progress = {"done": 62, "total": 100, "message": "page 62"}
        row = StepRow("rank", 1, {"progress": progress})
        looked.store.append(
            Change("f1", Move.STEP, epoch, AT, [Entry("step.progress", "rank", 1, None, 1, progress)], [row])
        )
        change = await told(listener, "change")
        assert [(step["step"], step["progress"]) for step in change["steps"]] == [("rank", progress)]
        again = await told(await looked.tail.join("f1", seen.seq), "change")
        assert [(step["step"], step["progress"]) for step in again["steps"]] == [("rank", progress)]
        await looked.tail.close()

    run(work())


def test_of_a_group_only_buckets_are_told_that_changed() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        looked.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("step.started", "g", 1)], [group_row(600)]))
        listener = await looked.tail.join("f1", None)
        looked.store.append(
            Change("f1", Move.STEP, epoch, AT, [Entry("group.members", "g", 1)], members=[member(599, "failed")])
        )
        change = await told(listener, "change")
        assert change["groups"] == {
            "g": {"size": 600, "counts": {"pending": 599, "failed": 1}, "strip": {"59": {"p": 9, "f": 1}}}
        }
        assert change["steps"] == []
        await looked.tail.close()

    run(work())


def test_nodes_that_are_added_are_told_apart() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store, flow={"fingerprint": {"a": {}}})
        listener = await looked.tail.join("f1", None)
        looked.store.append(
            Change("f1", Move.STEP, epoch, AT, [Entry("step.completed", "a", 1)], [completed("a", added=[["a", "b"]])])
        )
        await told(listener, "change")
        graph = await told(listener, "graph")
        assert graph["fingerprint"] == looked.service.runner.get_flow_graph("f1").fingerprint
        await looked.tail.close()

    run(work())


class Telling(MemoryStore, Hints):
    """Tells of changes when it is told to, and notes how often it is looked into, and whether it is trusted to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.news = self
        self.looks = 0
        self.is_trusted = threading.Event()
        self._told = threading.Event()

    def changed_flows(self, after: int | None = None, limit: int = 500) -> FlowChanges:
        self.looks += 1
        return super().changed_flows(after, limit)

    def tell(self) -> None:
        self._told.set()

    def wait(self, seconds: float, is_over: threading.Event) -> None:
        if seconds > PATIENCE:
            self.is_trusted.set()
        end = time.monotonic() + seconds
        while not is_over.is_set() and time.monotonic() < end and not self._told.wait(0.005):
            pass
        self._told.clear()


def test_a_store_that_tells_of_changes_is_not_asked_before_it_does() -> None:
    async def work() -> None:
        store = Telling()
        looked = Looked(store, untold=10 * PATIENCE)
        epoch = begin(store)
        listener = await looked.tail.join("f1", None)
        assert await asyncio.to_thread(store.is_trusted.wait, PATIENCE)
        looks = store.looks
        for number in (1, 2):
            store.append(step_change(epoch, number))
            store.tell()
            await told(listener, "change")
            await told(listener, "graph")
            assert store.looks == looks + number
        await looked.tail.close()
        assert store.looks == looks + 2, "the end of the streams ends the waiting too"

    run(work())


def test_news_that_get_lost_come_later() -> None:
    async def work() -> None:
        store = Telling()
        looked = Looked(store, untold=0.01)
        epoch = begin(store)
        listener = await looked.tail.join("f1", None)
        store.append(step_change(epoch, 1))
        await told(listener, "change")
        await looked.tail.close()

    run(work())


def test_questions_words_and_actions_are_told_before_the_change_that_has_them() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        watching = await looked.tail.join("f1", None)
        said = {"said": [[AT, "OUT", "hello"]]}
        lines = [
            Entry("step.completed", "a", 1, data={"node": "a", "outcome": {"value": 1}}),
            Entry("step.completed", "b", 1, data={"node": "b", "outcome": {"value": 1, **said}}),
            Entry(
                "group.members", "g", 1, data={"outcomes": [{"index": 0, "outcome": {}}, {"index": 1, "outcome": said}]}
            ),
            Entry("step.suspended", "ask", 1, data={"node": "ask", "why": "waits for q1", "asks": ["q1"]}),
            Entry("request.cancel", data={"by": "http", "reason": ""}),
        ]
        looked.store.append(Change("f1", Move.STEP, epoch, AT, lines))

        coming_back = await looked.tail.join("f1", 1)
        for listener in (watching, coming_back):
            first = looked.store.events("f1", 0)[-5].seq
            assert await told(listener, "question") == {"seq": first + 3, "step": "ask", "ids": ["q1"]}
            assert await told(listener, "action") == {"seq": first + 4, "kind": "request.cancel", "by": "http"}
            assert await told(listener, "log") == {"seq": first + 2, "steps": ["b", "g"]}
            assert (await told(listener, "change"))["seq"] == first + 4
        await looked.tail.close()

    run(work())


def test_a_run_that_ends_ends_its_streams_also_those_that_begin_later() -> None:
    async def work() -> None:
        looked = Looked()
        begin(looked.store)
        listener = await looked.tail.join("f1", None)
        move(looked.store, Move.FAIL, flow={"error": "ValueError: no"}, entries=[Entry("flow.failed")])
        change = await told(listener, "change")
        assert (change["run"]["status"], change["run"]["error"]) == ("failed", "ValueError: no")
        assert await told(listener, "end") == {"status": "failed"}
        assert await listener.messages.get() is None
        later = await looked.tail.join("f1", None)
        assert await told(later, "end") == {"status": "failed"}
        await looked.tail.close()

    run(work())


def test_one_who_comes_back_is_told_what_was_missed_and_nothing_twice() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        for number in range(1, 5):
            looked.store.append(step_change(epoch, number))
        seen = 4  # lines of the journal: the ends of s1 and s2 with the starts of s2 and s3
        listener = await looked.tail.join("f1", seen)
        change = await told(listener, "change")
        assert {step["step"] for step in change["steps"]} == {"s3", "s4", "s5"}
        assert change["seq"] == len(looked.store.events("f1"))
        await told(listener, "graph")
        again = await looked.tail.join("f1", change["seq"])
        looked.store.append(step_change(epoch, 5))
        for each in (listener, again):
            assert {step["step"] for step in (await told(each, "change"))["steps"]} == {"s5", "s6"}
        await looked.tail.close()

    run(work())


def test_what_a_retry_took_out_is_told_as_pending() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        looked.store.append(step_change(epoch, 1))
        move(looked.store, Move.STOP)
        seq = len(looked.store.events("f1"))
        listener = await looked.tail.join("f1", seq)
        move(looked.store, Move.RETRY, cut=[("s1", 1)], entries=[Entry("flow.retried", data={"cut": [["s1", 1]]})])
        for who in (listener, await looked.tail.join("f1", seq)):
            assert (await told(who, "action"))["kind"] == "flow.retried"
            change = await told(who, "change")
            steps = {step["step"]: step["status"] for step in change["steps"]}
            assert steps["s1"] == "pending"
        await looked.tail.close()

    run(work())


@pytest.mark.parametrize("after", [5000, 100])
def test_one_whose_position_the_log_does_not_have_reads_all_again(after: int) -> None:
    async def work() -> None:
        looked = Looked()
        begin(looked.store)
        listener = await looked.tail.join("f1", after)
        assert (await told(listener, "reset"))["cursor"] == len(looked.store.events("f1"))
        everything = await looked.tail.join(None, after)
        assert (await told(everything, "reset"))["cursor"] == looked.store.changed_flows().last
        await looked.tail.close()

    run(work())


def test_after_too_much_all_is_read_again() -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        for number in range(1, 200):
            looked.store.append(step_change(epoch, number))
        assert "too much" in (await told(await looked.tail.join("f1", 1), "reset"))["reason"]
        listener = await looked.tail.join("f1", None)
        rows = [started(f"{'long' * 50}{number}") for number in range(500)]
        looked.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("step.started", "a", 1)], rows))
        assert "at once" in (await told(listener, "reset"))["reason"]
        await looked.tail.close()

    run(work())


def test_one_who_knows_more_than_a_run_that_has_ended_reads_all_again_and_is_told_that_it_has() -> None:
    async def work() -> None:
        looked = Looked()
        begin(looked.store)
        move(looked.store, Move.COMPLETE)
        listener = await looked.tail.join("f1", 99)
        assert "ends before" in (await told(listener, "reset"))["reason"]
        assert (await told(listener, "end"))["status"] == "completed"
        await looked.tail.close()

    run(work())


def test_one_who_is_too_slow_reads_all_again() -> None:
    listener = Listener("f1")
    listener.tell([Message.of("change", {"seq": number}, number) for number in range(200)])
    kinds = []
    while not listener.messages.empty():
        message = listener.messages.get_nowait()
        assert message is not None
        kinds.append((message.kind, message.id))
    assert len(kinds) <= 50
    assert kinds[0][0] == "reset"
    assert kinds[-1] == ("change", 199)
    assert [number for _, number in kinds] == sorted(number for _, number in kinds if number is not None)


def test_all_runs_are_told_by_those_that_changed() -> None:
    async def work() -> None:
        looked = Looked()
        looked.store.create(new_flow("old"))
        listener = await looked.tail.join(None, None)
        begin(looked.store, "f1")
        looked.store.create(new_flow("f2"))
        runs: dict[str, Any] = {}
        while len(runs) < 2:
            change = await told(listener, "change")
            runs |= {each["flow_id"]: each["status"] for each in change["runs"]}
        assert runs["f2"] == "pending"
        assert "old" not in runs
        back = await looked.tail.join(None, 1)
        assert {each["flow_id"] for each in (await told(back, "change"))["runs"]} == {"f1", "f2"}
        await looked.tail.close()

    run(work())


def test_there_are_so_many_streams_and_no_more_until_one_ends() -> None:
    async def work() -> None:
        looked = Looked(streams=2)
        begin(looked.store)
        first = await looked.tail.join("f1", None)
        await looked.tail.join(None, None)
        with pytest.raises(ProblemError) as refused:
            await looked.tail.join("f1", None)
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
        looked.tail.leave(first)
        last = await looked.tail.join("f1", None)
        await looked.tail.close()
        assert await last.messages.get() is None

    run(work())


# -- what a client knows -----------------------------------------------------------------------------------------------


def applied(known: dict[str, Any], change: Mapping[str, Any]) -> None:
    for step in change["steps"]:
        known.setdefault(step["step"], {}).update(step)
    for name, group in change.get("groups", {}).items():
        row = known.setdefault(name, {})
        strip = row.get("strip") or []
        for place, bucket in group["strip"].items():
            strip[int(place) : int(place) + 1] = [bucket]
        row.update(counts=group["counts"], size=group["size"], strip=strip)


Moved = st.tuples(st.integers(0, 29), st.sampled_from(["completed", "failed", "running"]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(Moved, max_size=5), max_size=6))
def test_a_snapshot_with_the_changes_after_it_is_the_later_snapshot(steps: list[list[tuple[int, str]]]) -> None:
    async def work() -> None:
        looked = Looked()
        epoch = begin(looked.store)
        looked.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("step.started", "g", 1)], [group_row(30)]))
        known: dict[str, Any] = {}
        listener, seq = await looked.tail.join("f1", 0), 0
        for moved in steps:
            members = [member(index, status) for index, status in dict(moved).items()]
            looked.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("group.members", "g", 1)], members=members))
        looked.store.append(Change("f1", Move.COMPLETE, epoch, AT, [Entry("x", "h", 1)], [started("h")]))
        while (message := await listener.messages.get()) is not None:
            if message.kind == "change":
                data = json.loads(message.data)
                assert data["seq"] > seq
                seq = data["seq"]
                applied(known, data)
        state = looked.store.get_flow_state("f1")
        assert state is not None
        assert {row.step_name: row.status for row in state.steps} == {
            name: row["status"] for name, row in known.items() if "status" in row
        }
        group = next(row for row in state.steps if row.step_name == "g")
        assert known["g"]["strip"] == group.strip
        assert known["g"]["counts"] == group.counts
        await looked.tail.close()

    run(work())


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ended(clients: Clients) -> TestClient:
    store = MemoryStore()
    epoch = begin(store)
    store.append(step_change(epoch, 1, value={"password": "hunter2"}))
    move(store, Move.FAIL, flow={"error": "ValueError: no"}, entries=[Entry("flow.failed", data={"token": "hunter2"})])
    return clients(FlowRunner(store, recovery=False))


def events_of(text: str) -> list[dict[str, str]]:
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]


RUN = "/api/v1/analysis/flows/f1/events"


@pytest.mark.parametrize("how", [{"params": {"after": 1}}, {"headers": {"Last-Event-ID": "1"}}])
def test_a_stream_is_told_as_events_with_ids(ended: TestClient, how: dict[str, Any]) -> None:
    answer = ended.get(RUN, **how)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    beat, change, graph, end, retry = events_of(answer.text)
    assert [each.get("event") for each in (beat, change, graph, end)] == ["beat", "change", "graph", "end"]
    assert "id" not in beat
    assert change["id"] == "3"
    assert json.loads(end["data"]) == {"status": "failed"}
    assert 1000 <= int(retry["retry"]) <= 5000


def test_after_goes_over_what_a_browser_remembers(ended: TestClient) -> None:
    answer = ended.get(RUN, params={"after": 3}, headers={"Last-Event-ID": "1"})
    assert [each.get("event") for each in events_of(answer.text)] == ["beat", "end", None]


def test_a_journal_comes_in_pages_without_outcomes_and_secrets(ended: TestClient) -> None:
    headers = {"Accept": "application/json"}
    first = ended.get(RUN, params={"limit": 2}, headers=headers)
    page = first.json()
    assert [(line["seq"], line["kind"], line["data"]) for line in page["items"]] == [
        (1, "step.completed", {"node": "s1"}),
        (2, "step.started", {"node": "s2"}),
    ]
    assert (page["cursor"], page["next_cursor"]) == (2, 2)
    rest = ended.get(RUN, params={"after": 2}, headers=headers).json()
    assert rest["items"][0]["data"] == {"token": "***"}
    assert rest["next_cursor"] is None
    known = ended.get(RUN, params={"limit": 2}, headers={**headers, "If-None-Match": first.headers["etag"]})
    assert known.status_code == 304


def test_a_run_that_is_not_there_has_no_stream(ended: TestClient) -> None:
    problem(ended.get(RUN.replace("f1", "f2")), 404, "not-found")
    problem(ended.get(RUN.replace("analysis", "other")), 404, "not-found")
