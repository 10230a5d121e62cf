"""Structure of a workflow around one task, and drawings of graphs: text, Mermaid, image."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from graflow.core.graph import TaskGraph, ensure_scope
from graflow.core.memberships import is_group
from graflow.drawing.ascii_art import draw_layers
from graflow.drawing.layers import depths, without_cycles

_log = logging.getLogger(__name__)

_MAX_DRAWN_NODES = 60
_MAX_DRAWN_EDGES = 150
_MAX_LISTED_SUCCESSORS = 8
_INSTALL = "pip install 'graflow-celery[draw]'"


def build_graph(executable: Any, context: Any = None) -> TaskGraph:
    """Reduce a workflow's graph to what is connected with a task, with an edge from each group to its members.

    The graph of the workflow `context` (default: the current one) is changed and returned. Of a chain the leftmost
    task counts.
    """
    graph: TaskGraph = ensure_scope().graph if context is None else context.graph
    start = getattr(executable, "leftmost", executable)
    graph.add_node(start, skip_if_exists=True)
    members = {node: graph.get_parallel_group_members(node) for node in list(graph.nodes())}
    connected = _connected(graph, start.task_id, members)
    for node in list(graph.nodes()):
        if node not in connected:
            graph.remove_node(node)
    for group_id, member_ids in members.items():
        if group_id in connected:
            for member_id in member_ids:
                if member_id not in graph.nodes:
                    graph.add_node(graph.get_node(member_id), member_id)
                graph.add_edge(group_id, member_id)
    return graph


def _connected(graph: TaskGraph, start: str, members: Mapping[str, list[str]]) -> set[str]:
    groups: dict[str, list[str]] = {}
    for group_id, member_ids in members.items():
        for member_id in member_ids:
            groups.setdefault(member_id, []).append(group_id)
    found, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        beside = (*graph.successors(node), *graph.predecessors(node), *members.get(node, ()), *groups.get(node, ()))
        for other in beside:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def draw_ascii(graph: nx.DiGraph[Any], *, max_width: int = 100) -> str:
    """The graph as plain text: a picture in layers, or a list of nodes and successors where that is too large.

    Edges that close a cycle are named, not drawn. Groups point to their members.
    """
    numbered, labels = _numbered(graph)
    if not labels:
        return "Empty graph"
    forward, backward = without_cycles(numbered)
    picture = _picture(forward, labels, max_width)
    if picture is None:
        return "\n".join(_listing(numbered, forward, labels))
    if backward:
        picture += ["", "Cycles: " + ", ".join(f"{labels[a]} -> {labels[b]}" for a, b in backward)]
    return "\n".join(picture)


def draw_mermaid(graph: nx.DiGraph[Any], *, direction: str = "TD") -> str:
    """The graph as a Mermaid flowchart; groups are hexagons with dotted lines to their members."""
    lines = [f"flowchart {direction}"]
    names = {node: f"n{number}" for number, node in enumerate(graph)}
    group_edges = {edge for node in graph for edge in _member_edges(graph, node)}
    for node, name in names.items():
        opening, closing = ("{{", "}}") if _is_group_node(graph, node) else ("[", "]")
        lines.append(f'    {name}{opening}"{_mermaid_text(str(node))}"{closing}')
    plain = [edge for edge in graph.edges() if edge not in group_edges]
    lines.extend(f"    {names[a]} --> {names[b]}" for a, b in plain)
    lines.extend(f"    {names[a]} -.-> {names[b]}" for node in graph for a, b in _member_edges(graph, node))
    return "\n".join(lines) + "\n"


def draw_image(graph: nx.DiGraph[Any], path: str | Path) -> Path:
    """Write an image whose format follows from the suffix (`.png`, `.svg`, …), and return its path.

    Graphviz draws it where pygraphviz is installed, otherwise matplotlib. Where neither is, the text of `draw_ascii`
    goes into a file of the same name with the suffix `.txt`, and the log says what to install.
    """
    target = Path(path)
    numbered, labels = _numbered(graph)
    for draw in (_draw_with_graphviz, _draw_with_matplotlib):
        try:
            draw(numbered, labels, target)
        except ImportError:
            continue
        return target
    written = target.with_suffix(".txt")
    written.write_text(f"{draw_ascii(graph)}\n", encoding="utf-8")
    _log.warning(
        "An image needs pygraphviz or matplotlib (%s); the graph is drawn as text in %s instead", _INSTALL, written
    )
    return written


def _draw_with_graphviz(numbered: nx.DiGraph[int], labels: Mapping[int, str], target: Path) -> None:
    import pygraphviz  # noqa: PLC0415 - optional

    drawing = pygraphviz.AGraph(directed=True)
    for number, label in labels.items():
        drawing.add_node(number, label=label, shape="box")
    drawing.add_edges_from(numbered.edges())
    drawing.draw(str(target), prog="dot")


def _draw_with_matplotlib(numbered: nx.DiGraph[int], labels: Mapping[int, str], target: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    depth = depths(without_cycles(numbered)[0])
    rows: dict[int, list[int]] = {}
    for number in labels:
        rows.setdefault(depth[number], []).append(number)
    widest = max(map(len, rows.values()), default=1)
    positions = {
        number: ((place + 1) / (len(row) + 1), -float(level))
        for level, row in rows.items()
        for place, number in enumerate(row)
    }
    figure = Figure(figsize=(max(4.0, 2.0 * widest), max(3.0, 1.2 * len(rows))))
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.margins(0.2)
    nx.draw_networkx(
        numbered, positions, ax=axes, labels=dict(labels), node_color="#dde8f4", node_size=1800, font_size=9
    )
    figure.savefig(target)


def _numbered(graph: nx.DiGraph[Any]) -> tuple[nx.DiGraph[int], dict[int, str]]:
    """The graph over numbers from 0 on, group members joined to their groups, and the text of each node."""
    numbers = {node: number for number, node in enumerate(graph)}
    numbered: nx.DiGraph[int] = nx.DiGraph()
    numbered.add_nodes_from(numbers.values())
    numbered.add_edges_from((numbers[a], numbers[b]) for a, b in graph.edges())
    numbered.add_edges_from((numbers[a], numbers[b]) for node in graph for a, b in _member_edges(graph, node))
    return numbered, {number: str(node) for node, number in numbers.items()}


def _is_group_node(graph: nx.DiGraph[Any], node: Any) -> bool:
    return is_group(graph.nodes[node].get("task"))


def _member_edges(graph: nx.DiGraph[Any], node: Any) -> Iterator[tuple[Any, Any]]:
    if _is_group_node(graph, node):
        for member in graph.nodes[node]["task"].tasks:
            if member.task_id in graph:
                yield node, member.task_id


def _mermaid_text(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\n", "<br/>")


def _picture(forward: nx.DiGraph[int], labels: Mapping[int, str], max_width: int) -> list[str] | None:
    """Lines of a picture, one part of the graph below the other; None when it cannot be drawn well."""
    if len(labels) > _MAX_DRAWN_NODES or forward.number_of_edges() > _MAX_DRAWN_EDGES:
        return None
    if not all(map(_fits_cells, labels.values())):
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
    return lines + list(_wrapped(single, max_width))


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


def _listing(numbered: nx.DiGraph[int], forward: nx.DiGraph[int], labels: Mapping[int, str]) -> Iterator[str]:
    """One line for each node, by depth, with its first successors."""
    depth = depths(forward)
    layers = max(depth.values()) + 1
    yield f"{len(labels)} nodes, {numbered.number_of_edges()} edges, {layers} layers"
    for node in sorted(labels, key=depth.__getitem__):
        following = list(numbered.successors(node))
        names = [
            labels[after] if forward.has_edge(node, after) else f"{labels[after]} (cycle)"
            for after in following[:_MAX_LISTED_SUCCESSORS]
        ]
        if len(following) > _MAX_LISTED_SUCCESSORS:
            names.append(f"{len(following) - _MAX_LISTED_SUCCESSORS} more")
        yield f"[{depth[node] + 1}] {labels[node]}" + (f" -> {', '.join(names)}" if names else "")
