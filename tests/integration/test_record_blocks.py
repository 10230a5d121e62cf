"""Members in blocks: one entry stands for all of them until something happens to some."""

from __future__ import annotations

from typing import Any

import pytest

from graflow_celery.record import (
    BlockLease,
    BlockReport,
    GroupRecord,
    GroupSpec,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
)
from tests.record_support import Clock, advance, make_spec, swept


def open_blocks(record: GroupRecord, n: int = 5, stride: int = 2, **changes: Any) -> GroupSpec:
    spec = make_spec(n=n, stride=stride, **changes)
    manifest = [b"chunk %d" % number for number in range(spec.blocks)]
    assert record.open(spec, [*manifest, *([b"then"] if spec.continuation else [])]).created
    return spec


def report(number: int, attempt: int = 1, **failures: MemberState) -> BlockReport:
    found = {int(name.removeprefix("m")): state for name, state in failures.items()}
    return BlockReport(number, attempt, found, b"page %d" % number)


def take(record: GroupRecord, *ranges: tuple[int, int], owner: str = "w") -> list[int]:
    return [block.number for block in record.claim_blocks("run", ranges, owner).granted]


def test_a_block_is_claimed_and_recorded_as_one(record: GroupRecord) -> None:
    spec = open_blocks(record)
    claim = record.claim_blocks("run", [(0, 4)], "w")
    assert [(b.number, b.attempt, b.members, b.chunk) for b in claim.granted] == [
        (0, 1, range(2), b"chunk 0"),
        (1, 1, range(2, 4), b"chunk 1"),
        (2, 1, range(4, 5), b"chunk 2"),
    ]
    assert (claim.spec, claim.left, claim.state) == (spec, [], GroupState.RUNNING)
    status = record.status("run")
    assert (status.running, status.pending, status.executions) == (5, 0, 5)
    done = record.complete_blocks("run", "w", [report(0), report(2)])
    assert (done.recorded, done.split, done.done) == ([0, 2], [], False)
    page = record.read("run")
    assert [(b.number, b.members, b.attempts, b.owner, b.page) for b in page.blocks] == [
        (0, range(2), 1, "w", b"page 0"),
        (2, range(4, 5), 1, "w", b"page 2"),
    ]
    assert (page.status.succeeded, page.cursor.position, page.closed) == (3, 2, False)
    assert record.complete_blocks("run", "w", [report(1)]).done
    page = record.read("run", page.cursor)
    assert ([b.number for b in page.blocks], page.closed, page.status.state) == ([1], True, GroupState.DONE)
    assert [b.number for b in record.blocks("run")] == [0, 1, 2]
    assert [b.number for b in record.blocks("run", 3, 1)] == [1]
    assert record.outcomes("run") == []


def test_a_page_counts_what_failed(record: GroupRecord) -> None:
    open_blocks(record, critical=(3,), min_success=0)
    assert take(record, (0, 4)) == [0, 1, 2]
    failed = report(1, m2=MemberState.FAILED, m3=MemberState.TIMED_OUT)
    record.complete_blocks("run", "w", [report(0, m1=MemberState.FAILED), failed, report(2)])
    status = record.status("run")
    assert (status.succeeded, status.failed, status.timed_out) == (2, 3, 1)
    assert status.state is GroupState.FAILED, "a critical member failed"


def test_the_same_page_again_is_recorded_once(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    for _ in range(2):
        assert record.complete_blocks("run", "w", [report(0)]).recorded == [0]
    assert record.status("run").succeeded == 2
    assert record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")]).recorded == [0]
    assert record.complete("run", "v", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")]).refused == [0]


def test_a_claim_again_with_the_same_owner_grants_the_same(record: GroupRecord) -> None:
    open_blocks(record)
    assert take(record, (0, 3)) == take(record, (0, 3)) == [0, 1]
    assert record.status("run").executions == 4
    assert record.claim_blocks("run", [(0, 4)], "v").granted[0].number == 2


def test_parts_of_a_block_are_left_to_be_claimed_singly(record: GroupRecord) -> None:
    open_blocks(record)
    claim = record.claim_blocks("run", [(1, 3)], "w")
    assert ([b.number for b in claim.granted], claim.left) == ([1], [1])
    single = record.claim("run", claim.left, "w")
    assert [(m.index, m.attempt, m.envelope) for m in single.granted] == [(1, 1, b"chunk 0")]
    assert record.claim_blocks("run", [(0, 1)], "v").left == [0, 1], "thawed"
    both = record.claim("run", [0, 4], "v").granted
    assert [(m.index, m.envelope) for m in both] == [(0, b"chunk 0"), (4, b"chunk 2")]


def test_members_claimed_together_share_their_chunk(record: GroupRecord) -> None:
    open_blocks(record, n=6, stride=3, continuation=True)
    granted = record.claim("run", [0, 1, 3, 5, 2], "w").granted
    assert [(m.index, m.envelope) for m in granted] == [
        (0, b"chunk 0"),
        (1, b"chunk 0"),
        (3, b"chunk 1"),
        (5, b"chunk 1"),
        (2, b"chunk 0"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_in_flight": 2},
        {"max_attempts": 1},
        {"attempts": {"1": 1}},
        {"enough": 2},
        {"fail_fast": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_block_is_claimed_where_each_member_is_claimed_alone(record: GroupRecord, changes: dict[str, Any]) -> None:
    open_blocks(record, **changes)
    claim = record.claim_blocks("run", [(0, 1), (3, 4)], "w")
    assert (claim.granted, claim.left) == ([], [0, 1, 3, 4])


def test_no_block_is_claimed_after_the_deadline(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, timeout=5)
    assert record.claim_blocks("run", [(0, 1)], "w").remaining == 5
    clock.advance(5)
    claim = record.claim_blocks("run", [(2, 3)], "w")
    assert (claim.granted, claim.left) == ([], [2, 3])


def test_of_a_run_that_is_gone_nothing_is_granted_or_recorded(record: GroupRecord) -> None:
    assert record.claim_blocks("run", [(0, 1)], "w").spec is None
    assert record.complete_blocks("run", "w", [report(0)]).state is None


@pytest.mark.parametrize("owner", ["", "-w", "@", "a\nb"])
def test_an_owner_of_blocks_has_a_name(record: GroupRecord, owner: str) -> None:
    with pytest.raises(ValueError, match="name of an owner"):
        record.claim_blocks("run", [(0, 1)], owner)


def test_one_outcome_alone_thaws_its_block(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 3))
    done = record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"x")])
    assert (done.recorded, done.late) == ([0], [])
    assert record.complete_blocks("run", "w", [report(0), report(1)]).split == [0]
    done = record.complete("run", "w", [MemberReport(1, 1, MemberState.SUCCEEDED, b"y")])
    assert (done.recorded, done.late) == ([1], [])
    assert record.status("run").succeeded == 4
    assert [o.payload for o in record.outcomes("run")] == [b"x", b"y"]


def test_a_retry_thaws_its_block(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    assert record.retry("run", "w", 0, 1, 5.0).released == [0]
    assert record.complete_blocks("run", "w", [report(0)]).split == [0]
    assert record.complete("run", "w", [MemberReport(1, 1, MemberState.SUCCEEDED, b"")]).recorded == [1]
    assert record.status("run").retrying == 1


def test_a_beat_keeps_a_block_whole(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, lease=10, queue_wait=100)
    take(record, (0, 1))
    for _ in range(4):
        advance(record, clock, 8)
        answer = record.beat([BlockLease("run", 0, 1, "w")])
        assert (answer.lost, answer.gone, answer.ended) == ([], {}, {})
        assert swept(record) == []
    assert record.complete_blocks("run", "w", [report(0)]).recorded == [0]


def test_a_beat_tells_which_members_of_a_block_are_gone(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    record.release("run", "w", [1])
    answer = record.beat([BlockLease("run", 0, 1, "w"), Lease("run", 1, 1, "w")])
    assert (answer.lost, answer.gone) == ([Lease("run", 1, 1, "w")], {"run": {1}})
    assert record.beat([BlockLease("run", 0, 1, "v"), BlockLease("run", 1, 1, "w")]).gone == {"run": {0, 1, 2, 3}}


def test_a_beat_for_one_member_of_a_whole_block_keeps_it(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    assert record.beat([Lease("run", 1, 1, "w")]).lost == []
    assert record.beat([BlockLease("run", 0, 1, "w")]).gone == {}


def test_a_lost_block_goes_on_member_by_member(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, lease=10, queue_wait=100)
    take(record, (0, 3))
    advance(record, clock, 8)
    record.beat([BlockLease("run", 1, 1, "w")])
    advance(record, clock, 8)
    (again,) = swept(record)
    assert (again.lost, again.waiting) == ([0, 1], [])
    assert record.status("run").losses == 2
    assert [m.attempt for m in record.claim("run", [0], "v").granted] == [2]
    assert record.complete_blocks("run", "w", [report(0)]).split == [0]
    late = record.complete("run", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in (0, 1)])
    assert (late.recorded, late.late) == ([0, 1], [0, 1])


def test_a_block_that_nobody_claims_is_published_again_whole(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, queue_wait=10)
    advance(record, clock, 11)
    (again,) = swept(record)
    assert (again.lost, again.waiting) == ([], [0, 1, 2, 3, 4])
    assert take(record, (0, 4)) == [0, 1, 2]
    record.release("run", "w", range(5))
    advance(record, clock, 11)
    assert [again.waiting for again in swept(record)] == [[0, 1, 2, 3, 4]]
    advance(record, clock, 11)
    assert swept(record) == [], "the wait doubled"
    advance(record, clock, 11)
    assert [again.waiting for again in swept(record)] == [[0, 1, 2, 3, 4]]


def test_a_sweep_names_whole_blocks_up_to_its_limit(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, n=9, stride=3, queue_wait=10)
    advance(record, clock, 11)
    assert [again.waiting for again in swept(record, 4)] == [[0, 1, 2, 3, 4, 5]]
    assert [again.waiting for again in swept(record, 4)] == [[6, 7, 8]]


def test_a_server_that_stood_still_lets_blocks_live_on(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, lease=10, queue_wait=100)
    take(record, (0, 1))
    swept(record)
    clock.advance(30)
    assert swept(record) == []
    assert record.complete_blocks("run", "w", [report(0)]).recorded == [0]


def test_whole_blocks_are_released_as_blocks(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 4))
    assert record.release("run", "w", [1, 2, 3]).released == [1, 2, 3]
    assert record.release("run", "w", [1, 2, 3]).released == [1, 2, 3], "its answer got lost"
    status = record.status("run")
    assert (status.running, status.executions) == (2, 2)
    claim = record.claim_blocks("run", [(0, 3)], "v")
    assert [(b.number, b.attempt) for b in claim.granted] == [(1, 1)]
    assert claim.left == [0, 1]
    assert record.release("run", "w", [2, 3]).released == []
    assert record.complete_blocks("run", "w", [report(1)]).split == [1]
    assert record.complete_blocks("run", "v", [report(1)]).recorded == [1]


def test_what_comes_of_a_released_block_is_refused(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    record.release("run", "w", [0, 1])
    assert record.complete_blocks("run", "w", [report(0)]).split == [0]
    refused = record.complete("run", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in (0, 1)])
    assert (refused.recorded, refused.refused) == ([], [0, 1])
    assert [m.attempt for m in record.claim("run", [0, 1], "v").granted] == [1, 1]


def test_leases_of_blocks_are_kept_for_a_process_that_cannot_beat(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, lease=10, queue_wait=100)
    take(record, (0, 3))
    advance(record, clock, 8)
    assert record.keep("run", "w", [0, 1, 2]) == 10
    advance(record, clock, 8)
    assert [again.lost for again in swept(record)] == [[3]]
    assert record.complete_blocks("run", "w", [report(0), report(1)]).split == [1]


def test_a_dead_process_loses_its_blocks_at_once(record: GroupRecord) -> None:
    open_blocks(record, max_attempts=2)
    take(record, (0, 3))
    assert record.abandon("run", "w", [0, 1], "signal 9") == [0, 1]
    (again,) = swept(record)
    assert again.lost == [0, 1]
    assert record.complete_blocks("run", "w", [report(1)]).recorded == [1]


def test_a_cut_ends_blocks_as_blocks(record: GroupRecord) -> None:
    open_blocks(record, n=7, continuation=True)
    take(record, (0, 3))
    record.complete_blocks("run", "w", [report(0)])
    record.claim("run", [4], "v")
    assert record.cancel("run", "enough") == ["run"]
    status = record.status("run")
    assert (status.succeeded, status.cancelled, status.running, status.state) == (2, 5, 0, GroupState.CANCELLED)
    blocks = {b.number: (b.state, b.attempts, b.owner, b.page) for b in record.blocks("run")}
    assert blocks == {
        0: (None, 1, "w", b"page 0"),
        1: (MemberState.CANCELLED, 1, "w", b""),
        3: (MemberState.CANCELLED, 0, "", b""),
    }
    assert [(o.index, o.attempts, o.owner) for o in record.outcomes("run")] == [(4, 1, "v"), (5, 0, ""), (7, 0, "")]
    assert record.complete_blocks("run", "w", [report(1)]).split == [1]
    refused = record.complete("run", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in (2, 3)])
    assert refused.refused == [2, 3]
    page = record.read("run")
    assert (page.closed, len(page.outcomes), len(page.blocks)) == (True, 3, 3)


def test_blocks_time_out_with_their_group(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, timeout=5)
    take(record, (0, 1))
    advance(record, clock, 6)
    (again,) = swept(record)
    assert again.ended
    assert {b.state for b in record.blocks("run")} == {MemberState.TIMED_OUT}
    assert record.status("run").timed_out == 5


def test_enough_successes_leave_out_whole_blocks(record: GroupRecord) -> None:
    open_blocks(record, n=6, enough=1, min_success=1)
    record.claim("run", [0], "w")
    record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    assert record.status("run").cancelled == 5
    assert {b.number: b.state for b in record.blocks("run")} == {1: MemberState.CANCELLED, 2: MemberState.CANCELLED}
    assert all(b.page for b in record.blocks("run")), "it says why"


def test_a_failure_leaves_out_blocks_that_nobody_claimed(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, n=6, fail_fast=True, min_success=6)
    record.claim("run", [0], "w")
    record.claim("run", [2], "v")
    record.complete("run", "w", [MemberReport(0, 1, MemberState.FAILED, b"")])
    assert {b.number: b.state for b in record.blocks("run")} == {2: MemberState.CANCELLED}
    assert record.status("run").running == 1
    record.complete("run", "v", [MemberReport(2, 1, MemberState.SUCCEEDED, b"")])
    assert record.status("run").state is GroupState.FAILED


def test_expediting_makes_whole_blocks_due(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    record.expedite("run")
    assert [again.waiting for again in swept(record)] == [[2, 3, 4]]
    assert take(record, (2, 4), owner="v") == [1, 2]


def test_restored_members_thaw_their_blocks(record: GroupRecord) -> None:
    open_blocks(record)
    take(record, (0, 1))
    record.complete_blocks("run", "w", [report(0)])
    record.claim("run", [2], "w")
    record.complete("run", "w", [MemberReport(2, 1, MemberState.SUCCEEDED, b"x")])
    known = record.outcomes("run")
    assert record.delete("run")
    open_blocks(record)
    assert record.restore("run", known) == [2]
    assert take(record, (0, 4), owner="v") == [0, 2]
    assert record.claim("run", [2, 3], "v").refused == [2]


def test_only_what_failed_in_a_page_runs_again(record: GroupRecord) -> None:
    spec = open_blocks(record, n=4, stride=4)
    take(record, (0, 3))
    record.complete_blocks("run", "w", [report(0, m1=MemberState.FAILED, m3=MemberState.TIMED_OUT)])
    assert record.status("run").state is GroupState.FAILED
    again = record.reopen("run", "token")
    assert (again.members, again.lost) == ([1, 3], [])
    assert record.reopen("run", "token").members == [1, 3]
    status = record.status("run")
    assert (status.succeeded, status.failed, status.pending) == (2, 0, 2)
    (block,) = record.blocks("run")
    assert (block.again, block.page) == (frozenset({1, 3}), b"page 0")
    page = record.read("run")
    assert [b.again for b in page.blocks] == [frozenset({1, 3})]
    claim = record.claim_blocks("run", [(0, 3)], "v")
    assert (claim.granted, claim.left) == ([], [0, 1, 2, 3])
    single = record.claim("run", claim.left, "v")
    assert ([(m.index, m.attempt) for m in single.granted], single.refused) == ([(1, 2), (3, 2)], [0, 2])
    assert record.complete("run", "w", [MemberReport(1, 1, MemberState.SUCCEEDED, b"")]).refused == [1]
    done = record.complete("run", "v", [MemberReport(i, 2, MemberState.SUCCEEDED, b"again") for i in (1, 3)])
    assert (done.recorded, done.done) == ([1, 3], True)
    assert record.status("run").state is GroupState.DONE
    page = record.read("run", page.cursor)
    assert [(o.index, o.payload) for o in page.outcomes] == [(1, b"again"), (3, b"again")]
    assert record.status("run").succeeded == spec.n


def test_one_member_of_a_page_runs_again_and_fails_again(record: GroupRecord) -> None:
    open_blocks(record, n=4, stride=4, critical=(1,), min_success=0)
    take(record, (0, 3))
    record.complete_blocks("run", "w", [report(0, m1=MemberState.FAILED, m2=MemberState.FAILED)])
    assert record.reopen("run", "a", 2).members == [2]
    record.claim("run", [2], "w")
    record.complete("run", "w", [MemberReport(2, 2, MemberState.FAILED, b"")])
    assert record.status("run").state is GroupState.FAILED, "member 1 is critical, and failed in the first round"
    assert record.reopen("run", "b").members == [1, 2]


def test_members_of_a_block_that_timed_out_run_again(record: GroupRecord, clock: Clock) -> None:
    open_blocks(record, n=4, timeout=5)
    take(record, (0, 1))
    record.complete_blocks("run", "w", [report(0)])
    advance(record, clock, 6)
    swept(record)
    assert record.reopen("run", "token", 3).members == [3]
    assert [(o.index, o.state) for o in record.outcomes("run")] == [(2, MemberState.TIMED_OUT)]
    assert [b.number for b in record.blocks("run")] == [0]
    page = record.read("run")
    assert ([b.number for b in page.blocks], [o.index for o in page.outcomes]) == ([0], [2])
    record.claim("run", [3], "w")
    record.complete("run", "w", [MemberReport(3, 1, MemberState.SUCCEEDED, b"")])
    assert record.status("run").state is GroupState.FAILED
    assert record.reopen("run", "more").members == [2]


def test_the_last_page_offers_the_continuation(record: GroupRecord) -> None:
    open_blocks(record, n=2, continuation=True)
    take(record, (0, 1))
    assert record.complete_blocks("run", "w", [report(0)]).continuation
    granted = record.claim_continuation("run", "w").granted
    assert [(m.index, m.envelope) for m in granted] == [(2, b"then")]
    record.complete("run", "w", [MemberReport(2, 1, MemberState.SUCCEEDED, b"")])
    assert record.read("run").closed


@pytest.mark.parametrize("stride", [0, 2])
def test_who_runs_what_since_when_and_after_which_wait_is_known(record: GroupRecord, clock: Clock, stride: int) -> None:
    opened = clock.now
    if stride:
        open_blocks(record, n=4)
    else:
        record.open(make_spec(n=4), [b"e"] * 4)
    clock.advance(3)
    if stride:
        take(record, (0, 3))
    else:
        record.claim("run", [0, 1, 2, 3], "w")
    record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    found = [(c.index, c.attempt, c.owner, c.queued_at, c.claimed_at) for c in record.claimed("run")]
    assert found == [(i, 1, "w", opened, opened + 3) for i in (1, 2, 3)]
    clock.advance(2)
    record.release("run", "w", [2, 3])
    clock.advance(2)
    record.claim("run", [3], "v")
    found = [(c.index, c.owner, c.queued_at, c.claimed_at) for c in record.claimed("run")]
    assert found == [(1, "w", opened, opened + 3), (3, "v", opened + 5, opened + 7)]
    assert record.claimed("nothing") == []


def test_a_manifest_of_blocks_has_a_chunk_per_block(record: GroupRecord) -> None:
    spec = make_spec(n=5, stride=2)
    with pytest.raises(Exception, match="needs 3 envelopes, its manifest has 5"):
        record.open(spec, [b""] * 5)


@pytest.mark.parametrize("stride", [0, 2])
def test_expediting_reaches_members_behind_any_number_of_claimed_ones(
    record: GroupRecord, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr("graflow_celery.record.group_record.SLICE", 2)
    spec = make_spec(n=20, stride=stride, lease=30, queue_wait=20)
    record.open(spec, [b"entry"] * (spec.blocks or spec.n))
    record.claim("run", [0, 1, 2, 3, 8, 9, 16], "w")
    record.expedite("run")
    found = record.sweep("run", "token")
    assert found is not None
    claimed = {0, 1, 2, 3, 8, 9, 16}
    assert found.waiting == [index for index in range(20) if index not in claimed]
