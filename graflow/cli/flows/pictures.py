"""Flows and their steps as people see them: tables, and a tree with the progress of groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from graflow.cli.output import Rows
from graflow.flows.recording.identity import is_gone
from graflow.flows.verbs.explaining import StepExplanation
from graflow.flows.verbs.stats import FlowStats, Spread
from graflow.state import FlowState, FlowStatus, FlowStepState, StepStatus
from graflow.text.shown import one_line, printable

_STEPS: Final = ("step", "status", "attempts", "took", "error")
_FLOWS: Final = ("flow_id", "name", "status", "steps", "created", "took")
_MEMBERS: Final = ("member", "status", "attempts", "took", "worker", "error")
_STEP_STATS: Final = ("step", "runs", "failed", "retries", "reused", "half took", "95 of 100", "members")
_ENDS: Final = ("completed", "reused", "cached", "failed", "cancelled", "skipped", "running")
_ORDER: Final = {name: place for place, name in enumerate(dict.fromkeys([*_ENDS, *StepStatus]))}
_EXCERPT: Final = 100  # characters of a value; --json has all of it

_STYLES: Final[Mapping[str, str]] = {
    "completed": "green",
    "reused": "green",
    "cached": "green",
    "failed": "red",
    "lost": "red",
    "running": "cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "cancelling": "yellow",
    "cancelled": "magenta",
}


def style_of(status: FlowStatus | StepStatus) -> str:
    """The colour of a state."""
    return _STYLES.get(status.value, "dim")


def seconds(value: float | None) -> str | None:
    """How long something took, to read."""
    if value is None:
        return None
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def moment(at: datetime | None) -> str | None:
    """A time in the zone of this machine."""
    return None if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(step: FlowStepState) -> float | None:
    """Seconds that a step took, or has taken so far."""
    if step.execution_time is None and step.status is StepStatus.RUNNING and step.started_at is not None:
        return max(0.0, (datetime.now(UTC) - step.started_at).total_seconds())
    return step.execution_time


def label(step: FlowStepState) -> str:
    """The name of a step; of a further visit with its number, of a member with its index."""
    name = step.step_name if step.index is None else f"{step.step_name}[{step.index}]"
    return one_line(name if step.visit == 1 else f"{name} #{step.visit}")


def counted(counts: Mapping[str, int] | None) -> str:
    """States with how many are in them, as `12 completed, 1 failed`: what ended first, other words as they come."""
    found = sorted((counts or {}).items(), key=lambda item: _ORDER.get(item[0], len(_ORDER)))
    return ", ".join(f"{number} {status}" for status, number in found if number)


def flows_table(flows: Sequence[FlowState]) -> Rows:
    """Flows, a row each."""
    return Rows(
        _FLOWS,
        [
            [
                flow.flow_id,
                flow.flow_name,
                _status(flow),
                counted(flow.counts),
                moment(flow.created_at),
                seconds(flow.total_execution_time),
            ]
            for flow in flows
        ],
    )


def steps_table(steps: Sequence[FlowStepState]) -> Rows:
    """Steps in order of their start, a row each; groups with their members by state."""
    return Rows(
        _STEPS,
        [
            [label(step), _step_status(step), step.attempts, seconds(took(step)), first_line(step.error)]
            for step in steps
        ],
    )


def members_table(members: Sequence[FlowStepState]) -> Rows:
    """Members of a group, a row each."""
    return Rows(
        _MEMBERS,
        [
            [
                label(member),
                member.status.value,
                member.attempts,
                seconds(took(member)),
                member.worker,
                first_line(member.error),
            ]
            for member in members
        ],
    )


def explanation_picture(found: StepExplanation) -> Group:
    """Where the outcome of a step comes from."""
    name = found.step_name if found.index is None else f"{found.step_name}[{found.index}]"
    head = name if found.visit == 1 else f"{name} #{found.visit}"
    lines = [
        Text.assemble((one_line(head), "bold"), " ", (found.status.value, style_of(found.status))),
        Text(f"  {printable(found.text)}", overflow="fold"),
    ]
    told = {"inputs": found.inputs, "key": (found.cache or {}).get("key")}
    lines += [Text(f"  {what} {_excerpt(value)}", overflow="fold") for what, value in told.items() if value is not None]
    return Group(*lines)


def stats_picture(stats: FlowStats) -> Group:
    """What came of many flows, and the table of their steps."""
    rate = "" if stats.success_rate is None else f", {stats.success_rate:.1%} of those that ended by themselves"
    facts = [Text(f"{stats.population} flows: {counted(stats.flows) or 'none'}{rate}", "bold", overflow="fold")]
    if stats.looked_into < stats.population:
        facts.append(Text(f"  the newest {stats.looked_into} of them:"))
    facts += [
        Text(f"  {name} {_spread(spread)}", overflow="fold")
        for name, spread in (("took", stats.seconds), ("waited for a process", stats.queue_wait))
        if spread.population
    ]
    if stats.cached:
        facts.append(Text(f"  kept outcomes were given {stats.cached} times"))
    if stats.takeovers:
        facts.append(Text(f"  taken over from processes that were gone {stats.takeovers} times"))
    rows = [
        [
            f"{one_line(step.flow_name)}: {one_line(step.step_name)}",
            step.population,
            step.failed,
            step.retries,
            step.reused + step.cached,
            seconds(step.seconds.p50),
            seconds(step.seconds.p95),
            counted(step.members) or None,
        ]
        for step in stats.steps
    ]
    return Group(*facts, *([Rows(_STEP_STATS, rows)] if rows else []))


def _spread(spread: Spread) -> str:
    return (
        f"{seconds(spread.p50)} (half of {spread.population}), {seconds(spread.p95)} (95 of 100), "
        f"{seconds(spread.longest)} at most"
    )


def flow_facts(flow: FlowState) -> Iterator[Text]:
    """What there is to say about a flow besides its steps."""
    yield headline(flow)
    told = {
        "started": moment(flow.started_at),
        "took": seconds(flow.total_execution_time),
        "runs in": _process_of(flow.owner) if flow.status in {FlowStatus.RUNNING, FlowStatus.CANCELLING} else None,
        "wakes up": moment(flow.wake_at),
        "from": None if flow.parent_flow_id is None else f"{flow.parent_flow_id} {flow.parent_step or ''}".rstrip(),
        "takeovers": flow.takeovers or None,
    }
    text = "  ".join(f"{name} {value}" for name, value in told.items() if value is not None)
    if text:
        yield Text(f"  {one_line(text)}", overflow="fold")
    if flow.degraded:
        yield Text("  degraded: a part of it ran without being recorded", "yellow")
    if flow.error:
        yield Text(f"  {printable(flow.error)}", style_of(flow.status), overflow="fold")


def tracebacks(flow: FlowState, steps: Sequence[FlowStepState]) -> Iterator[Text]:
    """Where steps or members failed, in the code of their tasks; the flow itself when none of its steps did."""
    told = [(label(step), step.error_data) for step in steps if step.error_data is not None]
    for name, error in told or [(flow.flow_name, flow.error_data or {})]:
        text = _innermost(error).get("traceback")
        if text:
            yield Text(f"\n{one_line(name)}", "bold")
            yield Text(printable(text.rstrip(), ""), overflow="fold")


def _innermost(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """The error that the others were raised from: that of the task's own code."""
    cause = error.get("cause")
    return _innermost(cause) if cause and cause.get("traceback") else error


def headline(flow: FlowState) -> Text:
    """Name, id and state of a flow."""
    return Text.assemble(
        (one_line(flow.flow_name), "bold"), f" {one_line(flow.flow_id)} ", (_status(flow), style_of(flow.status))
    )


def flow_picture(flow: FlowState) -> Group:
    """A flow with what it was given and gave, and the table of its steps."""
    values = [
        Text(f"  {name} {_excerpt(value)}", no_wrap=True, overflow="ellipsis")
        for name, value in (("inputs", flow.inputs), ("value", flow.outputs))
        if value is not None and value != {}
    ]
    return Group(*flow_facts(flow), *values, *([steps_table(flow.steps)] if flow.steps else []))


def _process_of(owner: str | None) -> str | None:
    """`host:pid` of an owner, whose name tells its start as well, and whether it has died on this machine."""
    if owner is None:
        return None
    return f"{owner.rpartition(':')[0]}{', which is gone' if is_gone(owner) else ''}"


def _status(flow: FlowState) -> str:
    return f"{flow.status.value}{' (degraded)' if flow.degraded else ''}"


def _step_status(step: FlowStepState) -> str:
    if not step.size:
        return step.status.value
    return f"{step.status.value}: {counted(step.counts)} of {step.size}"


def _excerpt(value: Any) -> str:
    """The beginning of a value as JSON."""
    text = one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def first_line(text: str | None) -> str | None:
    """What a table has of an error."""
    return None if text is None else one_line(text.partition("\n")[0])
