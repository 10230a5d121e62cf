"""The graph of a recorded flow as it is drawn: what was planned, and what steps have added to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from graflow.drawing.placement import Direction, Placement, place
from graflow.state.models import FlowStepState

_LENGTH: Final = 16  # of a fingerprint, in hex digits

Addition = list[str]
"""A node, or the two ends of an edge."""


@dataclass(frozen=True)
class FlowGraph:
    """Nodes of a flow and what follows what.

    Attributes:
        nodes: Names of steps: the planned ones first.
        planned: How many of them were there when the flow began.
        sizes: By node, how many members a group has; None for a single step.
        edges: By the numbers of nodes: the planned ones first.
        planned_edges: How many of these were there when the flow began.
    """

    nodes: Sequence[str]
    planned: int
    sizes: Sequence[int | None]
    edges: Sequence[tuple[int, int]]
    planned_edges: int

    @classmethod
    def of(cls, planned: Mapping[str, Any], steps: Sequence[FlowStepState]) -> FlowGraph:
        """The graph of a flow.

        Args:
            planned: What `graph_fingerprint` told of it.
            steps: Those that have begun.
        """
        sizes: dict[str, int | None] = {node: told.get("members") for node, told in planned.items()}
        edges = dict.fromkeys((node, after) for node, told in planned.items() for after in told.get("after", ()))
        for _, after in list(edges):
            sizes.setdefault(after, None)
        count, planned_edges = len(sizes), len(edges)
        for step in steps:
            if step.size or step.step_name not in sizes:
                sizes[step.step_name] = step.size or None
            for addition in step.added or ():
                for node in addition:
                    sizes.setdefault(node, None)
                if len(addition) > 1:
                    edges[addition[0], addition[1]] = None
        number = {node: place for place, node in enumerate(sizes)}
        return cls(list(sizes), count, list(sizes.values()), [(number[a], number[b]) for a, b in edges], planned_edges)

    @cached_property
    def fingerprint(self) -> str:
        """Tells graphs from one another that are drawn differently."""
        text = json.dumps([self.nodes, self.planned, self.sizes, self.edges], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]

    def placed(self, direction: Direction | None = None) -> Placement:
        """Where its nodes are drawn; what was added moves no planned node out of its order."""
        groups = {node for node, size in enumerate(self.sizes) if size is not None}
        first = place(self.nodes[: self.planned], self.edges[: self.planned_edges], groups=groups, direction=direction)
        if len(self.nodes) == self.planned and len(self.edges) == self.planned_edges:
            return first
        return place(self.nodes, self.edges, groups=groups, direction=direction, like=first)


def added_by(step: str, outcome: Mapping[str, Any]) -> list[Addition]:
    """What a step has added to the graph of its run; passes of loops are visits, and no nodes of their own."""
    passes = {node["id"] for node in outcome.get("nodes", ()) if "pass_of" in node}
    edges = [[step, target] for target in outcome.get("queued", ())]
    edges += [list(edge) for edge in outcome.get("edges", ())]
    nodes = {node for edge in edges for node in edge}
    alone = [[node["id"]] for node in outcome.get("nodes", ()) if node["id"] not in nodes]
    return [each for each in edges + alone if passes.isdisjoint(each)]
