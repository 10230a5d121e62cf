"""The trace of a flow over all of its executions, where OpenTelemetry is in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graflow.protocols import Run
from graflow.trace.carrying import TRACE, is_tracing, trace_context
from graflow.trace.noop import NoopTracer


class FirstSpan(NoopTracer):
    """Has the span of a flow's first execution noted, below which those of the later ones hang.

    Args:
        note: Takes fields of the flow that its next transition sets.
    """

    def __init__(self, note: Callable[[Mapping[str, Any]], object]) -> None:
        super().__init__(enable_runtime_graph=False)
        self._note_fields = note

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        super().on_workflow_start(workflow_name, context)
        self._note_fields(trace_context())


def listeners(given: Any, recorded: Mapping[str, Any], note: Callable[[Mapping[str, Any]], object]) -> Any:
    """The listeners to an execution of a flow, with one more where it is the first one of a trace."""
    if TRACE in recorded or given is None or not is_tracing():
        return given
    return [*(given if isinstance(given, Sequence) else [given]), FirstSpan(note)]
