"""Which successors run, how often, and in which order."""

import pytest

from graflow import task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.task import ParallelGroup


def ran(wf, **kwargs):
    _, context = wf.execute(ret_context=True, **kwargs)
    return context.tracer.get_execution_order()[1:]  # without the workflow


def noop(name):
    return task(name)(lambda: name)


def test_a_diamond_runs_its_join_once_after_both_arms():
    with workflow("diamond") as wf:
        a, b, c, d = (noop(name) for name in "abcd")
        a >> b >> d
        a >> c >> d
        assert ran(wf) == ["a", "b", "c", "d"]


def test_a_join_waits_for_the_longer_arm():
    with workflow("uneven") as wf:
        a, b, c, d, e = (noop(name) for name in "abcde")
        a >> b >> e
        a >> c >> d >> e
        assert ran(wf) == ["a", "b", "c", "d", "e"]


def test_a_successor_that_leads_to_its_sibling_runs_first():
    with workflow("sideways") as wf:
        a, join, k = (noop(name) for name in ("a", "join", "k"))
        a >> join
        a >> k >> join
        assert ran(wf) == ["a", "k", "join"]


def test_a_join_does_not_wait_for_an_arm_that_was_jumped_over():
    with workflow("skip") as wf:
        b, c, d = (noop(name) for name in "bcd")

        @task(inject_context=True)
        def a(ctx):
            ctx.next_task(b, goto=True)

        a >> b >> d
        a >> c >> d
        assert ran(wf) == ["a", "b", "d"]


def test_a_join_that_waits_is_released_when_the_missing_arm_is_jumped_over():
    with workflow("late skip") as wf:
        a, b, end, d = (noop(name) for name in ("a", "b", "end", "d"))

        @task(inject_context=True)
        def c(ctx):
            ctx.next_task(end)

        a >> b >> d
        a >> c >> noop("c2") >> d
        wf.graph.remove_node("end")
        end.register_in(wf.graph)
        assert ran(wf, start_node="a") == ["a", "b", "c", "end", "d"]


def test_back_edges_never_block():
    seen = []
    with workflow("agent") as wf:

        @task(inject_context=True)
        def agent(ctx):
            seen.append("agent")
            if len(seen) > 4:
                ctx.next_task(done, goto=True)

        @task
        def tool():
            seen.append("tool")

        @task
        def done():
            return "done"

        noop("start") >> agent >> tool >> agent
        assert wf.execute(start_node="start") == "done"
    assert seen == ["agent", "tool", "agent", "tool", "agent"]


def test_starting_in_the_middle_does_not_wait_for_skipped_predecessors():
    with workflow("middle") as wf:
        a, b, c, d = (noop(name) for name in "abcd")
        a >> b >> d
        a >> c >> d
        assert ran(wf, start_node="b") == ["b", "d"]


def test_candidates_that_wait_for_each_other_are_released_oldest_first():
    with workflow("knot") as wf:
        a, b, c = (noop(name) for name in "abc")
        a >> b >> c >> b
        a >> c
    context = ExecutionContext.create(wf.graph, "a", max_steps=3, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps"):
        WorkflowEngine().execute(context)
    assert context.completed_tasks == ["a", "b", "c"]


def test_an_edge_into_a_member_counts_as_an_edge_into_its_group():
    with workflow("into") as wf:
        a, b, c, d = (noop(name) for name in "abcd")
        a >> b
        group = b | c
        group >> d
        _, context = wf.execute(start_node="a", ret_context=True)
    assert context.completed_tasks == ["a", "b", "c", "ParallelGroup_1", "d"]


def test_a_node_reachable_from_two_members_runs_once_after_the_group():
    with workflow("shared") as wf:
        a, b, y, z = (noop(name) for name in "abyz")
        a >> y
        b >> y
        group = ParallelGroup([a, b], name="g")
        group >> z
        _, context = wf.execute(start_node="g", ret_context=True)
    assert context.completed_tasks == ["a", "b", "g", "y", "z"]
    assert context.cycle_controller.cycle_counts["y"] == 1


def test_a_join_runs_once_and_not_once_per_edge():
    runs = []
    with workflow("w") as wf:
        a, b, c = map(noop, "abc")
        join = task("join")(lambda: runs.append(1))
        a >> (b >> join)
        a >> (c >> join)
        assert ran(wf) == ["a", "b", "c", "join"]
    assert runs == [1]
