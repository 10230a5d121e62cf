"""Members that the record leaves out: enough have succeeded, or one has failed."""

from __future__ import annotations

import pytest

from graflow.core.handlers.group_policy import LEFT_OUT_ENOUGH, LEFT_OUT_FAILED
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import GroupRecord, GroupState, Lease, MemberReport, MemberState
from tests.record_support import Clock, advance, finish, open_group, swept

pytestmark = pytest.mark.redis

FAILED, SUCCEEDED, CANCELLED = MemberState.FAILED, MemberState.SUCCEEDED, MemberState.CANCELLED


def states(record: GroupRecord) -> list[MemberState]:
    return [outcome.state for outcome in record.outcomes("run")]


def test_all_that_is_open_is_left_out_once_enough_have_succeeded(record: GroupRecord) -> None:
    open_group(record, n=5, min_success=2, enough=2)
    record.claim("run", [3], "slow")
    finish(record, 0)
    finish(record, 1, state=FAILED)
    assert record.status("run").state is GroupState.RUNNING

    done = finish(record, 2)

    assert (done.state, done.done) == (GroupState.DONE, True)
    assert states(record) == [SUCCEEDED, FAILED, SUCCEEDED, CANCELLED, CANCELLED]
    ran, unclaimed = record.outcomes("run")[3:]
    assert (ran.owner, ran.attempts, ran.payload) == ("slow", 1, LEFT_OUT_ENOUGH.encode())
    assert (unclaimed.owner, unclaimed.attempts, unclaimed.payload) == ("", 0, LEFT_OUT_ENOUGH.encode())
    assert record.beat([Lease("run", 3, 1, "slow")]).lost
    assert record.complete("run", "slow", [MemberReport(3, 1, SUCCEEDED, b"")]).refused == [3]
    status = record.status("run")
    assert (status.running, status.cancelled, status.pending) == (0, 2, 0)
    with pytest.raises(RetryRefusedError, match="enough members of group run 'run' succeeded"):
        record.reopen("run", "token")


def test_a_failure_leaves_out_what_nobody_runs(record: GroupRecord) -> None:
    open_group(record, n=5, fail_fast=True)
    record.claim("run", [3], "slow")
    record.claim("run", [4], "retrying")
    record.retry("run", "retrying", 4, 1, 10.0)

    finish(record, 1, state=FAILED)

    assert [o.index for o in record.outcomes("run") if o.payload == LEFT_OUT_FAILED.encode()] == [0, 2]
    assert record.claim("run", [0, 2], "late").granted == []
    assert not record.beat([Lease("run", 3, 1, "slow")]).lost
    assert record.complete("run", "slow", [MemberReport(3, 1, SUCCEEDED, b"")]).state is GroupState.RUNNING
    assert record.status("run").retrying == 1


def test_a_member_that_is_retried_goes_on_after_another_failed(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, fail_fast=True)
    record.claim("run", [0], "first")
    record.retry("run", "first", 0, 1, 5.0)
    finish(record, 1, state=FAILED)
    advance(record, clock, 6)
    [found] = swept(record)
    assert found.waiting == [0]
    assert finish(record, 0).state is GroupState.FAILED
    assert states(record) == [SUCCEEDED, FAILED]


def test_members_of_such_groups_are_granted_one_at_a_time(record: GroupRecord) -> None:
    open_group(record, "fast", n=3, fail_fast=True)
    open_group(record, "enough", n=3, min_success=1, enough=1)
    for run_id in ("fast", "enough"):
        claim = record.claim(run_id, [0, 1, 2], "w")
        assert ([granted.index for granted in claim.granted], claim.left) == ([0], [1, 2])
        record.cancel(run_id)


def test_what_is_lost_or_released_after_a_failure_does_not_run_again(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=3, fail_fast=True, lease=5)
    record.claim("run", [0], "released")
    record.claim("run", [1], "lost")
    finish(record, 2, state=FAILED)

    assert record.release("run", "released", [0]).released == []

    advance(record, clock, 6)
    found = [again for again in swept(record) if again.lost or again.waiting]
    assert found == []
    assert record.status("run").state is GroupState.FAILED
    assert states(record) == [CANCELLED, CANCELLED, FAILED]


def test_a_release_may_end_the_group_and_its_continuation_follows(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, fail_fast=True, continuation=True)
    record.claim("run", [0], "w")
    finish(record, 1, state=FAILED)
    record.release("run", "w", [0])
    assert record.status("run").state is GroupState.FAILED
    advance(record, clock, 1)
    [found] = swept(record)
    assert found.continuation
    finish(record, 2)


def test_the_next_round_is_not_ended_by_failures_of_the_one_before(record: GroupRecord) -> None:
    open_group(record, n=4, fail_fast=True)
    record.claim("run", [2], "other")
    finish(record, 0, state=FAILED)
    record.complete("run", "other", [MemberReport(2, 1, FAILED, b"")])
    assert states(record) == [FAILED, CANCELLED, FAILED, CANCELLED]

    record.reopen("run", "one", 1)
    assert finish(record, 1).state is GroupState.FAILED  # it ran
    assert states(record)[1] is SUCCEEDED

    assert record.reopen("run", "all").members == [0, 2, 3]
    finish(record, 0)
    finish(record, 2, state=FAILED)
    assert states(record) == [SUCCEEDED, SUCCEEDED, FAILED, CANCELLED]


def test_what_is_known_from_elsewhere_may_be_enough(record: GroupRecord) -> None:
    open_group(record, "first", n=1)
    finish(record, 0, run_id="first")
    open_group(record, n=3, min_success=1, enough=1)
    assert record.restore("run", record.outcomes("first")) == [0]
    assert record.status("run").state is GroupState.DONE


def test_a_slot_that_is_left_free_is_not_given_to_what_was_left_out(record: GroupRecord) -> None:
    open_group(record, n=4, min_success=1, enough=1, max_in_flight=1)
    record.claim("run", [0], "a")
    assert record.claim("run", [1], "b").blocked == [1]
    done = record.complete("run", "a", [MemberReport(0, 1, SUCCEEDED, b"")])
    assert (done.state, done.ready) == (GroupState.DONE, [])
