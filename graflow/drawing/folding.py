"""Which nodes of a graph are drawn as one: many that stand in the same place, and whole layers of what is too large."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

import networkx as nx

from graflow.drawing.layers import depths, without_cycles

TWINS: Final = 24
"""So many single nodes with the same neighbours are drawn one by one; more of them are drawn as one."""

DRAWN: Final = 5_000
"""So many nodes are drawn; those of a larger graph are drawn together by their layers."""

Edge = tuple[int, int]
Parts = list[list[int]]
"""What each node that is drawn stands for, in the order of the first in it."""


def folded(count: int, edges: Sequence[Edge], groups: Container[int], drawn: int = DRAWN) -> tuple[Parts, bool]:
    """The nodes to draw, and whether they had to be put together by layers.

    Args:
        count: Nodes are the numbers below it.
        edges: Of the graph.
        groups: Nodes that are never put together with their like.
        drawn: How many may be drawn.
    """
    before: dict[int, set[int]] = {}
    after: dict[int, set[int]] = {}
    for source, target in edges:
        after.setdefault(source, set()).add(target)
        before.setdefault(target, set()).add(source)
    twins: dict[object, list[int]] = {}
    for node in range(count):
        place = node if node in groups else (frozenset(before.get(node, ())), frozenset(after.get(node, ())))
        twins.setdefault(place, []).append(node)
    parts = [
        part for alike in twins.values() for part in ([alike] if len(alike) > TWINS else [[node] for node in alike])
    ]
    if len(parts) > drawn:
        return _by_layers(count, edges, drawn), True
    return sorted(parts), False


def _by_layers(count: int, edges: Sequence[Edge], drawn: int) -> Parts:
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    depth = depths(without_cycles(graph)[0])
    together = -(-(max(depth.values()) + 1) // drawn)
    parts: dict[int, list[int]] = {}
    for node in range(count):
        parts.setdefault(depth[node] // together, []).append(node)
    return sorted(parts.values())


def edges_between(parts: Parts, edges: Iterable[Edge]) -> dict[Edge, None]:
    """The edges among what is drawn, each once; those inside of one part are gone, but for a node's to itself."""
    part_of: Mapping[int, int] = {node: number for number, part in enumerate(parts) for node in part}
    found: dict[Edge, None] = {}
    for source, target in edges:
        edge = part_of[source], part_of[target]
        if edge[0] != edge[1] or source == target:
            found[edge] = None
    return found
