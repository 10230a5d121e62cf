"""Groups on workers. What came of their members, and another try for those that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import click

from graflow.cli.output import Rows, as_json, show
from graflow.exceptions import GroupTimeoutError
from graflow.text.shown import one_line, printable
from graflow_celery.cli.connection import connection, deployment, settings
from graflow_celery.cli.facts import log_facts, member_facts
from graflow_celery.client.api import attach_to
from graflow_celery.client.handle import GroupHandle
from graflow_celery.client.outcomes import MemberOutcome
from graflow_celery.client.repair import retry_members
from graflow_celery.record import GroupStatus, MemberState

_COLUMNS: Final = ("index", "task", "status", "attempts", "error")
_NAMED: Final = 20  # members that a line names


@click.command()
@click.argument("run_id")
@click.option("--failed", is_flag=True, help="Only members that did not succeed.")
@click.option("--now", is_flag=True, help="What is there already, without waiting for the end.")
@click.option("--logs", is_flag=True, help="Also what members printed and logged.")
@click.option("--timeout", type=float, help="Seconds to wait [default: until the end].")
@as_json
@connection
def results(
    run_id: str,
    failed: bool,
    now: bool,
    logs: bool,
    timeout: float | None,
    as_json: bool,
    url: str | None,
    key_prefix: str | None,
) -> None:
    r"""Show what came of each member, in member order.

    With --json also values and tracebacks, and with --logs the last 64 KiB of each member's own words.

    \b
    graflow results nightly-7
    graflow results nightly-7 --failed --now
    graflow results nightly-7 --json | jq .value
    graflow results nightly-7 --failed --logs
    """
    if now and timeout is not None:
        raise click.UsageError("--now does not wait: leave --timeout out")
    with deployment(url, key_prefix) as here:
        handle = attach_to(here, run_id, settings(url, key_prefix).options)
        found = sorted(_so_far(handle), key=lambda outcome: outcome.index) if now else handle.outcomes(timeout)
        status = handle.status()
    shown = [outcome for outcome in found if not (failed and outcome.state is MemberState.SUCCEEDED)]
    if as_json:
        for outcome in shown:
            click.echo(json.dumps(member_facts(outcome) | ({"logs": log_facts(outcome)} if logs else {})))
        return
    show(Rows(_COLUMNS, [_row(outcome) for outcome in shown]))
    for outcome in shown if logs else ():
        for line in outcome.logs:
            at = line.at.isoformat(timespec="milliseconds")
            click.echo(f"{one_line(run_id)}[{outcome.index}] {at} {line.level:<7} {printable(line.text)}")
    click.echo(_summary(run_id, status, found), err=True)


@click.command()
@click.argument("run_id")
@click.option("--failed", is_flag=True, help="All members that did not succeed [default].")
@click.option("--index", type=click.IntRange(min=0), help="This member alone.")
@connection
def retry(run_id: str, failed: bool, index: int | None, url: str | None, key_prefix: str | None) -> None:
    r"""Have what failed in a run that has ended run again.

    What succeeded stays. The task that was given as then= follows once, when the group is complete.

    \b
    graflow retry nightly-7
    graflow retry nightly-7 --index 3
    graflow watch nightly-7
    """
    if failed and index is not None:
        raise click.UsageError("--failed and --index exclude each other")
    with deployment(url, key_prefix) as here:
        again = retry_members(here, run_id, index)
    members = "1 member runs" if len(again) == 1 else f"{len(again)} members run"
    what = f"{members} again: {_listed(again)}" if again else "its continuation runs again"
    click.echo(f"{one_line(run_id)}: {what}")


def _so_far(handle: GroupHandle) -> Iterator[MemberOutcome]:
    with suppress(GroupTimeoutError):
        yield from handle.as_completed(0)


def _row(outcome: MemberOutcome) -> list[Any]:
    error = outcome.error
    why = None if error is None else f"{error.type.rpartition('.')[2]}: {error.message}"
    return [outcome.index, outcome.task_id, str(outcome.state), outcome.attempts, why]


def _summary(run_id: str, status: GroupStatus, found: Sequence[MemberOutcome]) -> str:
    """One line under the table: how many there are, and what can be done about those that failed."""
    text = f"{one_line(run_id)}: {len(found)} of {status.total} members have ended"
    bad = sum(1 for outcome in found if outcome.state is not MemberState.SUCCEEDED)
    if bad and status.state.is_final:
        text += f", {bad} without success; graflow retry {one_line(run_id)} has them run again"
    return text


def _listed(indices: Sequence[int]) -> str:
    more = "" if len(indices) <= _NAMED else f" and {len(indices) - _NAMED} more"
    return ", ".join(map(str, indices[:_NAMED])) + more
