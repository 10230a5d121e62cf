"""Outcomes, and how a group comes to its end."""

from __future__ import annotations

import pytest
import redis

from graflow.exceptions import GroupNotFoundError
from graflow_celery.record import (
    GroupRecord,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
)
from tests.record_support import Clock, Half, advance, finish, make_spec, open_group, swept

pytestmark = pytest.mark.redis

# completing


def test_outcomes_are_recorded_once_and_in_the_order_of_coming(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0, 1, 2], "a")

    first = record.complete(
        "run",
        "a",
        [MemberReport(2, 1, MemberState.SUCCEEDED, b"two"), MemberReport(0, 1, MemberState.SUCCEEDED, b"zero")],
    )
    again = record.complete("run", "a", [MemberReport(2, 1, MemberState.SUCCEEDED, b"two")])

    assert first.recorded == [0, 2]
    assert (again.recorded, again.refused) == ([2], [])
    assert not first.done
    batch = record.read("run")
    assert [(o.index, o.payload) for o in batch.outcomes] == [(2, b"two"), (0, b"zero")]
    assert [o.index for o in record.outcomes("run")] == [0, 2]
    assert record.complete("run", "a", [MemberReport(1, 1, MemberState.SUCCEEDED, b"one")]).done
    assert record.status("run").refused == 0


def test_the_first_outcome_wins_and_a_late_one_is_counted(record: GroupRecord, clock: Clock) -> None:
    # Given a paused worker whose member was given to another
    open_group(record, n=2, lease=5)
    record.claim("run", [0], "paused")
    advance(record, clock, 6)
    swept(record)
    record.claim("run", [0], "second")

    # When the paused one reports first
    late = record.complete("run", "paused", [MemberReport(0, 1, MemberState.SUCCEEDED, b"paused")])
    refused = record.complete("run", "second", [MemberReport(0, 2, MemberState.SUCCEEDED, b"second")])

    assert (late.recorded, late.late) == ([0], [0])
    assert (refused.recorded, refused.refused) == ([], [0])
    [outcome] = record.outcomes("run")
    assert (outcome.payload, outcome.late, outcome.attempts) == (b"paused", True, 1)
    status = record.status("run")
    assert (status.late, status.refused, status.running, status.succeeded) == (1, 1, 0, 1)


def test_results_of_attempts_that_never_were_are_refused(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0], "a")
    forged = [
        MemberReport(0, 2, MemberState.SUCCEEDED, b""),
        MemberReport(1, 1, MemberState.SUCCEEDED, b""),
        MemberReport(1, 0, MemberState.SUCCEEDED, b""),
    ]
    assert record.complete("run", "a", forged).recorded == []
    assert record.complete("run", "a", [MemberReport(9, 1, MemberState.SUCCEEDED, b"")]).recorded == []
    assert record.status("run").refused == 4
    assert record.complete("nowhere", "a", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")]).state is None


def test_one_index_twice_in_one_report_counts_once(record: GroupRecord) -> None:
    open_group(record, n=2)
    record.claim("run", [0, 1], "a")
    completion = record.complete(
        "run", "a", [MemberReport(0, 1, MemberState.SUCCEEDED, b"1"), MemberReport(0, 1, MemberState.SUCCEEDED, b"2")]
    )
    assert (completion.recorded, completion.refused, completion.done) == ([0], [0], False)
    assert record.outcomes("run")[0].payload == b"1"


@pytest.mark.parametrize(
    ("min_success", "critical", "failing", "expected"),
    [
        (3, (), [], GroupState.DONE),
        (3, (), [1], GroupState.FAILED),
        (2, (), [1], GroupState.DONE),
        (0, (), [0, 1, 2], GroupState.DONE),
        (0, (1,), [1], GroupState.FAILED),
        (0, (1,), [0, 2], GroupState.DONE),
    ],
)
def test_the_last_outcome_decides_by_the_policy(
    record: GroupRecord, min_success: int, critical: tuple[int, ...], failing: list[int], expected: GroupState
) -> None:
    open_group(record, min_success=min_success, critical=critical)
    for index in range(3):
        completion = finish(record, index, state=MemberState.FAILED if index in failing else MemberState.SUCCEEDED)
    assert completion.state is expected
    ends = [data for _, data in record.events("run") if data["kind"] == b"end"]
    assert ends == [{"kind": b"end", "state": expected.value.encode()}]
    assert record.status("run").failed == len(failing)


def test_every_key_expires_from_the_end_and_none_before(record: GroupRecord, record_server: redis.Redis) -> None:
    open_group(record, result_ttl=100)
    record.open(make_spec("child", parent_run="run"), [b""] * 3, {"hash": b"payload"})
    record.cancel("child")
    keys = list(record_server.scan_iter("t:run:*"))
    assert all(record_server.ttl(key) == -1 for key in keys)

    for index in range(3):
        finish(record, index)

    keys = list(record_server.scan_iter("t:run:*"))
    assert {key.rsplit(b":", 1)[1] for key in keys} == {
        b"header",
        b"manifest",
        b"outcomes",
        b"order",
        b"events",
        b"children",
    }
    assert all(0 < record_server.ttl(key) <= 100 for key in keys)
    assert record.open_groups() == []


def test_nothing_revives_a_run_that_has_expired(record: GroupRecord, record_server: redis.Redis) -> None:
    open_group(record)
    record.claim("run", [0], "a")
    assert record.delete("run")
    assert not record.delete("run")
    lease = Lease("run", 0, 1, "a")

    record.claim("run", [1], "b")
    record.complete("run", "a", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    assert record.beat([lease]).ended == {"run": None}
    record.retry("run", "a", 0, 1, 1)
    record.release("run", "a", [0])
    record.progress(lease, b"half")
    record.mark_published("run")
    record.expedite("run")
    swept(record)

    assert list(record_server.scan_iter("t:run:*")) == []


# the end of a group by other means


def test_cancel_records_every_open_member_at_once(record: GroupRecord) -> None:
    open_group(record)
    finish(record, 0)
    record.claim("run", [1], "a")

    assert record.cancel("run", "enough") == ["run"]

    assert record.cancel("run") == []
    batch = record.read("run")
    assert batch.closed
    assert [o.state.value for o in record.outcomes("run")] == ["SUCCEEDED", "CANCELLED", "CANCELLED"]
    assert (batch.status.state, batch.status.cancelled, batch.status.running) == (GroupState.CANCELLED, 2, 0)
    assert record.header("run").reason == "enough"
    assert record.beat([Lease("run", 1, 1, "a")]).ended == {"run": GroupState.CANCELLED}
    assert record.complete("run", "a", [MemberReport(1, 1, MemberState.SUCCEEDED, b"")]).refused == [1]
    with pytest.raises(GroupNotFoundError):
        record.cancel("nowhere")


def test_cancel_reaches_groups_within_groups(record: GroupRecord) -> None:
    open_group(record)
    open_group(record, "child", parent_run="run")
    open_group(record, "grandchild", parent_run="child")
    open_group(record, "other")

    assert sorted(record.cancel("run")) == ["child", "grandchild", "run"]

    assert record.status("grandchild").cancelled == 3
    assert record.status("other").state is GroupState.RUNNING


def test_cancel_reaches_below_a_group_that_is_done(record: GroupRecord) -> None:
    open_group(record, "child", n=0)
    open_group(record, n=1)
    open_group(record, "middle", n=0, parent_run="run")
    open_group(record, "leaf", parent_run="middle")
    assert sorted(record.cancel("run")) == ["leaf", "run"]


def test_a_child_of_a_cancelled_group_is_cancelled_when_it_is_opened(
    record: GroupRecord, record_server: redis.Redis
) -> None:
    open_group(record)
    record.cancel("run")
    assert record.open(make_spec("child", parent_run="run"), [b""] * 3).state is GroupState.CANCELLED
    assert record_server.ttl("t:run:children") > 0


def test_the_sweeper_finishes_a_cancel_that_was_cut_off(record: GroupRecord, clock: Clock) -> None:
    open_group(record)
    open_group(record, "child", parent_run="run")
    record._run("cancel", "run", [""])
    clock.advance(61)
    swept(record)
    assert record.status("child").state is GroupState.CANCELLED


def test_a_group_that_is_being_opened_can_be_cancelled(record: GroupRecord) -> None:
    spec = make_spec(n=2001)
    record.manifests.write(spec, "opener", Half(range(2001)), {})
    record.cancel("run")
    assert record.open(spec, [b"%d" % index for index in range(2001)]).state is GroupState.CANCELLED


def test_the_deadline_times_out_open_members_and_their_groups(record: GroupRecord, clock: Clock) -> None:
    open_group(record, timeout=20, min_success=0)
    open_group(record, "child", parent_run="run")
    finish(record, 0)
    assert record.claim("run", [1], "a").remaining == 20

    clock.advance(20)
    assert record.claim("run", [2], "b").refused == [2]
    [republish] = swept(record)

    assert republish.ended
    assert [o.state.value for o in record.outcomes("run")] == ["SUCCEEDED", "TIMED_OUT", "TIMED_OUT"]
    status = record.status("run")
    assert (status.state, status.failed, status.timed_out) == (GroupState.FAILED, 2, 2)
    assert record.status("child").state is GroupState.CANCELLED


# the continuation


def test_the_continuation_is_claimable_once_all_members_are_recorded(record: GroupRecord) -> None:
    open_group(record, n=2, continuation=True)
    assert record.claim_continuation("run", "c").granted == []
    finish(record, 0)
    last = finish(record, 1)

    assert (last.done, last.continuation) == (True, True)
    assert not record.read("run").closed
    claim = record.claim_continuation("run", "c")
    assert [(m.index, m.envelope) for m in claim.granted] == [(2, b"envelope 2")]
    assert record.claim_continuation("run", "d").granted == []
    assert record.beat([Lease("run", 2, 1, "c")]).ended == {}
    assert record.open_groups() == ["run"]
    record.complete("run", "c", [MemberReport(2, 1, MemberState.SUCCEEDED, b"sum")])
    assert record.open_groups() == []
    batch = record.read("run")
    assert batch.closed
    assert batch.outcomes[-1].payload == b"sum"
    assert batch.status.succeeded == 2
    assert record.outcomes("run", 2)[0].payload == b"sum"


def test_the_sweeper_publishes_a_continuation_that_nobody_claimed_or_whose_worker_died(
    record: GroupRecord, clock: Clock
) -> None:
    open_group(record, n=1, continuation=True, lease=10, max_attempts=2)
    finish(record, 0)
    clock.advance(61)
    assert swept(record)[0].continuation
    record.claim_continuation("run", "a")
    advance(record, clock, 11)
    assert swept(record)[0].continuation
    record.claim_continuation("run", "b")
    advance(record, clock, 11)
    swept(record)
    assert record.outcomes("run")[1].state is MemberState.LOST
    assert record.open_groups() == []


def test_a_group_that_times_out_still_runs_its_continuation(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, continuation=True, timeout=5)
    clock.advance(5)
    assert swept(record)[0].continuation
    assert record.claim_continuation("run", "a").state is GroupState.FAILED


def test_cancel_takes_the_continuation_along(record: GroupRecord) -> None:
    open_group(record, n=1, continuation=True)
    record.cancel("run")
    assert [o.state for o in record.outcomes("run")] == [MemberState.CANCELLED] * 2
    assert record.read("run").status.cancelled == 1

    open_group(record, "late", n=1, continuation=True)
    finish(record, 0, run_id="late")
    assert record.cancel("late") == ["late"]
    assert record.status("late").state is GroupState.DONE
    assert record.read("late").closed


def test_outcomes_known_from_elsewhere_are_entered_without_an_execution(record: GroupRecord) -> None:
    # Given a group that allows one member at a time, at most once
    spec = open_group(record, "old", n=4)
    for index in (3, 0):
        finish(record, index, run_id="old")
    known = record.read("old").outcomes
    open_group(record, n=4, max_attempts=1, max_in_flight=1)
    record.claim("run", [1], "w")

    # When the outcomes of an earlier record are entered
    assert record.restore("run", known) == [0, 3]

    # Then those members never run
    assert record.restore("run", known) == []
    assert record.claim("run", range(spec.n), "v").refused == [0, 1, 3]
    assert [(o.index, o.payload) for o in record.outcomes("run")] == [(0, b"payload 0"), (3, b"payload 3")]
    status = record.status("run")
    assert (status.executions, status.running, status.succeeded) == (1, 1, 2)
    record.complete("run", "w", [MemberReport(1, 1, MemberState.SUCCEEDED, b"")])
    assert finish(record, 2, owner="v").state is GroupState.DONE
    assert record.restore("run", known) == []
    assert record.restore("nowhere", known) == []


def test_a_group_can_be_ended_by_outcomes_from_elsewhere(record: GroupRecord, clock: Clock) -> None:
    open_group(record, "old", n=1)
    finish(record, 0, run_id="old")
    open_group(record, n=1, continuation=True)
    record.restore("run", record.outcomes("old"))
    assert record.status("run").state is GroupState.DONE
    clock.advance(61)
    assert swept(record)[0].continuation
