"""What commands print: tables for people that fit their terminal, lines of JSON for programs, errors in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from pydantic import BaseModel
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from graflow.exceptions import GraflowError
from graflow.state.models import json_of
from graflow.text.shown import one_line, printable

_WIDEST: Final = 10_000  # characters of a line, so that none is cut
_EMPTY: Final = "-"
_GAP: Final = "  "  # between columns

as_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors of ours end the command with their message and status 1, without a traceback."""
    try:
        yield
    except GraflowError as error:
        raise click.ClickException(printable(error)) from error


class Rows:
    """Rows under their names, numbers to the right; where a terminal is too narrow for that, a block for each row."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._names = names
        self._is_number = [any(isinstance(row[place], int) for row in rows) for place in range(len(names))]
        self._rows = [[_shown(value) for value in row] for row in rows]
        self._widths = [max(map(cell_len, column)) for column in zip(names, *self._rows, strict=True)]

    @property
    def _width(self) -> int:
        return sum(self._widths) + len(_GAP) * (len(self._widths) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._width <= options.max_width:
            # A `Table` looks at each cell several times: seconds for thousands of rows.
            yield Segment(self._line(self._names), console.get_style("table.header"))
            yield Segment("".join(f"\n{self._line(row)}" for row in self._rows) + "\n")
            return
        for head, *rest in self._rows:
            yield Text(head, overflow="fold")
            told = [f"{name} {value}" for name, value in zip(self._names[1:], rest, strict=True) if value != _EMPTY]
            yield Padding(Columns([Text(text, overflow="fold") for text in told], padding=(0, 2)), (0, 0, 0, 2))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self._width, self._width)

    def _line(self, cells: Sequence[str]) -> str:
        padded = []
        for text, width, is_number in zip(cells, self._widths, self._is_number, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(space + text if is_number else text + space)
        return _GAP.join(padded).rstrip()


def print_facts(names: Sequence[str], found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The named facts as a table, or all facts as one line of JSON for each mapping."""
    if as_json:
        for facts in found:
            click.echo(json.dumps(facts))
    else:
        show(
            Rows([name.removesuffix("_id") for name in names], [[facts.get(name) for name in names] for facts in found])
        )


def json_line(model: BaseModel) -> str:
    """A model as a line of JSON, with what would steer a terminal as numbers: JSON itself has only part of that so."""
    text = json_of(model)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def show(what: RenderableType) -> None:
    """Print for people; in full where output is no terminal, since a pipe takes lines of any length."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _full_width(console, what))
    console.print(what)


def _shown(value: object) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return _EMPTY if value in {None, ""} else one_line(value)


def _full_width(console: Console, what: RenderableType) -> int:
    return console.measure(what, options=console.options.update(width=_WIDEST)).maximum
