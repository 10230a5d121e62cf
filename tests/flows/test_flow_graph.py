"""The graph of a recorded flow: planned steps, those that were added while it ran, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graflow.cli.flows.drawn import drawn_flow
from graflow.core.context import TaskExecutionContext
from graflow.core.decorators import task
from graflow.flows import FlowRunner
from graflow.flows.recording.flow_graph import FlowGraph, added_by
from graflow.state import FlowStepState, MemoryStore


@task
def first() -> int:
    return 1


@task
def square(number: int) -> int:
    return number**2


@task(inject_context=True)
def grow(context: TaskExecutionContext) -> int:
    @task(id="extra")
    def extra() -> int:
        return 2

    context.next_task(extra)
    return 1


@task(inject_context=True)
def again(context: TaskExecutionContext, data: int = 1) -> int:
    if data < 3:
        context.next_iteration(data + 1)
    return data


def grown() -> None:
    _ = (
        first(task_id="first")
        >> square.map([1, 2, 3], name="squares")
        >> grow(task_id="grow")
        >> again(task_id="again")
    )


@pytest.fixture
def runner() -> Iterator[FlowRunner]:
    with FlowRunner(MemoryStore(), recovery=False) as runner:
        runner.register(grown)
        yield runner


def edges_of(graph: FlowGraph) -> list[tuple[str, str]]:
    return [(graph.nodes[source], graph.nodes[target]) for source, target in graph.edges]


def test_steps_that_were_added_follow_the_planned_ones_and_passes_of_a_loop_are_no_nodes(runner: FlowRunner) -> None:
    flow = runner.execute("grown")
    graph = runner.get_flow_graph(flow.flow_id)
    assert graph.nodes == ["first", "squares", "grow", "again", "extra"]
    assert (graph.planned, graph.planned_edges) == (4, 3)
    assert graph.sizes == [None, 3, None, None, None]
    assert edges_of(graph)[-1] == ("grow", "extra")
    assert max(step.visit for step in flow.steps if step.step_name == "again") == 3


def test_a_flow_that_has_not_begun_has_the_graph_that_its_function_builds(runner: FlowRunner) -> None:
    runner.send_to(lambda _: None)
    flow_id = runner.submit("grown")
    graph = runner.get_flow_graph(flow_id)
    assert (graph.nodes, graph.planned) == (["first", "squares", "grow", "again"], 4)


def test_a_fork_keeps_what_steps_that_it_reuses_have_added(runner: FlowRunner) -> None:
    flow = runner.execute("grown")
    fork = runner.fork_flow(flow.flow_id, "again")
    assert runner.get_flow_graph(fork.flow_id) == runner.get_flow_graph(flow.flow_id)


def test_planned_steps_stand_in_the_same_order_before_and_after_others_are_added() -> None:
    planned = FlowGraph.of({"a": {"after": ["b", "c"]}, "b": {}, "c": {}}, [])
    step = FlowStepState(step_name="a", added=[["a", "d"]])
    grown = FlowGraph.of({"a": {"after": ["b", "c"]}, "b": {}, "c": {}}, [step])
    assert grown.fingerprint != planned.fingerprint
    before, after = planned.placed("right"), grown.placed("right")
    assert (before.y[1] < before.y[2], after.y[1] < after.y[2]) == (True, True)


def test_a_picture_has_each_step_with_its_state(runner: FlowRunner) -> None:
    flow = runner.execute("grown")
    picture = drawn_flow(runner.get_flow_graph(flow.flow_id), flow)
    for text in ("first: completed", "squares: completed", "again #3: completed", "extra: completed", "3 of 3"):
        assert f">{text}<" in picture


def test_what_a_step_adds_is_told_from_its_outcome() -> None:
    outcome = {
        "queued": ["again_cycle_1", "x"],
        "nodes": [{"id": "again_cycle_1", "pass_of": "again"}, {"id": "x", "task": {}}, {"id": "y", "task": {}}],
        "edges": [["x", "z"]],
    }
    assert added_by("a", outcome) == [["a", "x"], ["x", "z"], ["y"]]
