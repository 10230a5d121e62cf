"""Commands that other packages add to `graflow`, by the entry point group `graflow.commands`.

The name of an entry point is the name of the command, its object a `click.Command`. A plug-in is imported when its
command runs; help and completion read its source instead, so that they are quick and work whatever a plug-in needs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from graflow.cli.headings import HeadedGroup, Line, first_sentence
from graflow.foreign import attempt_import
from graflow.text.shown import one_line

GROUP: Final = "graflow.commands"
_CELERYS: Final = frozenset({"worker", "flower", "beat", "events", "inspect", "control", "purge", "multi"})


class PluggedGroup(HeadedGroup):
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

    def meant(self, ctx: click.Context, name: str) -> str:
        if name in _CELERYS:
            return f"; it is one of Celery's: celery -A graflow_celery {name}"
        return super().meant(ctx, name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        lines = (line for line in self.lines() if line.name.startswith(incomplete))
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(line.name, help=line.summary) for line in lines), *options]

    def lines(self) -> Iterator[Line]:
        """One line a command: those of plug-ins by heading, its own last."""
        plugged = (point for point in entry_points(group=GROUP) if point.name not in self.commands)
        yield from sorted(_line_of(point) for point in {point.name: point for point in plugged}.values())
        yield from super().lines()


def _plug_in(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _loaded(plug_in: EntryPoint) -> click.Command:
    def refuse(error: Exception | SystemExit) -> NoReturn:
        reason = one_line(" ".join(f"{type(error).__name__}: {error}".split()))
        raise click.ClickException(f"The command '{plug_in.name}' cannot be loaded: {reason}") from error

    command: Any = attempt_import(plug_in.load, refuse)
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"The command '{plug_in.name}' cannot be loaded: {plug_in.value} is no click command"
        )
    return command


def _line_of(plug_in: EntryPoint) -> Line:
    """Read from the source of the plug-in, which is not imported; its package's name where that says nothing."""
    heading, summary = plug_in.module.partition(".")[0], ""
    try:
        module = ast.parse(_source_of(plug_in.module).read_bytes())
    except (ImportError, OSError, SyntaxError, ValueError):  # no source that can be read: running the command tells
        return Line(heading, plug_in.name, summary)
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == plug_in.attr:
            summary = first_sentence(ast.get_docstring(node))
    return Line(first_sentence(ast.get_docstring(module)) or heading, plug_in.name, summary)


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
