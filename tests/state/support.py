"""Flows and changes that the tests of stores are made of."""

from __future__ import annotations

from typing import Any

from graflow.state import FlowStatus, StateStore
from graflow.state.changes import Change, Entry, FlowRecord, MemberBlock, MemberRow, NewFlow, StepRow
from graflow.state.statuses import Move

AT = 1_700_000_000.0  # seconds since the epoch: when the flows of the tests begin


def new_flow(flow_id: str = "f1", **more: Any) -> NewFlow:
    given: dict[str, Any] = {
        "flow_name": "analysis",
        "status": FlowStatus.PENDING,
        "inputs": {"top": 3},
        "input_digest": "d1",
        "at": AT,
        **more,
    }
    return NewFlow(flow_id, **given)


def record_of(store: StateStore, flow_id: str = "f1") -> FlowRecord:
    record = store.get_record(flow_id)
    assert record is not None, f"{flow_id} is not there"
    return record


def begin(store: StateStore, flow_id: str = "f1", owner: str = "host:1:1", **more: Any) -> int:
    """Record a flow and claim it; the epoch."""
    made = store.create(new_flow(flow_id, **more))
    claimed = store.claim(flow_id, owner, seen=made.record, at=AT + 1)
    assert claimed.epoch is not None, "nobody else claims it"
    return claimed.epoch


def started(step: str, visit: int = 1, at: float = AT + 2) -> StepRow:
    return StepRow(step, visit, {"status": "running", "started_at": at, "attempts": 1})


def completed(step: str, visit: int = 1, at: float = AT + 3, **more: Any) -> StepRow:
    return StepRow(step, visit, {"status": "completed", "completed_at": at, **more})


def step_change(
    epoch: int, number: int, flow_id: str = "f1", *, value: Any = "done", at: float | None = None
) -> Change:
    """What a flow writes between `s<number>` and `s<number + 1>`: the end of one and the start of the next."""
    now = AT + number if at is None else at
    name, following = f"s{number}", f"s{number + 1}"
    return Change(
        flow_id,
        Move.STEP,
        epoch,
        now,
        entries=(
            Entry("step.completed", name, 1, attempt=1, data={"node": name, "outcome": {"value": value, "queue": []}}),
            Entry("step.started", following, 1, attempt=1, data={"node": following}),
        ),
        steps=(completed(name, at=now, outputs=value, output_size=6), started(following, at=now)),
    )


def move(store: StateStore, what: Move, flow_id: str = "f1", *, at: float = AT + 50, **more: Any) -> Any:
    """Make a move with the guard that the record has now."""
    from graflow.state.statuses import MOVES

    record = record_of(store, flow_id)
    guard = record.epoch if MOVES[what].by_owner else record.version
    return store.append(Change(flow_id, what, guard, at, **more))


def group_row(size: int, step: str = "g") -> StepRow:
    return StepRow(step, 1, {"status": "running", "started_at": AT + 2, "size": size, "run_key": "f1.0:g"})


def member(index: int, status: str = "completed", step: str = "g", **fields: Any) -> MemberRow:
    return MemberRow(step, 1, index, {"status": status, **fields})


def block(first: int, values: list[Any], step: str = "g", **more: Any) -> MemberBlock:
    """Members in a row that took two seconds each, and ended one after the other, with these values."""
    content = {
        "first": first,
        "ids": [f"{step}[{first + at}]" for at in range(len(values))],
        "values": values,
        "base": AT + 10,
        "durations": [2e6] * len(values),
        "ended": [at * 1e6 for at in range(len(values))],
        "worker": "w1",
        "attempts": 1,
    }
    return MemberBlock(step, 1, {**content, **more})
