"""Whether everything is as it should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points

import click
from rich.console import Group
from rich.text import Text

from graflow.cli.findings import GROUP, Asked, Check, Finding, Level, wrong
from graflow.cli.output import as_json, json_line, show
from graflow.exceptions import GraflowError
from graflow.text.shown import printable

_STATUS = {Level.OK: 0, Level.WARNING: 1, Level.ERROR: 2}
_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@click.command()
@click.option("--store", envvar="GRAFLOW_FLOW_STORE", metavar="URL", help="Where flows are kept.")
@click.option("--flows", "modules", envvar="GRAFLOW_FLOWS", multiple=True, metavar="MODULE", help="What has the flows.")
@click.option("--url", metavar="URL", help="Redis of record [default: GRAFLOW_REDIS_URL, else localhost].")
@click.option("--key-prefix", help="Namespace of the deployment [default: graflow].")
@as_json
def doctor(store: str | None, modules: Sequence[str], url: str | None, key_prefix: str | None, as_json: bool) -> None:
    """Look at settings, stores, servers, workers and queues, and say what to do.

    Ends with 0 when all is well, 1 with a warning, 2 with an error.
    """
    asked = Asked(store, modules, url, key_prefix)
    found = [finding for point in entry_points(group=GROUP) for finding in _found(point, asked)]
    if as_json:
        for finding in found:
            click.echo(json_line(finding))
    else:
        show(Group(*(line for finding in found for line in _lines(finding))))
    raise click.exceptions.Exit(max((_STATUS[finding.level] for finding in found), default=0))


def _found(point: EntryPoint, asked: Asked) -> Iterator[Finding]:
    try:
        check: Check = point.load()
        yield from check(asked)
    except ImportError as error:
        yield wrong(point.name, f"cannot be looked at: {error}", "install the package that it names")
    except GraflowError as error:
        yield wrong(point.name, str(error), "correct what it names; the rest of this topic was not looked at")


def _lines(finding: Finding) -> Iterator[Text]:
    yield Text.assemble(
        (f"{finding.level.value:<8}", _STYLES[finding.level]),
        f"{finding.topic}: {printable(finding.text)}",
        overflow="fold",
    )
    if finding.remedy is not None:
        yield Text(f"        → {printable(finding.remedy)}", overflow="fold")
