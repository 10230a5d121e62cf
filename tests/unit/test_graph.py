"""The task graph: nodes, edges, members of groups, copies, and many threads at once."""

from __future__ import annotations

import pickle
from functools import partial

import networkx as nx
import pytest

from graflow import parallel, workflow
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, Task
from graflow.exceptions import DuplicateTaskError
from tests.support import at_once


def node(name):
    return Task(name, register_to_context=False)


@pytest.fixture
def graph():
    made = TaskGraph()
    for name in "abc":
        made.add_node(node(name))
    made.add_edge("a", "b")
    made.add_edge("b", "c")
    return made


def test_nodes_hold_their_task_and_ids_are_taken_once(graph):
    assert "a" in graph.nodes
    assert list(graph.nodes) == list(graph.nodes()) == ["a", "b", "c"]
    assert len(graph.nodes) == 3
    assert graph.nodes["a"]["task"] is graph.get_node("a")
    with pytest.raises(DuplicateTaskError, match=r"^Duplicate task ID: a$") as raised:
        graph.add_node(node("a"))
    assert raised.value.task_id == "a"
    first = graph.get_node("a")
    graph.add_node(node("a"), skip_if_exists=True)
    assert graph.get_node("a") is first
    graph.add_node(node("x"), "other")
    assert graph.has_node("other") is True
    assert graph.has_node("x") is False
    with pytest.raises(KeyError, match="nowhere"):
        graph.get_node("nowhere")


def test_edges_are_kept_in_order(graph):
    graph.add_edge("a", "c")
    graph.add_edge("a", "b")
    assert graph.get_edges() == [("a", "b"), ("a", "c"), ("b", "c")]
    assert ("a", "c") in graph.edges
    assert len(graph.edges()) == 3
    assert graph.successors("a") == ["b", "c"]
    assert graph.predecessors("c") == ["b", "a"]
    assert graph.successors("nowhere") == []


def test_the_networkx_graph_is_the_graph_itself(graph):
    inner = graph.nx_graph()
    assert type(inner) is nx.DiGraph
    assert inner is graph._graph
    graph.add_edge("c", "a")
    assert nx.is_directed_acyclic_graph(inner) is False
    assert list(inner.predecessors("a")) == ["c"]
    assert inner.edges["c", "a"] is inner.pred["a"]["c"]


def test_the_tables_to_walk_are_alive_through_every_change(graph):
    graph.add_node(node("d"))
    graph.add_edge("c", "d")
    assert (list(graph.succ["c"]), list(graph.pred["d"]), list(graph.succ)) == (["d"], ["c"], ["a", "b", "c", "d"])
    for other in (graph.copy(), pickle.loads(pickle.dumps(graph))):
        succ, pred = other.succ, other.pred
        other.rename_node("c", "C")
        other.remove_node("d")
        other.add_edge("C", "a")
        assert (list(succ["C"]), list(pred["a"]), list(pred)) == (["a"], ["C"], ["a", "b", "C"])
        assert list(other.nx_graph().successors("C")) == ["a"]
        other.clear()
        assert not succ
    assert list(graph.succ["c"]) == ["d"]


def test_groups_of_a_graph_and_what_they_hold_follow_renames_and_removals():
    with workflow("w") as wf:
        inner = node("a") | node("b")
        ParallelGroup([inner, node("c")], name="outer")
        graph = wf.graph
        assert inner.task_id in graph.groups.sizes
        assert "a" not in graph.groups.sizes
        assert graph.groups.holders == {
            "a": (inner.task_id,),
            "b": (inner.task_id,),
            inner.task_id: ("outer",),
            "c": ("outer",),
        }
        graph.rename_node(inner.task_id, "inner")
        graph.rename_node("a", "A")
        assert graph.groups.holders["A"] == ("inner",)
        twin = graph.copy()
        graph.remove_node("inner")
        assert "inner" not in graph.groups.sizes
        assert graph.groups.holders == {"inner": ("outer",), "c": ("outer",)}
        assert twin.groups.holders["b"] == ("inner",)


def test_the_task_at_a_node_is_none_where_there_is_none(graph):
    assert graph.task_at("a") is graph.get_node("a")
    graph.add_edge("a", "bare")
    assert graph.task_at("bare") is None
    assert graph.task_at("nowhere") is None


def test_a_removed_node_takes_its_edges_along(graph):
    graph.remove_node("b")
    assert (list(graph.nodes), graph.get_edges()) == (["a", "c"], [])
    with pytest.raises(KeyError, match="'b'"):
        graph.remove_node("b")


def test_cycles_are_lists_of_ids(graph):
    assert graph.detect_cycles() == []
    graph.add_edge("c", "a")
    assert [sorted(cycle) for cycle in graph.detect_cycles()] == [["a", "b", "c"]]


def test_clearing_forgets_everything():
    with workflow("w") as wf:
        Task("a") | Task("b")
        wf.clear()
        assert list(wf.graph.nodes) == []
        assert wf.graph.has_node("a") is False
        assert wf.graph.get_start_nodes() == []
        assert (Task("a") | Task("b")).task_id == "ParallelGroup_1"


def test_renaming_keeps_position_edges_and_runs(graph):
    graph.add_edge("b", "b")
    task = graph.get_node("b")
    graph.rename_node("b", "B")
    assert list(graph.nodes) == ["a", "B", "c"]
    assert sorted(graph.get_edges()) == [("B", "B"), ("B", "c"), ("a", "B")]
    assert (graph.predecessors("B"), graph.successors("B")) == (["a", "B"], ["c", "B"])
    assert graph.get_node("B") is task
    assert task.task_id == "B"
    graph.rename_node("c", "c")
    with pytest.raises(KeyError, match="nowhere"):
        graph.rename_node("nowhere", "x")
    with pytest.raises(ValueError, match="'a'"):
        graph.rename_node("c", "a")


def test_a_workflow_runs_on_after_a_rename():
    with workflow("w") as wf:
        Task("a") >> Task("b") >> Task("c")
        wf.rename_node("a", "first")
        wf.rename_node("b", "second")
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["first", "second", "c"]


def test_members_are_found_even_when_they_are_no_nodes():
    with workflow("elsewhere"):
        inner = ParallelGroup([node("a"), node("b")])
        outer = ParallelGroup([inner, node("c")])
    graph = TaskGraph()
    graph.add_node(outer)
    assert list(graph.nodes) == [outer.task_id]
    assert all(graph.has_node(name) is True for name in ("a", "b", "c", inner.task_id))
    assert graph.get_node("a") is inner.tasks[0]
    assert graph.get_node(inner.task_id) is inner
    assert graph.get_parallel_group_members(outer.task_id) == [inner.task_id, "c"]
    late = node("late")
    outer.tasks.append(late)
    assert graph.has_node("late") is True
    assert graph.get_node("late") is late
    assert graph.has_node("nowhere") is False


def test_members_of_other_nodes_are_none(graph):
    assert graph.get_parallel_group_members("a") == []
    assert graph.get_parallel_group_members("nowhere") == []


def test_members_of_any_group_are_never_start_nodes():
    with workflow("w") as wf:
        a, b, c, d = (Task(name) for name in "abcd")
        a >> (b | c) >> d
        assert wf.graph.get_start_nodes() == ["a"]
        e = Task("e")
        e >> b
        assert wf.graph.get_start_nodes() == ["a", "e"]
        wf.graph.nodes["ParallelGroup_1"]["task"].tasks.append(e)
        assert wf.graph.get_start_nodes() == ["a"]
    assert TaskGraph().get_start_nodes() == []


def test_start_nodes_never_raise_whatever_the_graph_holds(graph):
    graph.add_edge("x", "y")
    graph._graph.add_node("bare")
    graph.add_node(object(), "odd")
    assert graph.get_start_nodes() == ["a", "x", "bare", "odd"]


def test_the_text_of_a_graph_never_fails(graph):
    assert all(name in str(graph) for name in "abc")
    graph.add_node(object(), "odd")
    graph.add_edge("odd", "unknown")
    graph._graph.add_node(("a", 1))
    assert "odd" in str(graph)
    assert str(TaskGraph()) == "Empty graph"


def test_a_copy_shares_tasks_and_no_structure(graph):
    twin = graph.copy()
    twin.add_edge("c", "a")
    twin.add_node(node("d"))
    twin.rename_node("b", "B")
    assert graph.get_edges() == [("a", "b"), ("b", "c")]
    assert list(graph.nodes) == ["a", "b", "c"]
    assert twin.get_node("a") is graph.get_node("a")


def test_a_missing_id_costs_nothing_with_large_groups():
    with workflow("w") as wf:
        group = ParallelGroup([Task(f"m{number}") for number in range(1000)])
    looked_at = 0

    class Counting(list):
        def __iter__(self):
            nonlocal looked_at
            looked_at += 1
            return super().__iter__()

    group.tasks = Counting(group.tasks)
    assert not any(wf.graph.has_node(f"absent{number}") for number in range(100))
    assert looked_at == 0


@pytest.mark.usefixtures("many_switches")
def test_threads_add_and_walk_at_the_same_time():
    with workflow("w") as wf:
        start = Task("start")
        start >> parallel(*(Task(f"m{number}") for number in range(20)))
    graph, adding = wf.graph, [0, 1, 2]

    def add(offset):
        try:
            for number in range(150):
                name = f"t{offset}_{number}"
                graph.add_node(node(name))
                graph.add_edge("start", name)
                graph.add_edge(name, f"m{number % 20}")
                graph.growth.mark_dynamic(name)
        finally:
            adding.remove(offset)

    def walk():
        while adding:
            graph.successors("start")
            graph.predecessors("m1")
            graph.get_start_nodes()
            graph.get_edges()
            graph.has_node("absent")
            graph.copy()
            str(graph)

    def pickle_it():
        while adding:
            pickle.loads(pickle.dumps(graph))

    at_once(lambda work: work(), [walk, pickle_it, *(partial(add, offset) for offset in (0, 1, 2))])
    assert len(graph.successors("start")) == 451


def test_many_nodes_enter_as_they_do_one_by_one():
    with workflow("w"):
        tasks = [node(name) for name in "abc"]
    together, singly = TaskGraph(), TaskGraph()
    for graph in (together, singly):
        graph.add_node(node("first"))
    together.add_nodes(tasks)
    for task in tasks:
        singly.add_node(task)
    for graph in (together, singly):
        graph.add_edge("a", "c")
        graph.add_node(node("last"))

    ages = {name: [together.growth.is_since(name, age) for age in range(6)] for name in together.nodes}
    assert ages == {name: [singly.growth.is_since(name, age) for age in range(6)] for name in singly.nodes}
    assert [together.task_at(name) for name in "abc"] == tasks
    assert together.get_edges() == singly.get_edges() == [("a", "c")]
    assert list(together.nodes) == list(singly.nodes)


def test_of_many_nodes_one_whose_id_is_taken_is_refused():
    graph = TaskGraph()
    graph.add_node(node("b"))
    assert graph.lacks_all(["a", "c"])
    assert not graph.lacks_all(["a", "b"])
    with pytest.raises(DuplicateTaskError, match="ID: b"):
        graph.add_nodes([node("a"), node("b")])
    with pytest.raises(DuplicateTaskError, match="ID: c"):
        graph.add_nodes([node("c"), node("c")])


def test_a_member_of_two_groups_is_held_by_both_however_many_enter_together():
    with workflow("w") as wf:
        a, b, c = node("a"), node("b"), node("c")
        ParallelGroup([a, b], name="one")
        ParallelGroup([b, c], name="two")
        assert wf.graph.groups.holders == {"a": ("one",), "b": ("one", "two"), "c": ("two",)}
        wf.graph.remove_node("one")
        assert wf.graph.groups.holders == {"b": ("two",), "c": ("two",)}
