"""Worker processes are killed, stopped and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.harness import LEASE, ROOT, SWEEP, Cluster, Group, Worker, cluster, wait_until_idle
from tests.faults.members import endless, held, hog, poison
from tests.support import pass_time, wait_until


def kill_busy_child(group: Group, worker: Worker) -> set[int]:
    """Kill a child of the worker while it runs members, which are held; returns those."""
    group.wait_until_running_on(worker)
    pid, cut_short = next(iter(group.running_on(worker).items()))
    os.kill(pid, signal.SIGKILL)
    return cut_short


def test_a_member_of_a_killed_pool_child_runs_again_without_waiting_for_its_lease(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(4, task=held, extra=0)

        cut_short = kill_busy_child(group, running.workers[0])
        killed = time.time()

        wait_until(lambda: all(group.starts()[index] == 2 for index in cut_short), 20, f"members {cut_short}")
        seconds = time.time() - killed
        group.let_go()
        running.finish("1", "kill -9 a pool child", group, killed, note=f"running again after {seconds:.2f} s")
        assert cut_short
        assert seconds < LEASE / 2


def test_a_group_ends_when_a_pool_child_is_killed_in_the_middle(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(200, task=held, extra=20)
        group.wait_for("finished", 20)

        kill_busy_child(group, running.workers[0])
        killed = time.time()
        group.let_go()

        row = running.finish("1b", "kill -9 a pool child, 200 members", group, killed)
        assert row.executions > group.n


def test_members_of_a_killed_worker_run_elsewhere_after_lease_and_sweep(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(80, task=held, extra=10)
        group.wait_for("finished", 10)
        group.wait_until_running_on(running.workers[0])

        running.workers[0].kill()
        killed = time.time()
        group.let_go()

        row = running.finish("2", "kill -9 a worker", group, killed)
        assert row.executions > group.n
        assert row.seconds <= 2 * (LEASE + SWEEP), "no queue wait"


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("SIGTERM", [signal.SIGTERM]),
        ("SIGTERM twice", [signal.SIGTERM, signal.SIGTERM]),
        ("SIGQUIT", [signal.SIGQUIT]),
    ],
)
def test_a_worker_that_is_told_to_stop_ends_in_time_and_loses_nothing(
    tmp_path: Path, name: str, signals: list[int]
) -> None:
    with cluster(tmp_path) as running:
        group = running.submit()
        group.wait_for("finished", 20)

        worker = running.workers[0]
        told = time.time()
        for signum in signals:
            worker.signal(signum)
            pass_time(0.3)
        worker.process.wait(45)  # of them billiard may take 30 s for the last result
        stopped = time.time() - told

        row = running.finish("3", name, group, told, note=f"worker ended after {stopped:.1f} s")
        assert stopped < 10
        if name == "SIGTERM":
            assert row.executions == group.n, "running members finish, the others are handed back"


def test_the_first_result_wins_when_a_paused_worker_reports_late(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(40, task=held, extra=5)
        group.wait_for("finished", 5)

        paused = running.workers[0]
        group.wait_until_running_on(paused)
        paused.signal_all(signal.SIGSTOP)
        wait_until(lambda: running.record.status(group.run_id).losses > 0, 60)
        group.wait_in_background()
        group.let_go()
        pass_time(1.0)
        paused.signal_all(signal.SIGCONT)
        resumed = time.time()

        row = running.finish("14", "worker paused beyond its lease", group, resumed)
        assert row.executions > group.n
        wait_until(lambda: group.count("finished") >= row.executions, 30)
        wait_until(lambda: late_or_refused(running, group) >= 1, 30)


def late_or_refused(running: Cluster, group: Group) -> int:
    """Reports that changed nothing any more."""
    status = running.record.status(group.run_id)
    return status.late + status.refused


def test_what_a_frozen_worker_took_and_never_claimed_is_published_again(tmp_path: Path) -> None:
    with cluster(tmp_path, concurrency=1) as running:
        wait_until_idle(running.server, 2)
        for worker in running.workers:
            worker.signal(
                signal.SIGSTOP
            )  # while it waits in BRPOP: the server hands a message to a process that sleeps
        group = running.submit(6, 0.05)
        waiting = running.server.client()
        wait_until(lambda: waiting.llen("graflow:broker:graflow") == 0, 30, "both messages are taken")

        for worker in running.workers:
            worker.kill()
        killed = time.time()
        running.start(2, concurrency=1)

        row = running.finish("15", "frozen between pop and note, killed", group, killed)
        assert row.executions == 6


@pytest.mark.parametrize("how", ["segfault", "exit", "kill"])
def test_a_member_that_kills_its_process_is_lost_alone_after_max_attempts(tmp_path: Path, how: str) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(40, task=poison, extra=how, policy="best_effort")
        begun = time.time()

        outcomes = group.handle.outcomes(timeout=40)
        row = running.finish("16", f"poison member ({how})", group, begun, values=False)

        assert [outcome.state for outcome in outcomes].count("SUCCEEDED") == 39
        assert outcomes[3].state == "LOST"
        assert group.starts()[3] == 4
        assert row.executions <= 40 + 3 + 3, "the others ran once, save those next to it"


def test_a_member_that_wants_too_much_memory_fails_alone(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(20, task=hog, policy="best_effort")
        outcomes = group.handle.outcomes(timeout=120)
        row = running.finish("17", "memory hog under a limit", group, time.time(), values=False)

        assert [outcome.state for outcome in outcomes].count("SUCCEEDED") == 19
        assert outcomes[3].error is not None
        assert outcomes[3].error.type.endswith("MemoryError")
        assert row.executions == 20


def test_a_member_without_end_is_timed_out_at_its_limit(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(20, task=endless, policy="best_effort")
        group.wait_for("started", 4)
        begun = time.time()
        outcomes = group.handle.outcomes(timeout=120)
        took = time.time() - begun
        row = running.finish("18", "endless loop, time limit 2 s", group, begun, values=False)

        assert outcomes[3].state == "TIMED_OUT"
        assert [outcome.state for outcome in outcomes].count("SUCCEEDED") == 19
        assert took < 2 + LEASE
        assert row.executions == 20


@pytest.mark.parametrize("offset", [600, -600])
def test_a_worker_with_a_wrong_clock_changes_nothing(tmp_path: Path, offset: int) -> None:
    skewed = {"PYTHONPATH": f"{ROOT / 'tests/faults/skewed'}:{ROOT}", "FAULT_CLOCK_OFFSET": str(offset)}
    with cluster(tmp_path, workers=0) as running:
        running.start(1)
        running.start(1, environment=skewed)
        group = running.submit(80)
        row = running.finish("21", f"worker clock {offset:+} s", group, time.time())

        noted = [float(line[2]) for line in group.lines("started")]
        assert max(abs(moment - time.time()) for moment in noted) > 500, "a clock was wrong"
        assert row.executions == group.n
        assert row.refused == 0


def test_members_of_a_sweeper_that_died_between_finding_and_publishing_are_found_again(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1, queue_wait=2.0) as running:
        group = running.submit(40, task=held, extra=5)
        group.wait_for("finished", 5)
        group.wait_until_running_on(running.workers[0])
        running.workers[0].kill()
        killed = time.time()

        sweeper = subprocess.run(
            [sys.executable, "-m", "tests.faults.dying_sweeper"],
            env=running.environment(), cwd=ROOT, check=False, timeout=60,
        )  # fmt: skip
        assert sweeper.returncode == -signal.SIGKILL, "it found lost members and died before it published them"

        group.let_go()
        running.start(2)
        row = running.finish("26", "sweeper killed, two others", group, killed)
        assert row.executions > group.n
