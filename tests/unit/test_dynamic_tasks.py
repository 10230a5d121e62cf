"""next_task, goto, iteration, terminate and cancel."""

import pytest

from graflow import exceptions, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.serialization import dumps, loads
from graflow.core.task import Task, TaskWrapper


def run(wf, **kwargs):
    return wf.execute(ret_context=True, **kwargs)[1]


def order(context):
    return context.tracer.get_execution_order()[1:]  # without the workflow


def test_successors_follow_after_the_tasks_that_a_task_added():
    with workflow("dynamic") as wf:

        @task(inject_context=True)
        def first(ctx):
            for name in ("x", "y"):
                ctx.next_task(TaskWrapper(name, lambda: None))

        first >> Task("after")
        assert order(run(wf)) == ["first", "x", "y", "after"]


def test_a_jump_to_a_task_that_existed_skips_the_successors():
    with workflow("jump") as wf:
        target, other = Task("target"), Task("other")

        @task(inject_context=True)
        def first(ctx):
            ctx.next_task(target)
            ctx.next_task(other)

        first >> Task("skipped")
        Task("root") >> target
        assert order(run(wf, start_node="first")) == ["first", "target", "other"]


def test_goto_skips_the_successors_and_keeps_earlier_requests():
    with workflow("goto") as wf:

        @task(inject_context=True)
        def first(ctx):
            ctx.next_task(TaskWrapper("a", lambda: None))
            ctx.next_task(TaskWrapper("b", lambda: None), goto=True)

        first >> Task("skipped")
        assert order(run(wf)) == ["first", "a", "b"]


def test_a_chain_made_by_a_running_task_runs_to_its_end():
    with workflow("chain") as wf:

        @task(inject_context=True)
        def first(ctx):
            ctx.next_task(TaskWrapper("x", lambda: None) >> TaskWrapper("y", lambda: None))

        first >> Task("after")
        context = run(wf)
    assert order(context) == ["first", "x", "after", "y"]
    assert "x" not in wf.graph.nodes
    assert wf.execute() is None


def test_a_group_made_by_a_running_task_runs_its_members():
    with workflow("group") as wf:

        @task(inject_context=True)
        def first(ctx):
            ctx.next_task(TaskWrapper("x", lambda: 1) | TaskWrapper("y", lambda: 2))

        first >> Task("after")
        context = run(wf)
    assert (context.get_result("x"), context.get_result("y")) == (1, 2)
    assert context.completed_tasks == ["first", "x", "y", "ParallelGroup_1", "after"]


def test_iterations_pass_data_on_and_successors_follow_the_last_pass():
    with workflow("loop") as wf:

        @task(inject_context=True, max_cycles=3)
        def step(ctx, total=0):
            if ctx.can_iterate():
                ctx.next_iteration(total + 1)
            return total

        step >> Task("after")
        context = run(wf)
    names = order(context)
    assert [name.split("_cycle_")[0] for name in names] == ["step", "step", "step", "after"]
    assert [context.get_result(name) for name in ("step", names[1], names[2])] == [2, None, 2]
    assert context.cycle_controller.get_cycle_count("step") == 3


def test_the_cycle_limit_ends_the_run():
    with workflow("loop") as wf:

        @task(inject_context=True, max_cycles=2)
        def step(ctx):
            ctx.next_iteration()

        with pytest.raises(exceptions.CycleLimitExceededError) as caught:
            wf.execute()
    assert (caught.value.task_id, caught.value.cycle_count, caught.value.max_cycles) == ("step", 2, 2)


def test_a_failing_pass_leaves_the_last_good_result_of_the_base():
    graph = TaskGraph()

    def body(ctx, n=0):
        if n == 1:
            raise ValueError("second pass")
        ctx.next_iteration(n + 1)
        return n

    graph.add_node(TaskWrapper("step", body, True))
    context = ExecutionContext.create(graph)
    with pytest.raises(exceptions.GraflowRuntimeError, match="second pass"):
        context.execute()
    assert context.get_result("step") == 0


def test_a_base_without_injection_gets_the_context_first():
    seen = []

    def body(*args):
        seen.append(args)
        if len(seen) == 1:
            context.next_iteration("data")

    graph = TaskGraph()
    graph.add_node(TaskWrapper("step", body))
    context = ExecutionContext.create(graph)
    context.execute()
    assert seen[0] == ()
    assert seen[1][1] == "data"
    assert seen[1][0].task_id.startswith("step_cycle_1_")


def test_a_pending_pass_survives_pickling():
    def body(ctx, n=0):
        if n < 2:
            ctx.next_iteration(n + 1)
        return n

    graph = TaskGraph()
    graph.add_node(TaskWrapper("step", body, True))
    context = ExecutionContext.create(graph)
    with context.executing_task(graph.get_node("step")) as frame:
        frame.next_iteration(1)
    context.task_queue.dequeue()
    loaded = loads(dumps(context))
    assert loaded.execute() == 2
    assert loaded.get_result("step") == 2


def test_cancel_beats_terminate_and_keeps_its_message():
    with workflow("stop") as wf:

        @task(inject_context=True)
        def first(ctx):
            ctx.cancel_workflow("out of budget")
            ctx.terminate_workflow("never mind")

        first >> Task("after")
        with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="out of budget") as caught:
            wf.execute()
    assert caught.value.task_id == "first"


def test_terminate_ends_the_run_normally():
    with workflow("stop") as wf:

        @task(inject_context=True)
        def first(ctx):
            ctx.next_task(TaskWrapper("queued", lambda: None))
            ctx.terminate_workflow("enough")
            return "value"

        first >> Task("after")
        value, context = wf.execute(ret_context=True)
    assert value == "value"
    assert context.completed_tasks == ["first"]
    assert (context.stop_reason, context.ctrl_message) == ("terminated", "enough")


def test_a_failed_attempt_takes_back_what_it_queued():
    attempts = []
    with workflow("retry") as wf:

        @task(inject_context=True, max_retries=1)
        def first(ctx):
            attempts.append(1)
            ctx.next_task(TaskWrapper(f"x{len(attempts)}", lambda: None))
            if len(attempts) == 1:
                raise OSError("once")

        assert order(run(wf)) == ["first", "first", "x2"]


def test_max_steps_is_never_a_silent_success():
    with workflow("endless") as wf:
        a, b = Task("a"), Task("b")
        a >> b >> a
        with pytest.raises(exceptions.MaxStepsExceededError):
            wf.execute(start_node="a", max_steps=5)
    context = ExecutionContext.create(wf.graph, "a", max_steps=5, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps=5"):
        WorkflowEngine().execute(context)
    assert (context.steps, context.stop_reason) == (5, "max_steps")


def test_nodes_that_a_task_added_are_no_start_nodes_of_a_graph_that_is_run_directly():
    graph = TaskGraph()
    graph.add_node(TaskWrapper("grow", lambda ctx: ctx.next_task(Task("dynamic", False)), True))
    context = ExecutionContext.create(graph)
    assert context.graph is graph
    context.execute()
    assert graph.has_node("dynamic")
    assert graph.get_start_nodes() == ["grow"]


def test_a_task_defined_inside_a_running_task_is_new():
    with workflow("w") as wf:

        def define(ctx):
            @task
            def inner():
                return "inner"

            ctx.next_task(inner)

        TaskWrapper("define", define, True) >> Task("after")
        assert order(run(wf)) == ["define", "inner", "after"]


def test_a_loop_that_max_steps_cut_off_before_a_pass_is_followed_by_its_successors():
    ran = []

    def loop(ctx, data=0):
        ran.append(data)
        if data < 2:
            ctx.next_iteration(data + 1)

    with workflow("cut off") as wf:
        TaskWrapper("loop", loop, inject_context=True) >> TaskWrapper("after", lambda: ran.append("after"))
    context = ExecutionContext.create(wf.graph, "loop", max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps"):
        context.execute()
    context.max_steps = 10
    context.execute()
    assert ran == [0, 1, 2, "after"]
