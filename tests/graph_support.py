"""Tasks, graphs and contexts made by hand, whatever workflow is current."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.nodes.executable import Executable
from graflow.core.task import Task, TaskWrapper


def node(
    task_id: str, func: Callable[..., Any] = lambda: None, inject_context: bool = False, **options: Any
) -> TaskWrapper:
    """A task that is in no graph."""
    return TaskWrapper(task_id, func, inject_context, register_to_context=False, **options)


def plain(*ids: str) -> list[Task]:
    """Tasks that do nothing and are in no graph."""
    return [Task(task_id, register_to_context=False) for task_id in ids]


def graph_of(*tasks: Executable, edges: Iterable[tuple[str, str]] = ()) -> TaskGraph:
    graph = TaskGraph()
    for task in tasks:
        graph.add_node(task)
    for source, target in edges:
        graph.add_edge(source, target)
    return graph


def context_of(
    *tasks: Executable, edges: Iterable[tuple[str, str]] = (), start: str | None = None, **options: Any
) -> ExecutionContext:
    """A run over a graph of these tasks that starts with the first of them."""
    return ExecutionContext.create(graph_of(*tasks, edges=edges), start or tasks[0].task_id, **options)


def in_a_row(*tasks: Executable, **options: Any) -> ExecutionContext:
    """A run of these tasks one after another."""
    return context_of(*tasks, edges=pairwise(task.task_id for task in tasks), **options)
