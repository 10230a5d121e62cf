"""What a store makes of one transition, of claims, beats and requests: the same for every store."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

import pytest

from graflow.exceptions import FlowNotFoundError, MoveRefusedError, StaleEpochError, VersionConflictError
from graflow.state import FlowStatus, StateStore
from graflow.state.changes import Change, Entry, MemberRow, Request, RequestKind, StepRow
from graflow.state.statuses import MOVES, Move
from tests.state.support import AT, begin, completed, move, new_flow, record_of, started, step_change


def test_a_flow_is_recorded_once(store: StateStore) -> None:
    first = store.create(new_flow(metadata={"who": "me"}))
    second = store.create(new_flow(inputs={"top": 4}, input_digest="d2"))
    assert (first.is_new, second.is_new) == (True, False)
    assert first.record == second.record == store.get_record("f1")
    assert first.record.inputs == {"top": 3}
    assert first.record.input_digest == "d1"
    assert first.record.fields["metadata"] == {"who": "me"}
    assert first.record.fields["created_at"] == AT
    assert store.get_record("f2") is None


def test_what_a_flow_begins_with_is_there(store: StateStore) -> None:
    entries = [Entry("step.reused", "a", 1, data={"from": "f0"})]
    store.create(new_flow(entries=entries, steps=[completed("a")], flow={"fingerprint": {"a": 1}}, parent_flow_id="f0"))
    (line,) = store.events("f1")
    assert (line.seq, line.kind, line.step, line.data, line.at) == (1, "step.reused", "a", {"from": "f0"}, AT)
    state = store.get_flow_state("f1")
    assert state is not None
    assert [step.step_name for step in state.steps] == ["a"]
    assert state.counts == {"completed": 1}
    assert state.parent_flow_id == "f0"
    assert record_of(store).fields["fingerprint"] == {"a": 1}


def test_one_write_ends_a_step_and_starts_the_next(store: StateStore) -> None:
    epoch = begin(store)
    before = record_of(store)
    answer = store.append(step_change(epoch, 1))
    assert (answer.seq, answer.version, answer.epoch, answer.requests) == (2, before.version + 1, epoch, ())
    state = store.get_flow_state("f1")
    assert state is not None
    assert [(step.step_name, step.status) for step in state.steps] == [("s1", "completed"), ("s2", "running")]
    assert state.counts == {"completed": 1, "running": 1}
    assert (state.current_step, state.current_steps) == ("s2", ["s2"])
    store.append(step_change(epoch, 2))
    state = store.get_flow_state("f1")
    assert state is not None
    assert state.counts == {"completed": 2, "running": 1}
    second = state.steps[1]
    assert second.started_at is not None
    assert second.started_at.timestamp() == AT + 1
    assert (second.outputs, second.attempts, second.execution_time) == ("done", 1, 1.0)


def test_the_journal_has_every_line_in_order_without_gaps(store: StateStore) -> None:
    epoch = begin(store)
    for number in range(1, 6):
        store.append(step_change(epoch, number))
    lines = store.events("f1")
    assert [line.seq for line in lines] == list(range(1, 11))
    assert lines[0].data == {"node": "s1", "outcome": {"value": "done", "queue": []}}
    assert (lines[1].kind, lines[1].step, lines[1].visit, lines[1].index) == ("step.started", "s2", 1, None)
    assert (lines[1].attempt, lines[1].at, lines[1].epoch, lines[1].generation) == (1, AT + 1, epoch, 0)
    assert [line.seq for line in store.events("f1", after=3, limit=2)] == [4, 5]
    assert store.events("f1", after=10) == []
    assert store.events("nobody") == []


def test_a_stale_owner_changes_nothing_and_the_journal_says_what_was_refused(store: StateStore) -> None:
    old = begin(store)
    move(store, Move.RECOVER)
    new = store.claim("f1", "host:2:2", seen=record_of(store), at=AT + 60).epoch
    assert new is not None
    assert new > old
    before = record_of(store)
    with pytest.raises(StaleEpochError) as caught:
        store.append(step_change(old, 1))
    assert (caught.value.epoch, caught.value.present) == (old, new)
    assert replace(record_of(store), seq=before.seq) == before, "but for the number of its last line"
    (line,) = store.events("f1")
    assert line.kind == "refused"
    assert line.data == {"move": "step", "epoch": old, "kinds": ["step.completed", "step.started"]}
    assert line.epoch == new
    with pytest.raises(StaleEpochError):
        store.beat("f1", old)


def test_a_verb_that_has_seen_another_version_changes_nothing(store: StateStore) -> None:
    epoch = begin(store)
    store.append(Change("f1", Move.FAIL, epoch, AT + 9, flow={"error": "ValueError: no"}))
    seen = record_of(store)
    store.append(Change("f1", Move.RESUME, seen.version, AT + 10))
    with pytest.raises(VersionConflictError):
        store.append(Change("f1", Move.RESUME, seen.version, AT + 11))


@pytest.mark.parametrize("end", [Move.COMPLETE, Move.FAIL, Move.FINISH_CANCEL, Move.GIVE_UP])
def test_an_end_absorbs_what_its_owner_still_says(store: StateStore, end: Move) -> None:
    epoch = begin(store)
    store.append(Change("f1", end, epoch, AT + 9, flow={"outputs": 1}))
    ended = record_of(store)
    assert ended.status.is_terminal
    assert ended.owner is None
    for late in (Move.STEP, Move.COMPLETE, Move.FAIL, Move.HAND_OVER):
        with pytest.raises(MoveRefusedError, match=ended.status.value):
            store.append(Change("f1", late, epoch, AT + 10, entries=[Entry("late")], flow={"outputs": 2}))
    assert record_of(store) == ended
    assert store.events("f1") == []
    assert store.beat("f1", epoch) == ()


def test_only_the_moves_of_the_table_are_made(store: StateStore) -> None:
    for status in FlowStatus:
        for what in sorted(set(Move) - {Move.CLAIM}):
            flow_id = f"{status}-{what}"
            bring_to(store, status, flow_id)
            before = record_of(store, flow_id)
            assert before.status is status
            rule = MOVES[what]
            if status not in rule.sources:
                with pytest.raises(MoveRefusedError, match=f"'{flow_id}' is {status.value}"):
                    move(store, what, flow_id)
                assert record_of(store, flow_id) == before
                continue
            move(store, what, flow_id)
            after = record_of(store, flow_id)
            assert after.status is (rule.target or status), flow_id
            assert after.version == before.version + 1, flow_id
            assert after.epoch == before.epoch + rule.raises_epoch, flow_id


def bring_to(store: StateStore, status: FlowStatus, flow_id: str) -> None:
    """Make a flow that is in this state."""
    store.create(new_flow(flow_id))
    ends = {
        FlowStatus.PAUSED: Move.STOP,
        FlowStatus.CANCELLED: Move.FINISH_CANCEL,
        FlowStatus.COMPLETED: Move.COMPLETE,
        FlowStatus.FAILED: Move.FAIL,
        FlowStatus.LOST: Move.GIVE_UP,
    }
    if status is FlowStatus.QUEUED:
        move(store, Move.QUEUE, flow_id)
    elif status is not FlowStatus.PENDING:
        store.claim(flow_id, "host:1:1", seen=record_of(store, flow_id), at=AT + 1)
        if status is FlowStatus.CANCELLING:
            store.request(flow_id, Request(RequestKind.CANCEL, "python"))
        elif status in ends:
            move(store, ends[status], flow_id)


def test_an_end_has_its_time_and_a_verb_takes_it_out_again(store: StateStore) -> None:
    epoch = begin(store)
    store.append(Change("f1", Move.FAIL, epoch, AT + 9, flow={"error": "ValueError: no", "error_data": {"a": 1}}))
    state = store.get_flow_state("f1")
    assert state is not None
    assert state.completed_at is not None
    assert state.completed_at.timestamp() == AT + 9
    assert (state.error, state.error_data, state.total_execution_time) == ("ValueError: no", {"a": 1}, 8.0)
    move(store, Move.RESUME)
    state = store.get_flow_state("f1")
    assert state is not None
    assert (state.completed_at, state.error, state.error_data, state.status) == (None, None, None, "queued")


def test_retry_takes_rows_out_and_leaves_the_journal(store: StateStore) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1))
    store.append(step_change(epoch, 2))
    store.append(Change("f1", Move.FAIL, epoch, AT + 9, steps=[completed("s3")]))
    move(store, Move.RETRY, cut=[("s2", 1), ("s3", 1)], flow={"generation": 1}, entries=[Entry("retry", "s2")])
    state = store.get_flow_state("f1")
    assert state is not None
    assert [step.step_name for step in state.steps] == ["s1"]
    assert state.counts == {"completed": 1}
    assert state.generation == record_of(store).generation == 1
    lines = store.events("f1")
    assert [line.kind for line in lines][-1] == "retry"
    assert [line.generation for line in lines] == [0, 0, 0, 0, 1]
    assert lines[-1].epoch == record_of(store).epoch == epoch + 1


def test_a_claim_needs_the_flow_as_it_was_seen(store: StateStore) -> None:
    seen = store.create(new_flow()).record
    first = store.claim(
        "f1", "host:1:1", seen=seen, at=AT + 1, entries=[Entry("claimed")], steps=[started("a")], flow={"takeovers": 1}
    )
    assert first.epoch == first.record.epoch == 1
    assert (first.record.status, first.record.owner) == (FlowStatus.RUNNING, "host:1:1")
    assert first.record.fields["started_at"] == AT + 1
    assert first.record.fields["takeovers"] == 1
    assert [(line.kind, line.epoch) for line in store.events("f1")] == [("claimed", 1)]
    second = store.claim("f1", "host:2:2", seen=seen, at=AT + 2)
    assert second.epoch is None
    assert second.record == first.record == record_of(store)
    store.beat("f1", 1)
    assert store.claim("f1", "host:2:2", seen=first.record, at=AT + 3).epoch is None
    assert store.claim("f1", "host:2:2", seen=record_of(store), at=AT + 4).epoch == 2
    assert record_of(store).fields["started_at"] == AT + 1


def test_a_claim_is_put_off_while_so_many_flows_of_its_name_have_an_owner(store: StateStore) -> None:
    begin(store, "f1")
    begin(store, "other", flow_name="another")
    for flow_id in ("f2", "f3"):
        store.create(new_flow(flow_id))
    assert store.claim("f2", "host:2:2", seen=record_of(store, "f2"), at=AT + 2, limit=2).epoch == 1
    put_off = store.claim("f3", "host:3:3", seen=record_of(store, "f3"), at=AT + 3, limit=2)
    assert (put_off.epoch, put_off.is_full, put_off.record.status) == (None, True, FlowStatus.PENDING)
    assert put_off.record == record_of(store, "f3")

    # One that has an owner keeps its place when another process takes over; one that ends leaves its place.
    assert store.claim("f2", "host:4:4", seen=record_of(store, "f2"), at=AT + 4, limit=2).epoch == 2
    store.append(Change("f1", Move.COMPLETE, record_of(store, "f1").epoch, AT + 5))
    claimed = store.claim("f3", "host:3:3", seen=record_of(store, "f3"), at=AT + 6, limit=2)
    assert (claimed.epoch, claimed.is_full) == (1, False)


def test_a_claim_is_refused_where_the_state_does_not_allow_it(store: StateStore) -> None:
    epoch = begin(store)
    store.append(Change("f1", Move.COMPLETE, epoch, AT + 9))
    with pytest.raises(MoveRefusedError, match="completed"):
        store.claim("f1", "host:2:2", seen=record_of(store), at=AT + 10)


def test_a_flow_that_is_being_cancelled_is_claimed_to_finish_that(store: StateStore) -> None:
    begin(store)
    store.request("f1", Request(RequestKind.CANCEL, "python", "enough"))
    claimed = store.claim("f1", "host:2:2", seen=record_of(store), at=AT + 10)
    assert claimed.record.status is FlowStatus.CANCELLING
    assert [request.kind for request in claimed.record.requests] == [RequestKind.CANCEL]


def test_beats_count_and_each_write_of_the_owner_is_one(store: StateStore) -> None:
    epoch = begin(store)
    seen = [record_of(store).beats]
    store.beat("f1", epoch)
    seen.append(record_of(store).beats)
    store.append(step_change(epoch, 1))
    seen.append(record_of(store).beats)
    assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


def test_the_owner_hears_what_it_is_asked_for_until_it_has_answered(store: StateStore) -> None:
    epoch = begin(store)
    asked = Request(RequestKind.PAUSE, "cli", "lunch", AT + 5)
    assert store.request("f1", asked).requests == (asked,)
    assert store.request("f1", Request(RequestKind.PAUSE, "http", "", AT + 6)).requests == (asked,)
    assert store.beat("f1", epoch) == (asked,)
    assert store.append(step_change(epoch, 1)).requests == (asked,)
    assert store.events("f1")[0].kind == "request.pause"
    assert store.events("f1")[0].data == {"by": "cli", "reason": "lunch"}
    assert store.append(Change("f1", Move.STOP, epoch, AT + 7)).requests == ()
    assert record_of(store).requests == ()


def test_a_pause_leaves_the_version_and_a_cancel_is_seen_at_once(store: StateStore) -> None:
    epoch = begin(store)
    version = record_of(store).version
    store.request("f1", Request(RequestKind.PAUSE, "python"))
    assert record_of(store).version == version
    assert store.request("f1", Request(RequestKind.CANCEL, "python")).status is FlowStatus.CANCELLING
    with pytest.raises(MoveRefusedError):
        store.request("f1", Request(RequestKind.PAUSE, "python"))
    kinds = [request.kind for request in store.append(step_change(epoch, 1)).requests]
    assert kinds == [RequestKind.PAUSE, RequestKind.CANCEL]


def test_a_flow_that_does_not_run_is_asked_for_nothing(store: StateStore) -> None:
    store.create(new_flow())
    with pytest.raises(MoveRefusedError, match="pending"):
        store.request("f1", Request(RequestKind.PAUSE, "python"))


def test_nothing_is_done_to_a_flow_that_is_not_there(store: StateStore) -> None:
    with pytest.raises(FlowNotFoundError, match="Flow nobody not found"):
        store.append(step_change(1, 1, "nobody"))
    with pytest.raises(FlowNotFoundError):
        store.beat("nobody", 1)
    with pytest.raises(FlowNotFoundError):
        store.request("nobody", Request(RequestKind.PAUSE, "python"))
    with pytest.raises(FlowNotFoundError):
        store.claim("nobody", "host:1:1", seen=store.create(new_flow()).record, at=AT)
    assert store.get_flow_state("nobody") is None
    assert store.delete("nobody") is False


def test_what_is_no_json_is_refused_and_nothing_is_changed(store: StateStore) -> None:
    epoch = begin(store)
    before = record_of(store)
    for change in (
        Change("f1", Move.STEP, epoch, AT + 2, steps=[started("a")], entries=[Entry("x", data={"value": object()})]),
        Change("f1", Move.STEP, epoch, AT + 2, entries=[Entry("x")], steps=[started("a"), completed("b", outputs={1})]),
        Change("f1", Move.STEP, epoch, AT + 2, entries=[Entry("x")], flow={"metadata": b"bytes"}),
    ):
        with pytest.raises(TypeError):
            store.append(change)
    assert record_of(store) == before
    assert store.events("f1") == []


class Name(StrEnum):
    """An id of a class of somebody's own."""

    FIRST = "first"


def test_what_was_made_for_its_change_alone_is_written_as_anything_else(store: StateStore) -> None:
    epoch = begin(store)
    given = {"entries": [Entry("x", "a", 1, data={"node": Name.FIRST})], "steps": [completed("a", outputs=1)]}
    for _ in range(2):  # an answer was lost
        store.append(Change("f1", Move.STEP, epoch, AT + 2, **given, is_own=True))  # type: ignore[arg-type]
    store.append(Change("f1", Move.STEP, epoch, AT + 3, steps=[started("a")]))
    assert [line.data for line in store.events("f1")] == [{"node": "first"}, {"node": "first"}]
    state = store.get_flow_state("f1")
    assert state is not None
    assert [(row.status, row.outputs) for row in state.steps] == [("running", 1)]


def test_lines_are_read_from_and_to_any_of_those_that_were_written_together(store: StateStore) -> None:
    epoch = begin(store)
    for number in range(1, 4):
        store.append(step_change(epoch, number))
    everything = store.events("f1")
    assert [line.seq for line in everything] == [1, 2, 3, 4, 5, 6]
    for after in range(8):
        for limit in (None, 0, 1, 2, 3, 9):
            assert store.events("f1", after, limit) == everything[after:][:limit]


def test_nothing_is_shared_with_who_writes_and_who_reads(store: StateStore) -> None:
    epoch = begin(store, inputs={"paths": ["a"]})
    value = ["x", {"deep": [1]}]
    store.append(step_change(epoch, 1, value=value))
    value.append("later")
    value[1]["deep"].append(2)  # type: ignore[index]
    store.events("f1")[0].data["outcome"]["value"].append("by a reader")
    record_of(store).inputs["paths"].append("b")  # type: ignore[attr-defined]
    state = store.get_flow_state("f1")
    assert state is not None
    assert state.steps[0].outputs == ["x", {"deep": [1]}]
    assert store.events("f1")[0].data["outcome"]["value"] == ["x", {"deep": [1]}]
    assert record_of(store).inputs == {"paths": ["a"]}


def test_names_may_be_any_text(store: StateStore) -> None:
    names = ["a:b", "line\nfeed", "żółw", "@1\n2", "x\n1", "%s ' \" ;--", "1", "#", "12:size", "{tag}"]
    for number, flow_id in enumerate(names):
        epoch = begin(store, flow_id, at=AT + number)
        for name in names:
            store.append(Change(flow_id, Move.STEP, epoch, AT + 2, steps=[started(name)], entries=[Entry("x", name)]))
        group = [StepRow("{g}:1", 1, {"status": "running", "size": 2})]
        store.append(
            Change(
                flow_id, Move.STEP, epoch, AT + 3, steps=group, members=[MemberRow("{g}:1", 1, 1, {"status": "failed"})]
            )
        )
        state = store.get_flow_state(flow_id)
        assert state is not None
        assert [step.step_name for step in state.steps] == [*names, "{g}:1"]
        assert state.steps[-1].counts == {"pending": 1, "failed": 1}
        assert [line.step for line in store.events(flow_id)] == names
        assert [each.status for each in store.list_members(flow_id, "{g}:1")] == ["pending", "failed"]
    assert [flow.flow_id for flow in store.list_flows()] == names[::-1]
    for flow_id in names:
        move(store, Move.COMPLETE, flow_id)
        assert store.delete(flow_id)
    assert store.list_flows() == []
