"""The structure of a workflow and drawings of it, under the path that programs import them from."""

from __future__ import annotations

from graflow.core.building.structure import build_graph
from graflow.drawing.image import create_agraph, draw_dot, draw_image, draw_mermaid_png, draw_png
from graflow.drawing.info import draw_task_graph, show_graph_info, visualize_dependencies
from graflow.drawing.mermaid import draw_mermaid
from graflow.drawing.text import draw_ascii

__all__ = [
    "build_graph",
    "create_agraph",
    "draw_ascii",
    "draw_dot",
    "draw_image",
    "draw_mermaid",
    "draw_mermaid_png",
    "draw_png",
    "draw_task_graph",
    "show_graph_info",
    "visualize_dependencies",
]
