"""Drawings of groups are true: members hang on their group, and what follows a group hangs on its end."""

from __future__ import annotations

import re

import networkx as nx
import pytest

from graflow.core.task import ParallelGroup, Task
from graflow.core.workflow import WorkflowContext, workflow
from graflow.drawing.outline import outline_of
from graflow.utils.graph import (
    build_graph,
    draw_ascii,
    draw_dot,
    draw_mermaid,
    draw_task_graph,
    show_graph_info,
    visualize_dependencies,
)


def tasks(names: str) -> list[Task]:
    return [Task(name) for name in names.split()]


def flow_of(wf: WorkflowContext) -> set[tuple[str, str]]:
    """What is drawn to follow what."""
    outline = outline_of(wf.graph)
    return {(outline.labels[a], outline.labels[b]) for a, b in outline.flow_of_nodes().edges()}


def boxes_of(source: str) -> dict[str, list[str]]:
    """Names in each box of a Mermaid flowchart; those outside of all boxes under ''."""
    found: dict[str, list[str]] = {"": []}
    inside = [""]
    for line in source.splitlines():
        if opened := re.match(r' *subgraph (\w+)\["', line):
            found[inside[-1]].append(opened[1])
            found[opened[1]] = []
            inside.append(opened[1])
        elif line.strip() == "end":
            inside.pop()
        elif named := re.match(r' *(\w+)(\[|\{\{)"', line):
            found[inside[-1]].append(named[1])
    return found


def edges_of(source: str) -> set[tuple[str, str, str]]:
    return set(re.findall(r"^ *(\w+) (-->|-\.->) (\w+)$", source, flags=re.MULTILINE))


def test_what_follows_a_group_is_drawn_below_its_members() -> None:
    with workflow("wf") as wf:
        start, a, b, c = tasks("start a b c")
        start >> (a | b) >> c
    assert str(wf.graph).splitlines() == [
        "     start",
        "       |",
        "ParallelGroup_1",
        "       |",
        "     +-+-+",
        "     |   |",
        "     a   b",
        "     |   |",
        "     +-+-+",
        "       |",
        "       c",
    ]


def test_a_member_and_a_successor_are_not_drawn_alike() -> None:
    with workflow("one") as one:
        start, a, b, c = tasks("start a b c")
        start >> (a | b | c)
    with workflow("two") as two:
        start, a, b, c = tasks("start a b c")
        start >> (a | b) >> c
    for draw in (draw_ascii, draw_mermaid, draw_dot):
        assert draw(one.graph) != draw(two.graph)
        assert draw(two.graph) == draw(two.graph.nx_graph())


def test_a_group_is_drawn_alike_before_and_after_its_graph_was_built() -> None:
    with workflow("wf") as wf:
        a, b, c, d = tasks("a b c d")
        a >> (b | c) >> d
        drawn = [draw(wf.graph) for draw in (draw_ascii, draw_mermaid, draw_dot)]
        built = build_graph(a)
    assert [draw(built) for draw in (draw_ascii, draw_mermaid, draw_dot)] == drawn


def test_what_follows_a_group_follows_the_last_of_each_branch() -> None:
    with workflow("wf") as wf:
        a, x, y, b, c = tasks("a x y b c")
        (chain := a >> x) | b
        (group,) = [wf.graph.get_node(name) for name in wf.graph.nodes if name.startswith("ParallelGroup")]
        a >> y
        group >> c
    assert chain.leftmost is a
    assert flow_of(wf) == {
        ("ParallelGroup_1", "a"),
        ("ParallelGroup_1", "b"),
        *(("a", "x"), ("a", "y")),
        *(("x", "c"), ("y", "c"), ("b", "c")),
    }


def test_what_two_members_lead_to_belongs_to_no_branch() -> None:
    with workflow("wf") as wf:
        a, b, joined, after = tasks("a b joined after")
        group = a | b
        a >> joined
        b >> joined
        group >> after
    assert flow_of(wf) >= {("a", "after"), ("b", "after"), ("a", "joined"), ("b", "joined")}
    assert ("joined", "after") not in flow_of(wf)
    assert boxes_of(draw_mermaid(wf.graph))["ParallelGroup_1"] == ["a", "b"]


def test_nested_groups_end_before_the_group_around_them_does() -> None:
    with workflow("wf") as wf:
        a, b, c, d, after = tasks("a b c d after")
        inner = (a | b).set_group_name("inner")
        inner >> c
        outer = ParallelGroup([inner, d], name="outer")
        outer >> after
    assert flow_of(wf) == {
        *(("outer", "inner"), ("outer", "d"), ("inner", "a"), ("inner", "b")),
        *(("a", "c"), ("b", "c")),
        *(("c", "after"), ("d", "after")),
    }
    boxes = boxes_of(draw_mermaid(wf.graph))
    assert boxes == {"": ["after", "outer"], "outer": ["c", "d", "inner"], "inner": ["a", "b"]}
    assert edges_of(draw_mermaid(wf.graph)) == {("inner", "-->", "c"), ("outer", "-->", "after")}


def test_members_without_a_node_of_their_own_are_drawn() -> None:
    inner = ParallelGroup([Task("a", False), Task("b", False)], name="inner")
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("outer", task=ParallelGroup([inner, Task("c", False)], name="outer"))
    for draw in (draw_ascii, draw_mermaid, draw_dot):
        assert all(name in draw(graph) for name in ("outer", "inner", "a", "b", "c"))


def test_a_loop_over_a_group_is_named_as_a_cycle() -> None:
    with workflow("wf") as wf:
        a, b, again = tasks("a b again")
        (a | b) >> again
        again >> wf.graph.get_node("ParallelGroup_1")
    assert draw_ascii(wf.graph).splitlines()[-1] == "Cycles: again -> ParallelGroup_1"


def test_a_member_whose_branch_is_a_loop_ends_all_the_same() -> None:
    with workflow("wf") as wf:
        a, b, after = tasks("a b after")
        (a | b) >> after
        a >> a
    assert flow_of(wf) >= {("a", "after"), ("b", "after"), ("a", "a")}


def test_a_list_tells_members_from_successors() -> None:
    with workflow("wf") as wf:
        group = ParallelGroup([Task(f"member_{n}") for n in range(100)], name="many")
        Task("start") >> group >> Task("after")
    lines = draw_ascii(wf.graph).splitlines()
    assert lines[0] == "103 nodes, 2 edges, 4 layers"
    names = " | ".join(f"member_{n}" for n in range(8))
    assert f"[2] many = {names} | 92 more -> after" in lines
    assert lines[-1] == "[4] after"


def test_a_wide_group_is_drawn_in_little_time() -> None:
    with workflow("wf") as wf:
        ParallelGroup([Task(f"m{n}") for n in range(3_000)]) >> Task("after")
    assert len(draw_ascii(wf.graph).splitlines()) == 3_003
    assert draw_mermaid(wf.graph).count("\n") > 3_000


# -- Mermaid -----------------------------------------------------------------------------------------------------------


def test_mermaid_draws_a_box_with_what_precedes_and_follows_it() -> None:
    with workflow("wf") as wf:
        a, b, c, d = tasks("a b c d")
        a >> (b | c).set_group_name("work") >> d
    assert draw_mermaid(wf.graph, title="Two\nlines", with_styles=False) == (
        "%%{init: {'flowchart': {'curve': 'linear'}}}%%\n"
        "graph TD;\n"
        "    accTitle: Two lines\n"
        '    a["a"]\n'
        '    d["d"]\n'
        '    subgraph work["work"]\n'
        '        b["b"]\n'
        '        c["c"]\n'
        "    end\n"
        "    a --> work\n"
        "    work --> d\n"
    )


def test_mermaid_names_are_plain_words_whatever_nodes_are_called() -> None:
    graph = nx.DiGraph([("a", 'say "hi" & <b>'), ("a", "end"), ("end", "n2"), (1, "1"), (1, "")])
    assert [line for line in draw_mermaid(graph).splitlines() if "[" in line] == [
        '    a["a"]',
        '    n1["say &quot;hi&quot; &amp; &lt;b>"]',
        '    n2_["end"]',
        '    n2["n2"]',
        '    n4["1"]',
        '    n5["1"]',
        '    n6[" "]',
    ]


def test_mermaid_wraps_labels_and_paints_nodes() -> None:
    graph = nx.DiGraph([("one two three four five", "b")])
    drawn = draw_mermaid(graph, node_colors={"b": "#f00", "elsewhere": "blue"}, wrap_label_n_words=2)
    assert '["one two<br/>three four<br/>five"]' in drawn
    assert drawn.splitlines()[-1] == "    style b fill:#f00"
    assert "style" not in draw_mermaid(graph, with_styles=False, node_colors={"b": "#f00"})
    with pytest.raises(ValueError, match="'red;click' of node 'b'"):
        draw_mermaid(graph, node_colors={"b": "red;click"})
    with pytest.raises(ValueError, match="at least 1"):
        draw_mermaid(graph, wrap_label_n_words=0)


def test_a_group_that_meets_its_own_members_is_a_hexagon() -> None:
    with workflow("wf") as wf:
        a, b = tasks("a b")
        group = a | b
        a >> group
    drawn = draw_mermaid(wf.graph)
    assert "subgraph" not in drawn
    assert '    ParallelGroup_1{{"ParallelGroup_1"}}' in drawn
    assert edges_of(drawn) == {
        ("a", "-->", "ParallelGroup_1"),
        ("ParallelGroup_1", "-.->", "a"),
        ("ParallelGroup_1", "-.->", "b"),
    }


def test_a_task_in_two_groups_stands_in_the_first_and_hangs_on_the_other() -> None:
    with workflow("wf") as wf:
        a, b, c = tasks("a b c")
        ParallelGroup([a, b], name="left")
        ParallelGroup([b, c], name="right")
    drawn = draw_mermaid(wf.graph)
    assert boxes_of(drawn) == {"": ["left", "right"], "left": ["a", "b"], "right": ["c"]}
    assert edges_of(drawn) == {("right", "-.->", "b")}


# -- printed -----------------------------------------------------------------------------------------------------------


def test_what_is_printed_of_a_graph_and_of_its_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    with workflow("wf") as wf:
        a, b, c = tasks("a b c")
        (a | b) >> c

    def printed() -> str:
        return capsys.readouterr().out

    show_graph_info(wf.graph)
    told = printed()
    assert told == (
        "Nodes (4): ['a', 'b', 'c', 'ParallelGroup_1']\n"
        "Edges (1): [('ParallelGroup_1', 'c')]\n"
        "Groups (1): {'ParallelGroup_1': ['a', 'b']}\n"
    )
    wf.show_info()
    assert printed() == f"Workflow: wf\n{told}"
    visualize_dependencies(wf.graph)
    drawn = printed()
    assert drawn == f"{draw_ascii(wf.graph)}\n"
    wf.visualize_dependencies()
    assert printed() == drawn
    draw_task_graph(wf.graph.nx_graph(), title="Mine")
    assert printed() == f"Mine\n====\n{drawn}"
