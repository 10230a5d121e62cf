"""Graphs as Mermaid source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from graflow.drawing.labels import wrapped
from graflow.drawing.outline import Graph, Outline, outline_of

_HEADER: Final = "%%{init: {'flowchart': {'curve': 'linear'}}}%%"
_GROUP_STYLE: Final = "classDef group fill:#eef3fa,stroke:#7a94b8"
_SAFE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COLOUR: Final = re.compile(r"#?[A-Za-z0-9]+")
_RESERVED: Final = re.compile(
    "call|class|classdef|click|default|direction|end|flowchart|graph|href|interpolate|linkstyle|style|subgraph",
    re.IGNORECASE,
)


def draw_mermaid(
    graph: Graph,
    title: str = "Graph",
    *,
    with_styles: bool = True,
    node_colors: Mapping[object, str] | None = None,
    wrap_label_n_words: int = 9,
) -> str:
    """The graph as a Mermaid flowchart, a group as a box around its members and their branches.

    What precedes or follows a group hangs on the box. A group that an edge joins with something inside it is a hexagon
    with dotted lines to its members instead, since Mermaid has no edge between a box and what is in it.

    Args:
        graph: A task graph, or any directed graph.
        title: Read out by screen readers, and shown by viewers that show the title of an image.
        with_styles: Whether boxes and nodes have colours.
        node_colors: Colours (a name or `#dde8f4`) by node id; one table serves several graphs, others' ids do no harm.
        wrap_label_n_words: Words of a label on one line.

    Raises:
        ValueError: For a colour that is none, or fewer words than 1.
    """
    drawn = _Flowchart(outline_of(graph), wrap_label_n_words)
    named = [f"    accTitle: {' '.join(title.split())}"] if title.strip() else []
    lines = [_HEADER, "graph TD;", *named, *drawn.nodes(), *drawn.edges()]
    if with_styles:
        lines += drawn.styles(node_colors or {})
    return "\n".join(lines) + "\n"


class _Flowchart:
    """The lines of a flowchart."""

    def __init__(self, outline: Outline, words: int) -> None:
        self._outline = outline
        self._words = words
        self._names = _names_of(outline)
        self._held_by = _places(outline)
        self._held: dict[int, list[int]] = {group: [] for group in outline.members}
        for node, group in self._held_by.items():
            self._held[group].append(node)
        self._boxes = {group for group in outline.members if self._held[group]}

    def nodes(self) -> Iterator[str]:
        for node in self._outline.labels:
            if node not in self._held_by:
                yield from self._node(node, "    ")

    def _node(self, node: int, indent: str) -> Iterator[str]:
        name, label = self._names[node], _escaped(self._outline.labels[node], self._words)
        if node in self._boxes:
            yield f'{indent}subgraph {name}["{label}"]'
            for inside in sorted(self._held[node]):
                yield from self._node(inside, f"{indent}    ")
            yield f"{indent}end"
        elif node in self._outline.members:
            yield f'{indent}{name}{{{{"{label}"}}}}'
        else:
            yield f'{indent}{name}["{label}"]'

    def edges(self) -> Iterator[str]:
        for source, target in self._outline.edges:
            yield f"    {self._names[source]} --> {self._names[target]}"
        for group, members in self._outline.members.items():
            for member in members:
                if self._held_by.get(member) != group:
                    yield f"    {self._names[group]} -.-> {self._names[member]}"

    def styles(self, colours: Mapping[object, str]) -> Iterator[str]:
        if self._outline.members:
            yield f"    {_GROUP_STYLE}"
            yield f"    class {','.join(self._names[group] for group in self._outline.members)} group"
        for number, node in enumerate(self._outline.nodes):
            colour = colours.get(node)
            if colour is not None:
                if not _COLOUR.fullmatch(colour):
                    raise ValueError(f"The colour {colour!r} of node {node!r} is neither a name nor like '#dde8f4'")
                yield f"    style {self._names[number]} fill:{colour}"


def _places(outline: Outline) -> dict[int, int]:
    """The group whose box each node stands in: the first that holds it, or whose member's branch it is in."""
    places: dict[int, int] = {}
    for group in outline.members:
        inside = [node for branch in outline.branches(group).values() for node in branch]
        if not _meets(outline, group, inside):
            places.update(
                (node, group) for node in inside if node not in places and not _is_within(group, node, places)
            )
    return places


def _meets(outline: Outline, group: int, inside: list[int]) -> bool:
    """Whether an edge joins the group with itself or with something inside it, at any depth."""
    deep, waiting = set(inside), list(inside)
    while waiting:
        node = waiting.pop()
        if node in outline.members:
            further = {other for branch in outline.branches(node).values() for other in branch} - deep
            deep |= further
            waiting.extend(further)
    deep.add(group)
    return any(group in edge and deep.issuperset(edge) for edge in outline.edges)


def _is_within(node: int, other: int, places: Mapping[int, int]) -> bool:
    """Whether a node is, or stands inside, another."""
    at: int | None = node
    while at is not None and at != other:
        at = places.get(at)
    return at == other


def _names_of(outline: Outline) -> dict[int, str]:
    """An id of Mermaid's for each node: its own where that is a plain word."""
    taken = {label.lower() for label in outline.labels.values()}
    names: dict[int, str] = {}
    for number, label in outline.labels.items():
        is_plain = _SAFE.fullmatch(label) and not _RESERVED.fullmatch(label) and label not in names.values()
        name = label if is_plain else f"n{number}"
        while not is_plain and name in taken:
            name += "_"
        names[number] = name
    return names


def _escaped(label: str, words: int) -> str:
    """A label with line breaks after so many words, safe between quotes."""
    lines = wrapped(label, words)
    escaped = (line.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") for line in lines)
    return "<br/>".join(escaped) or " "  # Mermaid takes no empty text
