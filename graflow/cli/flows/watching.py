"""A flow while it goes on: a live tree on a terminal, else one line for each change."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from graflow.cli.flows.pictures import counted, label, seconds
from graflow.cli.flows.tree import FlowTree
from graflow.cli.output import json_line
from graflow.exceptions import GraflowError
from graflow.state import FlowState, FlowStatus, FlowStepState, StepStatus
from graflow.text.shown import one_line

Look = Callable[[], FlowState | None]
"""The flow as it is now; None when it is not there yet."""

_SOONEST: Final = 0.2  # seconds between two looks,
_SHARE: Final = 10  # and as many times what a look took, so that watching costs a tenth of the time at most
_GROUP_EVERY: Final = 2.0  # seconds between lines about a group that only goes on
_MARGIN: Final = 6  # lines of a terminal that are for other things than steps


class Changes:
    """What has changed in a flow since the last look, a line each.

    Args:
        known: The flow as everybody knows it: what was so then is not told.
    """

    def __init__(self, known: FlowState | None = None) -> None:
        self._status: FlowStatus | None = None
        self._steps: dict[tuple[str, int, int], tuple[StepStatus, int]] = {}
        self._groups: dict[tuple[str, int, int], tuple[str, float]] = {}
        if known is not None:
            deque(self.of(known), 0)
            if not known.status.is_terminal:
                self._status = None  # where it is now is told all the same

    def of(self, flow: FlowState) -> Iterator[str]:
        """The lines for people, in order."""
        if self._status is None and not flow.status.is_terminal:
            yield f"flow {flow.flow_id} is {flow.status.value}"
        for step in flow.steps:
            yield from self._of_step(step)
        if self._status is not flow.status and (self._status is not None or flow.status.is_terminal):
            yield f"flow {flow.flow_id} is {flow.status.value}" + (f": {flow.error}" if flow.error else "")
        self._status = flow.status

    def _of_step(self, step: FlowStepState) -> Iterator[str]:
        key = (step.step_name, step.visit, step.generation)
        state = (step.status, step.attempts)
        if self._steps.get(key) != state:
            self._steps[key] = state
            yield f"step {label(step)} is {step.status.value}{_details(step)}"
            self._groups[key] = counted(step.counts), time.monotonic()
        elif step.size:
            counts, at = self._groups.get(key, ("", 0.0))
            now, found = time.monotonic(), counted(step.counts)
            if found != counts and now - at >= _GROUP_EVERY:
                self._groups[key] = found, now
                yield f"step {label(step)}: {found}, of {step.size}"


def _details(step: FlowStepState) -> str:
    parts = []
    if step.attempts > 1:
        parts.append(f"attempt {step.attempts}")
    if step.size:
        parts.append(f"{counted(step.counts)}, of {step.size}")
    if step.execution_time is not None and step.completed_at is not None:
        parts.append(f"after {seconds(step.execution_time)}")
    if step.error:
        parts.append(step.error.partition("\n")[0])
    return f" ({'; '.join(parts)})" if parts else ""


class Watcher:
    """Shows a flow as often as that is cheap.

    Args:
        look: The flow.
        console: Where; live when it is a terminal.
        known: The flow as it was before, where only what becomes of it is to be told.
        as_json: Print the flow itself, one line of JSON for each version, instead.
    """

    def __init__(self, look: Look, console: Console, *, known: FlowState | None = None, as_json: bool = False) -> None:
        self._look = look
        self._console = console
        self._as_json = as_json
        self._changes = Changes(known)
        self._version: int | None = None

    def watch(self, wait: Callable[[float], object], is_over: Callable[[FlowState | None], bool]) -> FlowState | None:
        """Show the flow until it is over; the last that was seen of it.

        Args:
            wait: Waits so many seconds between two looks, or shorter.
            is_over: Whether this was the last look.
        """
        if self._as_json or not self._console.is_terminal or self._console.is_dumb_terminal:
            return self._until(is_over, wait, self._tell)
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            return self._until(is_over, wait, lambda flow: self._draw(flow, live))

    def _until(
        self,
        is_over: Callable[[FlowState | None], bool],
        wait: Callable[[float], object],
        show: Callable[[FlowState], None],
    ) -> FlowState | None:
        while True:
            begun = time.monotonic()
            flow = self._look()
            spent = time.monotonic() - begun
            if flow is not None:
                show(flow)
            if is_over(flow):
                return flow
            wait(max(_SOONEST, _SHARE * spent))

    def _tell(self, flow: FlowState) -> None:
        if self._as_json:
            if flow.version != self._version:
                click.echo(json_line(flow))
            self._version = flow.version
            return
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        for line in self._changes.of(flow):
            click.echo(f"{now} {one_line(line)}", file=self._console.file)

    def _draw(self, flow: FlowState, live: Live) -> None:
        live.update(FlowTree(flow, max(3, self._console.height - _MARGIN)), refresh=True)


@contextmanager
def watched(look: Look, console: Console) -> Iterator[None]:
    """A block that has a flow run, which is shown meanwhile by a thread of its own, and once more at the end."""
    ended = threading.Event()

    def guarded() -> FlowState | None:
        try:
            return look()
        except GraflowError:  # whoever runs the flow tells of its store
            return None

    was_over = False

    def is_over(_: FlowState | None) -> bool:
        """Whether it had ended before the last look."""
        nonlocal was_over
        was_over, before = ended.is_set(), was_over
        return before

    watcher = Watcher(guarded, console, known=guarded())
    thread = threading.Thread(target=watcher.watch, args=(ended.wait, is_over), name="graflow-watching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5.0)
