"""Fan-outs whose members become nodes when somebody looks, and then have been nodes all along."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from graflow import ExecutionContext, parallel, task, workflow
from graflow.core.graph import TaskGraph
from graflow.core.nodes.mapped import MappedGroup
from graflow.core.task import Task, TaskWrapper
from graflow.core.workflow import WorkflowContext
from graflow.exceptions import DuplicateTaskError
from tests.support import at_once


@task
def number(item: int) -> int:
    return item


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


def nothing() -> None:
    """A step."""


def built(*, folded: bool) -> tuple[WorkflowContext, MappedGroup[Any]]:
    with workflow("fold") as wf:
        first = TaskWrapper("first", nothing)
        if not folded:
            assert list(wf.graph.nodes) == ["first"]  # whoever has seen the tables is shown each node as it comes
        group = number.map(range(3), name="numbers")
        other = number.map(range(2), name="others")
        first >> group >> other >> total
    assert wf.graph.is_folded("numbers") is wf.graph.is_folded("others") is folded
    return wf, group


def seen(graph: TaskGraph) -> dict[str, Any]:
    return {
        "nodes": list(graph.nodes),
        "edges": list(graph.edges),
        "succ": {name: list(graph.succ[name]) for name in graph.nodes},
        "pred": {name: list(graph.pred[name]) for name in graph.nodes},
        "starts": graph.get_start_nodes(),
        "holders": {name: graph.groups_of(name) for name in graph.nodes},
        "members": graph.get_parallel_group_members("numbers"),
        "ages": [[name for name in graph.nodes if graph.growth.is_since(name, age)] for age in range(10)],
        "drawn": str(graph),
        "ids": [graph.get_node(name).task_id for name in graph.nodes],
        "are_entered": [not graph.get_node(name)._pending_registration for name in graph.nodes],
    }


@pytest.mark.parametrize(
    "look",
    [
        lambda graph: graph,
        lambda graph: graph.copy(),
        lambda graph: graph.for_branch(),
        lambda graph: pickle.loads(pickle.dumps(graph)),
        lambda graph: (graph.get_node("numbers[1]"), graph)[1],
        lambda graph: (graph.rename_node("numbers", "renamed"), graph.rename_node("renamed", "numbers"), graph)[2],
        lambda graph: (graph.copy().remove_node("numbers[1]"), graph)[1],
        lambda graph: (graph.add_edge("numbers[0]", "total"), graph)[1],
        lambda graph: (graph.remove_node("others"), graph)[1],
        lambda graph: (graph.add_nodes([Task("late", register_to_context=False)]), graph)[1],
    ],
    ids=["as-it-is", "copy", "branch", "pickle", "member", "renamed", "removed", "edge", "group-removed", "more"],
)
def test_a_graph_with_folds_looks_like_one_that_has_had_the_members_all_along(
    look: Callable[[TaskGraph], TaskGraph],
) -> None:
    folded, whole = (seen(look(built(folded=folded)[0].graph)) for folded in (True, False))
    assert folded == whole


@pytest.mark.parametrize(
    "asked",
    [
        lambda graph: graph.has_node("numbers[2]"),
        lambda graph: not graph.has_node("numbers[3]"),
        lambda graph: not graph.has_node("numbers[02]"),
        lambda graph: not graph.lacks("numbers[2]"),
        lambda graph: graph.lacks("numbers[3]"),
        lambda graph: not graph.lacks_all(["numbers[2]"]),
        lambda graph: graph.lacks_all(["numbers[3]"]),
        lambda graph: graph.task_at("numbers[2]").bound_arguments == {"item": 2},
        lambda graph: graph.task_at("numbers[3]") is None,
        lambda graph: graph.groups_of("others[0]") == ["others"],
        lambda graph: graph.successors("numbers[0]") == graph.predecessors("numbers[0]") == [],
        lambda graph: "numbers[0]" in graph.nx_graph(),
        lambda graph: not graph.is_empty,
    ],
)
def test_each_question_about_members_is_answered_alike(asked: Callable[[TaskGraph], bool]) -> None:
    assert asked(built(folded=True)[0].graph)
    assert asked(built(folded=False)[0].graph)


def test_ids_of_members_are_taken() -> None:
    for folded in (True, False):
        wf, _ = built(folded=folded)
        with pytest.raises(DuplicateTaskError, match=r"numbers\[1\]"):
            wf.graph.add_node(Task("numbers[1]", register_to_context=False))
        wf.graph.add_node(Task("numbers[1]", register_to_context=False), skip_if_exists=True)
        assert wf.graph.get_node("numbers[1]").bound_arguments == {"item": 1}
    with workflow("taken") as wf:
        TaskWrapper("numbers[1]", lambda: None)
        with pytest.raises(DuplicateTaskError, match=r"numbers\[1\]"):
            number.map(range(3), name="numbers") >> total


def test_a_member_can_have_steps_behind_it() -> None:
    with workflow("behind") as wf:
        group = number.map(range(3), name="numbers")
        group >> total
        after = TaskWrapper("after", lambda: "ran")
        assert wf.graph.is_folded("numbers")
        group.tasks[1] >> after
    assert wf.graph.successors("numbers[1]") == ["after"]
    assert wf.graph.get_start_nodes() == ["numbers"]
    _, context = wf.execute(ret_context=True)
    assert (context.get_result("total"), context.get_result("after")) == (3, "ran")


def test_a_fan_out_inside_a_group_runs_with_it() -> None:
    with workflow("inside") as wf:
        group = parallel(number.map(range(3), name="numbers"), TaskWrapper("beside", lambda: 7))
        group >> TaskWrapper("after", lambda: None)
    _, context = wf.execute(ret_context=True)
    assert context.get_results(["numbers", "beside"]) == [[0, 1, 2], 7]


def test_a_run_enters_members_in_its_own_graph_alone() -> None:
    wf, group = built(folded=True)
    graph, start = wf.compiled()
    assert (start, graph.is_folded("numbers")) == ("first", True)
    context = ExecutionContext.create(graph, start)
    context.execute()
    assert not graph.is_folded("numbers")
    assert wf.graph.is_folded("numbers")
    assert graph.get_node("numbers[0]") is group.tasks[0] is wf.graph.get_node("numbers[0]")
    assert context.get_result("numbers") == [0, 1, 2]


def test_members_that_join_later_are_members_whether_the_others_are_nodes_or_not() -> None:
    for folded in (True, False):
        wf, group = built(folded=folded)
        group.tasks.append(number.instance("more", {"item": 9}))
        assert wf.graph.has_node("more")
        assert wf.graph.get_parallel_group_members("numbers")[-1] == "more"
        assert "more" not in wf.graph.nodes
        assert wf.execute() == 0 + 1 + 2 + 9


def test_threads_that_look_at_once_find_the_same_members() -> None:
    wf, group = built(folded=True)
    looks: list[Callable[[], Any]] = [
        lambda: wf.graph.get_node("numbers[1]"),
        lambda: wf.graph.nodes["numbers[1]"]["task"],
        lambda: wf.graph.copy().get_node("numbers[1]"),
        lambda: wf.graph.task_at("numbers[1]"),
    ]
    found = at_once(lambda look: look(), looks * 4)
    assert all(member is group.tasks[1] for member in found)
    assert list(wf.graph.nodes) == list(built(folded=False)[0].graph.nodes)


def test_a_graph_makes_its_tables_anew_once_however_many_fan_outs_come() -> None:
    tables: list[Any] = []
    with workflow("many") as wf:
        for place in range(40):
            number.map(range(3), name=f"numbers{place}") >> TaskWrapper(f"step{place}", nothing)
            if not any(known is wf.graph.succ for known in tables):
                tables.append(wf.graph.succ)
    assert len(tables) == 2
    assert not any(wf.graph.is_folded(f"numbers{place}") for place in range(40))
    assert len(wf.graph.nodes) == 40 * 5


def test_members_that_come_after_somebody_looked_for_one_are_entered_at_once() -> None:
    with workflow("looked") as wf:
        first = TaskWrapper("first", nothing) >> number.map(range(3), name="numbers")
        assert wf.graph.get_node("numbers[1]").task_id == "numbers[1]"
        first >> number.map(range(3), name="others")
        assert not wf.graph.is_folded("others")
        assert wf.graph.task_at("others[2]").task_id == "others[2]"
