"""Options of single members, `@task(options=...)`, against real workers."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from graflow import parallel, workflow
from graflow.exceptions import NoWorkerError, ParallelGroupError, RetryLimitExceededError
from graflow_celery import LocalCluster, attach, submit
from graflow_celery.worker import TaskWorker
from tests.cluster_support import MEMBERS
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


@pytest.mark.slow
def test_members_go_to_the_workers_of_their_own_queue_and_no_others(cluster: LocalCluster) -> None:
    config = cluster.backend_config
    group = [
        members.on_another_queue(task_id="apart", x=1),
        *(members.pid(task_id=f"here{index}", x=index) for index in range(4)),
    ]
    handle = submit(group, backend_config=config)
    wait_until(lambda: handle.status().succeeded == 4)
    assert handle.status().pending == 1
    with TaskWorker(config, queue="elsewhere", imports=[MEMBERS]) as worker:
        outcomes = handle.outcomes(timeout=120)
        assert [outcome.task_id for outcome in outcomes if worker.name in (outcome.worker or "")] == ["apart"]


def test_members_of_a_higher_priority_start_first_when_there_is_a_backlog(
    one_slot: LocalCluster, tmp_path: Path
) -> None:
    config, mark = one_slot.backend_config, tmp_path / "end"
    blocking = submit(members.held.map([str(mark)]), backend_config=config)
    wait_until(lambda: blocking.status().running)
    late = submit(members.stamp.map(range(3)), backend_config={**config, "batch_size": 1})
    lazy = submit(members.unhurried.map(range(2)), backend_config=config)
    soon = submit(members.urgent.map(range(3)), backend_config=config)
    mark.touch()
    assert max(soon.results(timeout=120)) < min([*late.results(timeout=120), *lazy.results(timeout=120)])


def test_each_member_is_executed_as_often_as_it_allows_itself(config: dict[str, Any], tmp_path: Path) -> None:
    mark, died = tmp_path / "runs", tmp_path / "died"
    group = [
        members.poison_once(task_id="once", mark=str(mark)),
        members.die_once(task_id="again", mark=str(died)),
        members.poison(task_id="twice", x=0),
    ]
    handle = submit(group, backend_config=config)
    found = [(str(outcome.state), outcome.attempts, outcome.losses) for outcome in handle.outcomes(timeout=120)]
    assert found == [("LOST", 1, 1), ("SUCCEEDED", 2, 1), ("LOST", 2, 2)]
    assert mark.read_text(encoding="utf-8") == "ran\n"


@pytest.mark.slow
def test_a_member_for_a_queue_without_a_worker_is_told_of_with_what_to_do(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    impatient = {**config, "worker_wait": 0.3}
    group = [members.on_another_queue(task_id="apart", x=1), members.noop(task_id="here", x=2)]
    handle = submit(group, backend_config=impatient)
    with caplog.at_level(logging.WARNING), pytest.raises(TimeoutError):
        handle.results(timeout=3)
    [*told] = [record.getMessage() for record in caplog.records if "No worker" in record.getMessage()]
    assert told
    assert all(
        re.search(
            r"queue 'elsewhere' at .*where [1-9][0-9]* messages wait .*worker -Q elsewhere --graflow-import", text
        )
        for text in told
    )
    with pytest.raises(NoWorkerError, match="'elsewhere'") as caught:
        attach(handle.run_id, {**impatient, "on_no_worker": "error"}).results(timeout=120)
    assert caught.value.queue == "elsewhere"
    handle.cancel()


@pytest.mark.slow
def test_a_member_that_waits_for_its_retry_holds_no_slot(one_slot: LocalCluster, tmp_path: Path) -> None:
    group = [members.recovers(task_id="flaky", mark=str(tmp_path / "mark")), members.stamp(task_id="other", x=1)]
    handle = submit(group, backend_config=one_slot.backend_config)
    flaky, other = handle.outcomes(timeout=120)

    assert flaky.value == (1, 1, 2)  # one retry, one cycle, the second execution
    assert (flaky.state, flaky.attempts, other.attempts) == ("SUCCEEDED", 2, 1)
    assert other.finished_at is not None
    assert flaky.started_at is not None
    assert other.finished_at < flaky.started_at
    assert handle.status().retries == 1


@pytest.mark.slow
def test_a_member_that_is_put_off_frees_its_place_in_a_limited_group(config: dict[str, Any], tmp_path: Path) -> None:
    group = [members.recovers(task_id="flaky", mark=str(tmp_path / "mark")), members.stamp(task_id="other", x=1)]
    flaky, other = submit(group, backend_config={**config, "max_in_flight": 1}).outcomes(timeout=120)
    assert (flaky.attempts, other.state) == (2, "SUCCEEDED")
    assert other.finished_at is not None
    assert flaky.started_at is not None
    assert other.finished_at < flaky.started_at


@pytest.mark.slow
def test_a_member_tried_again_elsewhere_ends_as_on_threads(config: dict[str, Any], tmp_path: Path) -> None:
    def story(backend: str) -> Any:
        with workflow("retries") as wf:
            group = [
                members.recovers(task_id="well", mark=str(tmp_path / backend)),
                members.never_recovers(task_id="badly", x=7),
                members.writes_and_recovers(task_id="writes", mark=str(tmp_path / f"{backend}-writes")),
            ]
            parallel(*group).with_execution(backend, config if backend == "redis" else {}, policy="best_effort")
            _, context = wf.execute(ret_context=True)
        well, badly, writes = (context.get_result(member.task_id) for member in group)
        counts = context.retry_controller.retry_counts, context.cycle_controller.cycle_counts
        return well[:2], str(badly), writes, counts, sorted(context.completed_tasks), context.steps

    on_workers, on_threads = story("redis"), story("threading")
    assert on_workers == on_threads
    assert on_workers[2] == "nothing"  # a failed attempt leaves nothing in the channel
    assert on_workers[3][0] == {"well": 1, "badly": 2, "writes": 1}


@pytest.mark.slow
def test_a_budget_that_is_used_up_elsewhere_gives_the_error_of_threads(config: dict[str, Any]) -> None:
    def error(backend: str) -> Any:
        with workflow("retries") as wf:
            group = [members.never_recovers(task_id="badly", x=7), members.noop(task_id="well", x=1)]
            parallel(*group).with_execution(backend, config if backend == "redis" else {})
            with pytest.raises(ParallelGroupError) as caught:
                wf.execute()
        return caught.value.errors["badly"]

    on_workers, on_threads = error("redis"), error("threading")
    assert isinstance(on_workers, RetryLimitExceededError)
    for name in ("task_id", "retry_count", "max_retries", "message"):
        assert getattr(on_workers, name, None) == getattr(on_threads, name, None)
    assert str(on_workers) == str(on_threads)
    assert str(on_workers.last_error) == str(on_threads.last_error) == "7 at retry 2"


def test_retries_after_short_waits_count_with_those_after_long_ones(config: dict[str, Any]) -> None:
    handle = submit(members.never_recovers.map([7]), backend_config=config)
    assert [(outcome.attempts, outcome.losses) for outcome in handle.outcomes(timeout=120)] == [(3, 0)]
    assert handle.status().retries == 2


@pytest.mark.slow
def test_a_worker_that_is_lost_costs_no_retry(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submit(members.dies_after_its_retry.map([str(tmp_path / "mark")]), backend_config=config)
    assert handle.results(timeout=120) == [(1, 3)]
    assert (handle.status().retries, handle.status().losses) == (1, 1)
    assert [(outcome.attempts, outcome.losses) for outcome in handle.outcomes()] == [(3, 1)]


def test_a_member_that_waits_for_its_retry_can_be_cancelled_and_runs_out_of_time(config: dict[str, Any]) -> None:
    cancelled = submit(members.fails_for_long.map([1]), backend_config=config)
    over = submit(members.fails_for_long.map([1]), backend_config={**config, "timeout": 2})
    wait_until(lambda: cancelled.status().retries)
    assert (cancelled.status().running, cancelled.status().pending) == (0, 1)
    cancelled.cancel()
    assert cancelled.outcomes(timeout=120)[0].state == "CANCELLED"
    assert over.outcomes(timeout=120)[0].state == "TIMED_OUT"


def test_a_member_that_waits_for_its_retry_keeps_no_others_on_its_worker(
    config: dict[str, Any], tmp_path: Path
) -> None:
    group = [
        members.fails_for_long(task_id="flaky", x=1),
        *(members.meet(task_id=x, folder=str(tmp_path), count=2) for x in "ab"),
    ]
    handle = submit(group, backend_config={**config, "batch_size": 3})
    wait_until(lambda: handle.status().succeeded == 2)
    handle.cancel()
    flaky, *met = handle.outcomes(timeout=120)
    assert flaky.state == "CANCELLED"
    assert len({outcome.worker for outcome in met}) == 2
