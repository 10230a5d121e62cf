"""A flow that is cut short at any write goes on, and gives what an uninterrupted run gives."""

import contextlib
import json
import math
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graflow import RetryPolicy, parallel, task
from graflow.exceptions import FlowChangedError, FlowConflictError, FlowInputError, FlowNotFoundError
from graflow.flows import FlowRunner
from graflow.flows.recording.stopping import Stop
from graflow.state import FlowStatus, StepStatus
from graflow.state.memory import MemoryStore
from graflow.state.opening import open_store
from tests.flows.support import Crash, Program, WatchedStore, crashing
from tests.support import wait_until

KINDS = ["plain", "group", "nested", "mapped", "loop", "retried", "dynamic", "back", "ends"]

words = st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)


def runner_of(store, program):
    runner = FlowRunner(store, recovery=False)
    runner.register(program.build, "made")
    return runner


def whole(program_words):
    """Final state and results of a run that nothing interrupts, and its number of writes."""
    program = Program(program_words)
    store = WatchedStore(MemoryStore())
    state = runner_of(store, program).execute("made", {"bonus": 3}, flow_id="f")
    assert state.status is FlowStatus.COMPLETED, state.error
    return state, program.ran, store


def rows(state):
    return [(row.step_name, row.visit, row.status, row.outputs, row.counts) for row in state.steps]


def handing_over(store, left, program, flow_id):
    """A runner that is told to leave after so many writes, as by SIGTERM."""

    def leave(writes):
        recorder = runner._home.recorder_of(flow_id)
        if writes >= left and recorder is not None:
            recorder.end(Stop.HAND_OVER, "its process ends")

    runner = runner_of(WatchedStore(store, after=leave), program)
    return runner


def check_cut_short(store, program_words, left, again, how):
    """Cut a run short after `left` writes, then `again` times after two, and let it end."""
    expected, ran, _ = whole(program_words)
    program, flow_id = Program(program_words), uuid.uuid4().hex
    for writes in [left, *([2] * again)]:
        with contextlib.suppress(Crash):
            if how == "handed over":
                cut = handing_over(store, writes, program, flow_id)
            else:
                cut = runner_of(crashing(store, writes, is_answer_lost=how == "lost"), program)
            cut.execute("made", {"bonus": 3}, flow_id=flow_id)
    state = store.get_flow_state(flow_id)
    before = [row.step_name for row in (state.steps if state else ()) if row.status is StepStatus.COMPLETED]
    ran_before = program.ran.copy()
    # Another object has another home, which does not know that this process was said to be gone.
    state = runner_of(WatchedStore(store), program).execute("made", {"bonus": 3}, flow_id=flow_id)
    assert state.status is FlowStatus.COMPLETED, state.error
    assert rows(state) == rows(expected)
    assert state.outputs == expected.outputs
    for step in before if "back" not in program_words else ():  # a jump has steps run again
        assert program.ran[step] == ran_before[step], f"{step} ran again"
    assert set(program.ran) == set(ran)
    assert all(count <= ran[step] + 1 + again for step, count in program.ran.items()), "a cut costs what was running"


cuts = st.tuples(st.integers(0, 99), st.integers(0, 3), st.sampled_from(["crashed", "lost", "handed over"]))


def check_cut(store, program_words, cut):
    """How many writes a run takes depends on time, as members that end fast share one."""
    at, again, how = cut
    check_cut_short(store, program_words, 1 + at % (whole(program_words)[2].writes - 1), again, how)


@settings(max_examples=60)
@given(words, cuts)
def test_a_run_that_is_cut_short_at_any_write_gives_what_a_whole_one_gives(program_words, cut):
    check_cut(MemoryStore(), program_words, cut)


@pytest.mark.slow
@settings(max_examples=20)
@given(words, cuts)
def test_so_does_one_in_a_file(tmp_path_factory, program_words, cut):
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('cut')}/flows.db")
    check_cut(store, program_words, cut)
    store.close()


@pytest.mark.slow
@pytest.mark.redis
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words, cuts)
def test_so_does_one_in_a_redis(redis_server, redis_client, program_words, cut):
    store = open_store(redis_server.url)
    check_cut(store, program_words, cut)
    store.close()


def test_a_step_that_failed_is_run_again_and_completed_ones_are_not():
    ran, is_mended = [], False

    @task
    def first():
        ran.append("first")
        return 1

    @task(inject_context=True)
    def second(context):
        ran.append("second")
        if not is_mended:
            raise ValueError("broken")
        return context.get_result("first") + 1

    runner = FlowRunner("memory://")
    runner.register(lambda: first >> second, "mended")
    state = runner.execute("mended", flow_id="f")
    assert (state.status, state.error) == (FlowStatus.FAILED, "ValueError: broken")
    with pytest.raises(ValueError, match="broken"):
        runner.result("f")
    assert runner.execute("mended", flow_id="f").status is FlowStatus.FAILED

    is_mended = True
    state = runner.resume_flow("f")

    assert (state.status, state.outputs, runner.result("f")) == (FlowStatus.COMPLETED, 2, 2)
    assert ran == ["first", "second", "second"]
    assert [(row.step_name, row.attempts) for row in state.steps] == [("first", 1), ("second", 2)]
    assert [attempt.error for attempt in state.steps[1].attempt_history] == ["ValueError: broken", None]
    assert runner.resume_flow("f").version == state.version


@pytest.mark.parametrize("error", [ValueError, Crash], ids=["failed", "cut short"])
def test_the_time_of_a_step_that_goes_on_is_without_the_rest_before(error):
    fails = True

    @task
    def step():
        if fails:
            raise error

    def runner():
        made = FlowRunner(WatchedStore(store), recovery=False)
        made.register(lambda: step, "resting")
        return made

    store = MemoryStore()
    with contextlib.suppress(Crash):
        runner().execute("resting", flow_id="f")
    gone_on, fails = datetime.now(UTC), False
    (row,) = runner().resume_flow("f").steps
    assert (row.status, row.attempts) == (StepStatus.COMPLETED, 2)
    assert row.started_at >= gone_on
    assert row.execution_time == pytest.approx((row.completed_at - row.started_at).total_seconds(), abs=1e-3)


def test_members_that_succeeded_are_kept_when_their_group_failed():
    ran, fails = [], {"b", "c"}

    def member(name):
        @task(name)
        def body():
            ran.append(name)
            if name in fails:
                raise ValueError(name)
            return name

        return body

    @task
    def last(context=None):
        return "end"

    runner = FlowRunner("memory://")
    runner.register(
        lambda: parallel(member("a"), member("b"), member("c")).set_group_name("g").with_execution("direct") >> last,
        "members",
    )
    assert runner.execute("members", flow_id="f").status is FlowStatus.FAILED
    assert [(each.index, each.status.value) for each in runner.list_members("f", "g")] == [
        (0, "completed"),
        (1, "failed"),
        (2, "failed"),
    ]
    fails.remove("b")
    state = runner.retry_failed_step("f", "g", index=1)
    assert state.status is FlowStatus.FAILED
    assert ran.count("a") == 1
    assert ran.count("b") == 2
    fails.clear()
    assert runner.resume_flow("f").status is FlowStatus.COMPLETED
    assert ran.count("a") == 1


@pytest.mark.parametrize("backend", ["direct", "threading", None])
def test_what_an_attempt_that_failed_wrote_is_gone_but_for_what_others_may_have_read(backend):
    tries, is_mended = [], False

    @task(inject_context=True, max_retries=1)
    def flaky(context):
        channel = context.get_channel()
        seen = [channel.get("half"), channel.get("old")]
        tries.append(1)
        if len(tries) == 1:
            channel.set("half", 1)
            channel.delete("old")
            channel.append("log", 1)
            with channel.lock("any"):
                channel.set("under lock", 1)
            raise ValueError("once")
        return seen

    @task(inject_context=True)
    def last(context):
        if not is_mended:
            raise ValueError("broken")
        return [
            context.get_result("flaky"),
            *(context.get_channel().get(k) for k in ("half", "old", "log", "under lock")),
        ]

    def build():
        first = task("first", inject_context=True)(lambda context: context.get_channel().set("old", "kept"))
        middle = parallel(flaky, task("other")(lambda: 1)).with_execution(backend) if backend else flaky
        first >> middle >> last

    store = MemoryStore()
    for is_mended in (False, True):  # the second process has the channel from the record
        runner = FlowRunner(store, recovery=False)
        runner.register(build, "made")
        state = runner.resume_flow("f") if is_mended else runner.execute("made", flow_id="f")
    assert state.outputs == [[None, "kept"], None, "kept", *([[1], 1] if backend else [None, None])]
    assert len(tries) == 2


def changing(runner, versions):
    """A flow of three steps, the code of whose steps is taken from a table."""
    runner.register(lambda: versions["a"] >> versions["b"] >> versions["c"], "changing")


def test_code_that_completed_may_not_change_and_the_difference_is_told():
    ran = []

    @task("a")
    def a_1():
        ran.append("a1")
        return 1

    @task("a")
    def a_2():
        ran.append("a2")
        return 2

    @task("b", inject_context=True)
    def b(context):
        ran.append("b")
        return context.get_result("a") * 10

    @task("c")
    def c_1():
        raise ValueError("c")

    @task("c")
    def c_2():
        ran.append("c2")
        return "done"

    runner, versions = FlowRunner("memory://"), {"a": a_1, "b": b, "c": c_1}
    changing(runner, versions)
    runner.execute("changing", flow_id="f")
    versions.update(a=a_2, c=c_2)
    version = runner.get_flow_state("f").version

    with pytest.raises(FlowChangedError, match="step 'a'"):
        runner.resume_flow("f")
    assert runner.get_flow_state("f").version == version
    plan = runner.plan_resume("f")
    assert plan.refusal is not None
    assert any("'a'" in change for change in plan.changes)

    plan = runner.plan_resume("f", on_change="reuse")
    assert {step.step: step.action for step in plan.steps} == {"a": "run", "b": "run", "c": "run"}
    state = runner.resume_flow("f", on_change="reuse", plan=plan)
    assert state.status is FlowStatus.COMPLETED
    assert ran == ["a1", "b", "a2", "b", "c2"]
    assert runner.get_flow_state("f").generation == 1


def test_a_plan_is_refused_when_it_holds_no_longer():
    @task
    def only():
        raise ValueError("never")

    runner = FlowRunner("memory://")
    runner.register(lambda: only, "only")
    runner.execute("only", flow_id="f")
    plan = runner.plan_resume("f")
    runner.resume_flow("f")
    with pytest.raises(FlowConflictError, match="holds no longer"):
        runner.resume_flow("f", plan=plan)


def test_a_retry_resets_what_was_asked_for():
    ran = []

    def step(name):
        @task(name, inject_context=True)
        def body(context):
            ran.append(name)
            return [name, len(ran)]

        return body

    runner = FlowRunner("memory://")
    runner.register(lambda: step("a") >> step("b") >> step("c"), "three")
    runner.execute("three", flow_id="f")
    ran.clear()
    state = runner.retry_failed_step("f", "b")
    assert (ran, state.status, state.outputs) == (["b"], FlowStatus.COMPLETED, ["c", 3])
    ran.clear()
    assert runner.retry_failed_step("f", "b", downstream="none").status is FlowStatus.COMPLETED
    assert ran == ["b"]
    ran.clear()
    state = runner.retry_failed_step("f", "b", downstream="all")
    assert (ran, state.outputs) == (["b", "c"], ["c", 2])
    assert [row.attempts for row in state.steps] == [1, 4, 2]
    with pytest.raises(FlowNotFoundError, match="known: a, b, c"):
        runner.retry_failed_step("f", "d")


def test_a_reset_through_a_cycle_is_refused():
    @task(inject_context=True)
    def around(context, data=0):
        if data < 2:
            context.next_iteration(data + 1)
        return data

    runner = FlowRunner("memory://")
    runner.register(lambda: around, "around")
    assert runner.execute("around", flow_id="f").status is FlowStatus.COMPLETED
    with pytest.raises(FlowConflictError, match="fork the flow instead"):
        runner.retry_failed_step("f", "around")


def test_what_a_step_was_given_is_shown_where_it_is_small():
    @task
    def given(number, rate, password, big, thing):
        return number

    def build():
        return given(task_id="given", number=3, rate=math.nan, password="p", big=list(range(5000)), thing={1, 2})

    runner = FlowRunner("memory://")
    runner.register(build, "given")
    state = runner.execute("given")
    assert state.status is FlowStatus.COMPLETED, state.error
    shown = {"number": 3, "rate": "<float>", "password": "***", "big": "<list>", "thing": "<set>"}
    assert state.steps[0].inputs == shown


def test_a_fork_reuses_what_came_before_and_leaves_its_parent_alone():
    ran = []

    @task
    def load(path):
        ran.append("load")
        return [path]

    @task(inject_context=True)
    def report(context, style="plain"):
        ran.append(f"report {style}")
        return [style, *context.get_result("load")]

    def build(path: str, style: str = "plain"):
        load(task_id="load", path=path) >> report(task_id="report", style=style)

    runner = FlowRunner("memory://")
    runner.register(build, "forked")
    parent = runner.execute("forked", {"path": "p"})
    state = runner.fork_flow(parent.flow_id, "report", inputs={"style": "bold"})
    assert state.status is FlowStatus.COMPLETED, state.error
    assert (state.outputs, state.parent_flow_id, state.parent_step) == (["bold", "p"], parent.flow_id, "report")
    assert [(row.step_name, row.status.value) for row in state.steps] == [("load", "reused"), ("report", "completed")]
    assert [row.inputs for row in state.steps] == [{"path": "p"}, {"style": "bold"}]
    assert state.steps[0].source["flow_id"] == parent.flow_id
    assert ran == ["load", "report plain", "report bold"]
    again = runner.fork_flow(state.flow_id, "report")
    assert (again.outputs, again.steps[0].source["flow_id"]) == (["bold", "p"], parent.flow_id)
    assert runner.get_flow_state(parent.flow_id).version == parent.version


def test_the_plan_of_a_fork_is_that_of_the_inputs_that_it_is_given():
    @task
    def first():
        return 1

    @task
    def last(style):
        return style

    @task
    def extra():
        return 2

    def build(style: str = "plain"):
        first >> last(task_id="last", style=style)
        if style == "bold":
            first >> extra

    with FlowRunner("memory://", recovery=False) as runner:
        runner.register(build, "planned")
        parent = runner.execute("planned").flow_id
        plain, bold = runner.plan_fork(parent, "last"), runner.plan_fork(parent, "last", inputs={"style": "bold"})
        assert [step.step for step in plain.steps] == ["first", "last"]
        assert [step.step for step in bold.steps] == ["first", "last", "extra"]
        with pytest.raises(FlowInputError, match="colour: is no input"):
            runner.plan_fork(parent, "last", inputs={"colour": "red"})
        with pytest.raises(FlowConflictError, match="holds no longer"):
            runner.fork_flow(parent, "last", inputs={"style": "bold"}, plan=plain)
        fork = runner.fork_flow(parent, "last", inputs={"style": "bold"}, plan=bold)
    assert fork.status is FlowStatus.COMPLETED
    assert {row.step_name for row in fork.steps} == {"first", "last", "extra"}


def test_a_step_that_waits_long_for_its_next_attempt_holds_no_process_and_is_woken(monkeypatch):
    monkeypatch.setattr("graflow.flows.recording.recorder._LONG_WAIT", 0.1)
    ran = []

    @task(retry_policy=RetryPolicy(max_retries=2, initial_interval=0.5, backoff_factor=1.0, jitter=False))
    def patient():
        ran.append(time.monotonic())
        if len(ran) == 1:
            raise ValueError("later")
        return "done"

    with FlowRunner("memory://") as runner:
        runner.register(lambda: patient, "patient")
        flow_id = runner.submit("patient")
        wait_until(lambda: runner.get_flow_state(flow_id).wake_at is not None)
        state = runner.get_flow_state(flow_id)
        assert (state.status, state.owner) == (FlowStatus.QUEUED, None)
        assert state.steps[0].status is StepStatus.WAITING
        state = runner.wait(flow_id, 10)
    assert (state.status, state.outputs, state.takeovers) == (FlowStatus.COMPLETED, "done", 0)
    assert ran[1] - ran[0] >= 0.45


def started(url, effects, writes):
    command = [sys.executable, "-m", "tests.flows.killed", url, str(effects), str(writes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def check_killed(url, effects, writes):
    """Kill the program after so many writes, and start it again; False when it ends before."""
    first = started(url, effects, writes)
    if first.returncode == 0:
        return False
    assert first.returncode == -signal.SIGKILL, first.stderr
    with FlowRunner(url, recovery=False) as runner:
        on_record = runner.get_flow_state("f").steps
    before = effects.read_text("utf-8").splitlines() if effects.exists() else []

    again = json.loads(started(url, effects, 0).stdout)

    assert (again["status"], again["outputs"]) == ("completed", [[0, 1, 2], [0, 1, 2], "done"])
    assert again["seconds"] < 30.0, "it waited for a lease"
    ran = effects.read_text("utf-8").splitlines()
    for step in on_record:
        if step.status is StepStatus.COMPLETED and step.step_name in {"load", "flaky"}:
            assert ran.count(step.step_name) == before.count(step.step_name)
    return True


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_program_that_is_killed_after_any_write_goes_on_at_once_when_it_is_started_again(tmp_path):
    writes = 1
    while check_killed(f"sqlite:///{tmp_path}/{writes}.db", tmp_path / f"{writes}.txt", writes):
        writes += 1
    assert writes > 12


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.timeout(300)
def test_so_does_one_whose_flows_are_in_a_redis(redis_server, redis_client, tmp_path):
    writes = 1
    while check_killed(redis_server.url, tmp_path / f"{writes}.txt", writes):
        redis_client.flushall()
        writes += 2
    assert writes > 12


def test_a_flow_whose_processes_die_at_the_same_step_is_lost():
    program, store = Program(["plain"]), MemoryStore()
    for _ in range(2):
        with contextlib.suppress(Crash):
            runner_of(crashing(store, 3), program).execute("made", {}, flow_id="f")
    runner = FlowRunner(store, recovery=False)
    runner.register(program.build, "made", max_recoveries=1)
    state = runner.execute("made", {}, flow_id="f")
    assert state.status is FlowStatus.LOST
    assert "1 times in a row" in state.error or "2 times in a row" in state.error
    assert runner.resume_flow("f").status is FlowStatus.COMPLETED


def test_a_step_that_ends_the_program_leaves_a_flow_that_rests_and_goes_on_with_that_step():
    """It is no failure of the step, and no loss of its process: recovery lets it be."""
    ran = []

    def build():
        @task
        def first():
            ran.append("first")
            return 1

        @task
        def leaves(first):
            ran.append("leaves")
            if ran.count("leaves") == 1:
                sys.exit(3)
            return first + 1

        first >> leaves

    runner = FlowRunner("memory://", recovery=False)
    runner.register(build, "leaving")
    with pytest.raises(SystemExit):
        runner.execute("leaving", flow_id="f")
    state = runner.get_flow_state("f")
    assert (state.status, state.error) == (FlowStatus.PAUSED, "SystemExit: 3")
    assert [row.status.value for row in state.steps] == ["completed", "paused"]

    runner._home.recovery.look()
    assert runner.get_flow_state("f").status is FlowStatus.PAUSED
    assert runner.resume_flow("f").outputs == 2
    assert ran == ["first", "leaves", "leaves"]
