"""`submit`, `attach` and their handles against real workers."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.exceptions import (
    GroupNotFoundError,
    GroupTimeoutError,
    MemberLostError,
    ParallelGroupError,
    RemoteTaskError,
    TaskTimeoutError,
)
from graflow_celery import LocalCluster, attach, submit
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


def test_results_come_back_in_member_order(config: dict[str, Any]) -> None:
    assert submit(members.noop.map(range(1000)), backend_config=config).results(timeout=120) == list(range(1000))


def test_the_same_group_is_submitted_twice_inside_a_workflow_and_outside(config: dict[str, Any]) -> None:
    with workflow("w"):
        for _ in range(2):
            assert submit(members.double.map([1, 2]), backend_config=config).results(timeout=120) == [2, 4]
    assert submit(members.double.map([1, 2]), backend_config=config).results(timeout=120) == [2, 4]


def test_a_lambda_and_a_closure_go_by_value_with_the_clusters_key(config: dict[str, Any]) -> None:
    offset = 100
    shifted = task(id="shifted")(lambda x: x + offset)
    assert submit(shifted.map([1, 2]), backend_config=config).results(timeout=120) == [101, 102]


def test_typed_values_come_back_as_the_same_type(config: dict[str, Any]) -> None:
    values = [(1, 2), {3}, b"\x00\xff", {1: "a"}, frozenset({"x"}), None, float("inf")]
    assert submit(members.noop.map(values), backend_config=config).results(timeout=120) == values


def test_an_outcome_says_who_when_and_how_often(config: dict[str, Any]) -> None:
    outcome = submit(members.noop.map([7], key=lambda item: f"k{item}"), backend_config=config).outcomes(timeout=120)[0]
    assert (outcome.index, outcome.task_id, outcome.state, outcome.value) == (0, "noop[k7]", "SUCCEEDED", 7)
    assert outcome.attempts == 1
    assert outcome.worker is not None
    assert "@" in outcome.worker
    assert outcome.queued_at is not None
    assert outcome.queued_at.tzinfo is UTC
    assert outcome.started_at is not None
    assert outcome.finished_at is not None
    assert outcome.queued_at <= outcome.started_at <= outcome.finished_at


def test_a_failure_is_an_error_with_the_remote_traceback(config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(3)), backend_config=config)
    with pytest.raises(ParallelGroupError) as caught:
        handle.results(timeout=120)
    assert caught.value.group_id == "fail_odd"
    assert caught.value.failed_tasks == [("fail_odd[1]", "1 is odd")]
    assert caught.value.successful_tasks == ["fail_odd[0]", "fail_odd[2]"]
    assert isinstance(caught.value.errors["fail_odd[1]"], ValueError)
    assert isinstance(caught.value.__cause__, RemoteTaskError)
    assert "members.py" in str(caught.value.__cause__)
    failed = handle.outcomes()[1]
    assert failed.state == "FAILED"
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "1 is odd")
    assert "Traceback" in failed.error.traceback


def test_as_completed_tells_every_member_once(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    handle = submit(members.held.map([str(mark), *[str(tmp_path)] * 2]), backend_config=config)
    told = handle.as_completed(timeout=120)
    assert {outcome.index for outcome in islice(told, 2)} == {1, 2}, "as they end, not in order"
    mark.touch()
    assert [outcome.index for outcome in told] == [0]
    assert len(list(handle.as_completed(timeout=1))) == 3


def test_any_process_attaches_by_the_run_id(cluster: LocalCluster) -> None:
    handle = submit(members.double.map([1, 2, 3]), backend_config=cluster.backend_config)
    code = (
        "import graflow_celery, os, sys\n"
        "handle = graflow_celery.attach(sys.argv[1], backend_config={'url': os.environ['URL']})\n"
        "print(handle.results(timeout=120), [o.task_id for o in handle.outcomes()])\n"
    )
    environment = {"URL": cluster.redis_url.reveal(), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", code, handle.run_id], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[2, 4, 6] ['double[0]', 'double[1]', 'double[2]']"


def test_attaching_to_nothing_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(GroupNotFoundError, match="no-such-run"):
        attach("no-such-run", backend_config=config)


def test_cancel_ends_the_wait_though_members_still_run_and_stops_what_has_not_started(
    config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "end"
    handle = submit([members.held(task_id=str(index), mark=str(mark)) for index in range(12)], backend_config=config)
    wait_until(lambda: handle.status().running)
    assert handle.cancel() is True
    assert {outcome.state for outcome in handle.outcomes(timeout=120)} == {"CANCELLED"}
    mark.touch()
    assert handle.cancel() is False
    with pytest.raises(ParallelGroupError, match="cancelled"):
        handle.results()


def test_a_member_can_ask_whether_it_is_cancelled(config: dict[str, Any]) -> None:
    handle = submit(members.patient.map([0, 1]), backend_config=config)
    wait_until(lambda: handle.status().running == 2)
    handle.cancel()
    assert submit(members.noop.map([0, 1]), backend_config=config).results(timeout=120) == [0, 1], (
        "slots are free again"
    )


def test_a_member_knows_its_run_its_place_and_its_attempt(config: dict[str, Any]) -> None:
    handle = submit(members.who.map([5, 6]), backend_config=config)
    assert handle.results(timeout=120) == [(handle.run_id, 0, 1), (handle.run_id, 1, 1)]


def test_whoever_waits_sees_the_progress_of_running_members(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    handle = submit(members.reports_and_waits.map([str(mark)]), backend_config=config)
    other = attach(handle.run_id, config)
    wait_until(lambda: 0 in other.progress() and other.progress()[0].done == 1)
    told = other.progress()[0]
    assert (told.index, told.attempt, told.done, told.total, told.message) == (0, 1, 1, 2, "half")
    assert told.told_at.tzinfo is UTC
    assert handle.status().running == 1
    mark.touch()
    assert handle.results(timeout=120) == ["ended"]


def test_what_a_member_tells_of_its_progress_never_ends_it(config: dict[str, Any]) -> None:
    amounts = members.ODD_AMOUNTS
    handle = submit(members.reports_oddly.map(range(len(amounts))), backend_config=config)
    assert handle.results(timeout=120) == list(range(len(amounts)))
    told = handle.progress()
    assert [told[index].done for index in told] == [1.5, 0.5, 1 / 3, 1, None, None, None, None, 3, None]
    assert [told[index].total for index in told] == [told[index].done for index in told]
    assert {str(told[0]), str(told[4])} == {"1.5 of 1.5 ? said", "? said"}


def test_the_time_of_a_wait_is_refused_where_it_is_given(no_workers: LocalCluster) -> None:
    handle = submit(members.double.map([1]), no_workers.backend_config, then=members.total)
    for wait in (handle.results, handle.outcomes, handle.as_completed, handle.continuation().as_completed):
        with pytest.raises(TypeError, match="timeout is a number of seconds, not a timedelta"):
            wait(timeout=timedelta(seconds=1))
        with pytest.raises(TypeError, match="timeout is a number of seconds, not '1'"):
            wait(timeout="1")
    for over in (0, -1):
        with pytest.raises(TimeoutError):
            handle.results(timeout=over)
    handle.cancel()


def test_the_continuation_of_a_failed_group_fails_and_says_why(config: dict[str, Any]) -> None:
    following = submit(members.fail.map([1]), backend_config=config, then=members.total).continuation()
    with pytest.raises(ParallelGroupError, match="no 1"):
        following.results(timeout=120)


def test_without_then_there_is_no_continuation(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="then="):
        submit(members.noop.map([1]), backend_config=config).continuation()


def test_the_time_of_a_whole_group_ends_it(config: dict[str, Any]) -> None:
    handle = submit(members.patient.map([1, 2]), backend_config={**config, "timeout": 0.5})
    with pytest.raises(GroupTimeoutError, match=r"'patient' was not finished within its timeout of 0\.5 s: 0 of 2"):
        handle.results(timeout=120)
    assert {outcome.state for outcome in handle.outcomes()} == {"TIMED_OUT"}
    assert submit(members.noop.map([1]), backend_config=config).results(timeout=120) == [1]


@pytest.mark.parametrize("group", [members.endless, members.softly_endless], ids=["hard", "soft"])
def test_a_time_limit_ends_a_member_and_not_its_siblings(group: Any, config: dict[str, Any]) -> None:
    handle = submit([group(task_id="slow", x=1), members.noop(task_id="quick", x=2)], backend_config=config)
    slow, quick = handle.outcomes(timeout=120)
    assert (slow.state, quick.state) == ("TIMED_OUT", "SUCCEEDED")
    with pytest.raises(ParallelGroupError) as caught:
        handle.results()
    assert isinstance(caught.value.errors["slow"], TaskTimeoutError)


def test_a_member_whose_pool_child_is_killed_runs_again_at_once(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submit(members.die_once.map([str(tmp_path / "mark")]), backend_config=config)
    assert handle.results(timeout=10) == ["survived"], "long before its lease of 30 s ends"
    assert (handle.outcomes()[0].attempts, handle.outcomes()[0].losses) == (2, 1)


def test_retries_in_a_members_slot_count_as_attempts(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submit(members.fail_twice.map([str(tmp_path / "tries")]), backend_config=config)
    assert [(outcome.attempts, outcome.losses) for outcome in handle.outcomes(timeout=20)] == [(3, 0)]


def test_a_lost_member_says_how_its_last_process_died(config: dict[str, Any]) -> None:
    killed = submit(members.suicide.map([1]), backend_config={**config, "max_attempts": 2})
    left = submit(members.poison.map([0]), backend_config=config)
    for handle, how in ((killed, "killed by SIGKILL"), (left, "ended with exit code 3")):
        (outcome,) = handle.outcomes(timeout=120)
        assert outcome.error is not None
        assert f"2 attempts that each lost their worker, the last one {how}; see" in outcome.error.message


def test_a_member_that_kills_its_worker_is_lost_and_the_others_are_unharmed(config: dict[str, Any]) -> None:
    handle = submit(members.poison.map(range(4)), backend_config=config)
    states = [str(outcome.state) for outcome in handle.outcomes(timeout=120)]
    assert states == ["LOST", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    with pytest.raises(ParallelGroupError) as caught:
        handle.results()
    assert isinstance(caught.value.errors["poison[0]"], MemberLostError)


def test_retries_of_a_member_follow_its_policy(config: dict[str, Any], tmp_path: Path) -> None:
    assert submit(members.fail_twice.map([str(tmp_path / "tries")]), backend_config=config).results(timeout=120) == [2]


def test_max_in_flight_limits_how_many_run_at_once(config: dict[str, Any], tmp_path: Path) -> None:
    marks = [tmp_path / str(index) for index in range(4)]
    group = members.reports_and_waits.map(map(str, marks))
    handle = submit(group, {**config, "max_in_flight": 1, "batch_size": 1})
    begun: set[int] = set()
    while len(begun) < len(marks):
        wait_until(lambda: handle.progress().keys() - begun)
        # The other worker is free, takes what it is sent, and is sent nothing of this group.
        assert submit(members.noop.map([1, 2]), backend_config=config).results(timeout=120) == [1, 2]
        (index,) = handle.progress().keys() - begun
        assert handle.status().running == 1
        begun.add(index)
        marks[index].touch()
    assert handle.results(timeout=120) == ["ended"] * len(marks)


def test_a_slow_member_does_not_hold_its_batch_mates(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    marks = [str(mark), *[str(tmp_path)] * 9]
    handle = submit(members.held.map(marks), backend_config={**config, "batch_size": 10})
    mates = [outcome.index for outcome in islice(handle.as_completed(timeout=120), 9)]
    assert sorted(mates) == list(range(1, 10)), "the first one is still held"
    mark.touch()
    assert handle.results(timeout=120) == marks


def test_an_idle_worker_takes_what_a_busy_one_would_have_to_keep_waiting(
    config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "end"
    slow = submit(members.held.map([str(mark)]), backend_config=config)
    wait_until(lambda: slow.status().running)
    for _ in range(6):
        assert submit(members.noop.map([1, 2]), backend_config=config).results(timeout=120) == [1, 2]
    mark.touch()
    assert slow.results(timeout=120) == [str(mark)]
