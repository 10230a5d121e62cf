"""Retries as the engine does them: budgets, waits, visits, iterations, branches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from graflow import RetryPolicy, exceptions, workflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from tests.graph_support import context_of, node


class Flaky:
    """Fails a number of times, then returns the number of attempts; remembers what its task context said."""

    def __init__(self, failures, error=OSError):
        self.failures = failures
        self.error = error
        self.seen = []

    def __call__(self, ctx):
        self.seen.append((ctx.retry_count, ctx.max_retries, ctx.cycle_count))
        if len(self.seen) <= self.failures:
            raise self.error(f"attempt {len(self.seen)}")
        return len(self.seen)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    state = SimpleNamespace(now=1000.0, slept=[])

    def sleep(seconds):
        state.slept.append(seconds)
        state.now += seconds

    monkeypatch.setattr("graflow.core.engine.time.sleep", sleep)
    monkeypatch.setattr("graflow.core.engine.time.monotonic", lambda: state.now)
    return state


def test_a_task_runs_once_and_then_as_often_as_its_retries_allow():
    flaky = Flaky(2)
    context = context_of(node("t", flaky, True, max_retries=2))
    assert context.execute() == 3
    assert flaky.seen == [(0, 2, 1), (1, 2, 1), (2, 2, 1)]
    assert context.retry_controller.get_retry_count("t") == 2
    assert context.cycle_controller.get_cycle_count("t") == 1
    assert context.steps == 1


def test_an_exhausted_budget_names_its_figures():
    flaky = Flaky(9)
    context = context_of(node("t", flaky, True, max_retries=2))
    with pytest.raises(exceptions.RetryLimitExceededError) as caught:
        context.execute()
    error = caught.value
    assert (error.task_id, error.max_retries, error.retry_count) == ("t", 2, 3)
    assert str(error.last_error) == "attempt 3"
    assert error.cause is error.last_error
    assert context.get_result("t") is error.last_error
    assert len(flaky.seen) == 3


def test_the_default_budget_comes_from_the_context():
    flaky = Flaky(1)
    assert context_of(node("t", flaky, True), default_max_retries=1).execute() == 2


def test_the_tasks_own_zero_beats_the_default():
    context = context_of(node("t", Flaky(1), True, max_retries=0), default_max_retries=5)
    with pytest.raises(exceptions.GraflowRuntimeError, match=": attempt 1"):
        context.execute()


def test_an_error_that_is_not_worth_a_retry_ends_the_run_at_once():
    flaky = Flaky(5)
    policy = RetryPolicy(max_retries=3, initial_interval=0.0, give_up_on=lambda error: "2" in str(error))
    with pytest.raises(exceptions.TaskFailedError, match="attempt 2") as caught:
        context_of(node("t", flaky, True, retry_policy=policy)).execute()
    assert len(flaky.seen) == 2
    assert not isinstance(caught.value, exceptions.RetryLimitExceededError)


@pytest.mark.parametrize("option", ["retry_on", "give_up_on"])
def test_an_error_that_the_filter_fails_over_is_the_one_that_is_raised(option, caplog):
    policy = RetryPolicy(3, 0.0, **{option: lambda error: error.status == 503})
    flaky = Flaky(3)
    with pytest.raises(OSError, match="Task 't' failed: OSError: attempt 1"):
        context_of(TaskWrapper("t", flaky, True, retry_policy=policy)).execute()
    assert len(flaky.seen) == 1
    assert "Task 't' is not tried again, since its retry_on or give_up_on failed: AttributeError: " in caplog.text


def test_a_failed_attempt_is_logged_with_its_error_and_what_comes_next(caplog):
    context = context_of(node("t", Flaky(2), True, max_retries=2))
    with caplog.at_level("WARNING", logger="graflow"):
        context.execute()
    assert [record.getMessage().partition(" of run ")[0] for record in caplog.records] == ["Task 't'"] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith(": attempt 1")
    assert "at attempt 1 of 3" in first
    assert "at attempt 2 of 3" in second
    assert context.session_id in first


def test_a_retry_runs_before_anything_queued_later():
    order = []

    def flaky():
        order.append("flaky")
        if order.count("flaky") == 1:
            raise OSError

    tasks = [node("start"), node("flaky", flaky, max_retries=1), node("other", lambda: order.append("other"))]
    context_of(*tasks, edges=[("start", "flaky"), ("start", "other")]).execute()
    assert order == ["flaky", "flaky", "other"]


def test_sleep_gets_the_exact_delays_of_the_policy(clock):
    policy = RetryPolicy(max_retries=3, initial_interval=0.1, backoff_factor=3.0)
    context_of(node("t", Flaky(3), True, retry_policy=policy)).execute()
    assert clock.slept == [policy.get_delay(0), policy.get_delay(1), policy.get_delay(2)]


def test_sleep_gets_the_exact_delays_also_when_the_clock_runs(monkeypatch):
    slept = []
    monkeypatch.setattr("graflow.core.engine.time.sleep", slept.append)
    policy = RetryPolicy(max_retries=2, initial_interval=30.0)
    context_of(node("t", Flaky(2), True, retry_policy=policy)).execute()
    assert slept == [30.0, 60.0]


def test_a_wait_does_not_hold_up_other_ready_tasks(clock):
    order = []

    def flaky():
        order.append("flaky")
        if order.count("flaky") == 1:
            raise OSError

    def slow(name):
        order.append(name)
        clock.now += 0.75

    tasks = [
        node("start"),
        node("flaky", flaky, retry_policy=RetryPolicy(max_retries=1, initial_interval=1.0)),
        node("x", lambda: slow("x")),
        node("y", lambda: slow("y")),
        node("z", lambda: slow("z")),
    ]
    context = context_of(*tasks, edges=[("start", name) for name in ("flaky", "x", "y", "z")])
    context.execute()
    assert order == ["flaky", "x", "y", "flaky", "z"]
    assert clock.slept == []


def test_only_the_rest_of_a_wait_is_slept(clock):
    def work():
        clock.now += 0.25

    flaky = Flaky(1)
    tasks = [
        node("start"),
        node("flaky", flaky, True, retry_policy=RetryPolicy(max_retries=1, initial_interval=1.0)),
        node("x", work),
    ]
    context_of(*tasks, edges=[("start", "flaky"), ("start", "x")]).execute()
    assert clock.slept == [0.75]


def test_a_join_waits_for_a_task_that_waits_to_be_tried_again(clock):
    tasks = [
        node("start"),
        node("flaky", Flaky(1), True, retry_policy=RetryPolicy(max_retries=1, initial_interval=1.0)),
        node("x"),
        node("join"),
    ]
    edges = [("start", "flaky"), ("start", "x"), ("flaky", "join"), ("x", "join")]
    context = context_of(*tasks, edges=edges)
    context.execute()
    assert context.completed_tasks == ["start", "x", "flaky", "join"]


def test_max_steps_counts_a_task_that_waits_as_pending(clock):
    tasks = [
        node("start"),
        node("flaky", Flaky(1), True, retry_policy=RetryPolicy(max_retries=1, initial_interval=1.0)),
        node("x"),
        node("y"),
    ]
    context = context_of(*tasks, edges=[("start", name) for name in ("flaky", "x", "y")], max_steps=2)
    with pytest.raises(exceptions.MaxStepsExceededError) as caught:
        context.execute()
    assert caught.value.pending == ["flaky", "y"]


def test_every_visit_has_a_full_budget():
    flaky = Flaky(0)
    fails_first = iter([True, True, False, True, True, False])

    def body(ctx):
        flaky.seen.append(ctx.retry_count)
        if next(fails_first):
            raise OSError
        if ctx.cycle_count < 2:
            ctx.next_task(ctx.graph.get_node("t"))

    context = context_of(node("t", body, True, max_retries=2))
    context.execute()
    assert flaky.seen == [0, 1, 2, 0, 1, 2]
    assert context.cycle_controller.get_cycle_count("t") == 2


def test_an_iteration_has_its_own_budget_with_the_settings_of_its_base():
    seen = []

    def body(ctx, data=0):
        seen.append((ctx.task_id == "t", ctx.retry_count, ctx.max_retries))
        if len(seen) in {1, 3}:
            raise OSError
        if data < 1:
            ctx.next_iteration(data + 1)
        return data

    context = context_of(node("t", body, True, max_retries=1))
    assert context.execute() == 1
    assert seen == [(True, 0, 1), (True, 1, 1), (False, 0, 1), (False, 1, 1)]
    assert context.get_result("t") == 1


def test_an_iteration_inherits_what_was_set_on_the_controller():
    def body(ctx, data=0):
        if data < 1:
            ctx.next_iteration(data + 1)
        return ctx.max_retries

    context = context_of(node("t", body, True))
    context.retry_controller.set_node_max_retries("t", 4)
    assert context.execute() == 4


def test_two_passes_that_wait_keep_the_successors_back():
    seen = []

    def body(ctx, data=None):
        seen.append(data)
        if data is None:
            ctx.next_iteration("x")
            ctx.next_iteration("y")
        elif seen.count(data) == 1:
            raise OSError(data)

    tasks = [node("t", body, True, max_retries=1), node("after", lambda: seen.append("after"))]
    context_of(*tasks, edges=[("t", "after")]).execute()
    assert seen == [None, "x", "x", "y", "y", "after"]


@pytest.mark.parametrize(
    "error",
    [
        exceptions.GraflowWorkflowCanceledError("stop", "t"),
        exceptions.CycleLimitExceededError("t", 1, 1),
        exceptions.MaxStepsExceededError(1, ["t"]),
    ],
)
def test_ends_of_the_run_are_never_retried(error):
    attempts = []

    def body():
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        context_of(node("t", body, max_retries=5)).execute()
    assert attempts == [1]


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_members_are_retried_and_their_counts_come_back(backend):
    flaky = Flaky(2)
    with workflow("members") as wf:
        group = ParallelGroup([TaskWrapper("flaky", flaky, True, max_retries=2), Task("b")]).with_execution(backend)
        group >> TaskWrapper("again", lambda ctx: ctx.cycle_count < 2 and ctx.next_task(group), True)
        _, context = wf.execute("ParallelGroup_1", ret_context=True)
    assert flaky.seen == [(0, 2, 1), (1, 2, 1), (2, 2, 1), (0, 2, 2)]
    assert context.get_result("flaky") == 4


def test_a_member_that_the_parent_visits_later_has_its_full_budget_there():
    flaky = Flaky(2)
    with workflow("later") as wf:
        member = TaskWrapper("flaky", flaky, True, max_retries=2)
        group = ParallelGroup([member, Task("b")])
        group >> TaskWrapper("jump", lambda ctx: ctx.next_task(member), True)
        _, context = wf.execute("ParallelGroup_1", ret_context=True)
    assert flaky.seen[-1] == (0, 2, 2)
    assert context.cycle_controller.get_cycle_count("flaky") == 2


def test_a_member_without_budget_fails_the_group_and_not_the_group_again():
    attempts = []

    def body():
        attempts.append(1)
        raise OSError("down")

    with workflow("strict") as wf:
        group = TaskWrapper("bad", body, max_retries=1) | Task("b")
    context = ExecutionContext.create(wf.graph, group.task_id, default_max_retries=3)
    with pytest.raises(exceptions.ParallelGroupError) as caught:
        WorkflowEngine().execute(context)
    assert len(attempts) == 2
    assert isinstance(caught.value.errors["bad"], exceptions.RetryLimitExceededError)
    assert isinstance(context.get_result("bad"), OSError)


def test_a_group_may_be_retried_as_a_whole():
    flaky = Flaky(1)
    with workflow("group") as wf:
        group = ParallelGroup([TaskWrapper("flaky", flaky, True), Task("b")])
    context = ExecutionContext.create(wf.graph, group.task_id)
    context.retry_controller.set_node_max_retries(group.task_id, 1)
    context.execute()
    assert context.completed_tasks == ["b", "flaky", group.task_id]


def test_the_backoff_of_a_member_is_slept_in_its_branch(clock):
    with workflow("backoff") as wf:
        policy = RetryPolicy(max_retries=1, initial_interval=2.5)
        ParallelGroup([TaskWrapper("flaky", Flaky(1), True, retry_policy=policy), Task("b")]).with_execution("direct")
        wf.execute("ParallelGroup_1")
    assert clock.slept == [2.5]
