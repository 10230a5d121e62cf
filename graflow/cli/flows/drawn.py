"""A flow as a picture of its graph."""

from __future__ import annotations

from graflow.drawing.svg import Mark, svg_of
from graflow.flows.recording.flow_graph import FlowGraph
from graflow.state import FlowState


def drawn_flow(graph: FlowGraph, flow: FlowState) -> str:
    """The graph of a flow as an SVG document, each step in the state of its last visit."""
    last = {step.step_name: step for step in flow.steps}
    marks = []
    for node, size in zip(graph.nodes, graph.sizes, strict=True):
        step = last.get(node)
        name = node if step is None or step.visit == 1 else f"{node} #{step.visit}"
        state, counts = ("pending", None) if step is None else (step.status.value, step.counts)
        marks.append(Mark(name, state, size, counts or {}))
    return svg_of(graph.placed(), marks)
