from __future__ import annotations

import importlib.util
import re
import string

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graflow.drawing.layers import backward_edges, depths, without_cycles
from graflow.utils.graph import (
    create_agraph,
    draw_ascii,
    draw_dot,
    draw_image,
    draw_mermaid,
    draw_mermaid_png,
    draw_png,
)


def paths(*lines, nodes=()):
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    for line in lines:
        nx.add_path(graph, line.split())
    return graph


def picture(text):
    return "\n".join(line[4:].rstrip() for line in text.strip("\n").splitlines())


def test_an_empty_graph_says_so():
    assert draw_ascii(nx.DiGraph()) == "Empty graph"


def test_a_diamond_is_drawn_in_layers():
    assert draw_ascii(paths("a b d", "a c d")) == picture(
        """
      a
      |
    +-+-+
    |   |
    b   c
    |   |
    +-+-+
      |
      d
"""
    )


def test_a_group_points_to_its_members():
    graph = paths("load ParallelGroup_1 b", "ParallelGroup_1 c", "ParallelGroup_1 d")
    assert draw_ascii(graph) == picture(
        """
          load
           |
    ParallelGroup_1
           |
       +---+---+
       |   |   |
       b   c   d
"""
    )


def test_edges_that_span_layers_pass_by_the_nodes_between():
    drawn = draw_ascii(paths("a b c", "a c")).splitlines()
    row_of_b = next(line for line in drawn if "b" in line)
    assert "|" in row_of_b


def test_sources_that_share_some_targets_only_are_not_drawn_as_one_bundle():
    drawn = draw_ascii(paths("a c", "a d", "b d"))
    assert drawn != draw_ascii(paths("a c", "a d", "b c", "b d"))
    assert all(node in drawn for node in "abcd")


def test_edges_that_close_a_cycle_are_named():
    drawn = draw_ascii(paths("agent tool agent", "agent done done"))
    assert drawn.splitlines()[-1] == "Cycles: tool -> agent, done -> done"


def test_nodes_without_edges_stand_side_by_side_and_wrap():
    assert draw_ascii(paths(nodes=["a", "b"])) == "a   b"
    many = draw_ascii(paths(nodes=[f"node_{n}" for n in range(50)]), max_width=40)
    assert max(map(len, many.splitlines())) <= 40


def test_parts_without_a_connection_are_drawn_below_each_other():
    assert draw_ascii(paths("a b", "c d", nodes=["x"])).split("\n\n") == ["a\n|\nb", "c\n|\nd", "x"]


def test_a_large_graph_becomes_a_list_with_a_bounded_line_for_each_node():
    graph = nx.DiGraph((f"source_{n % 10}", f"target_{n}") for n in range(5_000))
    lines = draw_ascii(graph).splitlines()
    assert lines[0] == "5010 nodes, 5000 edges, 2 layers"
    assert len(lines) == 5_011
    assert all(len(line) < 200 for line in lines)
    assert "492 more" in lines[1]
    assert lines[-1].startswith("[2] target_")


def test_a_list_marks_cycles():
    graph = nx.DiGraph((f"n{n}", f"n{(n + 1) % 100}") for n in range(100))
    assert "-> n0 (cycle)" in draw_ascii(graph)


@pytest.mark.parametrize("node", ["two\nlines", "日本", "e\u0301", "", 5, ("a", 1), "x" * 300])
def test_whatever_a_node_is_called_it_is_in_the_drawing(node):
    graph = nx.DiGraph([(node, "after"), ("before", node)])
    drawn = draw_ascii(graph)
    assert str(node) in drawn
    assert "before" in drawn


def test_nodes_with_the_same_text_are_different_nodes():
    assert draw_ascii(nx.DiGraph([(1, "1")])) == "1\n|\n1"


names = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12)
graphs = st.lists(names, min_size=1, max_size=25, unique=True).flatmap(
    lambda nodes: st.builds(
        lambda edges: (nodes, edges),
        st.lists(st.tuples(st.sampled_from(nodes), st.sampled_from(nodes)), max_size=40),
    )
)


@settings(max_examples=60, deadline=None)
@given(graphs)
def test_any_graph_is_drawn_with_every_node_in_it(nodes_and_edges):
    nodes, edges = nodes_and_edges
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    before = sorted(graph.edges())
    drawn = draw_ascii(graph)
    assert all(node in drawn for node in nodes)
    assert drawn == draw_ascii(graph)
    assert sorted(graph.edges()) == before
    assert all(f'"{node}"' in draw_mermaid(graph) for node in nodes)


@settings(max_examples=60, deadline=None)
@given(graphs)
def test_without_the_edges_that_close_cycles_every_edge_leads_downwards(nodes_and_edges):
    graph = nx.DiGraph(nodes_and_edges[1])
    forward, backward = without_cycles(graph)
    assert nx.is_directed_acyclic_graph(forward)
    assert {*forward.edges(), *backward} == set(graph.edges())
    depth = depths(forward)
    assert all(depth[a] < depth[b] for a, b in forward.edges())


def test_a_deep_graph_needs_no_recursion():
    graph = nx.path_graph(5_000, create_using=nx.DiGraph)
    graph.add_edge(4_999, 0)
    assert backward_edges(graph) == [(4_999, 0)]


HAS_DRAWING = any(importlib.util.find_spec(name) for name in ("pygraphviz", "matplotlib"))


@pytest.mark.skipif(HAS_DRAWING, reason="a drawing package is installed")
def test_without_a_drawing_package_the_text_is_written_and_the_log_says_what_to_install(tmp_path, caplog):
    path = draw_image(paths("a b"), tmp_path / "graph.png")
    assert path == tmp_path / "graph.txt"
    assert path.read_text(encoding="utf-8") == draw_ascii(paths("a b")) + "\n"
    assert "graflow-celery[draw]" in caplog.text


def test_an_svg_needs_no_package(tmp_path):
    path = draw_image(paths("a b a"), tmp_path / "graph.svg")
    assert path.read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.skipif(not HAS_DRAWING, reason="needs pygraphviz or matplotlib")
def test_an_image_is_written_where_a_drawing_package_is_installed(tmp_path):
    path = draw_image(paths("a b a"), tmp_path / "graph.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert draw_png(paths("a b a")).startswith(b"\x89PNG")
    assert draw_mermaid_png(paths("a b a"), tmp_path / "mermaid.png", title="T", background_color="#eee") is None
    assert (tmp_path / "mermaid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(HAS_DRAWING, reason="a drawing package is installed")
@pytest.mark.parametrize("draw", [draw_png, draw_mermaid_png, create_agraph])
def test_without_a_drawing_package_an_image_is_an_error_that_names_the_extra(draw):
    with pytest.raises(ImportError, match=re.escape("pip install 'graflow-celery[draw]'")):
        draw(paths("a b"))


def test_dot_source_needs_no_package_and_survives_any_name():
    source = draw_dot(
        paths(nodes=["a", 'say "hi"', "node", 1, "1"]), node_labels={"a": "first\nstep"}, node_colors={1: "red"}
    )
    assert source.splitlines()[2:-1] == [
        '    a [label="first\\nstep", fillcolor="#dde8f4"];',
        '    "say \\"hi\\"" [label="say \\"hi\\"", fillcolor="#dde8f4"];',
        '    "node" [label="node", fillcolor="#dde8f4"];',
        '    "1" [label="1", fillcolor="red"];',
        '    "1 (4)" [label="1", fillcolor="#dde8f4"];',
    ]
