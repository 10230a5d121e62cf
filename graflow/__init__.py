"""Workflows in plain Python: tasks, operators, and an engine that runs them in one process."""

from __future__ import annotations

from graflow.core.bulk.garbage import no_collections

with no_collections():  # of what importing makes, nothing is garbage
    from graflow import exceptions
    from graflow.core import task as task_module
    from graflow.core.branches.data_nodes import DATA_NODES
    from graflow.core.checkpoint import CheckpointManager
    from graflow.core.decorators import task
    from graflow.core.engine import WorkflowEngine
    from graflow.core.graph import TaskGraph
    from graflow.core.retry import RetryPolicy
    from graflow.core.run.context import ExecutionContext, TaskExecutionContext
    from graflow.core.task import chain, parallel
    from graflow.core.task_registry import default_registry
    from graflow.core.workflow import anonymous_scope, workflow
    from graflow.drawing.text import draw_ascii
    from graflow.protocols import upward

__version__ = "0.1.0"

__all__ = [
    "RetryPolicy",
    "TaskExecutionContext",
    "__version__",
    "chain",
    "exceptions",
    "parallel",
    "task",
    "workflow",
]

upward.context = lambda: ExecutionContext(TaskGraph())
upward.engine = WorkflowEngine
upward.scope = anonymous_scope
upward.checkpoint = CheckpointManager.create_checkpoint
upward.draw = draw_ascii
upward.registry = default_registry
upward.group_executor = lambda: task_module.GroupExecutor
upward.data_nodes = DATA_NODES
