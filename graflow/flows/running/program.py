"""Programs of flows that no function builds, or that were built a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graflow.core.durable.graph_fingerprint import graph_fingerprint
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.workflow import WorkflowContext
from graflow.flows.cache.whole import Keeping
from graflow.flows.registry import DEFAULT_MAX_RECOVERIES
from graflow.flows.running.execution import Program
from graflow.state.models import FlowState


class WorkflowProgram:
    """A workflow that was made in this process; no other one can build it again.

    Args:
        workflow: The workflow.
        start_node: Where a run starts; the only node without predecessors when None.
    """

    max_recoveries = DEFAULT_MAX_RECOVERIES
    timeout: float | None = None
    concurrency: int | None = None
    on_failure: Callable[[FlowState], object] | None = None
    keeping: Keeping | None = None

    def __init__(self, workflow: WorkflowContext, start_node: str | None = None) -> None:
        self._workflow = workflow
        self._start_node = start_node
        self.name = workflow.name
        self.handlers: Mapping[str, TaskHandler] = workflow.handlers

    def build(self, _stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        """A copy of the graph, and where a run of it starts."""
        return self._workflow.compiled(self._start_node)

    def fingerprint(self, graph: TaskGraph) -> Mapping[str, Any]:
        """What the graph is compared by."""
        return graph_fingerprint(graph)


class PreparedProgram:
    """A program whose graph for these inputs was built, and looked at, before.

    Args:
        program: The program.
        stored: The inputs.
        graph: Its graph for them, which no run has had; it is given away once.
        start: Where a run of it starts.
        fingerprint: What it is compared by.
    """

    def __init__(
        self,
        program: Program,
        stored: Mapping[str, Any],
        graph: TaskGraph,
        start: str,
        fingerprint: Mapping[str, Any],
    ) -> None:
        self.name, self.max_recoveries, self.handlers = program.name, program.max_recoveries, program.handlers
        self.timeout, self.concurrency, self.on_failure = program.timeout, program.concurrency, program.on_failure
        self.keeping = program.keeping
        self._program = program
        self._stored = stored
        self._made: tuple[TaskGraph, str] | None = (graph, start)
        self._graph = graph
        self._fingerprint = fingerprint

    def build(self, stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        """The graph for inputs in their stored form, and where a run of it starts."""
        made, self._made = self._made, None
        return self._program.build(stored) if made is None or stored != self._stored else made

    def fingerprint(self, graph: TaskGraph) -> Mapping[str, Any]:
        """What the graph is compared by."""
        return self._fingerprint if graph is self._graph else self._program.fingerprint(graph)
