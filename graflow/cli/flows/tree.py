"""A flow as a tree of its steps, with the progress of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graflow.cli.flows.pictures import counted, first_line, flow_facts, label, seconds, style_of, took
from graflow.state import FlowState, FlowStepState, StepStatus
from graflow.text.shown import one_line

_BAR: Final = 24  # columns
_BRANCH: Final = 3  # columns of the lines that make it a tree
_NARROWEST: Final = 60  # columns below which the bar is left out
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
        blocks = self._last_blocks(options.max_width - _BRANCH)
        left_out = len(steps) - len(blocks)
        if left_out:
            counts = Counter(step.status.value for step in steps[:left_out])
            yield Text(f"├─ … {left_out} earlier steps: {counted(counts)}", "dim")
        for place, lines in enumerate(blocks, 1):
            is_last = place == len(blocks)
            for number, line in enumerate(lines):
                table = Table.grid(padding=0)
                branch = ("└─ " if is_last else "├─ ") if number == 0 else ("   " if is_last else "│  ")
                table.add_row(Text(branch, "dim"), line)
                yield table

    def _last_blocks(self, width: int) -> list[list[RenderableType]]:
        """The lines of the last steps, of as many as there is place for; at least one."""
        blocks: list[list[RenderableType]] = []
        left = self._rows
        for step in reversed(self._flow.steps):
            lines = step_lines(step, width)
            if left is not None:
                if blocks and len(lines) > left:
                    break
                left -= len(lines)
            blocks.append(lines)
        return blocks[::-1]


def step_lines(step: FlowStepState, width: int) -> list[RenderableType]:
    """A step as the tree shows it."""
    name = step.status.value
    head = Text.assemble((_MARKS.get(name, _OPEN), style_of(step.status)), f" {label(step)} ")
    if not step.size:
        head.append(name, style_of(step.status))
    if step.attempts > 1:
        head.append(f" attempt {step.attempts}", "yellow")
    if step.source:
        head.append(f" from {one_line(step.source.get('flow_id', '?'))}", "dim")
    lasted = seconds(took(step))
    if lasted:
        head.append(f" {lasted}", "dim")
    lines: list[RenderableType] = [head]
    if step.size:
        lines.append(group_bar(step, width))
        lines.append(strip_picture(step.strip or [], width))
    if step.error:
        lines.append(Text(first_line(step.error) or "", "red", overflow="ellipsis", no_wrap=True))
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
