"""What a verb would do to a flow, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.text import Text

from graflow.cli.flows.options import FAILED
from graflow.cli.flows.pictures import counted
from graflow.cli.output import Rows, json_line, show
from graflow.flows import FlowPlan, PlannedStep
from graflow.state import StepStatus
from graflow.text.shown import one_line, printable

_SAID: Final[Mapping[str, str]] = {
    "reuse": "kept",
    "adopt": "adopted",
    "run": "run again",
    "skip": "left as it is",
    "cancel": "thrown away",
}
_FIRST: Final = "run first time"


def show_plan(plan: FlowPlan, *, as_json: bool) -> None:
    """Print a plan; the command ends with 1 when the verb would be refused."""
    if as_json:
        click.echo(json_line(plan))
    else:
        show(plan_picture(plan))
    if plan.refusal is not None:
        raise click.exceptions.Exit(FAILED)


def plan_picture(plan: FlowPlan) -> Group:
    """What would become of each step, with the reason."""
    title = Text.assemble(
        (f"{plan.verb} ", "bold"), one_line(plan.flow_id), f", which is {plan.status}; nothing is done"
    )
    parts: list[RenderableType] = [title]
    if plan.steps:
        parts.append(Rows(("step", "would be", "members", "why"), [_row(step) for step in plan.steps]))
    totals: dict[str, int] = {}
    for step in plan.steps:
        totals[said(step)] = totals.get(said(step), 0) + 1
    parts.append(Text(f"steps: {counted(totals) or 'none'}"))
    parts += [Text(f"changed: {printable(change)}", "yellow", overflow="fold") for change in plan.changes]
    if plan.refusal is not None:
        parts.append(Text(f"It would be refused: {printable(plan.refusal)}", "red", overflow="fold"))
    elif plan.digest:
        parts.append(Text(f"plan {plan.digest}", "dim"))
    return Group(*parts)


def said(step: PlannedStep) -> str:
    """What would become of a step, in a word or two."""
    return _FIRST if step.action == "run" and step.visit is None else _SAID[step.action]


def _row(step: PlannedStep) -> list[str | None]:
    name = step.step if step.visit in {None, 1} else f"{step.step} #{step.visit}"
    return [name, said(step), _members_said(step), step.reason.partition("\n")[0]]


def _members_said(step: PlannedStep) -> str | None:
    """What would become of the members of a group that is adopted; those of others by state."""
    if step.action != "adopt":
        return counted(step.members) or None
    kept = sum(number for status, number in (step.members or {}).items() if StepStatus(status).is_success)
    rest = sum((step.members or {}).values()) - kept
    return counted({"kept": kept, "adopted or run again": rest})
