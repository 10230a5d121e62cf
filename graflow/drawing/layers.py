"""Layers of a directed graph, cycles allowed: which edges run backwards, and how deep each node lies."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import networkx as nx

Edge = tuple[Any, Any]


def without_cycles(graph: nx.DiGraph[Any]) -> tuple[nx.DiGraph[Any], list[Edge]]:
    """The graph without the edges that close cycles, and those edges."""
    backward = backward_edges(graph)
    dropped = set(backward)
    forward: nx.DiGraph[Any] = nx.DiGraph()
    forward.add_nodes_from(graph)
    forward.add_edges_from(edge for edge in graph.edges() if edge not in dropped)
    return forward, backward


def backward_edges(graph: nx.DiGraph[Any]) -> list[Edge]:
    """Edges that close a cycle (self loops included), in the order in which a depth-first walk meets them."""
    found: list[Edge] = []
    done: set[Any] = set()
    on_path: set[Any] = set()
    # From outside into the cycles: nodes without predecessors come first.
    for root in sorted(graph, key=lambda node: bool(graph.in_degree(node))):
        stack: list[tuple[Any, Iterator[Any]]] = []
        if root not in done:
            on_path.add(root)
            stack.append((root, graph.successors(root)))
        while stack:
            node, successors = stack[-1]
            for successor in successors:
                if successor in on_path:
                    found.append((node, successor))
                elif successor not in done:
                    on_path.add(successor)
                    stack.append((successor, graph.successors(successor)))
                    break
            else:
                stack.pop()
                on_path.discard(node)
                done.add(node)
    return found


def depths(graph: nx.DiGraph[Any], *, points: Container[Any] = ()) -> dict[Any, int]:
    """Length of the longest path that leads to each node of a graph without cycles; `points` take no place on it."""
    depth: dict[Any, int] = {}
    for node in nx.topological_sort(graph):
        depth[node] = max((depth[before] + (before not in points) for before in graph.predecessors(node)), default=0)
    return depth
