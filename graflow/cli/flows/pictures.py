"""Flows and their steps as people see them: tables, and a tree with the progress of groups."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graflow.cli.output import Rows, printable
from graflow.state import FlowState, FlowStatus, FlowStepState, StepStatus

_STEPS: Final = ("step", "status", "attempts", "took", "error")
_FLOWS: Final = ("flow_id", "name", "status", "steps", "created", "took")
_MEMBERS: Final = ("member", "status", "attempts", "took", "worker", "error")
_EXCERPT: Final = 100  # characters of a value; --json has all of it
_BAR: Final = 24  # columns
_BRANCH: Final = 3  # columns of the lines that make it a tree
_NARROWEST: Final = 60  # columns below which a bar stands on a line of its own

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
_MARKS: Final[Mapping[str, str]] = {
    "completed": "✓",
    "reused": "✓",
    "cached": "✓",
    "failed": "✗",
    "running": "●",
    "waiting": "◔",
    "paused": "‖",
    "cancelling": "■",
    "cancelled": "■",
    "skipped": "-",
}
_OPEN: Final = "○"
_SUCCESSES: Final = tuple(status for status in StepStatus if status.is_success)
_ENDED: Final = {*(status.value for status in _SUCCESSES), "failed", "cancelled", "skipped"}
_BLOCKS: Final = (  # the worst state of a bucket decides how it is drawn
    (StepStatus.FAILED, "✗"),
    (StepStatus.CANCELLED, "x"),
    (StepStatus.RUNNING, "▒"),
)


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
    return printable(name if step.visit == 1 else f"{name} #{step.visit}")


def counted(counts: Mapping[str, int] | None) -> str:
    """States with how many are in them, as `12 completed, 1 failed`."""
    return ", ".join(f"{number} {status}" for status, number in (counts or {}).items() if number)


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
            [label(step), _step_status(step), step.attempts, seconds(took(step)), _first_line(step.error)]
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
                _first_line(member.error),
            ]
            for member in members
        ],
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
        yield Text(f"  {printable(text)}", overflow="fold")
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
            yield Text(f"\n{printable(name)}", "bold")
            yield Text(printable(text.rstrip()), overflow="fold")


def _innermost(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """The error that the others were raised from: that of the task's own code."""
    cause = error.get("cause")
    return _innermost(cause) if cause and cause.get("traceback") else error


def headline(flow: FlowState) -> Text:
    """Name, id and state of a flow."""
    return Text.assemble(
        (printable(flow.flow_name), "bold"), f" {printable(flow.flow_id)} ", (_status(flow), style_of(flow.status))
    )


def flow_picture(flow: FlowState) -> Group:
    """A flow with what it was given and gave, and the table of its steps."""
    values = [
        Text(f"  {name} {_excerpt(value)}", no_wrap=True, overflow="ellipsis")
        for name, value in (("inputs", flow.inputs), ("value", flow.outputs))
        if value is not None and value != {}
    ]
    return Group(*flow_facts(flow), *values, *([steps_table(flow.steps)] if flow.steps else []))


class FlowTree:
    """A flow and its steps in order, groups with a bar, counts and a strip; the last steps where all are too many.

    Args:
        flow: The flow.
        rows: Lines that there is place for; None for all.
    """

    def __init__(self, flow: FlowState, rows: int | None = None) -> None:
        self._flow = flow
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from flow_facts(self._flow)
        steps = self._flow.steps
        blocks = [step_lines(step, options.max_width - _BRANCH) for step in steps]
        first = 0 if self._rows is None else first_that_fits([len(lines) for lines in blocks], self._rows)
        if first:
            counts: dict[str, int] = {}
            for step in steps[:first]:
                counts[step.status.value] = counts.get(step.status.value, 0) + 1
            yield Text(f"├─ … {first} earlier steps: {counted(counts)}", "dim")
        for place, lines in enumerate(blocks[first:], first):
            is_last = place == len(blocks) - 1
            for number, line in enumerate(lines):
                table = Table.grid(padding=0)
                branch = ("└─ " if is_last else "├─ ") if number == 0 else ("   " if is_last else "│  ")
                table.add_row(Text(branch, "dim"), line)
                yield table


def first_that_fits(heights: Sequence[int], rows: int) -> int:
    """From which block on all fit into so many rows; the last one always does."""
    left, first = rows, len(heights)
    while first > 0 and (first == len(heights) or heights[first - 1] <= left):
        first -= 1
        left -= heights[first]
    return first


def step_lines(step: FlowStepState, width: int) -> list[RenderableType]:
    """A step as the tree shows it."""
    name = step.status.value
    head = Text.assemble((_MARKS.get(name, _OPEN), style_of(step.status)), f" {label(step)} ")
    if not step.size:
        head.append(name, style_of(step.status))
    if step.attempts > 1:
        head.append(f" attempt {step.attempts}", "yellow")
    if step.source:
        head.append(f" from {printable(step.source.get('flow_id', '?'))}", "dim")
    lasted = seconds(took(step))
    if lasted:
        head.append(f" {lasted}", "dim")
    lines: list[RenderableType] = [head]
    if step.size:
        lines.append(group_bar(step, width))
        lines.append(strip_picture(step.strip or [], width))
    if step.error:
        lines.append(Text(_first_line(step.error) or "", "red", overflow="ellipsis", no_wrap=True))
    return lines


def group_bar(step: FlowStepState, width: int) -> RenderableType:
    """How many members of a group have ended, as a bar, and members by state."""
    size, counts = step.size or 0, step.counts or {}
    ended = sum(number for status, number in counts.items() if status in _ENDED)
    bar = ProgressBar(size, ended, width=_BAR, complete_style=style_of(step.status), finished_style="green")
    text = Text(f" {ended}/{size}  {counted(counts)}", overflow="fold")
    if width < _NARROWEST:
        return Text(f"{ended}/{size}  {counted(counts)}", overflow="fold")
    table = Table.grid(padding=0)
    table.add_row(bar, text)
    return table


def strip_picture(strip: Sequence[Mapping[str, int]], width: int) -> Text:
    """The members of a group in order, a sign for each bucket: the worst in it, or how much of it has ended."""
    text = Text(no_wrap=True, overflow="crop")
    share = -(-len(strip) // max(1, width))  # buckets that stand behind one sign where there is no place for all
    for start in range(0, len(strip), share or 1):
        bucket: Counter[str] = Counter()
        for part in strip[start : start + share]:
            bucket.update(part)
        sign, style = _sign_of(bucket)
        text.append(sign, style)
    return text


def _sign_of(bucket: Mapping[str, int]) -> tuple[str, str]:
    for status, sign in _BLOCKS:
        if bucket.get(status.letter):
            return sign, style_of(status)
    done = sum(bucket.get(status.letter, 0) for status in _SUCCESSES)
    total = sum(bucket.values())
    if total and done == total:
        return "█", "green"
    return ("▄", "green") if done else ("·", "dim")


def _process_of(owner: str | None) -> str | None:
    """`host:pid` of an owner, whose name tells its start as well."""
    return None if owner is None else owner.rpartition(":")[0]


def _status(flow: FlowState) -> str:
    return f"{flow.status.value}{' (degraded)' if flow.degraded else ''}"


def _step_status(step: FlowStepState) -> str:
    if not step.size:
        return step.status.value
    return f"{step.status.value}: {counted(step.counts)} of {step.size}"


def _excerpt(value: Any) -> str:
    """The beginning of a value as JSON."""
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _first_line(text: str | None) -> str | None:
    return None if text is None else printable(text.partition("\n")[0])
