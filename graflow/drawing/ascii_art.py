"""A layered picture, in plain characters, of a small graph without cycles.

Nodes stand in rows by depth; an edge that spans several rows passes through a point in each of them. Between two rows
every bundle of lines that meet joins all of its upper ends with all of its lower ends, so that the picture can be
read without guessing. Where lines only cross, the horizontal one is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import networkx as nx

from graflow.drawing.layers import depths

_SWEEPS = 6


class _Bundle(NamedTuple):
    """Edges between two rows that are drawn as one: each of the upper nodes leads to each of the lower ones."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]


class _Rows:
    """Rows of nodes and passing points, the latter without a label, and the edges from each row to the next."""

    def __init__(self, graph: nx.DiGraph[int], labels: Mapping[int, str]) -> None:
        self.labels = dict(labels)
        depth = depths(graph)
        self.rows: list[list[int]] = [[] for _ in range(max(depth.values()) + 1)]
        for node in graph:
            self.rows[depth[node]].append(node)
        self.gaps: list[list[tuple[int, int]]] = [[] for _ in self.rows[1:]]
        passing: dict[tuple[int, int], int] = {}
        for source, target in graph.edges():
            at = source
            for row in range(depth[source] + 1, depth[target]):
                # Long edges of one source share their way down.
                point = passing.get((source, row))
                if point is None:
                    point = passing[source, row] = self._add_point(self.rows[row])
                    self.gaps[row - 1].append((at, point))
                at = point
            self.gaps[depth[target] - 1].append((at, target))
        self._split_unclear_gaps()

    def _add_point(self, row: list[int]) -> int:
        point = len(self.labels)
        self.labels[point] = ""
        row.append(point)
        return point

    def _split_unclear_gaps(self) -> None:
        """Put a row of passing points where a bundle does not join all of its ends with each other."""
        rows, gaps = self.rows[:1], []
        for gap, below in zip(self.gaps, self.rows[1:], strict=True):
            bundles = _bundles(gap)
            edges = set(gap)
            clear = [bundle for bundle in bundles if all((u, v) in edges for u in bundle.upper for v in bundle.lower)]
            if len(clear) < len(bundles):
                points: list[int] = []
                at_target = {v: self._add_point(points) for bundle in clear for v in bundle.lower}
                down: dict[tuple[int, int], None] = {}
                up: dict[tuple[int, int], None] = {}
                for source, target in gap:
                    point = at_target[target] if target in at_target else self._add_point(points)
                    down[source, point] = None
                    up[point, target] = None
                rows.append(points)
                gaps.append(list(down))
                gap = list(up)  # noqa: PLW2901 - the lower half takes the place of the whole
            rows.append(below)
            gaps.append(gap)
        self.rows, self.gaps = rows, gaps

    def order(self) -> None:
        """Sort each row by where its neighbours stand, and keep the order with the fewest crossings."""
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(_SWEEPS):
            if not fewest:
                break
            downwards = sweep % 2 == 0
            for index in range(1, len(self.rows)) if downwards else range(len(self.rows) - 2, -1, -1):
                self._sort_row(index, downwards=downwards)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _sort_row(self, index: int, *, downwards: bool) -> None:
        neighbours = self.neighbours(index, downwards=downwards)
        fixed = {node: place for place, node in enumerate(self.rows[index - 1 if downwards else index + 1])}
        row = self.rows[index]
        wish = {node: _mean([fixed[other] for other in neighbours[node]], place) for place, node in enumerate(row)}
        row.sort(key=wish.__getitem__)

    def neighbours(self, index: int, *, downwards: bool) -> dict[int, list[int]]:
        """For each node of a row, its neighbours in the row above (walking downwards) or below."""
        found: dict[int, list[int]] = {node: [] for node in self.rows[index]}
        for source, target in self.gaps[index - 1 if downwards else index]:
            if downwards:
                found[target].append(source)
            else:
                found[source].append(target)
        return found

    def _crossings(self) -> int:
        total = 0
        for index, gap in enumerate(self.gaps):
            upper = {node: place for place, node in enumerate(self.rows[index])}
            lower = {node: place for place, node in enumerate(self.rows[index + 1])}
            ends = [(upper[source], lower[target]) for source, target in gap]
            total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
        return total

    def place(self) -> dict[int, int]:
        """A column for the centre of each node, near the centres of its neighbours; the leftmost text is at 0."""
        columns: dict[int, int] = {}
        for row in self.rows:
            columns.update(zip(row, self._offsets(row), strict=True))
        for sweep in range(2 * _SWEEPS):
            downwards = sweep % 2 == 0
            for index in range(1, len(self.rows)) if downwards else range(len(self.rows) - 2, -1, -1):
                neighbours = self.neighbours(index, downwards=downwards)
                row = self.rows[index]
                wishes = [_mean([columns[other] for other in neighbours[node]], columns[node]) for node in row]
                columns.update(zip(row, _nearest(wishes, self._offsets(row)), strict=True))
        left = min(columns[node] - _left(self.labels[node]) for row in self.rows for node in row)
        return {node: column - left for node, column in columns.items()}

    def _offsets(self, row: Sequence[int]) -> list[int]:
        """Columns of a row that is packed as tightly as it may be."""
        offsets: list[int] = []
        for place, node in enumerate(row):
            label = self.labels[node]
            if not offsets:
                offsets.append(_left(label))
                continue
            before = self.labels[row[place - 1]]
            space = 3 if label and before else 2
            offsets.append(offsets[-1] + _right(before) + space + 1 + _left(label))
        return offsets


def draw_layers(graph: nx.DiGraph[int], labels: Mapping[int, str], max_width: int) -> list[str] | None:
    """Lines of a picture; None when it would be too wide or too tangled. Nodes are the numbers from 0 on."""
    rows = _Rows(graph, labels)
    rows.order()
    columns = rows.place()
    width = max(columns[node] + _right(rows.labels[node]) for row in rows.rows for node in row) + 1
    if width > max_width:
        return None
    lines: list[str] = []
    for index, row in enumerate(rows.rows):
        if any(rows.labels[node] for node in row):
            lines.append(_text_row(row, rows.labels, columns, width))
        if index < len(rows.gaps):
            between = _draw_gap(_bundles(rows.gaps[index]), columns, width)
            if between is None:
                return None
            lines.extend(between)
    return lines


def _text_row(row: Iterable[int], labels: Mapping[int, str], columns: Mapping[int, int], width: int) -> str:
    cells = [" "] * width
    for node in row:
        text = labels[node] or "|"
        start = columns[node] - _left(labels[node])
        cells[start : start + len(text)] = text
    return "".join(cells).rstrip()


def _bundles(gap: Sequence[tuple[int, int]]) -> list[_Bundle]:
    """Edges of a gap, joined as far as they share an end."""
    joined: nx.Graph[tuple[str, int]] = nx.Graph()
    joined.add_edges_from((("upper", source), ("lower", target)) for source, target in gap)
    return [
        _Bundle(
            tuple(sorted(node for side, node in ends if side == "upper")),
            tuple(sorted(node for side, node in ends if side == "lower")),
        )
        for ends in nx.connected_components(joined)
    ]


def _draw_gap(bundles: Sequence[_Bundle], columns: Mapping[int, int], width: int) -> list[str] | None:
    """Lines between two rows, or None when two bundles each want to pass below the other."""
    ends = [
        (sorted(columns[node] for node in bundle.upper), sorted(columns[node] for node in bundle.lower))
        for bundle in bundles
    ]
    bent = [(upper, lower) for upper, lower in ends if len({*upper, *lower}) > 1]
    tracks = _tracks(bent)
    if tracks is None:
        return None
    height = max(tracks, default=-1) + 1
    cells = [[" "] * width for _ in range(height + 2 if height else 1)]
    for (upper, lower), track in zip(bent, tracks, strict=True):
        for column in range(min(upper[0], lower[0]), max(upper[-1], lower[-1]) + 1):
            cells[track + 1][column] = "-"
    for (upper, lower), track in zip(bent, tracks, strict=True):
        for column in upper:
            _draw_vertical(cells, column, range(track + 1))
        for column in lower:
            _draw_vertical(cells, column, range(track + 2, len(cells)))
        for column in {*upper, *lower}:
            cells[track + 1][column] = "+"
    for upper, lower in ends:
        if len({*upper, *lower}) == 1:
            _draw_vertical(cells, upper[0], range(len(cells)))
    return ["".join(line).rstrip() for line in cells]


def _draw_vertical(cells: list[list[str]], column: int, lines: Iterable[int]) -> None:
    for line in lines:
        cells[line][column] = "|"


def _tracks(bent: Sequence[tuple[list[int], list[int]]]) -> list[int] | None:
    """A line for the horizontal part of each bundle, so that no two of them touch."""
    below: nx.DiGraph[int] = nx.DiGraph()
    below.add_nodes_from(range(len(bent)))
    for one, (_, lower) in enumerate(bent):
        for other, (upper, _) in enumerate(bent):
            if one != other and set(lower) & set(upper):
                # One ends in the column in which the other starts: it has to turn further down.
                below.add_edge(other, one)
    if not nx.is_directed_acyclic_graph(below):
        return None
    tracks = [0] * len(bent)
    taken: list[tuple[int, int, int]] = []
    for index in nx.lexicographical_topological_sort(below):
        upper, lower = bent[index]
        first, last = min(upper[0], lower[0]), max(upper[-1], lower[-1])
        track = max((tracks[above] + 2 for above in below.predecessors(index)), default=0)
        while any(track == t and first <= b + 1 and a <= last + 1 for t, a, b in taken):
            track += 1
        tracks[index] = track
        taken.append((track, first, last))
    return tracks


def _nearest(wishes: Sequence[float], offsets: Sequence[int]) -> list[int]:
    """Columns at least as far apart as the offsets, with the least sum of squared distances to the wishes.

    This is isotonic regression by pooling adjacent violators.
    """
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        value, size = wish - offset, 1
        while pools and pools[-1][0] > value:
            before, count = pools.pop()
            value = (value * size + before * count) / (size + count)
            size += count
        pools.append((value, size))
    shifts = [round(value) for value, size in pools for _ in range(size)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]


def _mean(values: Sequence[int], default: float) -> float:
    return sum(values) / len(values) if values else default


def _left(label: str) -> int:
    """Characters of a label to the left of its centre."""
    return max(len(label) - 1, 0) // 2


def _right(label: str) -> int:
    return max(len(label) - 1, 0) - _left(label)
