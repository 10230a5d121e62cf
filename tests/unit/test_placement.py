"""Positions of nodes: nothing overlaps, edges lead forward, and a graph that grows stays where it was."""

from __future__ import annotations

import time
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graflow.core.decorators import task
from graflow.core.workflow import workflow
from graflow.drawing.folding import TWINS
from graflow.drawing.ordering import crossings, ordered
from graflow.drawing.placement import GROUP_HEIGHT, NODE_HEIGHT, NODE_WIDTH, Direction, Placement, place
from graflow.drawing.svg import draw_svg

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 25) -> tuple[int, Edges]:
    count = draw(st.integers(1, most))
    node = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(node, node), max_size=2 * count, unique=True))


def placed(count: int, edges: Edges, like: Placement | None = None) -> Placement:
    return place([f"n{number}" for number in range(count)], edges, groups={0, 3}, like=like)


def along(placement: Placement, node: int) -> tuple[int, int]:
    """Where a drawn node begins and ends in the direction of the drawing."""
    if placement.direction == "right":
        return placement.x[node], placement.x[node] + NODE_WIDTH
    return placement.y[node], placement.y[node] + placement.heights[node]


def layers_of(placement: Placement) -> list[list[int]]:
    """Names of single nodes by layer, in their order."""
    is_right = placement.direction == "right"
    found: dict[int, list[tuple[int, int]]] = {}
    for node, part in enumerate(placement.parts):
        begin, end = along(placement, node)
        across = placement.y[node] if is_right else placement.x[node]
        found.setdefault((begin + end) // 2, []).append((across, part[0]))
    return [[name for _, name in sorted(found[at])] for at in sorted(found)]


@given(graphs())
def test_no_two_nodes_overlap_and_all_lie_inside(graph: tuple[int, Edges]) -> None:
    drawing = placed(*graph)
    boxes = [(x, y, x + NODE_WIDTH, y + high) for x, y, high in zip(drawing.x, drawing.y, drawing.heights, strict=True)]
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(
        x >= 0 and y >= 0 and right <= drawing.width + 1 and low <= drawing.height + 1 for x, y, right, low in boxes
    )


@given(graphs())
def test_edges_lead_forward_but_for_those_that_close_a_cycle(graph: tuple[int, Edges]) -> None:
    drawing = placed(*graph)
    for number, (source, target) in enumerate(drawing.edges):
        if number in drawing.closing:
            continue
        ends = [along(drawing, source)[1], along(drawing, target)[0]]
        bends = [point[0 if drawing.direction == "right" else 1] for point in drawing.bends.get(number, ())]
        assert [ends[0], *bends, ends[1]] == sorted([ends[0], *bends, ends[1]])


@given(graphs())
def test_every_node_is_drawn_once_and_the_same_graph_the_same_way(graph: tuple[int, Edges]) -> None:
    drawing = placed(*graph)
    assert sorted(node for part in drawing.parts for node in part) == list(range(graph[0]))
    assert drawing == placed(*graph)


@given(graphs(), st.data())
def test_a_node_that_is_added_moves_no_other_by_more_than_one_place(
    graph: tuple[int, Edges], data: st.DataObject
) -> None:
    count, edges = graph
    before = placed(count, edges)
    source = data.draw(st.integers(0, count - 1))
    after = placed(count + 1, [*edges, (source, count)], like=before)
    old = {name: (layer, place) for layer, row in enumerate(layers_of(before)) for place, name in enumerate(row)}
    new = {name: (layer, place) for layer, row in enumerate(layers_of(after)) for place, name in enumerate(row)}
    if len(layers_of(before)) == 1:
        return  # what followed nothing may stand elsewhere now
    for name, (layer, at) in old.items():
        # A node that followed nothing and preceded nothing may have moved to where its new successor is.
        if name != source:
            assert new[name][0] == layer
            assert abs(new[name][1] - at) <= 1 + (old[source][0] != new[source][0])


@given(graphs())
def test_the_order_crosses_no_more_edges_than_the_first_one(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    layers = [[node for node in range(count) if node % 3 == layer] for layer in range(3)]
    after: list[list[int]] = [[] for _ in range(count)]
    before: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        if b % 3 == a % 3 + 1:
            after[a].append(b)
            before[b].append(a)
    assert crossings(ordered(layers, before, after), after) <= crossings(layers, after)


def test_crossings_are_counted() -> None:
    layers = [[0, 1], [2, 3]]
    assert crossings(layers, [[3], [2], [], []]) == 1
    assert crossings(layers, [[2, 3], [2, 3], [], []]) == 1
    assert crossings(layers, [[2], [2, 3], [], []]) == 0


def test_twins_keep_the_order_in_which_they_were_made() -> None:
    edges = [(0, node) for node in range(1, 11)]
    assert layers_of(placed(11, edges)) == [[0], list(range(1, 11))]


def test_cycles_and_loops_end_and_their_edges_are_marked() -> None:
    drawing = placed(3, [(0, 1), (1, 2), (2, 0), (1, 1)])
    assert {drawing.edges[number] for number in drawing.closing} == {(2, 0), (1, 1)}


def test_many_single_steps_in_the_same_place_are_drawn_as_one_and_groups_never() -> None:
    fan = [(0, node) for node in range(1, TWINS + 2)] + [(node, TWINS + 2) for node in range(1, TWINS + 2)]
    drawing = place(range(TWINS + 3), fan)
    assert drawing.parts == [[0], list(range(1, TWINS + 2)), [TWINS + 2]]
    assert drawing.edges == [(0, 1), (1, 2)]
    assert len(place(range(TWINS + 3), fan, groups=set(range(1, TWINS + 2))).parts) == TWINS + 3


def test_of_a_graph_that_is_too_large_whole_layers_are_drawn_as_one() -> None:
    drawing = place(range(12_000), [(node, node + 1) for node in range(11_999)])
    assert drawing.is_truncated
    assert len(drawing.parts) == 4_000
    assert len(drawing.edges) == 3_999


def test_a_long_edge_passes_beside_the_nodes_between_its_ends() -> None:
    drawing = place(range(4), [(0, 1), (1, 2), (2, 3), (0, 3)], direction="right")
    points = drawing.bends[drawing.edges.index((0, 3))]
    for x, y in points:
        assert not any(
            left <= x <= left + NODE_WIDTH and top <= y <= top + high
            for left, top, high in zip(drawing.x, drawing.y, drawing.heights, strict=True)
        )


@pytest.mark.parametrize("direction", ["right", "down"])
def test_a_direction_that_is_asked_for_is_taken(direction: Direction) -> None:
    drawing = place(range(3), [(0, 1), (1, 2)], groups={1}, direction=direction)
    assert drawing.direction == direction
    least = {"right": 3 * NODE_WIDTH, "down": 2 * NODE_HEIGHT + GROUP_HEIGHT}
    assert (drawing.width if direction == "right" else drawing.height) > least[direction]


def test_a_graph_leads_down_where_that_shows_it_larger() -> None:
    assert place(range(5), [(node, node + 1) for node in range(4)]).direction == "right"
    assert place(range(20), [(node, node + 1) for node in range(19)]).direction == "down"


@settings(max_examples=5)
@given(st.integers(0, 5))
def test_a_thousand_nodes_are_placed_in_a_moment(shift: int) -> None:
    edges = sorted({(node, min(999, node + 5 + (node * 7 + shift) % 11)) for node in range(990)} | {(0, 999)})
    began = time.process_time()
    place(range(1000), edges)
    assert time.process_time() - began < 5  # about 0.1 s; a layout that grows faster than its graph takes minutes


def test_a_workflow_is_drawn_as_svg_with_names_as_text() -> None:
    @task
    def work() -> None: ...

    with workflow("w") as made:
        _ = work(task_id="<b>&first") >> (work(task_id="x") | work(task_id="y")) >> work(task_id="last")
    document = ET.fromstring(draw_svg(made.graph))
    titles = {element.text for element in document.iter("{http://www.w3.org/2000/svg}title")}
    assert {"<b>&first", "x", "y", "last"} <= titles
