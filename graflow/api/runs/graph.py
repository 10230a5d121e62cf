"""Where the steps of a run are drawn.

`GET /api/v1/{flow}/flows/{id}/graph?direction=right|down`, in columns; its tag is the fingerprint of the graph, so that
it is sent again only when steps were added (states come with `/steps` and the events)::

    {"fingerprint": "9f…", "direction": "right", "width": 1120, "height": 300, "truncated": false,
     "nodes": {"name": ["load", "pages", …], "x": [0, …], "y": [13, …],       left upper corner, pixels
               "height": [36, 62, …],                                         all are 168 wide, groups are 62 high
               "size": [null, 10000, …],                                      members of a group
               "added": [false, …]},                                          not planned: added while the run went on
     "edges": {"from": [0, …], "to": [1, …],                                  places in `nodes`
               "closing": [7],                                                places in `edges` that close a cycle
               "bends": {"3": [[400, 31], …]}},                               by the place of an edge, where it turns
     "folds": {"4": ["a", "b", …]}}                                           by the place of a node, the steps in it
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.columns import NOT_MODIFIED, answer
from graflow.api.http.etags import is_known, not_modified, tag_of
from graflow.api.http.problems import described
from graflow.api.http.service import Served
from graflow.api.runs.listing import record_of
from graflow.drawing.placement import Direction
from graflow.flows.recording.flow_graph import FlowGraph

router = APIRouter(tags=["graph"])

_KEPT = 64  # graphs whose layout is remembered


class GraphNodes(BaseModel):
    """What is drawn, in columns: names, left upper corners in pixels, heights, sizes of groups, which were added."""

    name: list[str]
    x: list[int]
    y: list[int]
    height: list[int]
    size: list[int | None]
    added: list[bool]


class GraphEdges(BaseModel):
    """Edges in columns, by places in the nodes; places of those that close a cycle; where edges turn."""

    from_: list[int] = Field(alias="from")
    to: list[int]
    closing: list[int]
    bends: dict[str, list[tuple[int, int]]]


class Graph(BaseModel):
    """A graph as it is drawn.

    Attributes:
        fingerprint: Tells it from others.
        direction: Where edges lead: `right` or `down`.
        width: Of all, pixels.
        height: Of all, pixels.
        truncated: Whether it is so large that it is drawn by layers.
        nodes: What is drawn.
        edges: What follows what.
        folds: By the place of a node that stands for several steps, their names.
    """

    fingerprint: str
    direction: str
    width: int
    height: int
    truncated: bool
    nodes: GraphNodes
    edges: GraphEdges
    folds: dict[str, list[str]]


@router.get("/{flow}/flows/{flow_id}/graph", response_model=Graph, responses={**NOT_MODIFIED, **described(404)})
def graph(
    flow: str,
    flow_id: str,
    request: Request,
    service: Served,
    direction: Annotated[
        Direction | None, Query(description="Where edges lead; what shows more of it at once when left out.")
    ] = None,
) -> Response:
    """Where the steps of a run are drawn."""
    record_of(service, flow, flow_id)
    found = service.runner.get_flow_graph(flow_id)
    tag = tag_of(found.fingerprint, direction)
    return not_modified(tag) if is_known(request, tag) else answer(request, tag, _drawn(_Drawn(found), direction))


class _Drawn:
    """A graph that is told from others by its fingerprint, for the cache."""

    def __init__(self, graph: FlowGraph) -> None:
        self.graph = graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Drawn) and self.graph.fingerprint == other.graph.fingerprint

    def __hash__(self) -> int:
        return hash(self.graph.fingerprint)


@lru_cache(maxsize=_KEPT)
def _drawn(drawn: _Drawn, direction: Direction | None) -> dict[str, Any]:
    graph = drawn.graph
    placed = graph.placed(direction)
    firsts = [part[0] for part in placed.parts]
    return {
        "fingerprint": graph.fingerprint,
        "direction": placed.direction,
        "width": placed.width,
        "height": placed.height,
        "truncated": placed.is_truncated,
        "nodes": {
            "name": [graph.nodes[node] for node in firsts],
            "x": placed.x,
            "y": placed.y,
            "height": placed.heights,
            "size": [graph.sizes[node] for node in firsts],
            "added": [node >= graph.planned for node in firsts],
        },
        "edges": {
            "from": [source for source, _ in placed.edges],
            "to": [target for _, target in placed.edges],
            "closing": placed.closing,
            "bends": placed.bends,
        },
        "folds": {
            place: [graph.nodes[node] for node in part] for place, part in enumerate(placed.parts) if len(part) > 1
        },
    }
