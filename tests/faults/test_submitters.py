"""Submitters die, meet each other, or are ahead of their workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import graflow_celery
from tests.faults.harness import ROOT, Cluster, Group, cluster, observed, queue_wait
from tests.support import wait_until


def start_submitter(running: Cluster, mode: str, folder: Path, run_id: str, n: int, seconds: float = 0.1) -> Group:
    """A process that submits, and what its members will write."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.submitter", mode, str(folder), run_id, str(n), str(seconds)]
    process = subprocess.Popen(command, env=running.environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    group = Group(None, folder, n, run_id)
    group.process = process
    return group


@pytest.mark.short
@pytest.mark.parametrize("messages", [0, 5])
def test_a_run_goes_on_when_its_submitter_dies_while_publishing(tmp_path: Path, messages: int) -> None:
    with cluster(tmp_path) as running:
        group = start_submitter(running, f"die:{messages}", tmp_path / "load", "unlucky", 80)
        group.process.communicate(timeout=30)
        died = time.time()
        assert group.process.returncode == -signal.SIGKILL

        handle = graflow_celery.attach("unlucky", running.config)
        row = running.finish(
            "9", f"submitter killed after {messages} messages", group, died, handle=handle
        )  # fmt: skip
        assert row.executions == 80


@pytest.mark.short
def test_a_run_goes_on_when_its_submitter_dies_while_waiting(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = start_submitter(running, "wait", tmp_path / "load", "orphan", 80)
        group.wait_for("finished", 10)
        os.kill(group.process.pid, signal.SIGKILL)
        group.process.communicate(timeout=10)
        died = time.time()

        handle = graflow_celery.attach("orphan", running.config)
        row = running.finish("9", "submitter killed while waiting", group, died, handle=handle)
        assert row.executions == 80


@pytest.mark.short
def test_two_submitters_of_one_run_share_it_and_another_manifest_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        first = start_submitter(running, "wait", tmp_path / "load", "shared", 40)
        second = start_submitter(running, "wait", tmp_path / "load", "shared", 40)
        begun = time.time()
        first.wait_for("started", 1)
        third = start_submitter(running, "wait", tmp_path / "other", "shared", 41)

        handle = graflow_celery.attach("shared", running.config)
        row = running.finish("24", "two submitters, one run id", first, begun, handle=handle)
        told = [group.process.communicate(timeout=30)[0].split() for group in (first, second, third)]
        assert told == [["submitted", str(sum(range(40)))], ["submitted", str(sum(range(40)))], ["conflict"]]
        assert row.executions == 40
        assert third.count("started") == 0


def test_two_processes_that_resume_one_flow_share_its_running_group(tmp_path: Path) -> None:
    n = 120
    folder = tmp_path / "flow"
    folder.mkdir()
    with cluster(tmp_path) as running:
        environment = running.environment({"XDG_STATE_HOME": str(tmp_path / "state")})

        def process(mode: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "tests.faults.resumer", mode, str(folder), str(n)]
            return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)

        first = process("start")
        group = Group(None, folder, n, "")
        group.wait_for("finished", 20)
        first.kill()
        first.communicate(timeout=10)
        died = time.time()

        resumed = [process("resume") for _ in range(2)]
        told = [other.communicate(timeout=60)[0].split() for other in resumed]
        assert told == [[str(sum(range(n)))]] * 2
        observed(
            "25",
            "two processes resume one flow",
            f"{n} members, {group.count('started')} executions, both have the result after {time.time() - died:.1f} s; "
            f"the next task ran {group.count('continued')} times",
        )
        assert group.count("started") == n, "finished and running members are not run again"


def test_a_backlog_longer_than_the_queue_wait_is_published_again_within_bounds(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1, concurrency=1, queue_wait=1.0) as running:
        group = running.submit(100)
        group.wait_in_background()
        begun = time.time()
        client = running.server.client()
        longest = 0

        def done() -> bool:
            nonlocal longest
            longest = max(longest, client.llen("graflow:broker:graflow"))
            return running.record.status(group.run_id).state.is_final

        wait_until(done, 40, interval=0.05)
        row = running.finish("27", "backlog of 10 s, queue wait 1 s", group, begun, note=f"queue at most {longest}")
        assert row.executions == 100, "nothing is charged or run twice for waiting"
        assert row.seconds < 15
        assert longest < 100


def test_a_run_without_any_worker_says_so_and_goes_on_when_one_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster(tmp_path, workers=0, worker_wait=1.0) as running, queue_wait(60.0):
        group = running.submit(10)
        group.wait_in_background()
        wait_until(lambda: "No worker consumes queue" in caplog.text, 10)
        running.start(1)
        running.finish("27b", "no worker at first", group, time.time())
