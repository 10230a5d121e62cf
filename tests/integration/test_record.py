"""Every operation of the group record on each server that is here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from graflow.exceptions import ConfigError, GroupConflictError, GroupLostError, GroupNotFoundError, PayloadError
from graflow_celery.record import (
    Cursor,
    GroupRecord,
    GroupSpec,
    GroupState,
    Lease,
    MemberResult,
    MemberState,
    RecordFullError,
    check_server,
    manifest_digest,
)
from tests.record_support import Clock, clocked_record, keys_without_ttl, private_server, servers

pytestmark = pytest.mark.redis

OK = MemberState.SUCCEEDED


@pytest.fixture(scope="module", params=sorted(servers()))
def server(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with private_server(servers()[request.param]) as client:
        yield client


@pytest.fixture
def world(server: redis.Redis) -> Iterator[tuple[GroupRecord, Clock]]:
    server.flushall()
    yield clocked_record(server)
    assert keys_without_ttl(server) == []


@pytest.fixture
def record(world: tuple[GroupRecord, Clock]) -> GroupRecord:
    return world[0]


@pytest.fixture
def clock(world: tuple[GroupRecord, Clock]) -> Clock:
    return world[1]


def make_spec(run_id: str = "run", n: int = 3, **changes: Any) -> GroupSpec:
    return GroupSpec(run_id=run_id, group_id="group", n=n, digest="digest", **{"min_success": n, **changes})


def make_manifest(spec: GroupSpec) -> list[bytes]:
    return [b"envelope %d" % index for index in range(spec.n + int(spec.continuation))]


def open_group(record: GroupRecord, run_id: str = "run", n: int = 3, **changes: Any) -> GroupSpec:
    spec = make_spec(run_id, n, **changes)
    assert record.open(spec, make_manifest(spec)).created
    return spec


def finish(record: GroupRecord, index: int, *, run_id: str = "run", owner: str = "w", state: MemberState = OK) -> Any:
    attempt = record.claim(run_id, [index], owner).granted[0].attempt
    return record.complete(run_id, owner, [MemberResult(index, attempt, state, b"payload %d" % index)])


# opening


def test_a_group_is_opened_with_its_manifest_and_shared_payloads(record: GroupRecord) -> None:
    spec = make_spec(meta={"graph": "g"}, options={"priority": 3}, critical=(1,))

    opened = record.open(spec, make_manifest(spec), {"hash": b"big"})

    assert (opened.created, opened.state, opened.published) == (True, GroupState.RUNNING, False)
    assert record.envelopes("run", [2, 0, 9]) == [b"envelope 2", b"envelope 0", None]
    assert record.shared("run", ["hash", "other"]) == {"hash": b"big"}
    header = record.header("run")
    assert header.spec == spec
    assert header.manifest_bytes == 33
    assert header.epoch == opened.epoch
    assert (header.status.pending, header.status.running) == (3, 0)
    assert record.open_groups() == ["run"]


def test_the_same_digest_attaches_and_another_conflicts(record: GroupRecord) -> None:
    spec = open_group(record)
    finish(record, 0)

    again = record.open(spec, make_manifest(spec))

    assert not again.created
    assert record.status("run").succeeded == 1
    with pytest.raises(GroupConflictError, match="run id") as caught:
        record.open(GroupSpec(run_id="run", group_id="group", n=3, digest="other"), make_manifest(spec))
    assert caught.value.run_id == "run"


def test_the_digest_depends_on_every_envelope_and_every_boundary() -> None:
    digests = {
        manifest_digest([b"ab", b"c"], {}),
        manifest_digest([b"a", b"bc"], {}),
        manifest_digest([b"ab"], {"c": b""}),
        manifest_digest([b"c", b"ab"], {}),
    }
    assert len(digests) == 4
    assert manifest_digest([b"x"], {"a": b"1", "b": b"2"}) == manifest_digest([b"x"], {"b": b"2", "a": b"1"})


def test_a_manifest_that_does_not_fit_is_refused(record: GroupRecord) -> None:
    with pytest.raises(PayloadError, match="needs 4 envelopes"):
        record.open(make_spec(continuation=True), [b""] * 3)
    with pytest.raises(PayloadError, match="100000"):
        record.open(make_spec(n=100_001), [b""] * 100_001)
    assert record.open_groups() == []


def test_an_empty_group_is_done_at_once(record: GroupRecord) -> None:
    assert record.open(make_spec(n=0), []).state is GroupState.DONE
    assert record.read("run").closed
    assert record.open_groups() == []


def test_a_big_manifest_is_written_in_chunks(record: GroupRecord) -> None:
    spec = make_spec(n=5001)

    record.open(spec, [b"%d" % index for index in range(5001)])

    assert record.envelopes("run", [0, 2000, 5000]) == [b"0", b"2000", b"5000"]
    assert record.status("run").pending == 5001
    claim = record.claim("run", range(5001), "w")
    assert [member.index for member in claim.granted] == list(range(5001))


def test_a_group_that_was_never_opened_to_its_end_is_removed_by_the_sweeper(record: GroupRecord, clock: Clock) -> None:
    # Given a submitter that died between two chunks
    spec = make_spec(n=2001)
    record._write(spec, "opener", 0, Half(range(2001)), {})
    assert record.header("run").state is GroupState.OPENING
    assert len(record.claim("run", [0], "w").refused) == 1

    clock.advance(599)
    record.sweep()
    assert record.open_groups() == ["run"]
    clock.advance(2)
    record.sweep()

    with pytest.raises(GroupNotFoundError):
        record.header("run")


class Half(list[bytes]):
    """A manifest whose second chunk cannot be read."""

    def __init__(self, source: range) -> None:
        super().__init__(b"%d" % index for index in source)

    def __getitem__(self, item: Any) -> Any:
        return super().__getitem__(item) if item.start == 0 else []


def test_another_submitter_finishes_a_half_opened_group(record: GroupRecord) -> None:
    spec = make_spec(n=2001)
    manifest = [b"%d" % index for index in range(2001)]
    record._write(spec, "opener", 0, Half(range(2001)), {})

    assert record.open(spec, manifest).created
    assert record.status("run").pending == 2001


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
    completion = record.complete("run", "a", [MemberResult(0, 1, OK, b"")])
    assert completion.ready == [2]
    assert [m.index for m in record.claim("run", [2, 3], "b").granted] == [2]
    assert record.status("run").running == 2
    assert record.release("run", "b", [2]).ready == [3]
    assert record.retry("run", "a", 1, 1, 5).ready == [4]


def test_blocked_members_are_not_published_while_the_slots_are_full(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=3, max_in_flight=1, lease=1000)
    record.claim("run", [0, 1, 2], "a")

    clock.advance(61)
    assert record.sweep() == []

    record.complete("run", "a", [MemberResult(0, 1, OK, b"")])
    clock.advance(121)
    assert record.sweep()[0].waiting == [1, 2]


# leases


def test_a_beat_extends_the_lease(record: GroupRecord, clock: Clock) -> None:
    open_group(record, lease=10)
    record.claim("run", [0], "a")
    for _ in range(5):
        clock.advance(4)
        answer = record.beat([Lease("run", 0, 1, "a")])
        assert (answer.lost, answer.ended) == ([], {})
        assert record.sweep() == []


def test_a_lost_member_is_published_alone_with_the_next_attempt(record: GroupRecord, clock: Clock) -> None:
    open_group(record, lease=10)
    record.claim("run", [0, 1], "a")
    finish(record, 2, owner="b")
    record.sweep()

    advance(record, clock, 11)
    [republish] = record.sweep()

    assert (republish.lost, republish.waiting) == ([0, 1], [])
    assert republish.spec.group_id == "group"
    answer = record.beat([Lease("run", 0, 1, "a")])
    assert answer.lost == [Lease("run", 0, 1, "a")]
    claim = record.claim("run", [0, 1], "c")
    assert [(m.index, m.attempt, m.losses) for m in claim.granted] == [(0, 2, 1)]
    assert claim.left == [1]
    assert record.sweep() == []


def advance(record: GroupRecord, clock: Clock, seconds: float) -> None:
    """Time passes while a sweeper looks at every second, so that nothing seems to stand still."""
    for _ in range(int(seconds)):
        clock.advance(1)
        record._scripts.run("look", [record.keys.shared("nothing"), record.keys.shared("clock")], [0, 2500])


def test_a_member_is_lost_for_good_after_max_attempts(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, lease=10, max_attempts=2)
    for attempt in (1, 2):
        assert record.claim("run", [0], f"w{attempt}").granted[0].attempt == attempt
        advance(record, clock, 11)
        [republish] = record.sweep()

    assert republish.ended
    [outcome] = record.outcomes("run")
    assert (outcome.state, outcome.attempts, outcome.owner) == (MemberState.LOST, 2, "w2")
    assert record.status("run").state is GroupState.FAILED
    late = record.complete("run", "w2", [MemberResult(0, 2, OK, b"")])
    assert (late.recorded, late.refused) == ([], [0])


def test_more_attempts_can_be_allowed(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, lease=10, max_attempts=1)
    assert record.raise_budget("run", 2)
    assert record.header("run").max_attempts == 3
    record.claim("run", [0], "a")
    advance(record, clock, 11)
    assert record.sweep()[0].lost == [0]
    assert not record.raise_budget("nowhere", 1)


def test_an_unclaimed_member_is_published_again_with_doubled_wait_and_the_same_attempt(
    record: GroupRecord, clock: Clock
) -> None:
    open_group(record, n=1, queue_wait=60)
    published = []
    for second in range(0, 600, 10):
        clock.set(1_000_000_000.0 + second)
        published += [second for republish in record.sweep() if republish.waiting == [0]]

    assert published == [60, 180, 420]
    assert record.claim("run", [0], "a").granted[0].attempt == 1


def test_only_as_many_members_as_asked_are_swept_at_once(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=10)
    clock.advance(61)
    swept = [record.sweep(4)[0].waiting for _ in range(3)]
    assert [len(indices) for indices in swept] == [4, 4, 2]
    assert sorted(index for indices in swept for index in indices) == list(range(10))
    assert record.sweep(4) == []


def test_leases_outlive_a_server_that_stood_still(record: GroupRecord, clock: Clock) -> None:
    # Given a claimed member and sweepers that look every second
    open_group(record, n=1, lease=5)
    record.claim("run", [0], "a")
    record.sweep()

    # When nobody can look for ten seconds
    clock.advance(10)

    # Then the worker has half a lease to come back
    assert record.sweep() == []
    clock.advance(2)
    assert record.beat([Lease("run", 0, 1, "a")]).lost == []
    advance(record, clock, 4)
    assert record.sweep() == []
    advance(record, clock, 2)
    assert record.sweep()[0].lost == [0]


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
    assert record.status("run").retries == 1
    assert record.claim("run", [0], "b").refused == [0]
    clock.advance(29)
    assert record.sweep() == []
    clock.advance(1)
    assert record.sweep()[0].waiting == [0]
    member = record.claim("run", [0], "b").granted[0]
    assert (member.attempt, member.retries, member.losses) == (2, 1, 0)
    assert record.retry("run", "a", 0, 1, 30).released == []


def test_claims_wake_the_sweeper_in_time_when_queues_are_slow(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, queue_wait=1000, lease=5)
    record.claim("run", [0], "a")
    advance(record, clock, 6)
    assert record.sweep()[0].lost == [0]


# completing


def test_outcomes_are_recorded_once_and_in_the_order_of_coming(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0, 1, 2], "a")

    first = record.complete("run", "a", [MemberResult(2, 1, OK, b"two"), MemberResult(0, 1, OK, b"zero")])
    again = record.complete("run", "a", [MemberResult(2, 1, OK, b"two")])

    assert first.recorded == [0, 2]
    assert (again.recorded, again.refused) == ([2], [])
    assert not first.done
    batch = record.read("run")
    assert [(o.index, o.payload) for o in batch.outcomes] == [(2, b"two"), (0, b"zero")]
    assert [o.index for o in record.outcomes("run")] == [0, 2]
    assert record.complete("run", "a", [MemberResult(1, 1, OK, b"one")]).done
    assert record.status("run").refused == 0


def test_the_first_outcome_wins_and_a_late_one_is_counted(record: GroupRecord, clock: Clock) -> None:
    # Given a paused worker whose member was given to another
    open_group(record, n=2, lease=5)
    record.claim("run", [0], "paused")
    advance(record, clock, 6)
    record.sweep()
    record.claim("run", [0], "second")

    # When the paused one reports first
    late = record.complete("run", "paused", [MemberResult(0, 1, OK, b"paused")])
    refused = record.complete("run", "second", [MemberResult(0, 2, OK, b"second")])

    assert (late.recorded, late.late) == ([0], [0])
    assert (refused.recorded, refused.refused) == ([], [0])
    [outcome] = record.outcomes("run")
    assert (outcome.payload, outcome.late, outcome.attempts) == (b"paused", True, 1)
    status = record.status("run")
    assert (status.late, status.refused, status.running, status.succeeded) == (1, 1, 0, 1)


def test_results_of_attempts_that_never_were_are_refused(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0], "a")
    forged = [MemberResult(0, 2, OK, b""), MemberResult(1, 1, OK, b""), MemberResult(1, 0, OK, b"")]
    assert record.complete("run", "a", forged).recorded == []
    assert record.complete("run", "a", [MemberResult(9, 1, OK, b"")]).recorded == []
    assert record.status("run").refused == 4
    assert record.complete("nowhere", "a", [MemberResult(0, 1, OK, b"")]).state is None


def test_one_index_twice_in_one_report_counts_once(record: GroupRecord) -> None:
    open_group(record, n=2)
    record.claim("run", [0, 1], "a")
    completion = record.complete("run", "a", [MemberResult(0, 1, OK, b"1"), MemberResult(0, 1, OK, b"2")])
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
        completion = finish(record, index, state=MemberState.FAILED if index in failing else OK)
    assert completion.state is expected
    ends = [data for _, data in record.events("run") if data["kind"] == b"end"]
    assert ends == [{"kind": b"end", "state": expected.value.encode()}]
    assert record.status("run").failed == len(failing)


def test_every_key_expires_from_the_end_and_none_before(record: GroupRecord, server: redis.Redis) -> None:
    open_group(record, result_ttl=100)
    record.open(make_spec("child", parent_run="run"), [b""] * 3, {"hash": b"payload"})
    record.cancel("child")
    keys = list(server.scan_iter("t:run:*"))
    assert all(server.ttl(key) == -1 for key in keys)

    for index in range(3):
        finish(record, index)

    keys = list(server.scan_iter("t:run:*"))
    assert {key.rsplit(b":", 1)[1] for key in keys} == {
        b"header",
        b"manifest",
        b"outcomes",
        b"order",
        b"events",
        b"children",
    }
    assert all(0 < server.ttl(key) <= 100 for key in keys)
    assert record.open_groups() == []


def test_nothing_revives_a_run_that_has_expired(record: GroupRecord, server: redis.Redis) -> None:
    open_group(record)
    record.claim("run", [0], "a")
    assert record.delete("run")
    assert not record.delete("run")
    lease = Lease("run", 0, 1, "a")

    record.claim("run", [1], "b")
    record.complete("run", "a", [MemberResult(0, 1, OK, b"")])
    assert record.beat([lease]).ended == {"run": None}
    record.retry("run", "a", 0, 1, 1)
    record.release("run", "a", [0])
    record.progress(lease, b"half")
    record.mark_published("run")
    record.hurry("run")
    record.sweep()

    assert list(server.scan_iter("t:run:*")) == []


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
    assert record.complete("run", "a", [MemberResult(1, 1, OK, b"")]).refused == [1]
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


def test_a_child_of_a_cancelled_group_is_cancelled_when_it_is_opened(record: GroupRecord, server: redis.Redis) -> None:
    open_group(record)
    record.cancel("run")
    assert record.open(make_spec("child", parent_run="run"), [b""] * 3).state is GroupState.CANCELLED
    assert server.ttl("t:run:children") > 0


def test_the_sweeper_finishes_a_cancel_that_was_cut_off(record: GroupRecord, clock: Clock) -> None:
    open_group(record)
    open_group(record, "child", parent_run="run")
    record._run("cancel", "run", [""])
    clock.advance(61)
    record.sweep()
    assert record.status("child").state is GroupState.CANCELLED


def test_a_group_that_is_being_opened_can_be_cancelled(record: GroupRecord) -> None:
    spec = make_spec(n=2001)
    record._write(spec, "opener", 0, Half(range(2001)), {})
    record.cancel("run")
    assert record.open(spec, [b"%d" % index for index in range(2001)]).state is GroupState.CANCELLED


def test_the_deadline_times_out_open_members_and_their_groups(record: GroupRecord, clock: Clock) -> None:
    open_group(record, timeout=20, min_success=0)
    open_group(record, "child", parent_run="run")
    finish(record, 0)
    assert record.claim("run", [1], "a").remaining == 20

    clock.advance(20)
    assert record.claim("run", [2], "b").refused == [2]
    [republish] = record.sweep()

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
    record.complete("run", "c", [MemberResult(2, 1, OK, b"sum")])
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
    assert record.sweep()[0].continuation
    record.claim_continuation("run", "a")
    advance(record, clock, 11)
    assert record.sweep()[0].continuation
    record.claim_continuation("run", "b")
    advance(record, clock, 11)
    record.sweep()
    assert record.outcomes("run")[1].state is MemberState.LOST
    assert record.open_groups() == []


def test_a_group_that_times_out_still_runs_its_continuation(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=1, continuation=True, timeout=5)
    clock.advance(5)
    assert record.sweep()[0].continuation
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


# reading


def test_a_reader_goes_on_from_its_cursor(record: GroupRecord) -> None:
    open_group(record)
    finish(record, 2)
    first = record.read("run")
    finish(record, 0)
    finish(record, 1)
    second = record.read("run", first.cursor, count=1)
    third = record.read("run", second.cursor, count=1)

    assert [o.index for o in first.outcomes + second.outcomes + third.outcomes] == [2, 0, 1]
    assert (second.more, second.closed, third.more, third.closed) == (True, False, False, True)


def test_a_blocked_reader_wakes_with_the_outcome(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0], "w")
    begun = threading.Event()
    batches = []

    def wait() -> None:
        begun.set()
        batches.append(record.read("run", block=30))

    reader = threading.Thread(target=wait)
    reader.start()
    begun.wait()
    record.complete("run", "w", [MemberResult(0, 1, OK, b"")])
    reader.join(10)

    assert [o.index for o in batches[0].outcomes] == [0]


def test_a_reader_that_waits_in_vain_comes_back_empty(record: GroupRecord) -> None:
    open_group(record)
    batch = record.read("run", block=0.01)
    assert (batch.outcomes, batch.closed, batch.status.pending) == ([], False, 3)


def test_a_wiped_server_is_noticed_by_its_readers(record: GroupRecord, server: redis.Redis, clock: Clock) -> None:
    spec = open_group(record)
    cursor = record.read("run").cursor
    with pytest.raises(GroupNotFoundError):
        record.read("nowhere")

    server.flushall()
    clock.advance(0)
    with pytest.raises(GroupLostError, match="wiped"):
        record.read("run", cursor)
    record.open(spec, make_manifest(spec))
    with pytest.raises(GroupLostError, match="anew"):
        record.read("run", cursor)
    assert record.read("run", Cursor()).status.pending == 3


def test_events_are_capped_and_carry_progress(record: GroupRecord) -> None:
    open_group(record, n=1)
    member = record.claim("run", [0], "w").granted[0]
    for step in range(2000):
        record.progress(Lease("run", 0, member.attempt, "w"), b"%d" % step)
    events = record.events("run", count=5000)
    assert len(events) < 1300
    assert events[-1][1] == {"kind": b"progress", "index": b"0", "attempt": b"1", "data": b"1999"}
    assert record.events("run", events[-1][0]) == []


def test_a_run_that_is_unknown_is_not_found(record: GroupRecord) -> None:
    for ask in (record.header, record.status, record.outcomes):
        with pytest.raises(GroupNotFoundError) as caught:
            ask("nowhere")
        assert caught.value.run_id == "nowhere"


# publishing


def test_a_submitter_that_died_while_publishing_is_helped_out(record: GroupRecord) -> None:
    spec = open_group(record)
    record.claim("run", [1], "w")
    assert not record.open(spec, make_manifest(spec)).published

    record.hurry("run")
    assert record.sweep()[0].waiting == [0, 2]

    record.mark_published("run")
    assert record.open(spec, make_manifest(spec)).published
    assert record.header("run").published


# workers


def test_workers_are_listed_while_they_beat(record: GroupRecord, clock: Clock) -> None:
    record.register_worker("a", {"slots": 2, "queues": ["q"]})
    clock.advance(20)
    record.register_worker("b", {"slots": 1})

    assert [(w.worker_id, w.age, w.info["slots"]) for w in record.live_workers()] == [("a", 20.0, 2), ("b", 0.0, 1)]
    clock.advance(11)
    assert [w.worker_id for w in record.live_workers()] == ["b"]
    record.register_worker("b", {"slots": 1})
    assert record.client.hlen("t:workers:info") == 1
    record.forget_worker("b")
    assert record.live_workers() == []


# servers


def test_an_out_of_memory_server_refuses_the_whole_group(record: GroupRecord, server: redis.Redis) -> None:
    used = int(server.info("memory")["used_memory"])
    server.config_set("maxmemory", used + 6_000_000)
    try:
        with pytest.raises(RecordFullError, match="out of memory") as caught:
            record.open(make_spec(n=20), [b"x" * 1_000_000] * 20)
        assert caught.value.run_id == "run"
    finally:
        server.config_set("maxmemory", 0)
    assert list(server.scan_iter("t:run:*")) == []
    assert record.open_groups() == []


def test_an_out_of_memory_server_records_nothing_of_a_report(record: GroupRecord, server: redis.Redis) -> None:
    open_group(record)
    record.claim("run", [0, 1], "w")
    before = record.header("run")
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.complete("run", "w", [MemberResult(0, 1, OK, b"")])
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.cancel("run")
    finally:
        server.config_set("maxmemory", 0)
    assert record.header("run").status == before.status
    assert record.complete("run", "w", [MemberResult(0, 1, OK, b"")]).recorded == [0]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_server_that_evicts_any_key_is_refused(server: redis.Redis, policy: str) -> None:
    server.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(ConfigError, match=policy):
            check_server(server)
    finally:
        server.config_set("maxmemory-policy", "noeviction")
    check_server(server)


def test_a_redis_cluster_is_refused() -> None:
    program = next(iter(servers().values()))
    with private_server(program, "--cluster-enabled", "yes") as client, pytest.raises(ConfigError, match="Cluster"):
        check_server(client)


def test_a_client_that_decodes_its_answers_is_refused(server: redis.Redis) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        GroupRecord(redis.Redis(decode_responses=True))


def test_the_scripts_run_on_the_time_of_the_server(server: redis.Redis) -> None:
    record = GroupRecord(server, "real")
    record.open(make_spec(n=1, result_ttl=5), [b""])
    whole, _ = server.time()
    assert abs(record.header("run").opened_at - whole) < 5
    record.cancel("run")
    assert server.pttl("real:run:header") <= 5000
