"""The command `graflow`, which is also `celery -A graflow_celery graflow`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from graflow.exceptions import GraflowError, GroupTimeoutError
from graflow.signing import generate_key
from graflow_celery.cli.facts import headers, member_facts, queue_facts, run_facts, worker_facts, workers
from graflow_celery.client.api import attach, attach_to
from graflow_celery.client.handle import GroupHandle
from graflow_celery.deployment import Deployment, deployment_of

_REDRAWN: Final = 0.5  # seconds
_MEMBERS_SHOWN: Final = 20
_WIDEST: Final = 10_000  # characters of a line, so that none is cut
_COUNTS: Final = ("state", "total", "pending", "running", "succeeded", "failed", "cancelled", "lost")
_RUNS: Final = ("run_id", "group_id", *_COUNTS, "opened_at")
_WORKERS: Final = ("worker", "slots", "queues", "modules", "keys", "last_beat")
_QUEUES: Final = ("queue", "messages", "workers", "slots")
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
@click.version_option(package_name="graflow-celery")
def graflow() -> None:
    """Look at, wait for and cancel groups that run on Celery workers."""


def _connection(command: _F) -> _F:
    """The options that say which deployment is meant."""
    for option in (
        click.option("--key-prefix", help="Namespace of the deployment [default: graflow]."),
        click.option("--url", help="Redis of record [default: GRAFLOW_REDIS_URL, else localhost]."),
    ):
        command = option(command)
    return command


def _config(url: str | None, key_prefix: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("url", url), ("key_prefix", key_prefix)) if value is not None}


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except GraflowError as error:
        raise click.ClickException(str(error)) from error


def _deployment(url: str | None, key_prefix: str | None) -> Deployment:
    deployment = deployment_of(_config(url, key_prefix))
    deployment.check()
    return deployment


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")


@graflow.command()
@click.option("--id", "key_id", help="Id of the key [default: a random one].")
def keygen(key_id: str | None) -> None:
    """Print a new signing key, for GRAFLOW_SIGNING_KEY of submitters and workers."""
    with _clear_errors():
        click.echo(generate_key(key_id))


@graflow.command()
@click.option("--all", "ended", is_flag=True, help="Also those that have ended, as long as their results are kept.")
@_as_json
@_connection
def runs(ended: bool, as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the groups that have not ended, the oldest first."""
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        with deployment.errors():
            _print(_RUNS, [run_facts(header) for header in headers(deployment, ended=ended)], as_json=as_json)


@graflow.command("workers")
@_as_json
@_connection
def workers_command(as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the workers that live, with what they consume and may run."""
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        with deployment.errors():
            _print(_WORKERS, [worker_facts(worker) for worker in workers(deployment)], as_json=as_json)


@graflow.command()
@_as_json
@_connection
def queues(as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the queues: messages that wait, and workers that consume them."""
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        with deployment.errors():
            _print(_QUEUES, list(queue_facts(deployment)), as_json=as_json)


@graflow.command()
@click.argument("run_id")
@_as_json
@_connection
def status(run_id: str, as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """Count the members of a run by where they are."""
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        with deployment.errors():
            facts = run_facts(deployment.record.header(run_id))
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _show(_counts(facts))


@graflow.command()
@click.argument("run_id")
@click.option("--timeout", type=float, help="Seconds to wait [default: until the end].")
@_connection
def watch(run_id: str, timeout: float | None, url: str | None, key_prefix: str | None) -> None:
    """Show a run until it ends; exits with 1 unless it ended well. Silent until then where nobody looks."""
    console = Console()
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        handle = attach_to(deployment, run_id)
        deadline = None if timeout is None else time.monotonic() + timeout
        if console.is_terminal:
            with Live(_shown(handle, deployment), console=console, transient=True) as live:
                while not _has_ended(handle, deadline):
                    live.update(_shown(handle, deployment))
        else:
            while not _has_ended(handle, deadline):
                pass
        final = run_facts(deployment.record.header(run_id))
    _show(_counts(final))
    if final["state"] != "DONE":
        raise click.exceptions.Exit(1)


@graflow.command()
@click.argument("run_id")
@_connection
def cancel(run_id: str, url: str | None, key_prefix: str | None) -> None:
    """Cancel every member of a run that has not ended."""
    with _clear_errors():
        changed = _attach(run_id, url, key_prefix).cancel("cancelled from the command line")
    click.echo(f"{run_id}: {'cancelled' if changed else 'had ended already'}")


@graflow.command()
@click.argument("run_id")
@click.option("--timeout", type=float, help="Seconds to wait [default: until the end].")
@_connection
def results(run_id: str, timeout: float | None, url: str | None, key_prefix: str | None) -> None:
    """Print one line of JSON per member, in member order."""
    with _clear_errors():
        for outcome in _attach(run_id, url, key_prefix).outcomes(timeout):
            click.echo(json.dumps(member_facts(outcome)))


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


def _shown(handle: GroupHandle, deployment: Deployment) -> Group:
    """The counts of a run, and how far its members are."""
    told = [(f"[{index}]", str(progress)) for index, progress in handle.progress().items()][:_MEMBERS_SHOWN]
    counts = _counts(run_facts(deployment.record.header(handle.run_id)))
    return Group(counts, _table(("member", "progress"), told)) if told else counts


def _attach(run_id: str, url: str | None, key_prefix: str | None) -> GroupHandle:
    return attach(run_id, _config(url, key_prefix))


def _print(names: Sequence[str], found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for facts in found:
            click.echo(json.dumps(facts))
    else:
        _show(_table([name.removesuffix("_id") for name in names], [_row(names, facts) for facts in found]))


def _row(names: Sequence[str], facts: Mapping[str, Any]) -> list[Any]:
    return [", ".join(value) if isinstance(value := facts.get(name), list) else value for name in names]


def _counts(facts: Mapping[str, Any]) -> Group:
    """One run for people."""
    why = f" ({facts['reason']})" if facts["reason"] else ""
    return Group(Text(f"{facts['run_id']}{why}"), _table(_COUNTS, [_row(_COUNTS, facts)]))


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Rows under their names, numbers to the right."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(names):
        is_number = any(isinstance(row[place], int) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text("-" if value in {None, ""} else str(value)) for value in row))
    return table


def _show(what: Table | Group) -> None:
    """Print in full: a terminal breaks lines that are too long for it, and a pipe takes any."""
    console = Console()
    console.width = max(console.width, console.measure(what, options=console.options.update(width=_WIDEST)).maximum)
    console.print(what)


def main() -> None:
    """The console script."""
    graflow()
