"""The state of a run, under the path that programs import it from."""

from __future__ import annotations

from graflow.core.run.context import (
    ExecutionContext,
    TaskExecutionContext,
    create_execution_context,
    execute_with_cycles,
)

__all__ = ["ExecutionContext", "TaskExecutionContext", "create_execution_context", "execute_with_cycles"]
