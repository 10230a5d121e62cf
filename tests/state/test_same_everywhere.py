"""Whatever is done in whatever order: every store answers, refuses and shows the same as the one in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graflow.exceptions import GraflowError
from graflow.state import MemoryStore, StateStore, StepStatus
from graflow.state.changes import Change, Entry, MemberRow, Request, RequestKind, StepRow
from graflow.state.statuses import MOVES, Move
from tests.state.support import AT, block, new_flow, record_of

Operation = Callable[[StateStore, str], Any]

STEPS = st.sampled_from(["a", "b", "g"])
VISITS = st.integers(1, 2)
STATES = st.sampled_from([status.value for status in StepStatus])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "status": STATES,
        "started_at": st.integers(0, 100).map(lambda seconds: AT + seconds),
        "completed_at": st.integers(0, 100).map(lambda seconds: AT + seconds),
        "outputs": VALUES,
        "attempts": st.integers(0, 5),
        "worker": st.none() | st.text(max_size=5),
    },
)
ROWS = st.builds(StepRow, STEPS, VISITS, FIELDS)
MEMBERS = st.builds(MemberRow, st.just("g"), VISITS, st.integers(0, 70), FIELDS)
ENTRIES = st.builds(
    Entry,
    st.sampled_from(["step.completed", "group.members"]),
    st.none() | STEPS,
    st.none() | VISITS,
    st.none() | st.integers(0, 70),
    st.none() | st.integers(1, 3),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=2),
)
LENGTHS = st.dictionaries(st.sampled_from(range(0, 71, 10)), st.integers(1, 10), max_size=4)  # of blocks, by first
FLOW_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "error": st.none() | st.text(max_size=10),
        "outputs": VALUES | st.just("large " * 300),
        "metadata": st.dictionaries(st.text(max_size=4), VALUES, max_size=2),
        "takeovers": st.integers(0, 9),
        "generation": st.integers(1, 4),
        "wake_at": st.none() | st.integers(0, 100).map(lambda seconds: AT + seconds),
        "fingerprint": st.none() | VALUES,
    },
)


@st.composite
def appends(draw: st.DrawFn) -> Operation:
    move = draw(st.sampled_from([Move.STEP] * 30 + [each for each in Move if each is not Move.CLAIM]))
    off = draw(st.sampled_from([0] * 9 + [1]))
    given: dict[str, Any] = {
        "entries": draw(st.lists(ENTRIES, max_size=3)),
        "steps": draw(st.lists(ROWS, max_size=3)),
        "members": draw(st.lists(MEMBERS, max_size=5)),
        "flow": draw(st.just({}) | FLOW_FIELDS),
        "cut": draw(st.lists(st.tuples(STEPS, VISITS), max_size=2)) if move is Move.RETRY else (),
    }
    if draw(st.booleans()):
        # The first row of a group tells its size, as the runner does.
        given["steps"] = [*given["steps"], StepRow("g", 1, {"status": "running"})]

    def append(store: StateStore, flow_id: str) -> Any:
        record = record_of(store, flow_id)
        guard = (record.epoch if MOVES[move].by_owner else record.version) - off
        return store.append(Change(flow_id, move, guard, AT + 50, **given))

    return append


@st.composite
def claims(draw: st.DrawFn) -> Operation:
    owner = draw(st.sampled_from(["h:1:1", "h:2:2"]))
    steps, entries, flow = draw(st.lists(ROWS, max_size=1)), draw(st.lists(ENTRIES, max_size=1)), draw(FLOW_FIELDS)

    def claim(store: StateStore, flow_id: str) -> Any:
        seen = record_of(store, flow_id)
        return store.claim(flow_id, owner, seen=seen, at=AT + 40, steps=steps, entries=entries, flow=flow)

    return claim


@st.composite
def askings(draw: st.DrawFn) -> Operation:
    asked = Request(draw(st.sampled_from(RequestKind)), draw(st.text(max_size=5)), draw(st.text(max_size=5)), AT + 45)
    off = draw(st.sampled_from([0, 0, 0, 1]))
    if draw(st.booleans()):
        return lambda store, flow_id: store.request(flow_id, asked)
    return lambda store, flow_id: store.beat(flow_id, record_of(store, flow_id).epoch - off)


OPERATIONS = st.lists(st.one_of(appends(), appends(), appends(), claims(), askings()), min_size=5, max_size=25)


def outcome(operation: Operation, store: StateStore, flow_id: str) -> Any:
    try:
        return operation(store, flow_id)
    except GraflowError as error:
        return type(error), str(error)


def picture(store: StateStore, flow_id: str) -> Any:
    state = store.get_flow_state(flow_id)
    assert state is not None
    shown = state.model_dump(exclude={"total_execution_time"})
    listed = store.list_flows(search=flow_id)[0].model_dump(exclude={"total_execution_time", "metadata"})
    members = {visit: list(store.list_members(flow_id, "g", visit=visit)) for visit in (1, 2)}
    failed = [list(store.list_members(flow_id, "g", visit=1, status=[each])) for each in StepStatus]
    return store.get_record(flow_id), shown, listed, members, failed, store.events(flow_id)


numbers = count()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(operations=OPERATIONS, size=st.sampled_from([None, 3, 60, 71]), lengths=LENGTHS)
def test_every_store_does_the_same(
    common_store: StateStore, operations: list[Operation], size: int | None, lengths: dict[int, int]
) -> None:
    flow_id, twin = f"flow-{next(numbers)}.", MemoryStore()
    blocks = [block(first, list(range(length))) for first, length in lengths.items()]
    group = [StepRow("g", visit, {"size": size}) for visit in (1, 2)] if size else []
    for store in (common_store, twin):
        made = store.create(new_flow(flow_id, steps=group, metadata={"a": [1, None]}))
        epoch = store.claim(flow_id, "h:1:1", seen=made.record, at=AT + 1).epoch or 0
        store.append(Change(flow_id, Move.STEP, epoch, AT + 2, blocks=blocks))
    for operation in operations:
        assert outcome(operation, common_store, flow_id) == outcome(operation, twin, flow_id)
    assert picture(common_store, flow_id) == picture(twin, flow_id)
