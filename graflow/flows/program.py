"""Workflows that are run under a flow's id without a function that builds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.workflow import WorkflowContext
from graflow.flows.registry import DEFAULT_MAX_RECOVERIES


class WorkflowProgram:
    """A workflow that was made in this process; no other one can build it again.

    Args:
        workflow: The workflow.
        start_node: Where a run starts; the only node without predecessors when None.
    """

    max_recoveries = DEFAULT_MAX_RECOVERIES

    def __init__(self, workflow: WorkflowContext, start_node: str | None = None) -> None:
        self._workflow = workflow
        self._start_node = start_node
        self.name = workflow.name
        self.handlers: Mapping[str, TaskHandler] = workflow.handlers

    def build(self, _stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        """A copy of the graph, and where a run of it starts."""
        return self._workflow.compiled(self._start_node)
