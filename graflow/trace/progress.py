"""A listener that shows a progress bar while a long run lasts."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from graflow.protocols import Node, Run
from graflow.text.shown import one_line
from graflow.trace.base import Tracer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_REDRAW_AFTER = 0.1
_T = TypeVar("_T")


class _Run:
    """What is shown of one run: the distinct tasks that have ended, and the one that began last.

    With `members`, only those are counted; an empty one waits for its group.
    """

    __slots__ = ("bar", "current", "drawn_at", "ended", "failed", "graph", "members", "name", "started_at")

    def __init__(self, name: str, graph: Any, members: frozenset[str] | None = None) -> None:
        self.name = name
        self.graph = graph
        self.members = members
        self.started_at = time.monotonic()
        self.ended: set[str] = set()
        self.failed: set[str] = set()
        self.current = ""
        self.drawn_at = 0.0
        self.bar: TaskID | None = None

    def note_end(self, task_id: str, *, failed: bool) -> None:
        if self.members is not None and task_id not in self.members:
            return
        self.ended.add(task_id)
        if failed:
            self.failed.add(task_id)
        else:
            self.failed.discard(task_id)

    def fields(self) -> dict[str, Any]:
        ended = len(self.ended)
        counted = self.graph.nodes if self.members is None else self.members
        note = f"{len(self.failed)} failed " if self.failed else ""
        return {"completed": ended, "total": max(len(counted), ended) or None, "note": note + self.current}


class ProgressTracer(Tracer):
    """Draws one bar for each run on standard error; nothing at all where that is not a terminal.

    Runs shorter than `delay` seconds (default 1.0) show no bar. With a `console`, the bar goes there. With the id of a
    `group`, the bar counts the members of that group instead of all tasks. The seconds count from the start of the run.
    """

    enable_runtime_graph = False

    def __init__(self, *, console: Console | None = None, delay: float = 1.0, group: str | None = None) -> None:
        self.delay = delay
        self.group = group
        self._console = console
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._progress: Progress | None = None
        self._timer: threading.Timer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"delay": self.delay, "group": self.group}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.delay = state["delay"]
        self.group = state["group"]
        self._console = None
        self._reset()

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        if not self._is_visible():
            return
        with self._lock:
            members = None if self.group is None else frozenset[str]()
            self._runs[context.trace_id] = _Run(workflow_name, context.graph, members)
            if self._progress is not None or self.delay <= 0:
                self._show()
            elif self._timer is None:
                self._timer = threading.Timer(self.delay, self._show)
                self._timer.daemon = True
                self._timer.start()

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        with self._lock:
            run = self._runs.pop(context.trace_id, None)
            if run is None:
                return
            run.current = "" if error is None else type(error).__name__
            self._draw(run, always=True)
            if self._progress is not None and run.bar is not None:
                self._progress.stop_task(run.bar)
            if not self._runs:
                self.shutdown()

    def on_task_start(self, task: Node, context: Run) -> None:
        run = self._runs.get(context.trace_id)
        if run is not None:
            run.current = one_line(task.task_id)
            self._draw(run)

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        run = self._runs.get(context.trace_id)
        if run is not None:
            run.note_end(task.task_id, failed=error is not None)
            self._draw(run)

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        run = self._runs.get(context.trace_id)
        if run is not None and group_id == self.group:
            run.members = frozenset(member_ids)
            self._draw(run, always=True)

    def on_member_end(
        self,
        group_id: str,
        member_id: str,
        context: Run,
        error: BaseException | None = None,
        ran: Mapping[str, bool] | None = None,
    ) -> None:
        run = self._runs.get(context.trace_id)
        if run is not None:
            run.note_end(member_id, failed=error is not None)
            self._draw(run)

    def on_parallel_group_end(
        self,
        group_id: str,
        member_ids: Sequence[str],
        context: Run,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Count the members whose end was not told one by one."""
        run = self._runs.get(context.trace_id)
        if run is not None:
            for member_id, result in (results or {}).items():
                run.note_end(member_id, failed=not result.success)
            self._draw(run)

    def shutdown(self) -> None:
        """Take the bar down."""
        with self._lock:
            timer, self._timer = self._timer, None
            progress, self._progress = self._progress, None
        if timer is not None:
            timer.cancel()
        if progress is not None:
            progress.stop()

    def _is_visible(self) -> bool:
        if self._console is not None:
            return self._console.is_terminal
        return sys.stderr is not None and sys.stderr.isatty()

    def _show(self) -> None:
        with self._lock:
            self._timer = None
            if not self._runs:
                return
            if self._progress is None:
                self._progress = _make_progress(self._console)
                self._progress.start()
            for run in list(self._runs.values()):
                self._draw(run, always=True)

    def _draw(self, run: _Run, *, always: bool = False) -> None:
        progress = self._progress
        now = time.monotonic()
        if progress is None or not (always or now - run.drawn_at >= _REDRAW_AFTER):
            return
        with self._lock:
            run.drawn_at = now
            if run.bar is None:
                run.bar = progress.add_task(one_line(run.name), **run.fields())
                next(bar for bar in progress.tasks if bar.id == run.bar).start_time = run.started_at
            progress.update(run.bar, **run.fields())


def track(items: Sequence[_T], name: str, *, console: Console | None = None) -> Iterator[_T]:
    """Yield the items and count them in a bar like that of a run; the bar is drawn on a terminal only."""
    with _make_progress(console) as progress:
        yield from progress.track(items, task_id=progress.add_task(one_line(name), total=len(items), note=""))


def _make_progress(console: Console | None) -> Progress:
    from rich.console import Console as RichConsole  # noqa: PLC0415 - takes a tenth of a second, for the first bar
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    console = console or RichConsole(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.elapsed:.1f} s"),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        get_time=time.monotonic,
    )
