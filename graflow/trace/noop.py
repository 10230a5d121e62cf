"""The default listener: silent, and remembers just enough to draw what ran."""

from __future__ import annotations

from time import time

from graflow.protocols import Node, Run
from graflow.trace.base import Tracer, task_around
from graflow.trace.record import END, SPAN, failure_of


class NoopTracer(Tracer):
    """Does what `Tracer` does without output; of a task it notes the object, whose facts are asked for on request."""

    def __init__(self, enable_runtime_graph: bool = True) -> None:
        super().__init__(enable_runtime_graph)
        self._short = self._runtime_record.short

    def on_task_start(self, task: Node, context: Run) -> None:
        """Called for every task, so it does no more than it must: see `RuntimeRecord`."""
        if self.enable_runtime_graph:
            short, stack = self._short, context._task_execution_stack
            if len(stack) == 1 and context.parent_context is None:
                short += task, stack[0].start_time
            else:
                short.append((SPAN, task, stack[-1].start_time, task_around(context), None))

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        if self.enable_runtime_graph:
            short = self._short
            if error is None:
                short += time(), task
            else:
                short.append((END, task, time(), None, failure_of(error)))

    def get_current_span_id(self) -> str | None:
        return self._runtime_record.innermost()
