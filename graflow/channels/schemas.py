"""Messages that workflows commonly exchange, as dictionaries with known fields."""

from __future__ import annotations

from typing import Any, TypedDict


class TaskResultMessage(TypedDict):
    """What a task returned; registered as `task_result`."""

    task_id: str
    result: Any
    timestamp: float
    status: str


class TaskProgressMessage(TypedDict):
    """How far a task is; registered as `task_progress`."""

    task_id: str
    progress: float
    message: str
    timestamp: float


class TaskErrorMessage(TypedDict):
    """How a task failed; registered as `task_error`."""

    task_id: str
    error_type: str
    error_message: str
    timestamp: float


class WorkflowStateMessage(TypedDict):
    """Where a run stands; registered as `workflow_state`."""

    workflow_id: str
    state: str
    current_task: str
    completed_tasks: list[str]
    timestamp: float


class DataTransferMessage(TypedDict):
    """Data that one task hands to another; registered as `data_transfer`."""

    from_task: str
    to_task: str
    data: Any
    data_type: str
    timestamp: float


class CycleNotificationMessage(TypedDict):
    """How often a task has gone round its loop; registered as `cycle_notification`."""

    task_id: str
    cycle_count: int
    max_cycles: int
    data: Any
