"""What somebody else has written into a store runs no code of theirs."""

import base64
import pickle

import pytest

from graflow import task, workflow
from graflow.flows import FlowRunner
from graflow.state import FlowStatus
from graflow.state.memory import MemoryStore


class Planted:
    """Calls a function as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


class ForgedStore(MemoryStore):
    """Gives journals back in which the tasks that steps added are others; `forge` changes them."""

    forge = staticmethod(lambda node: None)
    forged = 0

    def events(self, flow_id, after=0, limit=None):
        lines = super().events(flow_id, after, limit)
        for line in lines:
            for node in line.data.get("outcome", {}).get("nodes", ()):
                self.forge(node)
                self.forged += 1
        return lines


@pytest.mark.parametrize("signature", ["kept", "none"])
def test_a_task_that_was_planted_in_a_journal_is_not_unpickled(signature, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    planted, broken = tmp_path / "planted", [True]

    with workflow("grows") as wf:

        @task(inject_context=True)
        def first(context):
            number = 3
            context.next_task(task(lambda: number, id="grown"))

        @task
        def last():
            if broken[0]:
                raise RuntimeError("not yet")
            return 1

        first >> last

    store = ForgedStore()
    with FlowRunner(store, recovery=False) as runner:
        assert runner.run(wf, flow_id="f").status is FlowStatus.FAILED

        def forge(node):
            envelope = node["task"]
            payload = dict(envelope["payload"]) if envelope["strategy"] == "pickle" else {}
            payload["data"] = base64.b64encode(pickle.dumps(Planted(str(planted)))).decode()
            if signature == "none":
                payload.pop("signature", None)
            envelope["strategy"], envelope["payload"] = "pickle", payload

        store.forge, broken[0] = forge, False
        state = runner.run(wf, flow_id="f")
    assert store.forged
    assert not planted.exists()
    assert state.status is FlowStatus.FAILED
    assert "Task 'grown', which step 'first' added, cannot be had again" in state.error


def growing(number, is_broken):
    """Steps of which the first adds a task by value, and the last one fails while it is broken."""

    @task(inject_context=True)
    def first(context):
        context.next_task(task(lambda: number, id="grown"))

    @task
    def last():
        if is_broken[0]:
            raise RuntimeError("not yet")
        return 1

    return first >> last


def tasks_added(store, flow_id):
    """The tasks that steps of a flow added, as they are recorded."""
    return [node for line in store.events(flow_id) for node in line.data.get("outcome", {}).get("nodes", ())]


@pytest.mark.parametrize("says", ["where it is from", "that it is of this flow"])
def test_a_task_that_another_flow_signed_is_refused(says, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    is_broken = [True]

    def run(flow_id, number):
        with workflow("grows") as wf:
            growing(number, is_broken)
        return runner.run(wf, flow_id=flow_id)

    store = ForgedStore()
    with FlowRunner(store, recovery=False) as runner:
        run("theirs", 666)
        run("ours", 3)
        (theirs,), (ours,) = tasks_added(store, "theirs"), tasks_added(store, "ours")
        assert theirs["task"]["strategy"] == ours["task"]["strategy"] == "pickle"

        def replay(node):
            node["task"] = theirs["task"]
            if says == "where it is from":
                node["of"] = theirs["of"]

        store.forge, is_broken[0] = replay, False
        state = run("ours", 3)
    assert store.forged
    assert state.status is FlowStatus.FAILED
    assert "Task 'grown', which step 'first' added, cannot be had again" in state.error


def test_a_flow_that_takes_steps_of_another_along_has_their_tasks_signed_for_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store, is_broken = MemoryStore(), [False]
    with FlowRunner(store, recovery=False) as runner:
        runner.register(lambda: growing(3, is_broken), "grows", cache=True)
        first = runner.execute("grows", {})
        kept = runner.execute("grows", {})
        assert "cached" in {step.status.value for step in kept.steps}
        fork = runner.fork_flow(first.flow_id, "last")
        fork_of_fork = runner.fork_flow(fork.flow_id, "last")
        retried = runner.retry_failed_step(kept.flow_id, "last")
    for state in (kept, fork, fork_of_fork, retried):
        assert state.status is FlowStatus.COMPLETED, state.error
        assert {node["of"] for node in tasks_added(store, state.flow_id)} == {f"{state.flow_id}.0"}
    assert [step.status.value for step in fork_of_fork.steps if step.step_name == "grown"] == ["reused"]
