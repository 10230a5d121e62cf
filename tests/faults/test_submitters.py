"""Submitters die, meet each other, or are ahead of their workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import graflow_celery
from tests.faults.harness import ROOT, Cluster, Group, Row, cluster
from tests.faults.resumer import FREE
from tests.support import wait_until

RUN_LEASE = 3.0


def start_submitter(running: Cluster, mode: str, folder: Path, run_id: str, n: int, seconds: float = 0.1) -> Group:
    """A process that submits, and what its members will write."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.submitter", mode, str(folder), run_id, str(n), str(seconds)]
    process = subprocess.Popen(command, env=running.environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    group = Group(None, folder, n, run_id)
    group.process = process
    return group


@pytest.mark.parametrize("messages", [0, 5])
def test_a_run_goes_on_when_its_submitter_dies_while_publishing(tmp_path: Path, messages: int) -> None:
    with cluster(tmp_path) as running:
        group = start_submitter(running, f"die:{messages}", tmp_path / "load", "unlucky", 80)
        group.process.communicate(timeout=60)
        died = time.time()
        assert group.process.returncode == -signal.SIGKILL

        handle = graflow_celery.attach("unlucky", running.config)
        row = running.finish(
            "9", f"submitter killed after {messages} messages", group, died, handle=handle
        )  # fmt: skip
        assert row.executions == 80


def test_a_run_goes_on_when_its_submitter_dies_while_waiting(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = start_submitter(running, "wait", tmp_path / "load", "orphan", 80)
        group.wait_for("finished", 10)
        os.kill(group.process.pid, signal.SIGKILL)
        group.process.communicate(timeout=60)
        died = time.time()

        handle = graflow_celery.attach("orphan", running.config)
        row = running.finish("9", "submitter killed while waiting", group, died, handle=handle)
        assert row.executions == 80


def test_two_submitters_of_one_run_share_it_and_another_manifest_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        first = start_submitter(running, "wait", tmp_path / "load", "shared", 40)
        second = start_submitter(running, "wait", tmp_path / "load", "shared", 40)
        begun = time.time()
        first.wait_for("started", 1)
        third = start_submitter(running, "wait", tmp_path / "other", "shared", 41)

        handle = graflow_celery.attach("shared", running.config)
        row = running.finish("24", "two submitters, one run id", first, begun, handle=handle)
        told = [group.process.communicate(timeout=60)[0].split() for group in (first, second, third)]
        assert told == [["submitted", str(sum(range(40)))], ["submitted", str(sum(range(40)))], ["conflict"]]
        assert row.executions == 40
        assert third.count("started") == 0


class Flow:
    """A flow of `n` members that several processes run and resume, and what its steps wrote."""

    def __init__(self, running: Cluster, folder: Path, n: int) -> None:
        folder.mkdir()
        self.steps = Group(None, folder, n, "")
        self._running = running
        self._environment = running.environment({"XDG_STATE_HOME": str(folder / "state")})
        self._processes: list[subprocess.Popen[str]] = []

    def process(self, mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.faults.resumer", mode, str(self.steps.folder), str(self.steps.n)]
        pipe = subprocess.PIPE
        made = subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        self._processes.append(made)
        return made

    def killed_after(self, finished: int) -> float:
        """Start it and kill its process when so many members have finished; returns the time of that."""
        process = self.process("start")
        self.steps.wait_for("finished", finished)
        process.kill()
        process.communicate(timeout=60)
        return time.time()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate(timeout=60)

    def finish(self, fault: str, ended: float, note: str) -> Row:
        """Count the members' outcomes and how often the step after the group ran."""
        saved = json.loads((self.steps.folder / "saved.meta.json").read_text(encoding="utf-8"))
        self.steps.run_id = f"{saved['session_id']}:values:0"
        row = self._running.count("25", fault, self.steps, ended, note=note)
        row.continuations = self.steps.count("continued")
        row.check()
        return row


@contextlib.contextmanager
def flow_of(folder: Path, n: int) -> Iterator[Flow]:
    """A cluster and a flow for the length of a `with` block."""
    with cluster(folder, run_lease=RUN_LEASE) as running:
        flow = Flow(running, folder / "flow", n)
        try:
            yield flow
        finally:
            flow.stop()


def owner_of(process: subprocess.Popen[str]) -> str:
    return f"{socket.gethostname()}:{process.pid}"


def test_a_process_that_resumes_a_flow_whose_owner_lives_is_told_before_it_repeats_a_step(tmp_path: Path) -> None:
    n = 40
    with flow_of(tmp_path, n) as flow:
        first = flow.process("start")
        flow.steps.wait_for("finished", FREE)

        begun = time.time()
        second = flow.process("resume")
        told, log = second.communicate(timeout=60)
        seconds = time.time() - begun
        flow.steps.let_go()

        assert told.split() == ["owned", owner_of(first)]
        assert f"belongs to {owner_of(first)}; waiting for up to" in log
        assert first.communicate(timeout=60)[0].split() == [str(sum(range(n)))]
        assert flow.steps.count("prepared") == 1
        row = flow.finish("owner lives, another resumes", begun, f"told after {seconds:.1f} s")
        assert row.executions == n


def test_of_two_processes_that_resume_one_flow_one_goes_on_and_the_other_is_told(tmp_path: Path) -> None:
    n = 40
    with flow_of(tmp_path, n) as flow:
        died = flow.killed_after(FREE)

        resumed = [flow.process("resume") for _ in range(2)]
        wait_until(lambda: any(other.poll() is not None for other in resumed), 60, "the other one is told")
        flow.steps.let_go()
        told = {other: other.communicate(timeout=60)[0].split() for other in resumed}

        (winner,) = (other for other in resumed if told[other] == [str(sum(range(n)))])
        (loser,) = (other for other in resumed if other is not winner)
        assert told[loser] == ["owned", owner_of(winner)]
        assert loser.returncode == 3
        assert flow.steps.count("prepared") == 2, "before the kill, and in the one process that goes on"
        row = flow.finish("two processes resume one flow", died, f"next step after {continued(flow) - died:.1f} s")
        assert row.executions == n, "finished and running members are not run again"


def continued(flow: Flow) -> float:
    """When the step after the group first ran."""
    return min(float(line[2]) for line in flow.steps.lines("continued"))


def test_a_flow_whose_owner_was_killed_goes_on_within_its_lease(tmp_path: Path) -> None:
    n = 40
    with flow_of(tmp_path, n) as flow:
        died = flow.killed_after(FREE)
        flow.steps.let_go()

        resumed = flow.process("resume")
        assert resumed.communicate(timeout=60)[0].split() == [str(sum(range(n)))]

        row = flow.finish("owner killed, one resumes", died, f"next step after {continued(flow) - died:.1f} s")
        assert row.executions == n
        assert continued(flow) - died < RUN_LEASE + 30, "the lease, and what a process needs to start"


def test_an_owner_that_was_frozen_and_taken_over_does_not_run_the_next_step(tmp_path: Path) -> None:
    n = 40
    with flow_of(tmp_path, n) as flow:
        first = flow.process("start")
        flow.steps.wait_for("finished", FREE)
        first.send_signal(signal.SIGSTOP)
        frozen = time.time()
        flow.steps.let_go()

        second = flow.process("resume")
        assert second.communicate(timeout=60)[0].split() == [str(sum(range(n)))]
        first.send_signal(signal.SIGCONT)
        told = first.communicate(timeout=60)[0]

        assert told.split() == ["owned", owner_of(second)]
        assert first.returncode == 3
        flow.finish("owner frozen, taken over, continued", frozen, f"next step after {continued(flow) - frozen:.1f} s")


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
    with cluster(tmp_path, workers=0, worker_wait=1.0) as running:
        group = running.submit(10)
        group.wait_in_background()
        wait_until(lambda: "No worker consumes queue" in caplog.text, 60)
        running.start(1)
        running.finish("27b", "no worker at first", group, time.time())
