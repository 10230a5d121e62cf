"""Graphs as SVG, which needs no package: nodes as on the page, with their states where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape

from graflow.drawing.looks import FAMILIES, look_of
from graflow.drawing.outline import Graph, outline_of
from graflow.drawing.placement import NODE_WIDTH, Direction, Placement, place
from graflow.text.shown import one_line

_MARGIN: Final = 16
_LONGEST: Final = 20  # characters of a name that fit beside its icon
_BAR: Final = 6  # height of the bar of a group
_STYLE: Final = """\
text{font:13px system-ui,sans-serif;fill:#1b1f24}.small{font-size:11px;fill:#57606a}
.node{fill:#fff;stroke:#b9c0cb}.dashed{stroke-dasharray:4 3}
.edge{fill:none;stroke:#8b949e}.closing{stroke-dasharray:5 4}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b3}.node{fill:#161b22;stroke:#434b58}}"""


@dataclass(frozen=True)
class Mark:
    """What a node shows.

    Attributes:
        name: Its name.
        state: Where it is; None shows none.
        size: For a group, how many members it has.
        counts: For a group, members by state.
    """

    name: str
    state: str | None = None
    size: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def draw_svg(graph: Graph, *, direction: Direction | None = None) -> str:
    """The graph of tasks as an SVG document; a group stands before its members."""
    outline = outline_of(graph)
    flow = outline.flow_of_nodes()
    groups = {group: len(held) for group, held in outline.members.items()}
    placement = place(list(outline.labels), list(flow.edges()), groups=groups, direction=direction)
    return svg_of(placement, [Mark(label, size=groups.get(node)) for node, label in outline.labels.items()])


def svg_of(placement: Placement, marks: Sequence[Mark]) -> str:
    """A drawing as an SVG document.

    Args:
        placement: Where things are.
        marks: What each node of the graph shows, by number.
    """
    left, width, height = -_MARGIN, placement.width + 2 * _MARGIN, placement.height + 2 * _MARGIN
    view = f'viewBox="{left} {left} {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {view} role="img">',
            f"<style>{_STYLE}</style>",
            *_edges(placement),
            *(line for number in range(len(placement.parts)) for line in _node(placement, number, marks)),
            "</svg>\n",
        ]
    )


def _edges(placement: Placement) -> Iterator[str]:
    closing = set(placement.closing)
    for number, (source, target) in enumerate(placement.edges):
        points = [
            _side(placement, source, ahead=True),
            *placement.bends.get(number, ()),
            _side(placement, target, ahead=False),
        ]
        kind = "edge closing" if number in closing else "edge"
        yield f'<path class="{kind}" d="{_path(points, is_right=placement.direction == "right")}"/>'


def _side(placement: Placement, node: int, *, ahead: bool) -> tuple[int, int]:
    """The middle of the side at which edges leave or enter a node."""
    x, y, height = placement.x[node], placement.y[node], placement.heights[node]
    if placement.direction == "right":
        return x + (NODE_WIDTH if ahead else 0), y + height // 2
    return x + NODE_WIDTH // 2, y + (height if ahead else 0)


def _path(points: Sequence[tuple[int, int]], *, is_right: bool) -> str:
    """A line through points that leaves and enters each of them in the direction of the drawing."""
    parts = [f"M{points[0][0]} {points[0][1]}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle_x, middle_y = (x + to_x) // 2, (y + to_y) // 2
        first, second = ((middle_x, y), (middle_x, to_y)) if is_right else ((x, middle_y), (to_x, middle_y))
        parts.append(f"C{first[0]} {first[1]} {second[0]} {second[1]} {to_x} {to_y}")
    return "".join(parts)


def _node(placement: Placement, number: int, marks: Sequence[Mark]) -> Iterator[str]:
    part = placement.parts[number]
    mark = marks[part[0]] if len(part) == 1 else _together([marks[node] for node in part])
    x, y, height = placement.x[number], placement.y[number], placement.heights[number]
    look = None if mark.state is None else look_of(mark.state)
    dashed = " dashed" if look is not None and look.is_dashed else ""
    told = mark.name if look is None else f"{mark.name}: {look.word}"
    yield f"<g><title>{_text(told)}</title>"
    yield f'<rect class="node{dashed}" x="{x}" y="{y}" width="{NODE_WIDTH}" height="{height}" rx="7"/>'
    indent = 12
    if look is not None:
        family, indent = FAMILIES[look.family], 36
        opacity, ink = (0.2, family.ink_light) if look.is_hollow else (1, "#ffffff")
        yield f'<rect x="{x + 6}" y="{y + 6}" width="24" height="24" rx="5" fill="{family.light}" opacity="{opacity}"/>'
        yield f'<text x="{x + 18}" y="{y + 23}" text-anchor="middle" style="fill:{ink}">{look.sign}</text>'
    yield f'<text x="{x + indent}" y="{y + 23}">{_text(_cut(mark.name))}</text>'
    if mark.size is not None:
        yield from _bar(x + 8, y + height - 12, mark)
    yield "</g>"


def _together(marks: Sequence[Mark]) -> Mark:
    """What several nodes show that are drawn as one: how many of them are in each state."""
    counts: dict[str, int] = {}
    for mark in marks:
        if mark.state is not None:
            counts[mark.state] = counts.get(mark.state, 0) + 1
    state = max(counts, key=counts.__getitem__, default=None) if len(counts) < 2 else "running"
    return Mark(f"{len(marks)} like {marks[0].name}", state)


def _bar(x: int, y: int, mark: Mark) -> Iterator[str]:
    size, width, at = mark.size or 0, NODE_WIDTH - 16, float(x)
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{_BAR}" fill="{FAMILIES["pending"].light}" opacity="0.4"/>'
    ended = 0
    for state, count in mark.counts.items():
        look = look_of(state)
        if look.family == "pending" or not size:
            continue
        part = width * count / size
        ended += count if look.family in ("completed", "failed", "cancelled") else 0
        yield (f'<rect x="{at:.1f}" y="{y}" width="{part:.1f}" height="{_BAR}" fill="{FAMILIES[look.family].light}"/>')
        at += part
    told = f"{ended:,} of {size:,}" if mark.counts else f"{size:,} members"
    yield f'<text class="small" x="{x}" y="{y - 5}">{told}</text>'


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _text(text: str) -> str:
    return escape(one_line(text))
