"""Lists of flows: newest first, in pages, filtered, without payloads; and what recovery looks at."""

from __future__ import annotations

import pytest

from graflow.exceptions import InvalidCursorError
from graflow.state import FlowStatus, StateStore
from graflow.state.changes import Change
from graflow.state.statuses import Move
from tests.state.support import AT, begin, completed, move, new_flow, record_of


def ids(store: StateStore, **question: object) -> list[str]:
    return [flow.flow_id for flow in store.list_flows(**question)]  # type: ignore[arg-type]


def test_flows_are_listed_newest_first_in_pages(store: StateStore) -> None:
    for number in range(7):
        store.create(new_flow(f"f{number}", at=AT + number // 2))  # two at a time
    found, cursor = [], None
    sizes = []
    while True:
        page = store.list_flows(cursor=cursor, limit=3)
        found += [flow.flow_id for flow in page.items]
        sizes.append(len(page))
        cursor = page.next_cursor
        if cursor is None:
            break
        store.create(new_flow(f"new{len(found)}", at=AT + 100))  # moves no page that follows
    assert sizes == [3, 3, 1]
    assert found == ["f6", "f5", "f4", "f3", "f2", "f1", "f0"]


def test_a_list_is_empty_where_there_is_nothing(store: StateStore) -> None:
    page = store.list_flows()
    assert page == []
    assert page.next_cursor is None


def test_flows_are_found_by_name_state_time_and_text(store: StateStore) -> None:
    store.create(new_flow("a1", at=AT, inputs={"path": "Straße.txt"}))
    store.create(new_flow("b2", at=AT + 1, flow_name="other", inputs={"100%": "a_b"}))
    begin(store, "c3", at=AT + 2)
    begin(store, "d4", at=AT + 3)
    move(store, Move.COMPLETE, "d4")
    assert ids(store, flow_name="other") == ["b2"]
    assert ids(store, flow_name="nothing") == []
    assert ids(store, status=[FlowStatus.PENDING]) == ["b2", "a1"]
    assert ids(store, status=[FlowStatus.RUNNING, FlowStatus.COMPLETED]) == ["d4", "c3"]
    assert ids(store, status=[FlowStatus.PENDING], flow_name="analysis") == ["a1"]
    assert ids(store, since=AT + 1.5) == ["d4", "c3"]
    assert ids(store, search="OTHER") == ["b2"]
    assert ids(store, search="c3") == ["c3"]
    assert ids(store, search="STRASSE") == ids(store, search="straße") == ["a1"]
    assert ids(store, search="100%") == ["b2"]
    assert ids(store, search="a_") == ["b2"]
    assert ids(store, search="%") == ["b2"]
    assert ids(store, search="a", status=[FlowStatus.RUNNING]) == ["c3"]
    move(store, Move.COMPLETE, "c3")
    assert ids(store, status=[FlowStatus.RUNNING]) == []
    assert ids(store, status=[FlowStatus.COMPLETED], limit=1) == ["d4"]


def test_a_list_has_neither_steps_nor_outputs_nor_large_inputs(store: StateStore) -> None:
    epoch = begin(store, inputs={"text": "x" * 5000}, metadata={"who": "me"})
    store.append(
        Change("f1", Move.COMPLETE, epoch, AT + 9, steps=[completed("a")], flow={"outputs": {"n": 1}, "degraded": True})
    )
    (flow,) = store.list_flows()
    whole = store.get_flow_state("f1")
    assert whole is not None
    assert (flow.steps, flow.outputs, flow.inputs) == ([], None, {})
    assert (flow.metadata, flow.degraded, flow.counts) == ({"who": "me"}, True, {"completed": 1})
    assert (flow.created_at, flow.started_at, flow.completed_at) == (
        whole.created_at,
        whole.started_at,
        whole.completed_at,
    )
    assert flow.total_execution_time == whole.total_execution_time == 8.0
    assert whole.outputs == {"n": 1}
    assert whole.inputs == {"text": "x" * 5000}
    assert whole.model_dump(mode="json")["status"] == "completed"


def test_a_wrong_cursor_is_told(store: StateStore) -> None:
    for cursor in ("f1", "bm90IGpzb24", "WzFd"):
        with pytest.raises(InvalidCursorError):
            store.list_flows(cursor=cursor)


def test_recovery_looks_at_what_may_have_to_go_on(store: StateStore) -> None:
    for number, flow_id in enumerate(("pending", "queued", "due", "asleep", "running", "paused", "done")):
        store.create(new_flow(flow_id, at=AT + number))
    move(store, Move.QUEUE, "queued")
    move(store, Move.QUEUE, "due", flow={"wake_at": AT + 99})
    move(store, Move.QUEUE, "asleep", flow={"wake_at": AT + 101})
    move(store, Move.PAUSE, "paused")
    for flow_id in ("running", "done"):
        store.claim(flow_id, "host:1:1", seen=record_of(store, flow_id), at=AT + 10)
    move(store, Move.COMPLETE, "done")
    assert [record.flow_id for record in store.open_flows(at=AT + 100)] == ["pending", "queued", "due", "running"]
    assert [record.flow_id for record in store.open_flows(at=AT + 101)][3] == "asleep"
    claimed = store.claim("asleep", "host:1:1", seen=record_of(store, "asleep"), at=AT + 102)
    assert "wake_at" not in claimed.record.fields
    (running,) = [record for record in store.open_flows(at=AT) if record.flow_id == "running"]
    assert running == record_of(store, "running")


def test_a_store_tells_how_large_it_is_where_it_knows(store: StateStore) -> None:
    before = store.size()
    store.create(new_flow("large", inputs={"text": "".join(map(str, range(50_000)))}))
    after = store.size()
    if store.url.startswith("memory"):
        assert (before, after) == (None, None)
    elif store.url.startswith("redis"):  # whose memory holds more than this
        assert before
        assert after
    else:
        assert before is not None
        assert after is not None
        assert after > before + 50_000
