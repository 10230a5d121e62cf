"""Graphs told on standard output."""
# ruff: noqa: T201 - printing is what these functions are for

from __future__ import annotations

from graflow.drawing.outline import Graph, outline_of
from graflow.drawing.text import draw_ascii
from graflow.text.shown import one_line


def show_graph_info(graph: Graph) -> None:
    """Print how many nodes, edges and groups there are, and which."""
    outline = outline_of(graph)
    labels = outline.labels
    groups = {labels[group]: [labels[member] for member in held] for group, held in outline.members.items()}
    print(f"Nodes ({len(labels)}): {list(labels.values())}")
    print(f"Edges ({len(outline.edges)}): {[(labels[a], labels[b]) for a, b in outline.edges]}")
    if groups:
        print(f"Groups ({len(groups)}): {groups}")


def visualize_dependencies(graph: Graph) -> None:
    """Print the drawing of `draw_ascii`."""
    print(draw_ascii(graph))


def draw_task_graph(graph: Graph, title: str = "Task Graph") -> None:
    """Print a title and the drawing of `draw_ascii` below it."""
    title = one_line(title)
    print(f"{title}\n{'=' * len(title)}")
    print(draw_ascii(graph))
