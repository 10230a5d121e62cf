"""What steps ask their flow for: sleeps, flows, side effects; timeouts and failures of flows."""

import contextlib
import math
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from graflow import RetryPolicy, parallel, task
from graflow.core.flow_context import RunningFlow
from graflow.encoding.errors_as_data import ErrorData, rebuild_error
from graflow.exceptions import (
    ChildFlowError,
    ConfigError,
    FlowChangedError,
    FlowInputError,
    FlowNotFoundError,
    PayloadError,
)
from graflow.flows import FlowRunner
from graflow.state import FlowStatus, StepStatus
from graflow.state.memory import MemoryStore
from graflow.state.opening import open_store
from tests.flows.support import Crash, WatchedStore
from tests.support import wait_until


@pytest.fixture
def runner():
    with FlowRunner("memory://") as made:
        yield made


def asking(runner, name, ask, **options):
    """Register a flow of one step that asks its flow for something, and answers what it got."""

    @task("ask", inject_context=True, **options)
    def body(context):
        return ask(context.flow)

    runner.register(lambda: body, name)


def kind_of(state):
    """The class of the error that a flow ended with."""
    return type(rebuild_error(ErrorData.from_dict(state.error_data), "ask"))


# -- sleeping ----------------------------------------------------------------------------------------------------------


def test_a_step_that_sleeps_begins_anew_and_uses_no_attempt(runner):
    began, woke = [], []

    def ask(flow):
        began.append((flow.attempt, time.time()))
        flow.sleep(0.3)
        woke.append(time.time())
        return "rested"

    asking(runner, "sleeper", ask)
    state = runner.execute("sleeper")

    assert (state.status, state.outputs, state.takeovers) == (FlowStatus.COMPLETED, "rested", 0)
    assert [attempt for attempt, _ in began] == [1, 1]
    assert woke[0] - began[0][1] >= 0.3
    assert state.steps[0].attempts == 1


def test_a_flow_that_sleeps_for_a_day_holds_nothing_and_can_be_stopped(runner):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    asking(runner, "sleeper", lambda flow: flow.sleep(until=tomorrow))
    flow_id = runner.submit("sleeper")

    wait_until(lambda: runner.get_flow_state(flow_id).wake_at is not None)
    state = runner.get_flow_state(flow_id)
    assert (state.status, state.owner, state.steps[0].status) == (FlowStatus.QUEUED, None, StepStatus.WAITING)
    assert abs(state.wake_at - tomorrow) < timedelta(seconds=1)
    assert not runner.store.open_flows(at=time.time())
    wait_until(lambda: runner.store.home.recorder_of(flow_id) is None)

    assert runner.pause_flow(flow_id).status is FlowStatus.PAUSED
    runner.resume_flow(flow_id, wait=False)
    wait_until(lambda: runner.get_flow_state(flow_id).wake_at is not None)
    assert runner.cancel_flow(flow_id).status is FlowStatus.CANCELLED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "either seconds or until"),
        ({"seconds": 1, "until": datetime.now(UTC)}, "either seconds or until"),
        ({"seconds": -1}, "seconds from 0"),
        ({"seconds": float("nan")}, "seconds from 0"),
        ({"seconds": True}, "seconds from 0"),
        ({"until": datetime(2030, 1, 1)}, "with a time zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_a_sleep_that_cannot_be_right_fails_the_step(runner, given, words):
    asking(runner, "sleeper", lambda flow: flow.sleep(**given))
    state = runner.execute("sleeper")
    assert state.status is FlowStatus.FAILED
    assert words in state.error


@pytest.mark.parametrize("options", [{}, {"timeout": 30.0}])
def test_coroutines_and_attempts_in_a_thread_of_their_own_sleep_as_well(runner, options):
    woke = []

    @task("coroutine", inject_context=True, **options)
    async def coroutine(context):
        context.flow.sleep(0.05)
        woke.append("coroutine")

    @task("function", inject_context=True, **options)
    def function(context):
        context.flow.sleep(0.05)
        woke.append("function")

    runner.register(lambda: coroutine >> function, "both")
    assert runner.execute("both").status is FlowStatus.COMPLETED
    assert woke == ["coroutine", "function"]


# -- side effects ------------------------------------------------------------------------------------------------------


def test_a_side_effect_is_not_repeated_by_further_attempts(runner):
    drawn, seen = [], []

    def ask(flow):
        seen.append((flow.side_effect(lambda: drawn.append(1) or {"at": (1, 2)}), flow.side_effect(uuid.uuid4)))
        if len(seen) < 3:
            raise ValueError("again")

    asking(runner, "effects", ask, retry_policy=RetryPolicy(max_retries=3, initial_interval=0.0))
    assert runner.execute("effects").status is FlowStatus.COMPLETED
    assert len(drawn) == 1
    assert seen == [seen[0]] * 3
    assert seen[0][0] == {"at": (1, 2)}


def test_a_side_effect_whose_value_cannot_be_kept_fails_the_step(runner):
    asking(runner, "effects", lambda flow: flow.side_effect(object))
    state = runner.execute("effects")
    assert (state.status, kind_of(state)) == (FlowStatus.FAILED, PayloadError)


def test_a_retried_step_asks_anew(runner):
    drawn = []

    def ask(flow):
        flow.side_effect(lambda: drawn.append(1))
        if len(drawn) == 1:
            raise ValueError

    asking(runner, "effects", ask)
    flow_id = runner.execute("effects").flow_id
    assert runner.retry_failed_step(flow_id, "ask").status is FlowStatus.COMPLETED
    assert len(drawn) == 2


def test_another_call_in_a_recorded_place_is_refused(runner):
    asked = []

    def ask(flow):
        asked.append(1)
        if len(asked) == 1:
            flow.sleep(0)
            raise ValueError
        flow.side_effect(dict)

    asking(runner, "changing", ask)
    flow_id = runner.execute("changing").flow_id
    state = runner.resume_flow(flow_id)
    assert state.status is FlowStatus.FAILED
    assert (kind_of(state), state.steps[0].status) == (FlowChangedError, StepStatus.FAILED)
    assert "is side_effect() now, and was sleep()" in state.error


# -- children ----------------------------------------------------------------------------------------------------------


def doubling(runner, work=lambda x: 2 * x):
    @task("double")
    def body(x):
        return work(x)

    def build(x: int):
        return body(task_id="double", x=x)

    runner.register(build, "doubling")


def waits(runner, flow_id):
    """Return when a flow has been put away to wait for another."""
    wait_until(lambda: runner.get_flow_state(flow_id).status is FlowStatus.QUEUED)


def test_a_child_is_started_once_and_its_value_comes_back(runner):
    doubling(runner, lambda x: waits(runner, "p") or 2 * x)
    asking(runner, "parent", lambda flow: [flow.start("doubling", {"x": x}) for x in (1, 2)])
    state = runner.execute("parent", flow_id="p")

    assert (state.status, state.outputs, state.steps[0].attempts) == (FlowStatus.COMPLETED, [2, 4], 1)
    children = runner.list_flows(flow_name="doubling")
    assert sorted(child.flow_id for child in children) == ["p.0.ask.1.1", "p.0.ask.1.2"]
    assert {child.parent_flow_id for child in children} == {"p"}


def test_a_child_that_is_not_waited_for_goes_on_by_itself(runner):
    doubling(runner)
    asking(runner, "parent", lambda flow: flow.start("doubling", {"x": 4}, wait=False))
    child = runner.execute("parent").outputs
    assert runner.wait(child, 30).outputs == 8


def test_a_further_attempt_goes_on_with_a_child_that_failed(runner):
    tried, errors = [], []

    def work(x):
        tried.append(x)
        if len(tried) < 3:
            raise ValueError("not yet")
        return 2 * x

    def ask(flow):
        try:
            return flow.start("doubling", {"x": 5})
        except ChildFlowError as error:
            errors.append((error.flow_id, error.status))
            raise

    doubling(runner, work)
    asking(runner, "parent", ask, retry_policy=RetryPolicy(max_retries=2, initial_interval=0.0))
    state = runner.execute("parent", flow_id="p")
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, 10)
    assert errors == [("p.0.ask.1.1", "failed")] * 2
    assert len(runner.list_flows(flow_name="doubling")) == 1


def test_a_child_that_cannot_be_started_fails_the_step(runner):
    doubling(runner)
    asking(runner, "nobody", lambda flow: flow.start("dobling"))
    asking(runner, "wrong", lambda flow: flow.start("doubling", {"y": 1}))
    asking(runner, "number", lambda flow: flow.start("doubling", 5))
    state = runner.execute("number")
    assert state.error == "Inputs of flow 'doubling' are a mapping of names to values, not 5"
    assert kind_of(runner.execute("nobody")) is FlowNotFoundError
    assert kind_of(runner.execute("wrong")) is FlowInputError


def test_cancelling_a_parent_cancels_its_children_and_a_cancelled_child_fails_its_parent(runner):
    asking(runner, "long", lambda flow: flow.sleep(3600))
    asking(runner, "parent", lambda flow: flow.start("long"))

    def is_waiting(flow_id):
        state = runner.get_flow_state(flow_id)
        return state.status is FlowStatus.QUEUED and state.wake_at is not None

    runner.submit("parent", flow_id="p")
    wait_until(lambda: is_waiting("p") and is_waiting("p.0.ask.1.1"))
    assert runner.cancel_flow("p").status is FlowStatus.CANCELLED
    assert runner.get_flow_state("p.0.ask.1.1").status is FlowStatus.CANCELLED

    runner.submit("parent", flow_id="q")
    wait_until(lambda: is_waiting("q") and is_waiting("q.0.ask.1.1"))
    runner.cancel_flow("q.0.ask.1.1")
    state = runner.wait("q", 30)
    assert (state.status, "is cancelled" in state.error) == (FlowStatus.FAILED, True)


def test_a_parent_looks_by_itself_whether_its_child_has_ended(runner, monkeypatch):
    monkeypatch.setattr("graflow.flows.recording.calls.AWAIT_AGAIN", 0.2)
    monkeypatch.setattr("graflow.flows.waiting.children.Children.ended", lambda *_: None)
    doubling(runner, lambda x: waits(runner, "p") or x)
    asking(runner, "parent", lambda flow: flow.start("doubling", {"x": 6}))
    assert runner.execute("parent", flow_id="p").outputs == 6


# -- crashes -----------------------------------------------------------------------------------------------------------


class Dying(WatchedStore):
    """A store of a process that dies with a write; nothing of it reads any more then, in no thread."""

    def __init__(self, store, left, *, is_answer_lost):
        self.is_dead = False
        before, after = (left + is_answer_lost, left if is_answer_lost else math.inf)
        super().__init__(store, lambda writes: self.die(writes >= before), lambda writes: self.die(writes > after))

    def die(self, is_last):
        self.is_dead |= is_last
        if self.is_dead:
            raise Crash

    def __getattr__(self, name):
        if self.is_dead and name != "close":
            raise Crash
        return super().__getattr__(name)


class Family:
    """A parent that draws, sleeps, and waits for a child."""

    def __init__(self):
        self.drawn, self.doubled = [], []

    def runner(self, store):
        made = FlowRunner(store, recovery=False)
        doubling(made, lambda x: self.doubled.append(x) or 2 * x)
        asking(made, "parent", self.ask)
        return made

    def ask(self, flow):
        number = flow.side_effect(lambda: self.drawn.append(1) or len(self.drawn))
        flow.sleep(0.01)
        return flow.start("doubling", {"x": number})


def check_any_last_write(store, lost):
    for writes in range(14):
        family, flow_id = Family(), f"f{writes}"
        with contextlib.suppress(Crash):
            family.runner(Dying(store, writes, is_answer_lost=lost)).execute("parent", flow_id=flow_id)
        started = [child.flow_id for child in store.list_flows(flow_name="doubling", search=f"{flow_id}.0")]
        state = family.runner(WatchedStore(store)).execute("parent", flow_id=flow_id)
        assert state.status is FlowStatus.COMPLETED, (writes, state.error)
        children = store.list_flows(flow_name="doubling", search=f"{flow_id}.0")
        assert [child.status for child in children] == [FlowStatus.COMPLETED]
        assert {child.flow_id for child in children} >= set(started)
        # Only a crash between the end of a side effect and its record has it happen again.
        assert len(family.drawn) <= 2
        assert state.outputs == 2 * family.doubled[0]
    store.close()


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_asked_for_happens_once_whatever_write_is_the_last(lost):
    check_any_last_write(MemoryStore(), lost)


@pytest.mark.parametrize("lost", [False, True])
def test_so_it_does_in_a_file(lost, tmp_path):
    check_any_last_write(open_store(f"sqlite:///{tmp_path / 'flows.db'}"), lost)


@pytest.mark.redis
def test_so_it_does_in_a_redis(redis_server, redis_client):
    check_any_last_write(open_store(redis_server.url), lost=True)


# -- where it does not work --------------------------------------------------------------------------------------------


def test_a_member_is_told_to_leave_that_to_a_step(runner):
    @task("asks", inject_context=True)
    def asks(context):
        context.flow.sleep(1)

    @task("other")
    def other():
        return 1

    runner.register(lambda: parallel(asks, other), "group")
    state = runner.execute("group")
    assert state.status is FlowStatus.FAILED
    (member, _) = runner.list_members(state.flow_id, state.steps[0].step_name)
    assert "context.flow.sleep() cannot be called here: a member of a group" in member.error


def test_a_member_on_a_worker_knows_its_flow_and_cannot_ask():
    class Frame:
        task_id = "asks"

        class execution_context:  # noqa: N801
            member = parent_context = None

    told = {"flow_name": "f", "inputs": {}, "flow_id": "id", "path": ["group", 1, "3"]}
    flow = RunningFlow.sent(told).seen_by(Frame())
    assert flow.idempotency_key == "id/group/1/3/asks"
    with pytest.raises(ConfigError, match=r"start\(\) cannot be called here: a member on a worker"):
        flow.start("other")


# -- timeouts and failures ---------------------------------------------------------------------------------------------


def test_a_flow_that_takes_too_long_has_failed_also_while_it_sleeps():
    heard = []
    with FlowRunner("memory://") as runner:

        @task("ask", inject_context=True)
        def body(context):
            context.flow.sleep(3600)

        runner.register(lambda: body, "slow", timeout=0.2, on_failure=heard.append)
        state = runner.execute("slow")
        assert state.status is FlowStatus.FAILED
        assert state.error == f"Flow '{state.flow_id}' took longer than its timeout of 0.2 s"
        assert [each.flow_id for each in heard] == [state.flow_id]

        # A verb begins the time anew.
        assert runner.resume_flow(state.flow_id).status is FlowStatus.FAILED
        assert len(heard) == 2


def test_a_flow_that_takes_too_long_has_failed_while_its_child_still_runs(runner):
    let_end = threading.Event()

    @task("slow")
    def slow():
        let_end.wait(60)

    @task("after")
    def after():
        return "too late"

    @task("ask", inject_context=True)
    def body(context):
        context.flow.start("child")

    runner.register(lambda: slow >> after, "child")
    runner.register(lambda: body, "parent", timeout=0.2)
    try:
        state = runner.execute("parent")
        assert state.error == f"Flow '{state.flow_id}' took longer than its timeout of 0.2 s"
        (child,) = runner.list_flows("child")
        wait_until(lambda: runner.get_flow_state(child.flow_id).status is FlowStatus.CANCELLING, 60)
    finally:
        let_end.set()
    assert runner.wait(child.flow_id, 60).status is FlowStatus.CANCELLED


def test_the_timeout_of_a_flow_cancels_the_child_that_it_waits_for_and_no_other(runner):
    @task("sleep", inject_context=True)
    def sleep(context):
        context.flow.sleep(3600)

    @task("ask", inject_context=True)
    def body(context):
        context.flow.start("child", {"number": 1}, wait=False)
        context.flow.start("child", {"number": 2})

    def child(number: int):
        return sleep(task_id=f"sleep{number}")

    runner.register(child)
    runner.register(lambda: body, "parent", timeout=3.0)
    state = runner.execute("parent")
    assert state.error == f"Flow '{state.flow_id}' took longer than its timeout of 3 s"
    left, awaited = sorted(runner.list_flows("child"), key=lambda each: each.inputs["number"])
    assert runner.wait(awaited.flow_id, 60).status is FlowStatus.CANCELLED
    assert runner.get_flow_state(left.flow_id).status is not FlowStatus.CANCELLED
    (cancelled,) = [line for line in runner.events(awaited.flow_id) if line.kind == "flow.cancelled"]
    assert "which waited for it, took longer than its timeout" in cancelled.data["reason"]


def test_what_on_failure_raises_changes_nothing(runner, caplog):
    def broken(state):
        raise RuntimeError(state.flow_id)

    @task("fails")
    def body():
        raise ValueError("no")

    runner.register(lambda: body, "failing", on_failure=broken)
    state = runner.execute("failing")
    assert (state.status, state.error) == (FlowStatus.FAILED, "ValueError: no")
    assert f"on_failure of flow {state.flow_id} failed" in caplog.text


def test_so_many_flows_of_a_name_run_at_once_and_one_that_sleeps_is_none_of_them(runner):
    lock, running, most, go = threading.Lock(), [], [], threading.Event()

    @task("ask", inject_context=True)
    def body(context):
        with lock:
            running.append(1)
            most.append(len(running))
        go.wait(60)
        with lock:
            running.pop()
        context.flow.sleep(0.2)

    runner.register(lambda: body, "narrow", concurrency=2)
    flow_ids = [runner.submit("narrow") for _ in range(6)]
    wait_until(lambda: len(running) == 2)
    wait_until(lambda: len(runner.list_flows(status="queued")) == 4)
    go.set()
    states = [runner.wait(flow_id, 60) for flow_id in flow_ids]
    assert {state.status for state in states} == {FlowStatus.COMPLETED}
    assert max(most) == 2
    assert len(most) == 12


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True])
def test_a_concurrency_is_a_count(runner, concurrency):
    with pytest.raises(ConfigError, match="concurrency of flow 'odd' is a count"):
        runner.register(lambda: None, "odd", concurrency=concurrency)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), True, "1 h"])
def test_a_timeout_is_seconds(runner, timeout):
    with pytest.raises(ConfigError, match="timeout of flow 'odd' is seconds above 0"):
        runner.register(lambda: None, "odd", timeout=timeout)


@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_a_step_that_waits_when_its_flow_ends_is_cancelled(end):
    @task(inject_context=True)
    def sleeper(context):
        context.flow.sleep(60)

    with FlowRunner("memory://") as runner:
        runner.register(lambda: sleeper, "sleeps", timeout=0.3 if end == "timeout" else None)
        runner.submit("sleeps", {}, flow_id="f")
        if end == "cancel":
            wait_until(lambda: [step.status.value for step in runner.get_flow_state("f").steps] == ["waiting"])
            wait_until(lambda: runner.get_flow_state("f").status is FlowStatus.QUEUED)
            runner.cancel_flow("f")
        runner.wait("f", 30)
        state = runner.get_flow_state("f")
    assert state.status is (FlowStatus.CANCELLED if end == "cancel" else FlowStatus.FAILED)
    assert ([step.status.value for step in state.steps], state.counts) == (["cancelled"], {"cancelled": 1})
