"""Many flows at once, many runners of one flow at once, and owners that die or are stopped."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest

from graflow import task
from graflow.exceptions import FlowConflictError, MoveRefusedError
from graflow.flows import AsyncFlowRunner, FlowRunner
from graflow.flows.waiting import signals
from graflow.state import FlowStatus
from graflow.state.memory import MemoryStore
from tests.flows import waiting
from tests.flows.support import WatchedStore
from tests.support import at_once, wait_until


class Gate:
    """A flow of three steps, the second of which waits until it may end."""

    def __init__(self):
        self.ran, self.begun, self.go = [], threading.Event(), threading.Event()

    def build(self):
        @task
        def first():
            self.ran.append("first")

        @task
        def second():
            self.ran.append("second")
            self.begun.set()
            assert self.go.wait(60)

        @task
        def third():
            self.ran.append("third")
            return "end"

        first >> second >> third


def gated(store, **options):
    gate = Gate()
    runner = FlowRunner(store, **options)
    runner.register(gate.build, "gated")
    return runner, gate


def test_a_hundred_flows_complete_and_each_step_runs_once(tmp_path):
    lock, ran = threading.Lock(), {}

    def build(number: int):
        def body(step):
            with lock:
                ran[number, step] = ran.get((number, step), 0) + 1
            return step

        tasks = [task(f"s{step}")(lambda step=step: body(step)) for step in range(10)]
        for one, other in itertools.pairwise(tasks):
            one >> other

    with FlowRunner(f"sqlite:///{tmp_path}/flows.db") as runner:
        runner.register(build, "ten")
        ids = [runner.submit("ten", {"number": number}) for number in range(100)]
        states = [runner.wait(flow_id, 60) for flow_id in ids]
        assert {state.status for state in states} == {FlowStatus.COMPLETED}
        page = runner.list_flows(flow_name="ten", status="completed", limit=200)
        assert sorted(state.flow_id for state in page) == sorted(ids)
    assert len(ran) == 1000
    assert set(ran.values()) == {1}


def test_one_flow_that_is_executed_many_times_at_once_runs_once(tmp_path):
    ran = []

    def build():
        return task("only")(lambda: ran.append(1))

    def execute(_):
        runner = FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False)
        runner.register(build, "only")
        return runner.execute("only", flow_id="same").status

    assert at_once(execute, range(8)) == [FlowStatus.COMPLETED] * 8
    assert ran == [1]


@pytest.mark.parametrize("is_beside", [False, True], ids=["in one process", "from another one"])
def test_a_pause_lets_the_running_step_end_and_no_other_begin(is_beside):
    store = MemoryStore()
    runner, gate = gated(store)
    flow_id = runner.submit("gated")
    assert gate.begun.wait(60)
    other = FlowRunner(WatchedStore(store)) if is_beside else runner
    assert other.pause_flow(flow_id, "lunch").status is FlowStatus.RUNNING
    gate.go.set()
    state = runner.wait(flow_id, 10)
    assert (state.status, gate.ran) == (FlowStatus.PAUSED, ["first", "second"])
    assert [row.status.value for row in state.steps][:2] == ["completed", "completed"]
    state = runner.resume_flow(flow_id)
    assert (state.status, gate.ran, state.outputs) == (FlowStatus.COMPLETED, ["first", "second", "third"], "end")
    with pytest.raises(FlowConflictError):
        runner.pause_flow(flow_id)


def test_a_cancelled_flow_begins_no_further_step_and_is_not_resumed():
    runner, gate = gated("memory://")
    flow_id = runner.submit("gated")
    assert gate.begun.wait(60)
    assert runner.plan_cancel(flow_id).steps[-1].action == "cancel"
    assert runner.cancel_flow(flow_id, "wrong one").status is FlowStatus.CANCELLING
    gate.go.set()
    state = runner.wait(flow_id, 10)
    assert (state.status, gate.ran) == (FlowStatus.CANCELLED, ["first", "second"])
    with pytest.raises(MoveRefusedError, match="fork"):
        runner.resume_flow(flow_id)
    assert runner.fork_flow(flow_id, "second").status is FlowStatus.COMPLETED


def test_a_flow_that_waits_in_a_queue_is_paused_and_cancelled_at_once():
    runner, gate = gated("memory://", max_concurrent=1)
    blocking = runner.submit("gated")
    assert gate.begun.wait(60)
    queued, other = runner.submit("gated"), runner.submit("gated")
    assert runner.pause_flow(queued).status is FlowStatus.PAUSED
    assert runner.cancel_flow(other).status is FlowStatus.CANCELLED
    gate.go.set()
    assert runner.wait(blocking, 10).status is FlowStatus.COMPLETED
    assert gate.ran == ["first", "second", "third"]
    assert runner.resume_flow(queued).status is FlowStatus.COMPLETED


def test_what_an_owner_does_after_another_one_took_over_is_refused():
    store = MemoryStore()
    slow, gate = gated(store, recovery=False)
    first = threading.Thread(target=slow.execute, args=("gated", None, "f"))
    first.start()
    assert gate.begun.wait(60)
    # Another home does not know that this process is alive and runs the flow.
    fast, other = gated(WatchedStore(store), recovery=False)
    other.go.set()
    assert fast.execute("gated", flow_id="f").status is FlowStatus.COMPLETED
    gate.go.set()
    first.join(60)
    assert (gate.ran, other.ran) == (["first", "second"], ["second", "third"])
    assert [line.kind for line in fast.events("f")].count("refused") == 1
    assert [(row.step_name, row.attempts) for row in fast.get_flow_state("f").steps] == [
        ("first", 1),
        ("second", 2),
        ("third", 1),
    ]


def test_a_process_that_dies_is_replaced_by_one_that_looks_after_flows(tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    program = subprocess.Popen([sys.executable, "-m", "tests.flows.waiting", url, str(tmp_path)])
    wait_until(lambda: (tmp_path / "ran").exists() and "second" in (tmp_path / "ran").read_text())
    program.kill()
    program.wait(60)
    (tmp_path / "go").touch()
    waiting.FOLDER = tmp_path
    with FlowRunner(url) as runner:
        runner.initialize()
        state = runner.wait("w", 60)
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, "w/second/1")
    assert (tmp_path / "ran").read_text().split("\n")[:3] == ["first", "second 1", "second 2"]


def test_a_terminated_process_hands_its_flows_over(tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    program = subprocess.Popen([sys.executable, "-m", "tests.flows.waiting", url, str(tmp_path)])
    wait_until(lambda: (tmp_path / "ran").exists() and "second" in (tmp_path / "ran").read_text())
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == -signal.SIGTERM
    with FlowRunner(url, recovery=False) as runner:
        state = runner.get_flow_state("w")
        assert (state.status, state.owner, state.takeovers) == (FlowStatus.QUEUED, None, 0)
        (tmp_path / "go").touch()
        waiting.FOLDER = tmp_path
        assert runner.resume_flow("w").status is FlowStatus.COMPLETED
    assert [line.kind for line in runner.events("w")].count("flow.handed_over") == 1


def begun(folder, how):
    """A program amid the second step of its flow."""
    url = f"sqlite:///{folder}/flows.db"
    program = subprocess.Popen([sys.executable, "-m", "tests.flows.waiting", url, str(folder), how])
    wait_until(lambda: (folder / "ran").exists() and "second" in (folder / "ran").read_text())
    return program


def state_of(folder):
    with FlowRunner(f"sqlite:///{folder}/flows.db", recovery=False) as runner:
        state = runner.get_flow_state("w")
        return state.status, state.owner, state.takeovers


def test_a_terminated_program_does_nothing_with_half_a_flow(tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    command = [sys.executable, "-m", "tests.flows.waiting", url, str(tmp_path), "terminated"]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGTERM
    assert not (tmp_path / "ran").exists()
    assert state_of(tmp_path) == (FlowStatus.QUEUED, None, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_with_an_event_loop_hands_its_flows_over_too(tmp_path, number):
    program = begun(tmp_path, "awaited")
    program.send_signal(number)
    assert program.wait(60) == -number
    assert state_of(tmp_path) == (FlowStatus.QUEUED, None, 0)


def test_a_program_that_ends_hands_over_what_runs_in_its_background(tmp_path):
    assert begun(tmp_path, "in_background").wait(60) == 0
    assert state_of(tmp_path) == (FlowStatus.QUEUED, None, 0)


def test_a_child_that_a_step_forks_and_terminates_leaves_the_flow_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "FOLDER", tmp_path)
    with FlowRunner(tmp_path / "flows.db") as runner:
        state = runner.execute("with_a_child")
        assert [line.kind for line in runner.events(state.flow_id)].count("flow.handed_over") == 0
    assert state.steps[0].outputs == -signal.SIGTERM
    assert (state.status, state.takeovers) == (FlowStatus.COMPLETED, 0)


@pytest.mark.parametrize("leave", [lambda: "the child's", lambda: sys.exit(3), lambda: 1 / 0])
def test_a_child_that_comes_out_of_the_step_that_forked_it_ends_there(tmp_path, leave):
    @task
    def forking():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return "the parent's"
        return leave()

    with FlowRunner(tmp_path / "flows.db") as runner:
        runner.register(lambda: forking, "forking")
        state = runner.execute("forking")
        kinds = [line.kind for line in runner.events(state.flow_id)]
    assert (state.status, state.steps[0].attempts) == (FlowStatus.COMPLETED, 1)
    assert kinds == ["flow.claimed", "step.started", "step.completed", "flow.completed"]


def test_nothing_is_begun_in_threads_while_python_ends(tmp_path, monkeypatch):
    runner, gate = gated(MemoryStore())
    flow_id = runner.submit("gated")
    assert gate.begun.wait(60)
    end = signals._End()
    end.look_after(runner._home)
    gate.go.set()
    with monkeypatch.context() as ending:
        ending.setattr(threading.Thread, "start", lambda _: pytest.fail("Python 3.12 starts no thread at its end"))
        end._leave()
    assert runner.get_flow_state(flow_id).status in {FlowStatus.QUEUED, FlowStatus.COMPLETED}


def test_a_runner_that_is_closed_leaves_its_flows_to_others():
    store = MemoryStore()
    runner, gate = gated(store)
    flow_id = runner.submit("gated")
    assert gate.begun.wait(60)
    closing = threading.Thread(target=runner.close)
    closing.start()
    wait_until(lambda: store.get_record(flow_id).status is FlowStatus.QUEUED)
    gate.go.set()
    closing.join(60)
    runner, gate = gated(store)
    gate.go.set()
    runner.initialize()
    assert runner.wait(flow_id, 10).status is FlowStatus.COMPLETED
    assert gate.ran == ["second", "third"]


def test_flows_run_beside_an_event_loop():
    async def main():
        async with AsyncFlowRunner("memory://") as runner:
            runner.register(lambda number: task("double")(lambda: number * 2), "double")
            states = await asyncio.gather(*(runner.execute("double", {"number": number}) for number in range(20)))
            assert [state.outputs for state in states] == [number * 2 for number in range(20)]
            flow_id = await runner.submit("double", {"number": 21})
            assert (await runner.wait(flow_id, 10)).status is FlowStatus.COMPLETED
            assert await runner.result(flow_id) == 42
            assert len(await runner.list_flows()) == 21

    asyncio.run(main())
