"""Graphs as plain text: a picture in layers, or a list where that is too large."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

import networkx as nx

from graflow.drawing.ascii_art import draw_layers
from graflow.drawing.layers import depths, without_cycles
from graflow.drawing.outline import Graph, Outline, outline_of
from graflow.text.shown import printable

_MAX_DRAWN_NODES: Final = 60
_MAX_DRAWN_EDGES: Final = 150
_MAX_LISTED: Final = 8  # members or successors of one node


def draw_ascii(graph: Graph, *, max_width: int = 100) -> str:
    """The graph as plain text: a picture in layers, or a list of nodes and successors where that is too large.

    A group stands above its members, and what follows it below the last of them. Edges that close a cycle are named,
    not drawn.
    """
    outline = outline_of(graph)
    if not outline.nodes:
        return "Empty graph"
    labels = {node: printable(label, "") for node, label in outline.labels.items()}
    return "\n".join(_picture(outline, labels, max_width) or _listing(outline, labels))


def _picture(outline: Outline, labels: Mapping[int, str], max_width: int) -> list[str] | None:
    """Lines of a picture, one part of the graph below the other; None when it cannot be drawn well."""
    if len(labels) > _MAX_DRAWN_NODES or not all(map(_fits_cells, labels.values())):
        return None
    forward, backward = without_cycles(outline.flow_of_nodes())
    if forward.number_of_edges() > _MAX_DRAWN_EDGES:
        return None
    lines: list[str] = []
    parts = sorted(map(sorted, nx.weakly_connected_components(forward)))
    for part in parts:
        if len(part) > 1:
            drawn = _draw_part(forward, part, labels, max_width)
            if drawn is None:
                return None
            lines.extend(["", *drawn] if lines else drawn)
    single = [labels[part[0]] for part in parts if len(part) == 1]
    if single and lines:
        lines.append("")
    lines += _wrapped(single, max_width)
    if backward:
        lines += ["", "Cycles: " + ", ".join(f"{labels[a]} -> {labels[b]}" for a, b in backward)]
    return lines


def _draw_part(
    forward: nx.DiGraph[int], part: list[int], labels: Mapping[int, str], max_width: int
) -> list[str] | None:
    place = {number: position for position, number in enumerate(part)}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(part)))
    graph.add_edges_from((place[a], place[b]) for a, b in forward.edges() if a in place)
    return draw_layers(graph, {position: labels[number] for number, position in place.items()}, max_width)


def _fits_cells(text: str) -> bool:
    """Whether every character of a text takes one cell of a terminal."""
    if text.isascii():
        return text.isprintable() and bool(text)
    return text.isprintable() and not any(
        unicodedata.east_asian_width(char) in "WF" or unicodedata.combining(char) for char in text
    )


def _wrapped(words: list[str], max_width: int) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + 3 + len(word) > max_width:
            yield line
            line = ""
        line = f"{line}   {word}" if line else word
    if line:
        yield line


def _listing(outline: Outline, labels: Mapping[int, str]) -> Iterator[str]:
    """One line for each node, by depth, with its first members and successors."""
    ends = outline.ends
    forward, backward = without_cycles(outline.flow())
    depth = depths(forward, points=set(ends.values()))
    cycles = set(backward)
    yield f"{len(labels)} nodes, {len(outline.edges)} edges, {max(depth.values()) + 1} layers"
    for node in sorted(labels, key=depth.__getitem__):
        held = _first([labels[member] for member in outline.members.get(node, ())])
        following = _first(
            [
                f"{labels[after]} (cycle)" if (ends.get(node, node), after) in cycles else labels[after]
                for after in outline.after[node]
            ]
        )
        yield (
            f"[{depth[node] + 1}] {labels[node]}"
            + (f" = {' | '.join(held)}" if held else "")
            + (f" -> {', '.join(following)}" if following else "")
        )


def _first(names: list[str]) -> list[str]:
    """The names, or the first of them and how many more there are."""
    return names if len(names) <= _MAX_LISTED else [*names[:_MAX_LISTED], f"{len(names) - _MAX_LISTED} more"]
