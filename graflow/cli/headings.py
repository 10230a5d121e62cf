"""Groups of commands whose help stands under headings."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import NamedTuple

import click

from graflow.text.shown import one_line


class Line(NamedTuple):
    """What help says of a command: the first sentences of the docstrings of its module and of its function."""

    heading: str
    name: str
    summary: str


class HeadedGroup(click.Group):
    """A group that lists its commands as they were added, under the first sentences of their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with.

        Raises:
            click.UsageError: When there is none; it names what may have been meant.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            ctx.fail(f"No such command '{one_line(name)}'{self.meant(ctx, name)}")
        return super().resolve_command(ctx, args)

    def meant(self, ctx: click.Context, name: str) -> str:
        """The end of a sentence about a name that no command has."""
        near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        return f"; did you mean '{near[0]}'?" if near else f"; {ctx.command_path} --help lists them"

    def lines(self) -> Iterator[Line]:
        """One line a command."""
        for name, command in self.commands.items():
            heading = first_sentence(inspect.getdoc(inspect.getmodule(command.callback)))
            yield Line(heading, name, first_sentence(command.help))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        lines = list(self.lines())
        width = max((len(line.name) for line in lines), default=0)  # the same under all headings
        for heading in dict.fromkeys(line.heading for line in lines):
            with formatter.section(heading):
                rows = [(line.name.ljust(width), line.summary) for line in lines if line.heading == heading]
                formatter.write_dl(rows, col_max=width)


def first_sentence(text: str | None) -> str:
    return (text or "").strip().partition("\n\n")[0].replace("\n", " ").partition(". ")[0].removesuffix(".")
