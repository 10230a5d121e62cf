"""Commands that other packages add to `graflow`, by the entry point group `graflow.commands`.

The name of an entry point is the name of the command, its object a `click.Command`. A plug-in is imported when its
command runs; help and completion read its source instead, so that they are quick and work whatever a plug-in needs.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem

from graflow.cli.output import printable
from graflow.foreign import attempt_import

GROUP: Final = "graflow.commands"
_CELERYS: Final = frozenset({"worker", "flower", "beat", "events", "inspect", "control", "purge", "multi"})


class _Line(NamedTuple):
    """What help says of a command: the first sentences of the docstrings of its module and of its function."""

    heading: str
    name: str
    summary: str


class PluggedGroup(click.Group):
    """A group whose help stands under headings, with the commands of the entry points beside its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its own before a plug-in's.

        Raises:
            click.ClickException: In one line, when the plug-in cannot be imported or is no command.
        """
        own = super().get_command(ctx, cmd_name)
        plug_in = _plug_in(cmd_name)
        return own if own is not None or plug_in is None else _loaded(plug_in)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with.

        Raises:
            click.UsageError: When there is none; it names what may have been meant.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            ctx.fail(f"No such command '{printable(name)}'{self._meant(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str:
        if name in _CELERYS:
            return f"; it is one of Celery's: celery -A graflow_celery {name}"
        near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        return f"; did you mean '{near[0]}'?" if near else "; graflow --help lists them"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = list(self._lines(ctx))
        width = max((len(line.name) for line in lines), default=0)  # the same under all headings
        for heading in dict.fromkeys(line.heading for line in lines):
            with formatter.section(heading):
                rows = [(line.name.ljust(width), line.summary) for line in lines if line.heading == heading]
                formatter.write_dl(rows, col_max=width)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        lines = (line for line in self._lines(ctx) if line.name.startswith(incomplete))
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(line.name, help=line.summary) for line in lines), *options]

    def _lines(self, ctx: click.Context) -> Iterator[_Line]:
        """One line a command: those of plug-ins by heading, its own last."""
        own = super().list_commands(ctx)
        plugged = (point for point in entry_points(group=GROUP) if point.name not in own)
        yield from sorted(_line_of(point) for point in {point.name: point for point in plugged}.values())
        for name in own:
            command = self.commands[name]
            heading = _first_sentence(inspect.getdoc(inspect.getmodule(command.callback)))
            yield _Line(heading, name, _first_sentence(command.help))


def _plug_in(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _loaded(plug_in: EntryPoint) -> click.Command:
    def refuse(error: Exception | SystemExit) -> NoReturn:
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        raise click.ClickException(f"The command '{plug_in.name}' cannot be loaded: {reason}") from error

    command: Any = attempt_import(plug_in.load, refuse)
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"The command '{plug_in.name}' cannot be loaded: {plug_in.value} is no click command"
        )
    return command


def _line_of(plug_in: EntryPoint) -> _Line:
    """Read from the source of the plug-in, which is not imported; its package's name where that says nothing."""
    heading, summary = plug_in.module.partition(".")[0], ""
    try:
        module = ast.parse(_source_of(plug_in.module).read_bytes())
    except (ImportError, OSError, SyntaxError, ValueError):  # no source that can be read: running the command tells
        return _Line(heading, plug_in.name, summary)
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == plug_in.attr:
            summary = _first_sentence(ast.get_docstring(node))
    return _Line(_first_sentence(ast.get_docstring(module)) or heading, plug_in.name, summary)


def _source_of(module: str) -> Path:
    """Where the source of a module is.

    Raises:
        FileNotFoundError: When its package is not there.
    """
    package, *inner = module.split(".")
    spec = find_spec(package)  # of the outermost package alone: this imports nothing
    if spec is None:
        raise FileNotFoundError(package)
    roots: Sequence[str] = spec.submodule_search_locations or ()
    places = [Path(root, *inner) for root in roots] if inner else []
    candidates = [*(place.with_suffix(".py") for place in places), *(place / "__init__.py" for place in places)]
    return next((path for path in candidates if path.is_file()), Path(spec.origin or package))


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().partition("\n\n")[0].replace("\n", " ").partition(". ")[0].removesuffix(".")
