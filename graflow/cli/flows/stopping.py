"""Stopping and clearing up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from graflow.cli.flows.options import as_json, dry_run, flows, runner_of, store
from graflow.cli.flows.pictures import headline
from graflow.cli.flows.planning import show_plan
from graflow.cli.flows.times import AGE
from graflow.cli.output import json_line
from graflow.cli.output import show as print_for_people
from graflow.state import FlowState, FlowStatus

_plan = click.option("--plan", metavar="DIGEST", help="Refuse when that plan holds no longer.")


@click.command()
@click.argument("flow_id")
@click.option("--reason", default="", help="Kept with the flow.")
@_plan
@dry_run
@as_json
@store
def pause(flow_id: str, reason: str, plan: str | None, dry_run: bool, as_json: bool, store: str | None) -> None:
    """Have a flow stop after its running steps."""
    with runner_of(store) as runner:
        if dry_run:
            show_plan(runner.plan_pause(flow_id), as_json=as_json)
            return
        flow = runner.pause_flow(flow_id, reason, plan=plan)
    _tell(flow, asked="It pauses after its running steps", done=flow.status is FlowStatus.PAUSED, as_json=as_json)


@click.command()
@click.argument("flow_id")
@click.option("--reason", default="", help="Kept with the flow.")
@_plan
@dry_run
@as_json
@store
@flows
def cancel(
    flow_id: str,
    reason: str,
    plan: str | None,
    dry_run: bool,
    as_json: bool,
    store: str | None,
    modules: Sequence[str],
) -> None:
    """End a flow, with its groups on workers."""
    with runner_of(store, modules) as runner:
        if dry_run:
            show_plan(runner.plan_cancel(flow_id), as_json=as_json)
            return
        flow = runner.cancel_flow(flow_id, reason, plan=plan)
    _tell(flow, asked="Whoever runs it ends it", done=flow.status.is_terminal, as_json=as_json)


@click.command("clear-cache")
@click.argument("name", required=False)
@as_json
@store
def clear_cache(name: str | None, as_json: bool, store: str | None) -> None:
    """Forget the values that are kept of a flow or task, or all of them."""
    with runner_of(store) as runner:
        count = runner.clear_cache(name)
    click.echo(f'{{"cleared": {count}}}' if as_json else f"Forgot {count} kept value{'s' * (count != 1)}")


@click.command()
@click.option("--older-than", type=AGE, help="Ended so long ago: 90s, 2h, 30d [default: 30d].")
@click.option("--keep", type=click.IntRange(0), help="Keep so many at most [default: 100000].")
@as_json
@store
def cleanup(older_than: float | None, keep: int | None, as_json: bool, store: str | None) -> None:
    """Remove flows that ended long ago."""
    with runner_of(store) as runner:
        given: dict[str, Any] = {"older_than": older_than, "keep": keep}
        removed = runner.cleanup(**{name: value for name, value in given.items() if value is not None})
    click.echo(f'{{"removed": {removed}}}' if as_json else f"Removed {removed} flow{'' if removed == 1 else 's'}")


def _tell(flow: FlowState, *, asked: str, done: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(flow))
        return
    print_for_people(headline(flow))
    if not done:
        click.echo(asked)
