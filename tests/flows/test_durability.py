"""What a flow does without its store, by what it was told to."""

import itertools
import time

import pytest

from graflow import task, workflow
from graflow.exceptions import StoreConfigError, StoreUnavailableError
from graflow.flows import FlowContext, FlowRunner
from graflow.flows.recording import writing
from graflow.state import FlowStatus, StepStatus, encoding
from graflow.state.memory import MemoryStore
from tests.flows.support import Line, WatchedStore
from tests.support import wait_until


def steps(*bodies):
    tasks = [task(f"s{place}")(body) for place, body in enumerate(bodies)]
    for one, other in itertools.pairwise(tasks):
        one >> other


def runner_over(store, line, build, **options):
    runner = FlowRunner(WatchedStore(store, line.check, line.lose), recovery=False, lease=0.3, **options)
    runner.register(build, "steps")
    return runner


def test_a_flow_whose_store_is_lost_goes_on_in_memory_and_says_so():
    store, line = MemoryStore(), Line()
    runner = runner_over(store, line, lambda: steps(lambda: None, lambda: setattr(line, "is_cut", True), lambda: "end"))
    state = runner.execute("steps", flow_id="f")
    assert (state.status, state.outputs, state.degraded) == (FlowStatus.COMPLETED, "end", True)
    assert runner.get_flow_state("f").status is FlowStatus.RUNNING

    line.is_cut = False
    runner._home.recovery.look()

    state = runner.get_flow_state("f")
    assert (state.status, state.outputs, state.degraded) == (FlowStatus.COMPLETED, "end", True)
    assert [row.status.value for row in state.steps] == ["completed"] * 3
    seqs = [line.seq for line in runner.events("f")]
    assert seqs == list(range(1, len(seqs) + 1))


def test_what_ran_without_the_store_is_recorded_when_it_is_back():
    store, line, begun = MemoryStore(), Line(), time.monotonic()

    def cut():
        line.is_cut = True

    def mend():
        line.is_cut = False
        wait_until(lambda: time.monotonic() > begun + 1.2)  # the store is looked for once in a second

    runner = runner_over(store, line, lambda: steps(cut, lambda: 1, mend, lambda: "end"))
    state = runner.execute("steps", flow_id="f")
    assert (state.status, state.degraded) == (FlowStatus.COMPLETED, True)
    kinds = [line.kind for line in runner.events("f")]
    assert kinds.count("step.completed") == 4
    assert kinds.count("step.started") == 4
    assert kinds[-1] == "flow.completed"


def test_a_write_whose_answer_is_lost_is_written_once():
    store, line = MemoryStore(), Line()

    def lose():
        line.loses = True

    runner = runner_over(store, line, lambda: steps(lose, lose, lambda: "end"))
    state = runner.execute("steps", flow_id="f")
    assert (state.status, state.degraded) == (FlowStatus.COMPLETED, False)
    kinds = [line.kind for line in runner.events("f")]
    assert kinds.count("step.completed") == 3
    assert kinds.count("step.started") == 3


def test_a_flow_without_a_store_runs_degraded_unless_it_is_required():
    line = Line()
    line.is_cut = True
    runner = runner_over(MemoryStore(), line, lambda: steps(lambda: "end"))
    state = runner.execute("steps", flow_id="f")
    assert (state.status, state.outputs, state.degraded) == (FlowStatus.COMPLETED, "end", True)
    with pytest.raises(StoreUnavailableError):
        runner.submit("steps")


def test_a_required_store_is_waited_for_and_its_loss_pauses(monkeypatch, tmp_path):
    monkeypatch.setattr("graflow.flows.running.execution.REQUIRED_PATIENCE", 0.2)
    line = Line()
    store = MemoryStore()
    store.is_persistent = True
    runner = runner_over(
        store,
        line,
        lambda: steps(lambda: setattr(line, "is_cut", True), lambda: pytest.fail("it ran")),
        durability="required",
    )
    state = runner.execute("steps", flow_id="f")
    assert state.status is FlowStatus.PAUSED
    assert "lost" in state.error
    assert writing.REQUIRED_PATIENCE == 60.0
    line.is_cut = False
    runner._home.recovery.look()
    state = runner.get_flow_state("f")
    assert (state.status, state.degraded) == (FlowStatus.PAUSED, False)
    assert state.steps[0].status is StepStatus.COMPLETED
    line.is_cut = True
    with pytest.raises(StoreUnavailableError):
        runner.execute("steps", flow_id="g")
    with pytest.raises(StoreConfigError, match="survives"):
        FlowRunner("memory://", durability="required").initialize()


@task
def first_list() -> list[int]:
    return [1]


@task(inject_context=True)
def grow(context) -> int:
    grown = context.get_result("first_list")
    grown.append(2)
    return len(grown)


def test_what_a_step_returned_stays_on_record_what_it_was():
    with workflow("growing") as made:
        first_list >> grow
    with FlowRunner("memory://", recovery=False) as runner:
        state = runner.run(made, flow_id="f1")
        outcomes = [line.data["outcome"] for line in runner.events("f1") if line.kind == "step.completed"]
    assert [step.outputs for step in state.steps] == [[1], 2]
    assert outcomes[0]["channel"] == [["set", "first_list.__result__", [1]]]


def test_a_flow_that_is_not_recorded_may_have_any_values():
    made = object()
    runner = FlowRunner("memory://")
    runner.register(lambda: steps(lambda: made), "steps")
    state = runner.execute(FlowContext("steps", {}, redis_enabled=False))
    assert state.outputs is made
    assert (state.status, state.durability) == (FlowStatus.COMPLETED, "off")
    assert not runner.list_flows()
    assert "result of task 's0'" in runner.execute("steps").error


@pytest.mark.parametrize("is_last", [False, True])
def test_a_step_that_returns_more_than_a_store_takes_fails_its_flow_and_is_run_once(is_last, monkeypatch, tmp_path):
    monkeypatch.setattr(encoding, "CAP", 300_000)
    ran = []

    def build():
        @task
        def long():
            ran.append("long")
            return "x" * 300_000

        if not is_last:
            long >> task("next")(lambda: 1)
        return long

    with FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False) as runner:
        runner.register(build, "made")
        state = runner.execute("made", {}, flow_id="f")
    assert (state.status, ran) == (FlowStatus.FAILED, ["long"])
    assert "step 'long' is 300" in state.error
    assert [(step.step_name, step.status.value) for step in state.steps] == [("long", "failed")]
    assert "step 'long' is 300" in state.steps[0].error
