"""Options that the commands of flows share, and what they open."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from click.core import ParameterSource

from graflow.cli.flows.modules import load_flows
from graflow.exceptions import (
    ConfigError,
    FlowConflictError,
    FlowInputError,
    FlowNotFoundError,
    GraflowError,
    InvalidCursorError,
    StoreConfigError,
)
from graflow.flows import FlowRunner
from graflow.state import FlowState, FlowStatus
from graflow.state.sqlite import SqliteStore
from graflow.text.shown import printable

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

_NAMES: Final = {"store": "--store", "modules": "--flows"}
_WRONG_USE: Final = (ConfigError, FlowConflictError, FlowInputError, FlowNotFoundError, InvalidCursorError)

store = click.option(
    "--store", envvar="GRAFLOW_FLOW_STORE", metavar="URL", help="Where flows are kept [default: .graflow/flows.db]."
)
flows = click.option(
    "--flows",
    "modules",
    envvar="GRAFLOW_FLOWS",
    metavar="MODULE",
    multiple=True,
    help="Module or file that has the @flow.",
)
on_workers = click.option(
    "--on-workers",
    is_flag=True,
    help="Have workers run it, and wait for nothing; kept in their Redis unless a store is named.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Print what would happen, and do nothing.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")


class _WrongUseError(click.ClickException):
    exit_code = WRONG_USE


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors of ours end the command with their message and without a traceback: 2 for wrong use, else 1."""
    try:
        yield
    except _WRONG_USE as error:
        raise _WrongUseError(printable(error)) from error
    except (GraflowError, ImportError) as error:  # or a package that is needed is not installed
        raise click.ClickException(printable(error)) from error


@contextmanager
def runner_of(
    store: str | None, modules: Sequence[str] = (), *, on_workers: bool = False, makes_store: bool = False
) -> Iterator[FlowRunner]:
    """The runner that a command means; it looks after no flows but its own.

    Args:
        store: The address of its store.
        modules: What has its flows.
        on_workers: Whether workers run what it begins, those of the Redis that `GRAFLOW_REDIS_URL` names.
        makes_store: Whether a file that is not there is made; looking at nothing is a mistake.
    """
    backend = "redis" if on_workers else None
    with clear_errors(), FlowRunner(store, recovery=False, backend=backend) as runner:
        if not makes_store and isinstance(runner.store, SqliteStore) and not runner.store.path.exists():
            raise StoreConfigError(f"There is no store at {runner.store.path}: no flow has been run there yet")
        load_flows(modules)
        try:
            yield runner
        except FlowNotFoundError as error:
            if not str(error).endswith(" not found"):  # of other names it is told what is known
                raise
            raise FlowNotFoundError(f"{error} in {runner.store.url}") from error


def named_again(*names: str) -> str:
    """Options of this command that were given by hand, for one that follows it, as in ` --flows my.flows`."""
    context = click.get_current_context()
    said = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    values = [(name, context.params[name]) for name in said]
    given = [(name, each) for name, value in values for each in ([value] if isinstance(value, str) else value)]
    return "".join(f" {_NAMES[name]} {shlex.quote(each)}" for name, each in given)


def exit_by(flow: FlowState) -> None:
    """End the command by the end of a flow: 0 when it completed, else 1."""
    if flow.status is not FlowStatus.COMPLETED:
        raise click.exceptions.Exit(FAILED)
