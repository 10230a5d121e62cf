from __future__ import annotations

from graflow.core.task import ParallelGroup, Task, chain
from graflow.core.workflow import clear_workflow_context, current_workflow_context, workflow
from graflow.utils.graph import build_graph


def tasks(names):
    return [Task(name) for name in names.split()]


def test_groups_get_an_edge_to_each_member():
    with workflow("wf") as wf:
        a, b, c, d = tasks("a b c d")
        line = a >> (b | c) >> d
        for start in (line, a, b, d):
            graph = build_graph(start)
            assert graph is wf.graph
            assert set(graph.nodes) == {"a", "b", "c", "d", "ParallelGroup_1"}
            assert set(graph.edges) == {
                ("a", "ParallelGroup_1"),
                ("ParallelGroup_1", "b"),
                ("ParallelGroup_1", "c"),
                ("ParallelGroup_1", "d"),
            }


def test_what_is_not_connected_leaves_the_graph():
    with workflow("wf") as wf:
        a, b, c, d = tasks("a b c d")
        chain(a, b)
        chain(c, d)
        build_graph(b)
    assert list(wf.graph.nodes) == ["a", "b"]


def test_the_way_leads_through_members_and_nested_groups():
    with workflow("wf") as wf:
        a, b, c, d, e = tasks("a b c d e")
        (a >> b) | (c | d)
        b >> e
        build_graph(e)
    assert set(wf.graph.nodes) >= {"a", "b", "c", "d", "e"}


def test_another_workflow_may_be_given():
    with workflow("other") as other:
        a, b = tasks("a b")
        a >> b
    with workflow("current") as current:
        Task("untouched")
        assert build_graph(a, other) is other.graph
    assert list(current.graph.nodes) == ["untouched"]


def test_a_pending_task_gives_one_node_in_the_current_workflow():
    clear_workflow_context()
    try:
        graph = build_graph(Task("lonely"))
        assert list(graph.nodes) == ["lonely"]
        assert list(graph.edges) == []
        assert current_workflow_context().graph is graph
    finally:
        clear_workflow_context()


def test_groups_made_later_still_get_names_of_their_own():
    with workflow("wf"):
        a, b, c, d = tasks("a b c d")
        first = a | b
        build_graph(first)
        second = ParallelGroup([c, d])
        assert second.task_id != first.task_id


def test_a_workflow_runs_as_before_after_its_graph_was_built():
    ran = []

    class Noting(Task):
        def run(self, *args, **kwargs):
            ran.append(self.task_id)

    with workflow("wf") as wf:
        a, b, c, d = (Noting(name) for name in "abcd")
        line = a >> (b | c) >> d
        build_graph(line)
        wf.execute()
    assert sorted(ran) == ["a", "b", "c", "d"]
    assert ran[0] == "a"
    assert ran[-1] == "d"
