"""Groups on workers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from graflow.cli.output import Rows, as_json, print_facts, show
from graflow.exceptions import GroupTimeoutError
from graflow.text.shown import one_line
from graflow_celery.cli.connection import connection, deployment, settings
from graflow_celery.cli.facts import listed_runs, run_facts
from graflow_celery.client.api import attach_to
from graflow_celery.client.handle import GroupHandle
from graflow_celery.deployment import Deployment

_REDRAWN: Final = 0.5  # seconds
_MEMBERS_SHOWN: Final = 20
_COUNTS: Final = ("state", "total", "pending", "running", "succeeded", "failed", "cancelled", "lost")
_RUNS: Final = ("run_id", "group_id", *_COUNTS, "opened_at")


@click.command()
@click.option("--all", "ended", is_flag=True, help="Also those that have ended, as long as their results are kept.")
@as_json
@connection
def runs(ended: bool, as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the groups that have not ended, the oldest first; last those whose record cannot be read."""
    with deployment(url, key_prefix) as here:
        found = listed_runs(here, ended=ended)
    print_facts(_RUNS, found, as_json=as_json)
    if not as_json:
        for odd in found:
            if "group_id" not in odd:
                click.echo(one_line(odd["reason"]), err=True)


@click.command()
@click.argument("run_id")
@as_json
@connection
def status(run_id: str, as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """Count the members of a run by where they are."""
    with deployment(url, key_prefix) as here:
        facts = run_facts(here.record.header(run_id))
    if as_json:
        click.echo(json.dumps(facts))
    else:
        show(_counts(facts))


@click.command()
@click.argument("run_id")
@click.option("--timeout", type=float, help="Seconds to wait [default: until the end].")
@connection
def watch(run_id: str, timeout: float | None, url: str | None, key_prefix: str | None) -> None:
    """Show a run until it ends; exits with 1 unless it ended well. Silent until then where nobody looks."""
    console = Console()
    with deployment(url, key_prefix) as here:
        handle = attach_to(here, run_id, settings(url, key_prefix).options)
        deadline = None if timeout is None else time.monotonic() + timeout
        if console.is_terminal:
            with Live(_progress(handle, here), console=console, transient=True) as live:
                while not _has_ended(handle, deadline):
                    live.update(_progress(handle, here))
        else:
            while not _has_ended(handle, deadline):
                pass
        final = run_facts(here.record.header(run_id))
    show(_counts(final))
    if final["state"] != "DONE":
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("run_id")
@connection
def cancel(run_id: str, url: str | None, key_prefix: str | None) -> None:
    """Cancel every member of a run that has not ended."""
    with deployment(url, key_prefix) as here:
        handle = attach_to(here, run_id, settings(url, key_prefix).options)
        changed = handle.cancel("cancelled from the command line")
    click.echo(f"{one_line(run_id)}: {'cancelled' if changed else 'had ended already'}")


def _has_ended(handle: GroupHandle, deadline: float | None) -> bool:
    """Wait until the run has ended, but not for long.

    Raises:
        GroupTimeoutError: When the deadline is over.
    """
    seconds = _REDRAWN if deadline is None else min(_REDRAWN, max(deadline - time.monotonic(), 0.0))
    try:
        handle.outcomes(seconds)
    except GroupTimeoutError:
        if seconds < _REDRAWN or handle.status().state.is_final:
            raise
        return False
    return True


def _progress(handle: GroupHandle, here: Deployment) -> Group:
    """The counts of a run, and how far its members are."""
    told = [(f"[{index}]", str(progress)) for index, progress in handle.progress().items()][:_MEMBERS_SHOWN]
    counts = _counts(run_facts(here.record.header(handle.run_id)))
    return Group(counts, Rows(("member", "progress"), told)) if told else counts


def _counts(facts: Mapping[str, Any]) -> Group:
    """One run for people."""
    why = f" ({facts['reason']})" if facts["reason"] else ""
    counts = Rows(_COUNTS, [[facts[name] for name in _COUNTS]])
    return Group(Text(one_line(f"{facts['run_id']}{why}"), overflow="fold"), counts)
