"""What `max_steps` limits, and which run a limit, a cancellation and a loop belong to."""

from __future__ import annotations

import inspect

import pytest

from graflow import chain, exceptions, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.run.steps.loops import busiest_loop
from tests.graph_support import context_of, node


def chained(count, name="step"):
    return chain(*(task(id=f"{name}{index}")(lambda: None) for index in range(count)))


def test_first_executions_are_free_under_the_default_limit():
    with workflow("long") as wf:
        chained(10_050)
    _, context = wf.execute(ret_context=True)
    assert context.steps == 10_050
    assert context.max_steps == 10_000


def test_members_of_a_large_map_are_free_as_well():
    with workflow("wide") as wf:

        @task
        def add(number):
            return number + 1

        @task
        def total(numbers):
            return len(numbers)

        add.map(range(10_001), name="numbers").with_execution("direct") >> total
    assert wf.execute() == 10_001


def test_a_limit_that_the_caller_gives_counts_every_step():
    with workflow("short") as wf:
        chained(5)
    with pytest.raises(exceptions.MaxStepsExceededError) as caught:
        wf.execute(max_steps=3)
    assert caught.value.pending == ["step3"]
    assert caught.value.loop == []
    _, context = wf.execute(max_steps=5, ret_context=True)
    assert context.steps == 5


def test_the_default_is_the_number_that_signatures_show():
    for callable_ in (ExecutionContext, ExecutionContext.create, workflow("w").execute):
        assert inspect.signature(callable_).parameters["max_steps"].default == 10_000


def test_a_cycle_without_end_is_stopped_and_named():
    with workflow("round") as wf:
        start, a, b, c = (task(id=name)(lambda: None) for name in ("start", "a", "b", "c"))
        chain(start, a, b, a, c)
    with pytest.raises(
        exceptions.MaxStepsExceededError, match="goes round the cycle a >> b >> a; raise max_steps"
    ) as caught:
        wf.execute()
    assert caught.value.loop == ["a", "b"]


def test_a_loop_through_a_group_is_stopped_by_what_its_members_repeat():
    with workflow("groups") as wf:
        start = task(id="start")(lambda: None)
        members = [task(id=name)(lambda: None) for name in ("left", "right")]
        end = task(id="end")(lambda: None)
        group = (members[0] | members[1]).with_execution("direct")
        start >> group >> end >> group
    with pytest.raises(exceptions.MaxStepsExceededError, match="the cycle") as caught:
        wf.execute()
    assert caught.value.loop[0] in {"ParallelGroup_1", "end", "left", "right"}


def test_a_loop_of_jumps_is_named_too():
    with workflow("jumps") as wf:
        ask = task(id="ask", inject_context=True)(lambda context: context.next_task("look", goto=True))
        look = task(id="look", inject_context=True)(lambda context: context.next_task("ask", goto=True))
        task(id="start")(lambda: None) >> ask >> look
    with pytest.raises(exceptions.MaxStepsExceededError, match="goes round the cycle ask >> look >> ask") as caught:
        wf.execute("start")
    assert caught.value.loop == ["ask", "look"]


def test_passes_of_a_task_count_as_repeats():
    context = context_of(node("a", lambda context: context.next_iteration(), True, max_cycles=50))
    with pytest.raises(exceptions.CycleLimitExceededError) as caught:
        context.execute()
    assert context.ledger.repeats == 49
    assert caught.value.run_id == context.session_id
    assert busiest_loop(context.graph, context.ledger.cycles.cycle_counts) == ["a"]


def inner_workflow(limit):
    with workflow("inner") as inner:
        chained(3, "inner")
    return inner.execute(max_steps=limit)


def test_the_limit_of_a_workflow_inside_a_member_is_that_members_failure():
    with workflow("outer") as wf:

        @task
        def customer(number):
            inner_workflow(2 if number == 1 else 10)
            return number

        @task
        def end(customers):
            return customers

        customer.map(range(3), name="customers").with_execution(policy="best_effort") >> end
    assert wf.execute() == [0, None, 2]


def test_the_limit_of_a_workflow_inside_a_task_is_a_reason_to_try_the_task_again():
    tries = []
    with workflow("outer") as wf:

        @task(max_retries=2)
        def customer():
            tries.append(1)
            inner_workflow(2 if len(tries) < 3 else 10)
            return "worked"

    value, context = wf.execute(ret_context=True)
    assert (value, len(tries), context.stop_reason) == ("worked", 3, "completed")


def test_a_cancellation_inside_a_task_cancels_no_other_run():
    with workflow("outer") as wf:

        @task
        def around():
            with workflow("inner") as inner:

                @task(inject_context=True)
                def stop(context):
                    context.cancel_workflow("enough")

            inner.execute()

    with pytest.raises(
        exceptions.TaskFailedError, match="Task 'around' failed: Workflow canceled by task 'stop'"
    ) as caught:
        wf.execute()
    assert wf.last_context.stop_reason == "failed"
    assert caught.value.cause.task_id == "stop"
