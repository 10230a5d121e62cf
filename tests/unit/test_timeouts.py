"""Time limits of tasks and groups in one process: reported by name, abandoned, told."""

from __future__ import annotations

import pickle
import threading

import pytest

from graflow import exceptions, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup, Task, TaskWrapper, parallel
from tests.support import wait_until


@pytest.fixture
def release():
    """Lets everything that is stuck go on when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_a_sync_task_over_time_is_reported_and_abandoned(release):
    with workflow("late") as wf:
        TaskWrapper("stuck", lambda: release.wait(30), timeout=0.05) >> Task("never")
        context = ExecutionContext.create(wf.graph)
        with pytest.raises(exceptions.TaskTimeoutError, match=r"stuck.*0\.05") as caught:
            context.execute()
    assert (caught.value.task_id, caught.value.timeout) == ("stuck", 0.05)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(context.get_result("stuck"), exceptions.TaskTimeoutError)
    assert context.completed_tasks == []


def test_the_value_of_an_abandoned_task_is_thrown_away(release):
    with workflow("late") as wf:
        TaskWrapper("stuck", lambda: release.wait(30) and "too late", timeout=0.05)
        context = ExecutionContext.create(wf.graph)
        with pytest.raises(exceptions.TaskTimeoutError):
            context.execute()
    (abandoned,) = [thread for thread in threading.enumerate() if thread.name == "graflow-stuck"]
    release.set()
    abandoned.join(60)
    assert isinstance(context.get_result("stuck"), exceptions.TaskTimeoutError)


def test_an_abandoned_task_can_ask_for_nothing_more(release):
    refused = []

    def late(ctx):
        release.wait(30)
        for request in (
            lambda: ctx.next_task(Task("new", register_to_context=False)),
            lambda: ctx.next_iteration(1),
            lambda: ctx.terminate_workflow("x"),
            lambda: ctx.cancel_workflow("x"),
            ctx.checkpoint,
        ):
            try:
                request()
            except exceptions.TaskError as error:
                refused.append(str(error))

    with workflow("late") as wf:
        TaskWrapper("late", late, True, timeout=0.05)
        context = ExecutionContext.create(wf.graph)
        with pytest.raises(exceptions.TaskTimeoutError):
            context.execute()
    release.set()
    wait_until(lambda: len(refused) == 5)
    assert all("comes too late" in text for text in refused)
    assert "new" not in wf.graph.nodes
    assert context.checkpoint_requested is False


def test_a_task_in_time_returns_its_value_and_raises_its_own_errors():
    def own():
        raise TimeoutError("mine")

    with workflow("quick") as wf:
        TaskWrapper("quick", lambda: 5, timeout=30)
        assert wf.execute() == 5
    with workflow("own") as wf:
        TaskWrapper("own", own, timeout=30)
        with pytest.raises(exceptions.GraflowRuntimeError) as caught:
            wf.execute()
    assert type(caught.value.cause) is TimeoutError


def test_a_limited_task_gets_its_arguments_and_its_context():
    with workflow("arguments") as wf:

        @task(inject_context=True, timeout=30)
        def limited(ctx, given, default=2):
            return ctx.task_id, ctx.execution_context.current_task_id, given, default

        assert wf.execute(initial_channel={"given": 1}) == ("limited", "limited", 1, 2)


def test_a_task_over_time_is_retried_within_its_budget(release):
    attempts = []

    def sometimes(ctx):
        attempts.append(ctx.retry_count)
        if ctx.retry_count == 0:
            release.wait(30)
        return "in time"

    with workflow("retry") as wf:
        TaskWrapper("sometimes", sometimes, True, timeout=0.2, max_retries=1)
        assert wf.execute() == "in time"
    assert attempts == [0, 1]


def test_bound_instances_and_iterations_keep_the_limit(release):
    with workflow("instances") as wf:

        @task(timeout=0.05)
        def wait_for(event):
            event.wait(30)

        wait_for(task_id="mine", event=release)
        with pytest.raises(exceptions.TaskTimeoutError, match="mine"):
            wf.execute("mine")


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_a_member_over_time_is_a_failure_that_the_policy_sees(release, backend):
    with workflow("member") as wf:
        group = TaskWrapper("stuck", lambda: release.wait(30), timeout=0.05) | TaskWrapper("good", lambda: "good")
        group.with_execution(backend, policy="best_effort") >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert isinstance(context.get_result("stuck"), exceptions.TaskTimeoutError)
    assert context.completed_tasks == ["good", "ParallelGroup_1", "after"]


def test_a_group_over_time_names_itself_and_how_far_it_is(release, time_is_over):
    time_is_over(2)
    with workflow("group") as wf:
        parallel(*(TaskWrapper(f"m{i}", lambda i=i: i or release.wait(30)) for i in range(3))).with_execution(
            "threading", {"timeout": 0.2, "thread_count": 3}
        )
        with pytest.raises(exceptions.GroupTimeoutError, match=r"ParallelGroup_1.*2 of 3") as caught:
            wf.execute()
    assert (caught.value.group_id, caught.value.done, caught.value.total) == ("ParallelGroup_1", 2, 3)


def test_a_direct_group_looks_at_its_time_between_members():
    with workflow("direct") as wf:
        parallel(Task("a"), Task("b")).with_execution("direct", {"timeout": 1e-9})
        with pytest.raises(exceptions.GroupTimeoutError, match="0 of 2"):
            wf.execute()


def test_the_limit_may_stand_in_the_config_of_the_context(release):
    with workflow("config") as wf:
        ParallelGroup([TaskWrapper("stuck", lambda: release.wait(30)), Task("b")])
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1", config={"timeout": 0.1, "thread_count": 2})
    with pytest.raises(exceptions.GroupTimeoutError):
        context.execute()


def test_a_timeout_survives_pickling_with_its_fields():
    copy = pickle.loads(pickle.dumps(exceptions.TaskTimeoutError("t", 1.5)))
    assert (copy.task_id, copy.timeout, str(copy)) == ("t", 1.5, str(exceptions.TaskTimeoutError("t", 1.5)))
