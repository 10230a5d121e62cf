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
    """Gives journals back in which the tasks that steps added are others; `forge` changes their envelopes."""

    forge = staticmethod(lambda envelope: None)
    forged = 0

    def events(self, flow_id, after=0, limit=None):
        lines = super().events(flow_id, after, limit)
        for line in lines:
            for node in line.data.get("outcome", {}).get("nodes", ()):
                self.forge(node["task"])
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

        def forge(envelope):
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
