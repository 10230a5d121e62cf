"""The command `graflow`, which is also `celery -A graflow_celery graflow`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from graflow.codec import to_jsonable
from graflow.exceptions import GraflowError, GroupTimeoutError
from graflow.signing import generate_key
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.handle import GroupHandle
from graflow_celery.outcomes import MemberOutcome
from graflow_celery.record import GroupStatus
from graflow_celery.submitting import attach

_REDRAWN: Final = 0.5  # seconds
_MEMBERS_SHOWN: Final = 20
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


@graflow.command()
@click.option("--id", "key_id", help="Id of the key [default: a random one].")
def keygen(key_id: str | None) -> None:
    """Print a new signing key, for GRAFLOW_SIGNING_KEY of submitters and workers."""
    with _clear_errors():
        click.echo(generate_key(key_id))


@graflow.command()
@_connection
def runs(url: str | None, key_prefix: str | None) -> None:
    """List the groups that have not ended."""
    with _clear_errors():
        deployment = _deployment(url, key_prefix)
        record = deployment.record
        table = _table("run", "group", "state", "done", "total")
        for run_id in record.open_groups():
            header = record.header(run_id)
            state = header.status
            table.add_row(run_id, header.spec.group_id, str(header.state), str(state.recorded), str(state.total))
    Console().print(table)


@graflow.command()
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_connection
def status(run_id: str, as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """Count the members of a run by where they are."""
    with _clear_errors():
        found = _attach(run_id, url, key_prefix).status()
    if as_json:
        click.echo(json.dumps({name: getattr(found, name) for name in found.__dataclass_fields__}))
    else:
        Console().print(_status_table(run_id, found))


@graflow.command()
@click.argument("run_id")
@click.option("--timeout", type=float, help="Seconds to wait [default: until the end].")
@_connection
def watch(run_id: str, timeout: float | None, url: str | None, key_prefix: str | None) -> None:
    """Show a run until it ends; exits with 1 unless it ended well."""
    with _clear_errors():
        handle = _attach(run_id, url, key_prefix)
        deadline = None if timeout is None else time.monotonic() + timeout
        with Live(_shown(handle), console=Console(), transient=False) as live:
            while not _has_ended(handle, deadline):
                live.update(_shown(handle))
            final = handle.status()
            live.update(_status_table(run_id, final))
    if final.state != "DONE":
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
            click.echo(json.dumps(_as_json(outcome)))


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


def _shown(handle: GroupHandle) -> RenderableType:
    """The counts of a run, and how far its members are."""
    told = _table("member", "progress")
    for index, progress in list(handle.progress().items())[:_MEMBERS_SHOWN]:
        told.add_row(f"[{index}]", Text(str(progress)))
    counts = _status_table(handle.run_id, handle.status())
    return Group(counts, told) if told.row_count else counts


def _attach(run_id: str, url: str | None, key_prefix: str | None) -> GroupHandle:
    return attach(run_id, _config(url, key_prefix))


def _as_json(outcome: MemberOutcome) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "index": outcome.index,
        "task_id": outcome.task_id,
        "state": str(outcome.state),
        "attempts": outcome.attempts,
        "worker": outcome.worker,
    }
    if outcome.error is None:
        shown["value"] = to_jsonable(outcome.value)
    else:
        shown["error"] = {"type": outcome.error.type, "message": outcome.error.message}
    return shown


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ignore")
    return table


def _status_table(run_id: str, found: GroupStatus) -> Table:
    table = _table("state", "total", "pending", "running", "succeeded", "failed", "cancelled", "lost")
    counts = (found.total, found.pending, found.running, found.succeeded, found.failed, found.cancelled, found.lost)
    table.title = run_id
    table.title_justify = "left"
    table.add_row(str(found.state), *map(str, counts))
    return table


def main() -> None:
    """The console script."""
    graflow()
