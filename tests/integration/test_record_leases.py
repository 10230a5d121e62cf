"""Claims, leases, losses and retries of members."""

from __future__ import annotations

import pytest

from graflow_celery.record import (
    GroupRecord,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
)
from tests.record_support import Clock, advance, finish, open_group, swept

pytestmark = pytest.mark.redis

# claiming


def test_a_claim_grants_each_member_once(record: GroupRecord) -> None:
    open_group(record)

    first = record.claim("run", [0, 1], "a")
    second = record.claim("run", [0, 1, 2, 7], "b")

    assert [(m.index, m.attempt, m.envelope) for m in first.granted] == [(0, 1, b"envelope 0"), (1, 1, b"envelope 1")]
    assert [m.index for m in second.granted] == [2]
    assert second.refused == [0, 1, 7]
    assert record.status("run").executions == 3


def test_a_repeated_claim_grants_the_same_again(record: GroupRecord) -> None:
    open_group(record)
    first = record.claim("run", [0, 1], "a")

    assert record.claim("run", [0, 1], "a") == first
    assert (record.status("run").executions, record.status("run").running) == (2, 2)


def test_a_claim_can_be_limited_and_can_do_without_envelopes(record: GroupRecord) -> None:
    open_group(record)
    claim = record.claim("run", [2, 1, 0], "a", limit=2, envelopes=False)
    assert [(m.index, m.envelope) for m in claim.granted] == [(2, b""), (1, b"")]
    assert claim.left == [0]


def test_a_recorded_or_missing_member_is_refused(record: GroupRecord) -> None:
    open_group(record)
    finish(record, 0)

    assert record.claim("run", [0], "b").refused == [0]
    gone = record.claim("nowhere", [0, 1], "b")
    assert (gone.state, gone.spec, gone.refused) == (None, None, [0, 1])


@pytest.mark.parametrize("owner", ["", "-", "@", "-x", "a\nb"])
def test_an_owner_that_would_read_as_nobody_is_refused(record: GroupRecord, owner: str) -> None:
    with pytest.raises(ValueError, match="owner"):
        record.claim("run", [0], owner)


def test_at_most_once_groups_grant_one_member_at_a_time(record: GroupRecord) -> None:
    open_group(record, max_attempts=1)
    claim = record.claim("run", [0, 1, 2], "a")
    assert ([m.index for m in claim.granted], claim.left) == ([0], [1, 2])


def test_max_in_flight_blocks_and_completions_hand_the_slots_on(record: GroupRecord) -> None:
    open_group(record, n=5, max_in_flight=2)

    claim = record.claim("run", range(5), "a")

    assert [m.index for m in claim.granted] == [0, 1]
    assert claim.blocked == [2, 3, 4]
    completion = record.complete("run", "a", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    assert completion.ready == [2]
    assert [m.index for m in record.claim("run", [2, 3], "b").granted] == [2]
    assert record.status("run").running == 2
    assert record.release("run", "b", [2]).ready == [3]
    assert record.retry("run", "a", 1, 1, 5).ready == [4]


def test_blocked_members_are_not_published_while_the_slots_are_full(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=3, max_in_flight=1, lease=1000)
    record.claim("run", [0, 1, 2], "a")

    clock.advance(61)
    assert swept(record) == []

    record.complete("run", "a", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    clock.advance(121)
    assert swept(record)[0].waiting == [1, 2]


# leases


def test_a_beat_extends_the_lease(record: GroupRecord, clock: Clock) -> None:
    open_group(record, lease=10)
    record.claim("run", [0], "a")
    for _ in range(5):
        clock.advance(4)
        answer = record.beat([Lease("run", 0, 1, "a")])
        assert (answer.lost, answer.ended) == ([], {})
        assert swept(record) == []


def test_a_lost_member_is_published_alone_with_the_next_attempt(record: GroupRecord, clock: Clock) -> None:
    open_group(record, lease=10)
    record.claim("run", [0, 1], "a")
    finish(record, 2, owner="b")
    swept(record)

    advance(record, clock, 11)
    [republish] = swept(record)

    assert (republish.lost, republish.waiting) == ([0, 1], [])
    assert republish.spec.group_id == "group"
    answer = record.beat([Lease("run", 0, 1, "a")])
    assert answer.lost == [Lease("run", 0, 1, "a")]
    claim = record.claim("run", [0, 1], "c")
    assert [(m.index, m.attempt, m.losses) for m in claim.granted] == [(0, 2, 1)]
    assert claim.left == [1]
    assert swept(record) == []


def test_a_member_is_lost_for_good_after_max_attempts(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, lease=10, max_attempts=2)
    for attempt in (1, 2):
        assert record.claim("run", [0], f"w{attempt}").granted[0].attempt == attempt
        advance(record, clock, 11)
        [republish] = swept(record)

    assert republish.ended
    [outcome] = record.outcomes("run")
    assert (outcome.state, outcome.attempts, outcome.owner) == (MemberState.LOST, 2, "w2")
    assert record.status("run").state is GroupState.FAILED
    late = record.complete("run", "w2", [MemberReport(0, 2, MemberState.SUCCEEDED, b"")])
    assert (late.recorded, late.refused) == ([], [0])


def test_each_member_has_the_attempts_that_it_asked_for(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=4, lease=10, max_attempts=3, attempts={"1": 1, "2": 2})
    claim = record.claim("run", [0, 1, 2, 3], "a")
    assert ([m.index for m in claim.granted], claim.left) == ([0, 2, 3], [1])
    record.claim("run", [1], "b")
    advance(record, clock, 11)
    assert swept(record)[0].lost == [0, 2, 3]
    for index in (0, 2):
        record.claim("run", [index], f"c{index}")
    advance(record, clock, 11)
    assert swept(record)[0].lost == [0]

    assert {(outcome.index, outcome.attempts) for outcome in record.outcomes("run")} == {(1, 1), (2, 2)}


def test_an_unclaimed_member_is_published_again_with_doubled_wait_and_the_same_attempt(
    record: GroupRecord, clock: Clock
) -> None:
    open_group(record, n=1, queue_wait=60)
    published = []
    for second in range(0, 600, 10):
        clock.set(1_000_000_000.0 + second)
        published += [second for republish in swept(record) if republish.waiting == [0]]

    assert published == [60, 180, 420]
    assert record.claim("run", [0], "a").granted[0].attempt == 1


def test_only_as_many_members_as_asked_are_swept_at_once(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=10)
    clock.advance(61)
    found = [swept(record, 4)[0].waiting for _ in range(3)]
    assert [len(indices) for indices in found] == [4, 4, 2]
    assert sorted(index for indices in found for index in indices) == list(range(10))
    assert swept(record, 4) == []


def test_leases_outlive_a_server_that_stood_still(record: GroupRecord, clock: Clock) -> None:
    # Given a claimed member and sweepers that look every second
    open_group(record, n=1, lease=5)
    record.claim("run", [0], "a")
    swept(record)

    # When nobody can look for ten seconds
    clock.advance(10)

    # Then the worker has half a lease to come back
    assert swept(record) == []
    clock.advance(2)
    assert record.beat([Lease("run", 0, 1, "a")]).lost == []
    advance(record, clock, 4)
    assert swept(record) == []
    advance(record, clock, 2)
    assert swept(record)[0].lost == [0]


def test_released_members_are_not_charged(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0, 1, 2], "a")

    assert record.release("run", "a", [1, 2]).released == [1, 2]
    assert record.release("run", "a", [1, 2]).released == [1, 2]
    assert record.status("run").executions == 1
    assert [(m.index, m.attempt) for m in record.claim("run", [1, 2], "b").granted] == [(1, 1), (2, 1)]
    assert record.release("run", "a", [1, 2]).released == []
    assert record.status("run").running == 3


def test_a_retry_is_due_after_its_delay_and_not_before(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1)
    record.claim("run", [0], "a")

    assert record.retry("run", "a", 0, 1, 30).released == [0]
    assert record.retry("run", "a", 0, 1, 30).released == [0]
    assert (record.status("run").retries, record.status("run").retrying) == (1, 1)
    assert record.claim("run", [0], "b").refused == [0]
    clock.advance(29)
    assert swept(record) == []
    clock.advance(1)
    assert swept(record)[0].waiting == [0]
    assert (record.status("run").pending, record.status("run").retrying) == (1, 0)
    member = record.claim("run", [0], "b").granted[0]
    assert (member.attempt, member.retries, member.losses) == (2, 1, 0)
    assert record.retry("run", "a", 0, 1, 30).released == []


def test_a_member_does_not_wait_for_its_retry_any_more_however_the_wait_ends(record: GroupRecord) -> None:
    open_group(record, n=4, min_success=4)
    record.claim("run", [0, 1, 2], "a")
    for index in range(3):
        record.retry("run", "a", index, 1, 0 if index == 0 else 60)
    assert (record.status("run").pending, record.status("run").retrying) == (4, 3)
    record.claim("run", [0], "b")
    assert (record.status("run").pending, record.status("run").retrying) == (3, 2)
    record.complete("run", "a", [MemberReport(1, 1, MemberState.SUCCEEDED, b"late")])
    assert (record.status("run").pending, record.status("run").retrying) == (2, 1)
    record.cancel("run")
    assert (record.status("run").pending, record.status("run").retrying) == (0, 0)


def test_retries_that_an_execution_made_itself_count_with_the_one_that_it_leaves(record: GroupRecord) -> None:
    open_group(record, n=1)
    record.claim("run", [0], "a")
    assert record.retry("run", "a", 0, 1, 0, made=2).released == [0]
    assert record.claim("run", [0], "b").granted[0].retries == 3
    assert record.retry("run", "b", 0, 2, 0).released == [0]
    assert record.claim("run", [0], "c").granted[0].retries == 4
    assert record.status("run").retries == 4


def test_claims_wake_the_sweeper_in_time_when_queues_are_slow(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, queue_wait=1000, lease=5)
    record.claim("run", [0], "a")
    advance(record, clock, 6)
    assert swept(record)[0].lost == [0]


def test_members_of_a_dead_process_come_back_with_the_next_sweep(record: GroupRecord, clock: Clock) -> None:
    open_group(record, lease=1000)
    record.claim("run", [0, 1], "dead")
    record.claim("run", [2], "alive")

    assert record.abandon("run", "dead", [0, 1, 2]) == [0, 1]

    assert swept(record)[0].lost == [0, 1]
    assert record.abandon("run", "dead", [0, 1, 2]) == []
    assert record.status("run").running == 1
    assert record.abandon("nowhere", "dead", [0]) == []


def test_a_standstill_spares_no_dead_process(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, lease=30)
    record.claim("run", [0], "dead")
    swept(record)
    clock.advance(10)
    record.abandon("run", "dead", [0])
    assert swept(record)[0].lost == [0]


def test_another_process_may_keep_what_an_owner_holds(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=4, lease=4)
    record.claim("run", [0, 1, 2], "kept")
    record.claim("run", [3], "silent")
    record.abandon("run", "kept", [1])
    for _ in range(3):
        advance(record, clock, 3)
        assert record.keep("run", "kept", range(4)) == 4.0
    assert swept(record)[0].lost == [1, 3]
    assert record.status("run").running == 2
    advance(record, clock, 3)
    assert swept(record) == []
    advance(record, clock, 2)
    assert swept(record)[0].lost == [0, 2]
    assert record.keep("nowhere", "kept", [0]) is None
