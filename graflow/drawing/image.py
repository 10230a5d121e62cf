"""Graphs as images, and as the DOT source that Graphviz draws them from.

Graphviz draws where it and pygraphviz are installed, otherwise matplotlib.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import networkx as nx

from graflow.drawing.labels import wrapped
from graflow.drawing.layers import depths, without_cycles
from graflow.drawing.outline import Graph, outline_of
from graflow.drawing.svg import draw_svg
from graflow.drawing.text import draw_ascii
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_INSTALL: Final = "pip install 'graflow-celery[draw]'"
_FILL: Final = "#dde8f4"
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS: Final = frozenset({"node", "edge", "graph", "digraph", "subgraph", "strict"})


@dataclass(frozen=True)
class _Picture:
    """What an image shows: nodes by number, what of them follows what, and how they look."""

    names: Mapping[int, str]
    labels: Mapping[int, str]
    colours: Mapping[int, str]
    groups: frozenset[int]
    flow: nx.DiGraph[int]
    title: str = ""
    background: str = ""


def draw_dot(
    graph: Graph, node_labels: Mapping[Any, str] | None = None, node_colors: Mapping[Any, str] | None = None
) -> str:
    """The graph in the DOT language; needs no package.

    Args:
        graph: A task graph, or any directed graph.
        node_labels: Texts by node id, instead of the ids.
        node_colors: Colours by node id.
    """
    return _dot(_picture_of(graph, node_labels, node_colors))


def create_agraph(
    graph: Graph, node_labels: Mapping[Any, str] | None = None, node_colors: Mapping[Any, str] | None = None
) -> Any:
    """The graph as a `pygraphviz.AGraph`, to be laid out and drawn by the caller.

    Raises:
        ImportError: Without pygraphviz; the message says how to install it.
    """
    return _agraph(_picture_of(graph, node_labels, node_colors))


def draw_png(
    graph: Graph,
    output_path: str | Path | None = None,
    node_labels: Mapping[Any, str] | None = None,
    node_colors: Mapping[Any, str] | None = None,
) -> bytes | None:
    """The graph as a PNG: its bytes, or None when they are written to `output_path`.

    Raises:
        ImportError: Without Graphviz and matplotlib; the message says how to install them.
    """
    return _delivered(_rendered(_picture_of(graph, node_labels, node_colors), "png"), output_path)


def draw_mermaid_png(
    graph: Graph,
    output_path: str | Path | None = None,
    *,
    title: str = "Graph",
    with_styles: bool = True,
    node_colors: Mapping[Any, str] | None = None,
    wrap_label_n_words: int = 9,
    background_color: str = "white",
    max_retries: int = 1,  # noqa: ARG001 - as below
    retry_delay: float = 1.0,  # noqa: ARG001 - as below
) -> bytes | None:
    """What `draw_mermaid` describes as a PNG that is drawn here, as `draw_png` does; no web service is asked.

    Args:
        graph: A task graph, or any directed graph.
        output_path: Where to write it; None to get the bytes.
        title: Stands above the picture.
        with_styles: Whether nodes have colours.
        node_colors: Colours by node id.
        wrap_label_n_words: Words of a label on one line.
        background_color: Of the picture.
        max_retries: Does nothing; nothing here needs to be tried again.
        retry_delay: Does nothing either.

    Raises:
        ImportError: Without Graphviz and matplotlib; the message says how to install them.
    """
    labels = {node: "\n".join(wrapped(str(node), wrap_label_n_words)) for node in outline_of(graph).nodes}
    colours, fill = (node_colors, _FILL) if with_styles else (None, "white")
    picture = _picture_of(graph, labels, colours, fill=fill, title=title, background=background_color)
    return _delivered(_rendered(picture, "png"), output_path)


def draw_image(graph: Graph, path: str | Path) -> Path:
    """Write an image whose format follows from the suffix (`.png`, `.pdf`, …), and return its path.

    A `.svg` is drawn as `graflow flow show --svg` draws graphs, and needs no package.

    Where neither Graphviz nor matplotlib is installed, the text of `draw_ascii` goes into a file of the same name with
    the suffix `.txt`, and the log says what to install.
    """
    target = Path(path)
    if target.suffix == ".svg":
        target.write_text(draw_svg(graph), encoding="utf-8")
        return target
    try:
        image = _rendered(_picture_of(graph), target.suffix.removeprefix(".") or "png")
    except ImportError as error:
        target = target.with_suffix(".txt")
        image = f"{draw_ascii(graph)}\n".encode()
        _log.warning("%s; the graph is drawn as text in %s instead", error, target)
    target.write_bytes(image)
    return target


def _picture_of(
    graph: Graph,
    node_labels: Mapping[Any, str] | None = None,
    node_colors: Mapping[Any, str] | None = None,
    *,
    fill: str = _FILL,
    title: str = "",
    background: str = "",
) -> _Picture:
    outline = outline_of(graph)
    names: dict[int, str] = {}
    for number, label in outline.labels.items():
        names[number] = label if label not in names.values() else f"{label} ({number})"
    texts, colours = node_labels or {}, node_colors or {}
    return _Picture(
        names=names,
        labels={number: texts.get(node, str(node)) for number, node in enumerate(outline.nodes)},
        colours={number: colours.get(node, fill) for number, node in enumerate(outline.nodes)},
        groups=frozenset(outline.members),
        flow=outline.flow_of_nodes(),
        title=title,
        background=background,
    )


def _delivered(image: bytes, output_path: str | Path | None) -> bytes | None:
    if output_path is None:
        return image
    Path(output_path).write_bytes(image)
    return None


def _rendered(picture: _Picture, suffix: str) -> bytes:
    for render in (_with_graphviz, _with_matplotlib):
        try:
            return render(picture, suffix)
        except ImportError:
            continue
    raise ImportError(f"An image needs Graphviz with pygraphviz, or matplotlib: {_INSTALL}")


def _dot(picture: _Picture) -> str:
    settings = [f"    label={_quoted(picture.title)};", "    labelloc=t;"] if picture.title else []
    settings += [f"    bgcolor={_quoted(picture.background)};"] if picture.background else []
    lines = ["digraph {", *settings, "    node [shape=box, style=filled];"]
    for number, name in picture.names.items():
        shape = ", shape=hexagon" if number in picture.groups else ""
        look = f"label={_quoted(picture.labels[number])}, fillcolor={_quoted(picture.colours[number])}{shape}"
        lines.append(f"    {_dot_name(name)} [{look}];")
    lines += [f"    {_dot_name(picture.names[a])} -> {_dot_name(picture.names[b])};" for a, b in picture.flow.edges()]
    return "\n".join([*lines, "}", ""])


def _dot_name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name.lower() not in _KEYWORDS else _quoted(name)


def _quoted(text: str) -> str:
    """A string of DOT: a quote and a backslash are escaped, a line break is written as one."""
    return json.dumps(text, ensure_ascii=False)


def _agraph(picture: _Picture) -> Any:
    try:
        import pygraphviz  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError(f"A graph of Graphviz needs pygraphviz: {_INSTALL}") from error
    return pygraphviz.AGraph(string=_dot(picture))


def _with_graphviz(picture: _Picture, suffix: str) -> bytes:
    if shutil.which("dot") is None:
        raise ImportError("Graphviz is not installed")
    image: bytes = _agraph(picture).draw(format=suffix, prog="dot")
    return image


def _with_matplotlib(picture: _Picture, suffix: str) -> bytes:
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    depth = depths(without_cycles(picture.flow)[0])
    rows: dict[int, list[int]] = {}
    for number in picture.labels:
        rows.setdefault(depth[number], []).append(number)
    widest = max(map(len, rows.values()), default=1)
    positions = {
        number: ((place + 1) / (len(row) + 1), -float(level))
        for level, row in rows.items()
        for place, number in enumerate(row)
    }
    figure = Figure(figsize=(max(4.0, 2.0 * widest), max(3.0, 1.2 * len(rows))))
    figure.set_facecolor(picture.background or "white")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.margins(0.2)
    axes.set_title(picture.title)
    colours = [picture.colours[number] for number in picture.flow]
    nx.draw_networkx(
        picture.flow, positions, ax=axes, labels=dict(picture.labels), node_color=colours, node_size=1800, font_size=9
    )
    image = io.BytesIO()
    figure.savefig(image, format=suffix)
    return image.getvalue()
