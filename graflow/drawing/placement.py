"""Where the nodes of a graph are drawn: in layers, in an order that crosses few edges, without overlaps.

A layered drawing after Sugiyama: edges that close a cycle are left out, each node stands behind all that it follows,
long edges pass the layers between through points of their own, barycentres give the order, and coordinates come from
sweeps in which a layer gets as close to its neighbours as its order allows (an isotonic regression each).
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import networkx as nx

from graflow.drawing.folding import Edge, Parts, edges_between, folded
from graflow.drawing.layers import depths, without_cycles
from graflow.drawing.ordering import Layers, ordered, ordered_like

Direction = Literal["right", "down"]

NODE_WIDTH: Final = 168
NODE_HEIGHT: Final = 36
GROUP_HEIGHT: Final = 62

_BETWEEN_LAYERS: Final = 56
_BESIDE: Final = {"right": 20.0, "down": 28.0}  # between neighbours in a layer
_POINT: Final = 8.0  # what a passing edge takes in a layer
_SCREEN: Final = (1280, 720)
_SWEEPS: Final = 6
_STRAIGHTER: Final = 4.0  # how much more than a node a passing edge is kept straight
_POINTS: Final = 4  # passing points for each node, above which the longest edges go without


@dataclass(frozen=True)
class Placement:
    """A drawing of a graph, in pixels from its left upper corner.

    Attributes:
        direction: Where edges lead.
        parts: What each node that is drawn stands for, by number; several for nodes that are drawn as one.
        x: Left side of each.
        y: Upper side of each.
        heights: Of each; all are `NODE_WIDTH` wide.
        edges: Among what is drawn.
        closing: Of those, the places of edges that close a cycle and were left out of the layout.
        bends: By the place of an edge, the points through which it passes between its ends.
        width: Of all.
        height: Of all.
        is_truncated: Whether there were too many nodes, so that they are drawn together by layers.
        across: For a later drawing: where nodes and passing points stand across the direction.
    """

    direction: Direction
    parts: Parts
    x: list[int]
    y: list[int]
    heights: list[int]
    edges: list[Edge]
    closing: list[int]
    bends: dict[int, list[tuple[int, int]]]
    width: int
    height: int
    is_truncated: bool
    across: Mapping[Hashable, float] = field(repr=False)


def place(
    nodes: Sequence[Hashable],
    edges: Sequence[Edge],
    *,
    groups: Container[int] = (),
    direction: Direction | None = None,
    like: Placement | None = None,
) -> Placement:
    """Where to draw a graph.

    Args:
        nodes: What they are called, in order; the first ones come first where that is free.
        edges: Among their numbers.
        groups: Numbers of nodes that are drawn higher.
        direction: Where edges lead; what shows more of the graph at once in 16:9 when None.
        like: An earlier drawing of a part of the graph, whose order is kept.
    """
    parts, is_truncated = folded(len(nodes), edges, groups)
    drawn_edges = list(edges_between(parts, edges))
    heights = [GROUP_HEIGHT if part[0] in groups and len(part) == 1 else NODE_HEIGHT for part in parts]
    net = _Net(len(parts), drawn_edges)
    names: list[Hashable] = [nodes[part[0]] for part in parts]
    keys = [*names, *((names[a], names[b], number) for a, b, number in net.points)]
    if like is None:
        layers = ordered(net.layers, net.before, net.after)
    else:
        known = {vertex: like.across[key] for vertex, key in enumerate(keys) if key in like.across}
        layers = ordered_like(net.layers, net.before, known)
    chosen = direction or (like.direction if like is not None else _larger(layers, heights))
    return _drawn(net, layers, keys, heights, chosen, parts, drawn_edges, is_truncated=is_truncated)


class _Net:
    """Vertices in layers, each edge between neighbouring ones: nodes, and the points that long edges pass.

    Attributes:
        layers: Vertices by layer, in the order of their numbers; nodes come first.
        before: By vertex, its neighbours in the layer before.
        after: The same behind.
        points: By vertex, beginning with the first that is no node: ends of the edge, and which of its points it is.
        through: The points of each edge that has any.
        closing: Edges that close cycles.
    """

    def __init__(self, count: int, edges: Sequence[Edge]) -> None:
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(range(count))
        graph.add_edges_from(edges)
        forward, backward = without_cycles(graph)
        self.count = count
        self.closing = set(backward)
        depth = _pulled(forward, depths(forward))
        self.before: list[list[int]] = [[] for _ in range(count)]
        self.after: list[list[int]] = [[] for _ in range(count)]
        self.points: list[tuple[int, int, int]] = []
        self.through: dict[Edge, list[int]] = {}
        self.layers: Layers = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for node in range(count):
            self.layers[depth[node]].append(node)
        left = count * _POINTS + 1_000
        kept = [edge for edge in edges if edge not in self.closing]
        for a, b in sorted(kept, key=lambda edge: depth[edge[1]] - depth[edge[0]]):
            long = depth[b] - depth[a] - 1
            left -= long
            if left >= 0 or not long:
                self._connect(a, b, depth[a], long)

    def _connect(self, a: int, b: int, layer: int, long: int) -> None:
        last, passed = a, []
        for number in range(long):
            vertex = self.count + len(self.points)
            self.points.append((a, b, number))
            self.before.append([])
            self.after.append([])
            self.layers[layer + 1 + number].append(vertex)
            self._join(last, vertex)
            passed.append(vertex)
            last = vertex
        self._join(last, b)
        if passed:
            self.through[a, b] = passed

    def _join(self, a: int, b: int) -> None:
        self.after[a].append(b)
        self.before[b].append(a)


def _pulled(forward: nx.DiGraph[int], depth: dict[int, int]) -> dict[int, int]:
    """The layers, with what follows nothing next to what follows it rather than at the beginning."""
    pulled = {
        node: min(depth[after] for after in forward.successors(node)) - 1
        for node in forward
        if not forward.in_degree(node) and forward.out_degree(node)
    }
    return {**depth, **pulled}


def _larger(layers: Layers, heights: Sequence[int]) -> Direction:
    """The direction in which the whole is larger on a screen of 16:9."""
    count = len(heights)
    inside = [[vertex for vertex in layer if vertex < count] for layer in layers]
    tall = max((sum(heights[node] + _BESIDE["right"] for node in layer) for layer in inside), default=1.0)
    wide = max((len(layer) * (NODE_WIDTH + _BESIDE["down"]) for layer in inside), default=1.0)
    right = _scale(len(layers) * (NODE_WIDTH + _BETWEEN_LAYERS), tall)
    deep = sum(max((heights[node] for node in layer), default=0) + _BETWEEN_LAYERS for layer in inside)
    return "right" if right >= _scale(wide, deep) else "down"


def _scale(width: float, height: float) -> float:
    """How large something is shown as a whole; never larger than it is."""
    return min(1.0, _SCREEN[0] / max(1.0, width), _SCREEN[1] / max(1.0, height))


def _drawn(
    net: _Net,
    layers: Layers,
    keys: Sequence[Hashable],
    heights: Sequence[int],
    direction: Direction,
    parts: Parts,
    edges: list[Edge],
    *,
    is_truncated: bool,
) -> Placement:
    is_right = direction == "right"
    extents = [float(height if is_right else NODE_WIDTH) for height in heights] + [_POINT] * len(net.points)
    across = _across(net, layers, extents, _BESIDE[direction])
    first = min((across[node] - extents[node] / 2 for node in range(len(across))), default=0.0)
    across = [value - first for value in across]
    thickness = [NODE_WIDTH if is_right else _thickest(layer, heights) for layer in layers]
    along, at = [0.0] * len(across), 0.0
    for layer, thick in zip(layers, thickness, strict=True):
        for vertex in layer:
            along[vertex] = at + thick / 2
        at += thick + _BETWEEN_LAYERS
    centres = [(a, b) if is_right else (b, a) for a, b in zip(along, across, strict=True)]
    bends = {place: _bends([centres[point] for point in net.through.get(edge, ())]) for place, edge in enumerate(edges)}
    depth = max(0.0, at - _BETWEEN_LAYERS)
    breadth = max((value + extents[vertex] / 2 for vertex, value in enumerate(across)), default=0.0)
    return Placement(
        direction=direction,
        parts=parts,
        x=[round(centres[node][0] - NODE_WIDTH / 2) for node in range(net.count)],
        y=[round(centres[node][1] - heights[node] / 2) for node in range(net.count)],
        heights=list(heights),
        edges=edges,
        closing=[place for place, edge in enumerate(edges) if edge in net.closing],
        bends={place: points for place, points in bends.items() if points},
        width=round(depth if is_right else breadth),
        height=round(breadth if is_right else depth),
        is_truncated=is_truncated,
        across=dict(zip(keys, across, strict=True)),
    )


def _thickest(layer: Sequence[int], heights: Sequence[int]) -> int:
    return max((heights[vertex] for vertex in layer if vertex < len(heights)), default=NODE_HEIGHT)


def _across(net: _Net, layers: Layers, extents: Sequence[float], beside: float) -> list[float]:
    """Where the middle of each vertex is across the direction."""
    places = [0.0] * len(extents)
    for layer in layers:
        at = -sum(extents[vertex] + beside for vertex in layer) / 2
        for vertex in layer:
            places[vertex] = at + extents[vertex] / 2
            at += extents[vertex] + beside
    for sweep in range(_SWEEPS):
        near = net.after if sweep % 2 else net.before
        for layer in reversed(layers) if sweep % 2 else layers:
            wanted = [_mean(places, near[vertex], places[vertex]) for vertex in layer]
            weights = [_STRAIGHTER if vertex >= net.count else 1.0 for vertex in layer]
            found = _apart(wanted, weights, [extents[vertex] for vertex in layer], beside)
            for vertex, value in zip(layer, found, strict=True):
                places[vertex] = value
    return places


def _mean(places: Sequence[float], vertices: Sequence[int], otherwise: float) -> float:
    return sum([places[vertex] for vertex in vertices]) / len(vertices) if vertices else otherwise


def _apart(wanted: Sequence[float], weights: Sequence[float], extents: Sequence[float], beside: float) -> list[float]:
    """The places nearest to the wanted ones, by least squares, that keep the order and the distances.

    Less what must lie before each, places need only not fall: pools of neighbours that would share their mean.
    """
    offsets, at = [], 0.0
    for number, extent in enumerate(extents):
        at += (extents[number - 1] + extent) / 2 + beside if number else 0.0
        offsets.append(at)
    pools: list[list[float]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, heavy, many = want - offset, weight, 1.0
        while pools and pools[-1][0] > mean:
            other, more, count = pools.pop()
            mean, heavy, many = (mean * heavy + other * more) / (heavy + more), heavy + more, many + count
        pools.append([mean, heavy, many])
    means = [mean for mean, _, many in pools for _ in range(int(many))]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _bends(points: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """The points at which a line turns; its first and last one in any case."""
    whole = [(round(x), round(y)) for x, y in points]
    kept = whole[:1]
    for before, point, after in zip(whole, whole[1:], whole[2:], strict=False):
        if not (before[0] == point[0] == after[0] or before[1] == point[1] == after[1]):
            kept.append(point)
    return kept + whole[-1:] if len(whole) > 1 else kept
