"""The structure of a workflow and drawings of it, under the path that programs import them from."""

from __future__ import annotations

from graflow.drawing.pictures import build_graph, draw_ascii, draw_image, draw_mermaid

__all__ = ["build_graph", "draw_ascii", "draw_image", "draw_mermaid"]
