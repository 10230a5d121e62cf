"""Looking at flows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TextIO

import click
from rich.console import Console, Group, RenderableType

from graflow.cli.flows.drawn import drawn_flow
from graflow.cli.flows.options import as_json, exit_by, named_again, runner_of, store
from graflow.cli.flows.pictures import (
    explanation_picture,
    flow_picture,
    flows_table,
    members_table,
    stats_picture,
    tracebacks,
)
from graflow.cli.flows.times import AGE
from graflow.cli.flows.watching import Watcher
from graflow.cli.output import json_line
from graflow.cli.output import show as print_for_people
from graflow.flows.claims import flow_with_claims, members_with_claims
from graflow.flows.recording.identity import is_gone
from graflow.flows.verbs.explaining import begun_row
from graflow.state import FlowState, FlowStatus, FlowStepState, StepStatus
from graflow.text.shown import one_line

_FLOW_STATES = click.Choice([status.value for status in FlowStatus])
_MEMBER_STATES = click.Choice([status.value for status in StepStatus])


@click.command("list")
@click.option("--name", help="Only flows of this name.")
@click.option("--status", type=_FLOW_STATES, multiple=True, metavar="STATE", help="Only flows in this state.")
@click.option("--search", metavar="TEXT", help="Only flows with it in id, name or inputs.")
@click.option("--since", type=AGE, help="Only flows of the last 2h, 3d ...")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Flows on a page.")
@click.option("--cursor", help="The next page, as the last one named it.")
@as_json
@store
def list_flows(
    name: str | None,
    status: Sequence[str],
    search: str | None,
    since: float | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """List flows, the newest first."""
    with runner_of(store) as runner:
        earliest = None if since is None else time.time() - since
        page = runner.list_flows(name, list(status), search, cursor, limit, since=earliest)
    if as_json:
        for flow in page:
            click.echo(json_line(flow))
    elif page:
        print_for_people(flows_table(page))
    else:
        click.echo("No flows", err=True)
    if page.next_cursor is not None:
        click.echo(f"There are more: --cursor {page.next_cursor}", err=True)


@click.command()
@click.argument("flow_id")
@click.option("--members", "step", metavar="STEP", help="The members of this group instead.")
@click.option("--traceback", is_flag=True, help="Where they failed, below the table.")
@click.option("--visit", type=int, help="Of this visit of the group [default: the last one].")
@click.option("--status", type=_MEMBER_STATES, multiple=True, metavar="STATE", help="Only members in this state.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Members on a page.")
@click.option("--cursor", help="The next page, as the last one named it.")
@click.option("--svg", type=click.File("w", "utf-8", atomic=True), help="Draw its graph into this file; - prints it.")
@as_json
@store
def show(
    flow_id: str,
    step: str | None,
    traceback: bool,
    visit: int | None,
    status: Sequence[str],
    limit: int,
    cursor: str | None,
    svg: TextIO | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Show a flow: its steps, the members of one, or its graph."""
    if svg is not None:
        if step is not None or as_json:
            raise click.UsageError("--svg draws a flow as a whole; leave out --members and --json")
        with runner_of(store) as runner:
            svg.write(drawn_flow(runner.get_flow_graph(flow_id), runner.get_flow_state(flow_id)))
        return
    if step is None and (status or visit is not None or cursor is not None):
        raise click.UsageError("--visit, --status and --cursor are about members; name their group with --members")
    with runner_of(store) as runner:
        flow = runner.get_flow_state(flow_id)
        shown: Sequence[FlowStepState]
        table: RenderableType
        cursor_after = None
        if step is None:
            flow = flow_with_claims(runner, flow)
            shown, table = flow.steps, flow_picture(flow)
        else:
            group = begun_row(flow, step, visit)
            if not group.size:
                raise click.UsageError(f"Step {one_line(step)} is no group; --members names one")
            page = members_with_claims(runner, flow, group, status, cursor, limit)
            shown, table, cursor_after = page, members_table(page), page.next_cursor
    if as_json:
        for each in [flow] if step is None else shown:
            click.echo(json_line(each))
    elif step is not None and not shown:
        click.echo(f"Step {one_line(step)} has no such members", err=True)
    else:
        print_for_people(Group(table, *(tracebacks(flow, shown) if traceback else ())))
    if cursor_after is not None:
        click.echo(f"There are more: --cursor {cursor_after}", err=True)


@click.command()
@click.argument("flow_id")
@click.argument("step")
@click.option("--visit", type=int, help="Of this visit of the step [default: the last one].")
@click.option("--index", type=click.IntRange(0), help="Of this member of a group.")
@as_json
@store
def explain(flow_id: str, step: str, visit: int | None, index: int | None, as_json: bool, store: str | None) -> None:
    """Tell why a step has its outcome: whether a kept value was given, and why not."""
    with runner_of(store) as runner:
        found = runner.explain_step(flow_id, step, visit=visit, index=index)
    if as_json:
        click.echo(json_line(found))
    else:
        print_for_people(explanation_picture(found))


@click.command()
@click.option("--name", help="Only flows of this name.")
@click.option("--since", type=AGE, help="Only flows of the last 2h, 3d ...")
@as_json
@store
def stats(name: str | None, since: float | None, as_json: bool, store: str | None) -> None:
    """Count flows by their ends, with times, retries and members of their steps."""
    with runner_of(store) as runner:
        found = runner.stats(name, None if since is None else timedelta(seconds=since))
    if as_json:
        click.echo(json_line(found))
    else:
        print_for_people(stats_picture(found))


@click.command()
@click.argument("flow_id")
@as_json
@store
def watch(flow_id: str, as_json: bool, store: str | None) -> None:
    """Show a flow until it ends or pauses; a line for each change where nobody looks."""
    console = Console()
    with runner_of(store) as runner:
        watcher = Watcher(lambda: flow_with_claims(runner, runner.get_flow_state(flow_id)), console, as_json=as_json)
        try:
            flow = watcher.watch(time.sleep, lambda flow: flow is not None and rests(flow))
        except KeyboardInterrupt:
            click.echo(_left(runner.get_flow_state(flow_id)), err=True)
            raise click.exceptions.Exit(130) from None
    if flow is not None:
        if console.is_terminal and not as_json:
            print_for_people(flow_picture(flow))
        exit_by(flow)


def _left(flow: FlowState) -> str:
    """What becomes of a flow that nobody watches any more."""
    name = one_line(flow.flow_id)
    if flow.owner is not None and is_gone(flow.owner):
        which = f"{name}{named_again('store')}"
        return f"The process of flow {name} is gone; it goes on with: graflow flow resume {which}"
    return f"Flow {name} goes on; only watching has ended"


def rests(flow: FlowState) -> bool:
    """Whether nothing happens to a flow unless somebody asks for it."""
    return flow.status.is_terminal or flow.status is FlowStatus.PAUSED
