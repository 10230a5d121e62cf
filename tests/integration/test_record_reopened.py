"""Another round of a group that has ended: what failed runs again, and nothing of the round before gets in its way."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from graflow.exceptions import GroupNotFoundError
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import Cursor, GroupRecord, GroupState, Lease, MemberReport, MemberState
from graflow_celery.record.base import MANY
from graflow_celery.record.keys import RUN_KEYS
from tests.record_support import Clock, advance, finish, open_group, swept

pytestmark = pytest.mark.redis

FAILED, SUCCEEDED = MemberState.FAILED, MemberState.SUCCEEDED


def ended(record: GroupRecord, n: int = 3, failing: tuple[int, ...] = (1,), **changes: Any) -> None:
    open_group(record, n=n, **changes)
    for index in range(n):
        finish(record, index, state=FAILED if index in failing else SUCCEEDED)


def test_what_failed_runs_again_and_what_succeeded_stays(record: GroupRecord) -> None:
    ended(record)
    kept = record.outcomes("run")[0]

    again = record.reopen("run", "token")

    assert (again.members, again.lost, again.continuation) == ([1], [], False)
    status = record.status("run")
    assert (status.state, status.pending, status.succeeded, status.failed) == (GroupState.RUNNING, 1, 2, 0)
    assert [outcome.index for outcome in record.outcomes("run")] == [0, 2]
    [granted] = record.claim("run", [0, 1, 2], "second").granted
    assert (granted.index, granted.attempt, granted.losses, granted.retries) == (1, 2, 0, 0)
    assert granted.envelope == b"envelope 1"
    done = record.complete("run", "second", [MemberReport(1, 2, SUCCEEDED, b"better")])
    assert (done.state, done.done) == (GroupState.DONE, True)
    outcomes = record.outcomes("run")
    assert outcomes[0] == kept
    assert (outcomes[1].payload, outcomes[1].attempts) == (b"better", 2)
    header = record.header("run")
    assert header.outcome_bytes == sum(len(outcome.payload) for outcome in outcomes)
    assert (header.reason, header.status.executions) == ("", 4)


def test_keys_do_not_expire_while_a_run_is_open_again(record: GroupRecord) -> None:
    ended(record, result_ttl=60)
    keys = [key for name in RUN_KEYS if record.client.exists(key := record.keys.run("run", name))]
    assert all(record.client.pttl(key) > 0 for key in keys)

    record.reopen("run", "token")

    assert all(record.client.pttl(key) == -1 for key in keys)
    assert record.open_groups() == ["run"]
    finish(record, 1, owner="second")
    assert all(record.client.pttl(key) > 0 for key in keys)
    assert record.open_groups() == []


def test_an_answer_that_got_lost_is_given_again(record: GroupRecord) -> None:
    ended(record, failing=(0, 2))
    first = record.reopen("run", "token")
    assert record.reopen("run", "token").members == first.members == [0, 2]

    finish(record, 0, owner="second")
    finish(record, 2, owner="second", state=FAILED)

    # A copy of the call that comes after the end of its round does nothing.
    assert record.reopen("run", "token").members == []
    assert record.status("run").state is GroupState.FAILED
    assert record.reopen("run", "another").members == [2]
    finish(record, 2, owner="third", state=FAILED)
    assert record.reopen("run", "token").members == []
    assert record.status("run").state is GroupState.FAILED


def test_attempts_of_an_earlier_round_report_nothing_more(record: GroupRecord, clock: Clock) -> None:
    # Given a member whose first attempt reported late, while a second one was granted
    open_group(record, n=1, lease=5)
    record.claim("run", [0], "first")
    advance(record, clock, 6)
    swept(record)
    record.claim("run", [0], "second")
    record.complete("run", "first", [MemberReport(0, 1, FAILED, b"first")])
    record.reopen("run", "token")

    # When both report, once more or for the first time
    for owner, attempt in (("first", 1), ("second", 2)):
        assert record.complete("run", owner, [MemberReport(0, attempt, FAILED, b"old")]).refused == [0]
        assert record.beat([Lease("run", 0, attempt, owner)]).lost
        assert record.retry("run", owner, 0, attempt, 0.0).released == []

    # Then the next attempt has a number of its own, and counts
    [granted] = record.claim("run", [0], "third").granted
    assert granted.attempt == 3
    assert record.complete("run", "third", [MemberReport(0, 3, SUCCEEDED, b"")]).recorded == [0]
    assert record.status("run").state is GroupState.DONE


def test_what_a_reader_knew_of_an_earlier_round_is_not_restored(record: GroupRecord) -> None:
    ended(record)
    old = record.outcomes("run")
    record.reopen("run", "token")
    assert record.restore("run", old) == []
    assert record.status("run").pending == 1


def test_readers_are_told_of_another_round_and_woken(record: GroupRecord) -> None:
    ended(record)
    before = record.read("run")
    assert (before.round, before.closed) == (0, True)

    record.reopen("run", "token")

    assert record.wait({"run": before.last_event}, 0.0) == {"run"}
    after = record.read("run", Cursor())
    assert (after.round, after.closed) == (1, False)
    assert [outcome.index for outcome in after.outcomes] == [0, 2]
    last = after.last_event
    finish(record, 1, owner="second")
    assert record.wait({"run": last}, 0.0) == {"run"}


def test_one_member_alone_runs_again(record: GroupRecord) -> None:
    ended(record, n=4, failing=(1, 3))
    assert record.reopen("run", "token", 3).members == [3]
    finish(record, 3, owner="second")
    assert record.status("run").state is GroupState.FAILED
    assert [outcome.index for outcome in record.read("run").outcomes] == [0, 1, 2, 3]


def test_a_critical_member_that_stays_failed_counts_in_the_next_round(record: GroupRecord) -> None:
    ended(record, n=3, failing=(0, 1, 2), min_success=0, critical=(0, 1))
    record.reopen("run", "first", 0)
    finish(record, 0, owner="second")
    assert record.status("run").state is GroupState.FAILED
    record.reopen("run", "second", 1)
    finish(record, 1, owner="third")
    assert record.status("run").state is GroupState.DONE


def test_the_continuation_follows_once_after_each_round(record: GroupRecord, clock: Clock) -> None:
    ended(record, n=2, failing=(1,), continuation=True)
    finish(record, 2, owner="then", state=FAILED)

    assert record.reopen("run", "token").members == [1]

    assert record.claim_continuation("run", "early").granted == []
    done = finish(record, 1, owner="second")
    assert (done.state, done.continuation) == (GroupState.DONE, True)
    [granted] = record.claim_continuation("run", "late").granted
    assert granted.attempt == 2
    record.complete("run", "late", [MemberReport(2, 2, SUCCEEDED, b"sum")])
    assert record.header("run").closed
    assert [outcome.attempts for outcome in record.outcomes("run")] == [1, 2, 2]
    advance(record, clock, 100)
    assert swept(record) == []


def test_a_continuation_that_failed_alone_runs_again_alone(record: GroupRecord, clock: Clock) -> None:
    ended(record, n=2, failing=(), continuation=True)
    finish(record, 2, owner="then", state=FAILED)

    again = record.reopen("run", "token")

    assert (again.members, again.continuation) == ([], True)
    assert record.status("run").state is GroupState.DONE
    advance(record, clock, 61)
    [found] = swept(record)
    assert found.continuation
    finish(record, 2, owner="again")
    assert record.header("run").closed


def test_a_group_that_ran_out_of_time_gets_its_time_again(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, timeout=20, min_success=2)
    finish(record, 0)
    advance(record, clock, 21)
    swept(record)
    assert record.header("run").reason == "timeout"

    assert record.reopen("run", "token").members == [1]

    header = record.header("run")
    assert header.deadline == clock.now + 20
    finish(record, 1, owner="second")
    assert record.status("run").state is GroupState.DONE


def test_members_that_run_again_are_looked_after(record: GroupRecord, clock: Clock) -> None:
    open_group(record, n=2, max_attempts=1, lease=5)
    finish(record, 0)
    record.claim("run", [1], "lost")
    advance(record, clock, 6)
    swept(record)
    assert record.status("run").lost == 1

    again = record.reopen("run", "token")

    assert (again.members, again.lost) == ([1], [1])
    advance(record, clock, 61)  # whoever retried died before it published
    [found] = swept(record)
    assert found.waiting == [1]
    record.claim("run", [1], "lost again")
    advance(record, clock, 6)
    swept(record)
    assert record.status("run").lost == 1
    assert record.status("run").losses == 2


def test_a_reopened_run_can_be_cancelled(record: GroupRecord) -> None:
    ended(record, n=2, failing=(1,), continuation=True)
    finish(record, 2, owner="then", state=FAILED)
    record.reopen("run", "token")

    assert record.cancel("run") == ["run"]

    outcomes = record.outcomes("run")
    assert [(o.state, o.attempts) for o in outcomes[1:]] == [(MemberState.CANCELLED, 1)] * 2


@pytest.mark.parametrize(
    ("prepare", "index", "text"),
    [
        (open_group, None, "has not ended"),
        (lambda record: ended(record, continuation=True), None, "has not ended"),
        (lambda record: (open_group(record), record.cancel("run")), None, "was cancelled; submit its group anew"),
        (lambda record: ended(record, failing=()), None, "nothing of group run 'run' failed"),
        (ended, 0, "member 0 of group run 'run' succeeded"),
        (ended, 3, "no member 3; its members are 0 to 2"),
        (
            lambda record: ended(record, parent_run="outer"),
            None,
            "a member of group run 'outer' opened group run 'run'",
        ),
    ],
    ids=["open", "continuation open", "cancelled", "nothing failed", "succeeded", "absent", "inner"],
)
def test_a_retry_that_cannot_be_is_refused_and_changes_nothing(
    record: GroupRecord, prepare: Any, index: int | None, text: str
) -> None:
    prepare(record)
    before = (record.header("run").status, record.outcomes("run"), record.open_groups())
    with pytest.raises(RetryRefusedError, match=text) as raised:
        record.reopen("run", "token", index)
    assert raised.value.run_id == "run"
    assert (record.header("run").status, record.outcomes("run"), record.open_groups()) == before


def test_a_run_that_is_gone_is_not_found(record: GroupRecord) -> None:
    with pytest.raises(GroupNotFoundError, match="nowhere"):
        record.reopen("nowhere", "token")


def test_many_members_run_again_at_once(record: GroupRecord) -> None:
    n = 20_000
    open_group(record, n=n)
    for first in range(0, n, MANY):
        record.claim("run", range(first, first + MANY), "w", envelopes=False)
    record.complete("run", "w", [MemberReport(i, 1, SUCCEEDED if i % 2 else FAILED, b"") for i in range(n)])
    assert record.reopen("run", "token").members == list(range(0, n, 2))
    assert record.status("run").pending == n // 2


class _InterruptedError(ConnectionError):
    """What a test has come instead of an answer."""


def answers_lost(record: GroupRecord, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have the answer of one call of `reopen.lua` get lost, after so many that come."""
    run, left = record._scripts.run, [after]

    def answer(name: str, keys: Any, args: Any) -> Any:
        found = run(name, keys, args)
        if name == "reopen":
            left[0] -= 1
            if left[0] == -1:
                raise _InterruptedError
        return found

    monkeypatch.setattr(record._scripts, "run", answer)


def failed(record: GroupRecord, n: int, **changes: Any) -> None:
    """A group all of whose members have failed."""
    open_group(record, n=n, **changes)
    for first in range(0, n, MANY):
        record.claim("run", range(first, min(first + MANY, n)), "w", envelopes=False)
    record.complete("run", "w", [MemberReport(i, 1, FAILED, b"bad") for i in range(n)])


@pytest.mark.parametrize("after", [1, 9, 10, 12])
def test_a_retry_of_many_that_is_interrupted_anywhere_is_done_once(
    record: GroupRecord, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    n = 2500
    failed(record, n)
    answers_lost(record, monkeypatch, after)
    with pytest.raises(_InterruptedError):
        record.reopen("run", "token")

    assert sorted(record.reopen("run", "token").members) == list(range(n))

    header = record.header("run")
    assert (header.status.pending, header.status.failed, header.outcome_bytes) == (n, 0, 0)
    for first in range(0, n, MANY):
        record.claim("run", range(first, min(first + MANY, n)), "again", envelopes=False)
    record.complete("run", "again", [MemberReport(i, 2, SUCCEEDED, b"good") for i in range(n)])
    assert record.status("run").state is GroupState.DONE
    assert len(record.outcomes("run")) == n


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_retry_of_many_is_due_by_one_time_though_the_clock_is_set_amid_it(
    record: GroupRecord, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    failed(record, 2500, queue_wait=60)
    run, calls = record._scripts.run, []

    def then_set(name: str, keys: Any, args: Any) -> Any:
        found = run(name, keys, args)
        calls.append(name)
        if len(calls) == 5:
            clock.advance(step)
        return found

    monkeypatch.setattr(record._scripts, "run", then_set)

    record.reopen("run", "token")

    dues = record.client.zrange(record.keys.run("run", "deadlines"), 0, -1, withscores=True)
    assert len(dues) == 2500
    assert {due for _, due in dues} == {1000 * (clock.now + 60)}


@pytest.mark.parametrize(("failing", "retried", "state"), [(3, 3, GroupState.DONE), (4, 3, GroupState.FAILED)])
def test_one_of_many_critical_members_runs_again(
    record: GroupRecord, failing: int, retried: int, state: GroupState
) -> None:
    n = 3000
    open_group(record, n=n, critical=tuple(range(n)))
    for first in range(0, n, MANY):
        record.claim("run", range(first, first + MANY), "w", envelopes=False)
    bad = {retried, failing}
    record.complete("run", "w", [MemberReport(i, 1, FAILED if i in bad else SUCCEEDED, b"") for i in range(n)])

    record.reopen("run", "token", retried)

    finish(record, retried, owner="again")
    assert record.status("run").state is state


def test_a_full_server_refuses_a_retry_whole(record: GroupRecord, record_server: redis.Redis) -> None:
    ended(record)
    try:
        record_server.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.reopen("run", "token")
    finally:
        record_server.config_set("maxmemory", 0)
    assert record.status("run").state is GroupState.FAILED
    assert record.reopen("run", "token").members == [1]
