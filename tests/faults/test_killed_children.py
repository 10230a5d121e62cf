"""A program that is killed with -9 after each write of sleeping, waking, starting and ending a child."""

import json
import signal
import subprocess
import sys

import pytest

from graflow.flows import FlowRunner
from graflow.flows.recording.journal import CALLED

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]


def started(url, effects, writes):
    """Run the program, which is killed after so many writes; never after 0."""
    command = [sys.executable, "-m", "tests.flows.killed", url, str(effects), str(writes), "killed_parent"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def check_killed(url, effects, writes):
    """Kill the program after so many writes, and start it again; False when it ends before."""
    first = started(url, effects, writes)
    if first.returncode == 0:
        return False
    assert first.returncode == -signal.SIGKILL, first.stderr
    again = json.loads(started(url, effects, 0).stdout)
    assert (again["status"], again["outputs"]) == ("completed", 42)
    with FlowRunner(url, recovery=False) as runner:
        (child,) = runner.list_flows("killed_child")
        lines = [line for flow_id in ("f", child.flow_id) for line in runner.events(flow_id)]
    calls = [line.data for line in lines if line.kind == CALLED]
    starts = [[name for name in ("child", "value") if name in call] for call in calls if call["call"] == "start"]
    assert starts == [["child"], ["child", "value"]]
    assert [line.kind for line in lines].count("flow.completed") == 2
    ran = effects.read_text("utf-8").splitlines()
    assert 1 <= ran.count("double") <= 2, "an execution that was cut short runs again, and no other"
    return True


def test_a_child_is_started_once_and_answers_once_whatever_write_its_program_is_killed_after(tmp_path):
    writes = 1
    while check_killed(f"sqlite:///{tmp_path}/{writes}.db", tmp_path / f"{writes}.txt", writes):
        writes += 1
    assert writes > 8
