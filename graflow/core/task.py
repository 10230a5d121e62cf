"""The public names of nodes: tasks, chains and groups."""

from __future__ import annotations

from graflow.coordination.executor import GroupExecutor
from graflow.core.nodes.executable import Executable, ParallelGroup, SequentialTask, checked_node
from graflow.core.nodes.plain import Task
from graflow.core.nodes.wrapper import TaskWrapper

__all__ = [
    "Executable",
    "GroupExecutor",
    "ParallelGroup",
    "SequentialTask",
    "Task",
    "TaskWrapper",
    "chain",
    "parallel",
]


def chain(*tasks: Executable) -> SequentialTask:
    """`chain(a, b, c)` is `a >> b >> c`; a single task gives a chain of one.

    Raises:
        ValueError: Without any task.
    """
    if not tasks:
        raise ValueError("chain() requires at least one task; write chain(*tasks) when they are in a list")
    first, *rest = (checked_node(task, "chain()") for task in tasks)
    result = first if isinstance(first, SequentialTask) else SequentialTask([first])
    for task in rest:
        result = result >> task
    return result


def parallel(*tasks: Executable) -> ParallelGroup:
    """`parallel(a, b, c)` is `a | b | c`.

    Raises:
        ValueError: With fewer than two tasks.
    """
    for task in tasks:
        checked_node(task, "parallel()")
    if len(tasks) < 2:
        raise ValueError(
            "parallel() requires at least two tasks; one needs no group, and task.map(items) makes one of items"
        )
    result = tasks[0] | tasks[1]
    for task in tasks[2:]:
        result = result | task
    return result
