"""Processes that are killed with -9 after and within writes: what had returned is there, and no half of anything."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from graflow.state import MemoryStore, StateStore
from graflow.state.changes import Entry, Request, RequestKind
from graflow.state.statuses import Move
from tests.state.children import killed_after, start
from tests.state.support import AT, begin, completed, group_row, member, move, new_flow, record_of, step_change
from tests.state.test_large_values import LARGE

pytestmark = [pytest.mark.fault, pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")]


def claim(store: StateStore) -> None:
    store.claim("f1", "host:1:1", seen=record_of(store), at=AT + 1, entries=[Entry("flow.claimed")])


def step(number: int, value: Any = "done") -> Callable[[StateStore], Any]:
    return lambda store: store.append(step_change(record_of(store).epoch, number, value=value))


WRITES: list[Callable[[StateStore], Any]] = [
    lambda store: store.create(new_flow(steps=[completed("a")], entries=[Entry("step.reused", "a", 1)])),
    claim,
    step(1),
    step(2, LARGE),
    lambda store: store.beat("f1", record_of(store).epoch),
    lambda store: move(store, Move.STEP, steps=[group_row(100)], entries=[Entry("step.started", "g", 1)]),
    lambda store: move(
        store, Move.STEP, members=[member(index) for index in range(60)], entries=[Entry("group.members", "g")]
    ),
    lambda store: store.request("f1", Request(RequestKind.PAUSE, "cli", "", AT)),
    lambda store: move(store, Move.STOP),
    lambda store: move(store, Move.RESUME),
    claim,
    lambda store: move(store, Move.FAIL, flow={"error": "E: no"}),
    lambda store: move(store, Move.RETRY, cut=[("g", 1)], flow={"generation": 1}),
    claim,
    lambda store: move(store, Move.HAND_OVER),
    claim,
    lambda store: move(store, Move.RECOVER, flow={"takeovers": 1}),
    claim,
    lambda store: move(store, Move.COMPLETE, flow={"outputs": LARGE}),
    lambda store: store.delete("f1"),
]


def picture(store: StateStore) -> Any:
    """All that can be read of the flow."""
    state = store.get_flow_state("f1")
    shown = state.model_dump(exclude={"total_execution_time"}) if state is not None else None
    for each in shown["steps"] if shown else []:
        if each["outputs"] == LARGE:
            each["outputs"] = None  # a store in memory has no reason to leave it out
    members = list(store.list_members("f1", "g")) if state is not None else []
    return store.get_record("f1"), shown, store.events("f1"), members, store.open_flows(at=AT)


@pytest.mark.parametrize("last", range(len(WRITES)))
def test_what_was_written_before_a_kill_is_there(common_store: StateStore, last: int) -> None:
    twin = MemoryStore()
    for write in WRITES[:last]:
        write(common_store)
        write(twin)
    killed_after(lambda: WRITES[last](common_store))
    WRITES[last](twin)
    assert picture(common_store) == picture(twin)
    for write in WRITES[last + 1 :]:
        write(common_store)
        write(twin)
    assert picture(common_store) == picture(twin)


@pytest.mark.parametrize("until", [1, 2, 3, 5, 8, 13, 21, 34])
def test_a_write_that_is_cut_short_is_there_whole_or_not_at_all(common_store: StateStore, until: int) -> None:
    epoch = begin(common_store)

    def write(told: Any) -> None:
        for number in range(1, 10_000):
            common_store.append(step_change(epoch, number, value="x" * 20_000))
            told.send(number)

    child, heard = start(write)
    number = 0
    while number < until:
        number = heard.recv()
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    while heard.poll():
        try:
            number = heard.recv()
        except EOFError:
            break
    lines = common_store.events("f1")
    assert len(lines) in {2 * number, 2 * number + 2}
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    state = common_store.get_flow_state("f1")
    assert state is not None
    assert state.counts == {"completed": len(lines) // 2, "running": 1}
    assert len(state.steps) == len(lines) // 2 + 1
    common_store.append(step_change(epoch, len(lines) // 2 + 1))
    assert len(common_store.events("f1")) == len(lines) + 2
