"""A group of very many members ends slice by slice, and is whole in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from graflow.core.handlers.group_policy import LEFT_OUT_ENOUGH
from graflow_celery.record import (
    GroupRecord,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
    RecordedOutcome,
    base,
    group_record,
    leases,
)
from graflow_celery.record.base import MORE
from tests.record_support import (
    Clock,
    advance,
    clocked,
    clocked_record,
    finish,
    make_manifest,
    make_spec,
    open_group,
    swept,
)

pytestmark = pytest.mark.redis

N, FAILED = 23, MemberState.FAILED


def in_slices_of_four(name: str) -> str:
    text = clocked(name)
    assert "local CUT = 250" in text or "CUT" not in text
    return text.replace("local CUT = 250", "local CUT = 4")


@pytest.fixture
def sliced(record_server: redis.Redis) -> tuple[GroupRecord, Clock]:
    record_server.flushall()
    return clocked_record(record_server, load=in_slices_of_four)


def begin(record: GroupRecord, script: str, *args: Any) -> None:
    """The first slice of an ending, whose caller then dies."""
    assert record._run(script, "run", args)[0] == MORE


def counted(record: GroupRecord) -> Counter[str]:
    """What the members came to; each is recorded once, and the counts of the record say the same."""
    page = record.read("run")
    indices = [outcome.index for outcome in page.outcomes]
    assert len(indices) == len(set(indices))
    found = Counter(outcome.state.value for outcome in page.outcomes if outcome.index < N)
    status = page.status
    told = {
        "SUCCEEDED": status.succeeded,
        "FAILED": status.failed - status.timed_out,
        "TIMED_OUT": status.timed_out,
        "CANCELLED": status.cancelled,
        "LOST": status.lost,
    }
    assert +Counter(told) == found
    assert status.pending + status.running + sum(told.values()) == N
    return found


def test_a_cancel_whose_caller_dies_is_ended_by_a_sweeper(sliced: tuple[GroupRecord, Clock]) -> None:
    record, clock = sliced
    open_group(record, n=N, continuation=True, lease=90.0)  # so that these end last
    held = record.claim("run", [20, 21, 22], "w").granted
    begin(record, "cancel", "no more")
    assert counted(record) == {"CANCELLED": 4}
    assert record.header("run").state is GroupState.RUNNING

    # nobody begins a member any more, and what one came to that ran counts
    assert record.claim("run", [10, 11], "w2").granted == []
    assert record.claim("run", [12], "w3").granted == []
    done = record.complete("run", "w", [MemberReport(held[0].index, 1, MemberState.SUCCEEDED, b"x")])
    assert done.recorded == [20]

    advance(record, clock, 1)
    swept(record)
    assert counted(record) == {"CANCELLED": 22, "SUCCEEDED": 1}
    header = record.header("run")
    assert (header.state, header.closed, header.reason) == (GroupState.CANCELLED, True, "no more")
    assert record.outcomes("run")[-1].index == N, "the continuation is cancelled as well"
    assert record.cancel("run") == []


def test_a_deadline_passes_slice_by_slice_and_the_first_ending_holds(sliced: tuple[GroupRecord, Clock]) -> None:
    record, clock = sliced
    open_group(record, n=N, timeout=5.0, continuation=True)
    advance(record, clock, 6)
    begin(record, "sweep", 1000, "run", "a token")
    assert counted(record) == {"TIMED_OUT": 4}

    assert record.cancel("run", "too late") == ["run"]

    assert counted(record) == {"TIMED_OUT": N}
    header = record.header("run")
    assert (header.state, header.reason) == (GroupState.FAILED, "timeout")
    assert record.claim_continuation("run", "w").granted, "which tells of the failure"


def test_a_group_opened_in_one_that_is_cancelled_is_cancelled_whole(sliced: tuple[GroupRecord, Clock]) -> None:
    record, _ = sliced
    open_group(record, "outer", n=N)
    record.cancel("outer")
    inner = make_spec(n=N, parent_run="outer")
    assert record.open(inner, make_manifest(inner)).state is GroupState.CANCELLED
    assert counted(record) == {"CANCELLED": N}


def test_the_last_members_may_end_a_group_that_is_being_cancelled(sliced: tuple[GroupRecord, Clock]) -> None:
    record, _ = sliced
    open_group(record, n=6)
    held = record.claim("run", range(6), "w").granted
    begin(record, "cancel", "no more")
    done = record.complete("run", "w", [MemberReport(one.index, 1, MemberState.SUCCEEDED, b"x") for one in held])
    assert (len(done.recorded), len(done.refused), done.done) == (2, 4, True)
    assert (record.header("run").state, record.header("run").closed) == (GroupState.CANCELLED, True)


ENOUGH = {"enough": 1, "min_success": 1}


@pytest.mark.parametrize("policy", [ENOUGH, {"fail_fast": True}])
def test_what_need_not_run_any_more_is_left_out_by_a_sweeper_where_the_caller_dies(
    sliced: tuple[GroupRecord, Clock], policy: dict[str, Any]
) -> None:
    record, clock = sliced
    open_group(record, n=N, lease=90.0, **policy)  # so that what is claimed comes last
    record.claim("run", [0], "w")
    [again] = record.claim("run", [1], "again").granted
    record.retry("run", "again", 1, again.attempt, 0.0)
    record.claim("run", [2], "slow")
    state = "FAILED" if "fail_fast" in policy else "SUCCEEDED"
    assert record._run("complete", "run", ["w", 0, 1, state, b"x"]).endswith(b";1"), "there is more to leave out"
    assert counted(record)["CANCELLED"] == (3 if "fail_fast" in policy else 4), "of four, one is tried again"

    # nobody begins one any more; what was tried before is, after a failure, and what one came to that ran counts
    assert record.claim("run", [20], "late").granted == []
    assert record.claim("run", [20, 21], "late").granted == []
    assert bool(record.claim("run", [1], "again").granted) == ("fail_fast" in policy)
    assert record.complete("run", "slow", [MemberReport(2, 1, MemberState.SUCCEEDED, b"x")]).recorded == [2]

    advance(record, clock, 1)
    swept(record)
    kept = [1, 2] if "fail_fast" in policy else [2]
    assert counted(record) == Counter({state: 1}) + Counter(SUCCEEDED=1, CANCELLED=N - 1 - len(kept))
    assert record.header("run").state is (GroupState.RUNNING if "fail_fast" in policy else GroupState.DONE)


@pytest.mark.parametrize("continuation", [False, True])
def test_a_report_after_which_much_is_left_out_tells_the_end(
    sliced: tuple[GroupRecord, Clock], continuation: bool
) -> None:
    record, _ = sliced
    open_group(record, n=N, continuation=continuation, **ENOUGH)
    record.claim("run", [3], "w")
    done = record.complete("run", "w", [MemberReport(3, 1, MemberState.SUCCEEDED, b"x")])
    assert (done.state, done.done, done.continuation) == (GroupState.DONE, True, continuation)
    assert counted(record) == {"SUCCEEDED": 1, "CANCELLED": N - 1}


def test_a_cancel_does_not_take_back_that_enough_have_succeeded(sliced: tuple[GroupRecord, Clock]) -> None:
    record, _ = sliced
    open_group(record, n=N, continuation=True, **ENOUGH)
    record.claim("run", [3], "w")
    record._run("complete", "run", ["w", 3, 1, "SUCCEEDED", b"x"])

    assert record.cancel("run") == ["run"]

    assert record.header("run").state is GroupState.DONE
    assert {outcome.payload for outcome in record.outcomes("run") if outcome.index not in {3, N}} == {
        LEFT_OUT_ENOUGH.encode()
    }
    assert record.outcomes("run")[-1].state is MemberState.CANCELLED, "the continuation had not begun"


Move = Callable[[GroupRecord, random.Random], object]


def take(record: GroupRecord, rng: random.Random) -> object:
    return record.claim("run", rng.sample(range(N), 3), "w")


def report(record: GroupRecord, rng: random.Random) -> object:
    state = rng.choice([MemberState.SUCCEEDED, MemberState.FAILED])
    held = rng.sample(range(N), 3)
    return record.complete("run", "w", [MemberReport(index, 1, state, b"x") for index in held])


def give_back(record: GroupRecord, rng: random.Random) -> object:
    return record.release("run", "w", rng.sample(range(N), 3))


def try_again(record: GroupRecord, rng: random.Random) -> object:
    return record.retry("run", "w", rng.randrange(N), 1, 0.0)


def cancel_a_slice(record: GroupRecord, rng: random.Random) -> object:
    return record._run("cancel", "run", ["no more"])


def sweep_a_slice(record: GroupRecord, rng: random.Random) -> object:
    return record._run("sweep", "run", [1000, "run", str(rng.random())])


MOVES: list[Move] = [take, report, give_back, try_again, cancel_a_slice, sweep_a_slice]


@pytest.mark.parametrize("stride", [0, 2])
@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_between_slices_each_member_ends_once(
    sliced: tuple[GroupRecord, Clock], seed: int, stride: int
) -> None:
    record, clock = sliced
    rng = random.Random(seed)
    policy = rng.choice([{}, {}, {"enough": 2}, {"fail_fast": True}])
    spec = make_spec(n=N, stride=stride, min_success=0, timeout=rng.choice([None, 8.0]), max_attempts=3, **policy)
    manifest = [b"chunk"] * (spec.blocks or N)
    record.open(spec, manifest)
    for _ in range(rng.randrange(40)):
        rng.choice(MOVES)(record, rng)
        clock.advance(rng.choice([0.0, 0.1, 1.0]))
        if not stride:
            counted(record)
    record.cancel("run")
    header = record.header("run")
    assert header.closed
    assert header.state in {GroupState.CANCELLED, GroupState.FAILED, GroupState.DONE}
    status = header.status
    assert (status.pending, status.running, status.retrying) == (0, 0, 0)
    assert status.succeeded + status.failed + status.timed_out + status.cancelled + status.lost == N


def test_what_many_members_need_is_done_in_slices_with_the_same_answers(
    record: GroupRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (base, leases, group_record):
        monkeypatch.setattr(module, "REPORTS", 4, raising=False)
    monkeypatch.setattr(base.slices, "__defaults__", (5,))
    spec = open_group(record, n=N)
    everyone = list(range(N))

    first = record.claim("run", everyone, "w")
    assert ([one.index for one in first.granted], first.left) == (everyone[:5], everyone[5:])
    more = record.claim("run", first.left, "w")
    while more.left:
        more = record.claim("run", more.left, "w")
    assert record.claim("run", everyone, "w2").refused == everyone
    assert record.keep("run", "w", everyone) == spec.lease
    held = [Lease("run", index, 1 if index < 20 else 2, "w") for index in everyone]
    answer = record.beat(held)
    assert ([lease.index for lease in answer.lost], answer.ended) == ([20, 21, 22], {})

    assert record.release("run", "w", everyone[:7]).released == everyone[:7]
    assert record.abandon("run", "w", everyone, "killed") == everyone[7:]
    outcomes = [RecordedOutcome(index, MemberState.SUCCEEDED, 1, "w0", 0.0, False, b"x") for index in everyone[:7]]
    assert record.restore("run", outcomes) == everyone[:7]
    done = record.complete("run", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"x") for i in everyone])
    assert (done.recorded, done.refused, done.done, done.state) == (everyone[7:], everyone[:7], True, GroupState.DONE)
    assert record.beat(held).ended == {"run": GroupState.DONE}


def test_what_a_group_was_opened_with_is_sent_to_a_process_once(record: GroupRecord, clock: Clock) -> None:
    def sent_by(*indices: int) -> int:
        before = record.client.info("stats")["total_net_output_bytes"]
        claim = record.claim("run", indices, "w")
        assert claim.spec is not None
        assert claim.spec.options == options
        return int(record.client.info("stats")["total_net_output_bytes"] - before)

    options = {"priorities": ["x" * 10] * 3000}
    open_group(record, n=9, options=options)
    overhead = sent_by()  # the answers to `info` among it, and the options
    assert overhead > 30_000
    for known in (sent_by(0), sent_by(1, 2)):
        assert known < overhead - 30_000

    # under the same id something else is opened, and is told
    record.delete("run")
    options = {"priorities": ["y" * 10] * 3000}
    open_group(record, n=9, options=options)
    sent_by(0)
    sent_by(1, 2)


@pytest.mark.parametrize("stride", [0, 2])
@pytest.mark.parametrize("kept", [0, 11])
def test_a_retry_of_very_many_members_is_made_aside_and_taken_over_at_once(
    sliced: tuple[GroupRecord, Clock], monkeypatch: pytest.MonkeyPatch, stride: int, kept: int
) -> None:
    record, clock = sliced
    spec = make_spec(n=N, stride=stride, continuation=True, timeout=5.0, result_ttl=60)
    record.open(spec, [b"chunk"] * (spec.blocks + 1 if stride else N + 1))
    for index in range(kept):
        finish(record, index)
    advance(record, clock, 6)
    swept(record)
    record.complete(
        "run", "w", [MemberReport(N, record.claim_continuation("run", "w").granted[0].attempt, FAILED, b"")]
    )
    before = record.header("run")
    assert before.closed

    # Nothing is seen of it before the last call, nor when the caller dies before that
    calls, run = [], GroupRecord._run
    monkeypatch.setattr(GroupRecord, "_run", lambda self, name, *args: calls.append(name) or run(self, name, *args))
    assert record._run("reopen", "run", ["dead", "", ""], record.keys.deployment("workers"))[0] == MORE
    assert record.header("run").status == before.status
    assert record.client.ttl("t:run:again:dead:claims") > 0

    again = record.reopen("run", "token")

    assert (again.members, again.continuation) == (list(range(kept, N)), False)
    assert calls.count("reopen") > 3
    assert calls.count("forget") > 1 or stride
    assert counted(record) == Counter(SUCCEEDED=kept)
    assert record.header("run").state is GroupState.RUNNING
    stem = "t:run:again:"
    assert not [key for key in record.client.scan_iter(f"{stem}*") if record.client.ttl(key) < 0]
    for index in again.members:
        finish(record, index, owner="second")
    assert record.header("run").state is GroupState.DONE
    assert counted(record) == Counter(SUCCEEDED=N)
    assert record.claim_continuation("run", "w").granted


def test_nobody_claims_until_what_failed_is_forgotten_which_a_sweeper_does(sliced: tuple[GroupRecord, Clock]) -> None:
    record, clock = sliced
    open_group(record, n=N)
    for index in range(N):
        finish(record, index, state=FAILED)
    at, reply = b"", [MORE]
    while reply[0] == MORE:
        reply = record._run("reopen", "run", ["token", "", at], record.keys.deployment("workers"))
        at = reply[1]
    assert record.header("run").state is GroupState.RUNNING
    assert counted(record) == Counter()
    assert record.claim("run", [0], "w").granted == []
    assert record.claim("run", [0, 1], "w").granted == []

    advance(record, clock, 1)
    swept(record)

    assert record.outcomes("run") == []
    assert [one.attempt for one in record.claim("run", [0, 1], "w").granted] == [2, 2]
