"""Running flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import click
from rich.console import Console

from graflow.cli.flows.inputs import parse_inputs
from graflow.cli.flows.interrupting import interruptible
from graflow.cli.flows.options import (
    INTERRUPTED,
    as_json,
    dry_run,
    exit_by,
    flows,
    named_again,
    on_workers,
    runner_of,
    store,
)
from graflow.cli.flows.pictures import flow_picture
from graflow.cli.flows.planning import show_plan
from graflow.cli.flows.watching import watched
from graflow.cli.output import json_line
from graflow.cli.output import show as print_for_people
from graflow.exceptions import FlowChangedError
from graflow.flows import FlowContext, FlowRunner
from graflow.flows.inputs import checked_id
from graflow.ids import uuid7
from graflow.state import FlowState, FlowStatus, open_store
from graflow.text.shown import one_line

_RESUMABLE: Final = frozenset({FlowStatus.FAILED, FlowStatus.PAUSED, FlowStatus.LOST})

_visit = click.option("--visit", type=click.IntRange(1), help="Which execution of the step.")
_on_change = click.option(
    "--on-change",
    type=click.Choice(["refuse", "reuse"]),
    default="refuse",
    show_default=True,
    help="What to do when the code of completed steps changed.",
)
_plan = click.option("--plan", metavar="DIGEST", help="Refuse when that plan holds no longer.")
_quiet = click.option("--quiet", is_flag=True, help="Say nothing until the end.")


@click.command()
@click.argument("name", metavar="FLOW")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--id", "flow_id", help="Id of the flow; the same one is run once.")
@_quiet
@on_workers
@as_json
@store
@flows
def run(
    name: str,
    inputs: Sequence[str],
    flow_id: str | None,
    quiet: bool,
    on_workers: bool,
    as_json: bool,
    store: str | None,
    modules: Sequence[str],
) -> None:
    """Run a flow here. A value is JSON or text; @FILE is one of JSON."""
    with runner_of(store, modules, on_workers=on_workers, makes_store=True) as runner:
        context = FlowContext(name, parse_inputs(name, inputs), _id(flow_id))
        if on_workers:
            runner.submit(context)
            _tell_id(runner, runner.get_flow_state(context.flow_id), as_json=as_json)
            return
        _advance(runner, context.flow_id, lambda: runner.execute(context), quiet=quiet, as_json=as_json)


@click.command()
@click.argument("flow_id")
@_on_change
@_plan
@dry_run
@_quiet
@on_workers
@as_json
@store
@flows
def resume(
    flow_id: str,
    on_change: Any,
    plan: str | None,
    dry_run: bool,
    quiet: bool,
    on_workers: bool,
    as_json: bool,
    store: str | None,
    modules: Sequence[str],
) -> None:
    """Go on with a flow that failed, was paused or lost."""
    with runner_of(store, modules, on_workers=on_workers) as runner, _changes_told(flow_id):
        if dry_run:
            show_plan(runner.plan_resume(flow_id, on_change=on_change), as_json=as_json)
            return
        _advance(
            runner,
            flow_id,
            lambda: runner.resume_flow(flow_id, on_change=on_change, plan=plan, wait=not on_workers),
            quiet=quiet,
            as_json=as_json,
            waits=not on_workers,
        )


@click.command()
@click.argument("flow_id")
@click.argument("step")
@click.option("--index", type=click.IntRange(0), help="A member of the group [default: all that failed].")
@_visit
@click.option(
    "--downstream",
    type=click.Choice(["none", "failed", "all"]),
    default="failed",
    show_default=True,
    help="Which later steps run again as well.",
)
@click.option("--ask-again", is_flag=True, help="Ask people again what the step has asked them.")
@_plan
@dry_run
@_quiet
@on_workers
@as_json
@store
@flows
def retry(
    flow_id: str,
    step: str,
    index: int | None,
    visit: int | None,
    downstream: Any,
    ask_again: bool,
    plan: str | None,
    dry_run: bool,
    quiet: bool,
    on_workers: bool,
    as_json: bool,
    store: str | None,
    modules: Sequence[str],
) -> None:
    """Run one step of a flow again."""
    with runner_of(store, modules, on_workers=on_workers) as runner, _changes_told(flow_id):
        which: dict[str, Any] = {"index": index, "visit": visit, "downstream": downstream, "ask_again": ask_again}
        if dry_run:
            show_plan(runner.plan_retry(flow_id, step, **which), as_json=as_json)
            return
        _advance(
            runner,
            flow_id,
            lambda: runner.retry_failed_step(flow_id, step, **which, plan=plan, wait=not on_workers),
            quiet=quiet,
            as_json=as_json,
            waits=not on_workers,
        )


@click.command()
@click.argument("flow_id")
@click.argument("step")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@_visit
@click.option("--id", "new_flow_id", help="Id of the new flow.")
@_plan
@dry_run
@_quiet
@on_workers
@as_json
@store
@flows
def fork(
    flow_id: str,
    step: str,
    inputs: Sequence[str],
    visit: int | None,
    new_flow_id: str | None,
    plan: str | None,
    dry_run: bool,
    quiet: bool,
    on_workers: bool,
    as_json: bool,
    store: str | None,
    modules: Sequence[str],
) -> None:
    """Run a flow anew from a step on, as another flow."""
    with runner_of(store, modules, on_workers=on_workers) as runner:
        given = parse_inputs(runner.get_flow_state(flow_id).flow_name, inputs) if inputs else None
        if dry_run:
            show_plan(runner.plan_fork(flow_id, step, visit=visit, inputs=given), as_json=as_json)
            return
        made = _id(new_flow_id)
        _advance(
            runner,
            made,
            lambda: runner.fork_flow(
                flow_id, step, visit=visit, inputs=given, new_flow_id=made, plan=plan, wait=not on_workers
            ),
            quiet=quiet,
            as_json=as_json,
            waits=not on_workers,
        )


def _id(given: str | None) -> str:
    """The id of a flow that is made: the given one, or a new one."""
    return uuid7() if given is None else checked_id(given)


def _advance(
    runner: FlowRunner,
    flow_id: str,
    verb: Callable[[], FlowState],
    *,
    quiet: bool,
    as_json: bool,
    waits: bool = True,
) -> None:
    """Have a flow run, show it meanwhile on standard error, and how it ended; the status is that of its end."""
    if not waits:
        _tell_id(runner, verb(), as_json=as_json)
        return
    console = Console(stderr=True)
    shown = nullcontext() if quiet else watched(lambda: runner.store.get_flow_state(flow_id), console)
    with interruptible(runner, flow_id) as interruption:
        try:
            with shown:
                flow = verb()
        except KeyboardInterrupt:
            click.echo(interruption.last_words(), err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
    if as_json:
        click.echo(json_line(flow))
    else:
        print_for_people(flow_picture(flow))
    if interruption.is_asked and not flow.status.is_terminal:
        click.echo(interruption.last_words(), err=True)
        raise click.exceptions.Exit(INTERRUPTED)
    if flow.status is FlowStatus.FAILED:
        where = f"{one_line(flow.flow_id)} --traceback{named_again('store')}"
        click.echo(f"Where it failed: graflow flow show {where}", err=True)
    if flow.status in _RESUMABLE:
        kind = (flow.error_data or {}).get("type", "").rpartition(".")[2]
        has_changed = flow.status is FlowStatus.PAUSED and kind == FlowChangedError.__name__
        click.echo(f"It goes on with: {_resuming(flow.flow_id, has_changed=has_changed)}", err=True)
    exit_by(flow)


def _resuming(flow_id: str, *, has_changed: bool) -> str:
    """The command by which a flow goes on."""
    option = " --on-change reuse" if has_changed else ""
    return f"graflow flow resume {one_line(flow_id)}{option}{named_again('store', 'modules')}"


@contextmanager
def _changes_told(flow_id: str) -> Iterator[None]:
    """A block in which a flow is refused because of its code with the command that takes it all the same."""
    try:
        yield
    except FlowChangedError as error:
        if click.get_current_context().params.get("on_change") == "reuse":  # which has not helped
            raise
        raise FlowChangedError(f"{error}: {_resuming(flow_id, has_changed=True)}") from error


def _tell_id(runner: FlowRunner, flow: FlowState, *, as_json: bool) -> None:
    """Print a flow that others run by now, and where it is kept when that is not where the other commands look."""
    click.echo(json_line(flow) if as_json else one_line(flow.flow_id))
    kept = runner.store.url
    if kept != open_store(None).url:
        click.echo(f"It is kept in {kept}: graflow flow watch {one_line(flow.flow_id)} --store {kept}", err=True)
