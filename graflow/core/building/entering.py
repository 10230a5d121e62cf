"""How tasks come into a graph, and to whom they belong there: to the workflow, or to the execution that made them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MethodType
from typing import Any

from graflow.core.building.scopes import ensure_scope
from graflow.core.graph import TaskGraph, duplicate
from graflow.protocols import upward

# The task context of the task that runs in this thread (or coroutine); set by `ExecutionContext.executing_task`.
running_frame: ContextVar[Any] = ContextVar("graflow_running_frame", default=None)


def graph_for(*tasks: Any) -> TaskGraph:
    """The graph that operators on these tasks record into.

    A graph that an operator alone made ends where other tasks take its ids: what a test function or a cell of a
    notebook defines anew has nothing to do with it.
    """
    scope = ensure_scope()
    if scope.is_implicit and _take_its_ids(tasks, scope.graph):
        scope = upward.scope()
    graph: TaskGraph = scope.graph
    frame = running_frame.get()
    return graph if frame is None else _of_branch(frame, graph)


def _take_its_ids(tasks: tuple[Any, ...], graph: TaskGraph) -> bool:
    known = [(graph.task_at(task.task_id), task) for task in tasks]
    return any(one is not None for one, _ in known) and not any(one is task for one, task in known)


def _of_branch(frame: Any, graph: TaskGraph) -> TaskGraph:
    """The graph that the running branch has in the place of a shared one."""
    own: TaskGraph = frame.execution_context.graph
    return own if own.stands_for is graph else graph


def enter(task: Any, graph: TaskGraph) -> TaskGraph:
    """Add a task to a graph, and return the graph that has it.

    In the graph of the run it belongs to the execution that runs. Later visits of a task, and other branches of a
    group, may have tasks of their own under the id; a branch gets a graph of its own then.

    Raises:
        DuplicateTaskError: When another task of the workflow, or of this execution, has the id.
    """
    frame = running_frame.get()
    if frame is None:
        graph.add_node(task)
        return graph
    graph = _of_branch(frame, graph)
    if frame.execution_context.graph is not graph:
        graph.add_node(task)
        return graph
    run, task_id = frame.execution_context, task.task_id
    if not graph.lacks(task_id):
        graph = _with_room(task, run, frame, graph)
    graph.add_node(task)
    graph.growth.owners[task_id] = run.session_id
    frame.note_born(task)
    return graph


def has_room(task_id: str, graph: TaskGraph) -> bool:
    """Whether the task that runs, or the workflow outside of one, may have a node of its own under this id."""
    frame = running_frame.get()
    if frame is None:
        return graph.lacks(task_id)
    graph = _of_branch(frame, graph)
    if graph.lacks(task_id):
        return True
    return frame.execution_context.graph is graph and not _is_taken(task_id, frame.execution_context, frame, graph)


def leave_room(task_id: str, graph: TaskGraph) -> None:
    """Take out what an earlier visit of the task that runs has left under an id, if anything."""
    frame = running_frame.get()
    if (
        frame is not None
        and graph.growth.owners.get(task_id) == frame.execution_context.session_id
        and has_room(task_id, graph)
    ):
        graph.remove_node(task_id)


def _is_taken(task_id: str, run: Any, frame: Any, graph: TaskGraph) -> bool:
    """Whether an id is that of a task of the workflow, or of one that this execution has made or that may still run."""
    known, owner = graph.task_at(task_id), graph.growth.owners.get(task_id)
    repeats = frame.repeats is not None and task_id in frame.repeats.born
    return (
        owner is None
        or any(born is known for running in run.frames for born in running.born or ())
        or (owner == run.session_id and not repeats and run.agenda.is_active(task_id))
    )


def _with_room(task: Any, run: Any, frame: Any, graph: TaskGraph) -> TaskGraph:
    """The graph of the run without the task of an earlier visit, or of another branch, that has the id."""
    task_id = task.task_id
    if _is_taken(task_id, run, frame, graph):
        raise duplicate(task_id, graph.task_at(task_id), task)
    is_own = graph.growth.owners.get(task_id) == run.session_id
    if not is_own and run.parent_context is not None and graph is run.parent_context.graph:
        graph = run.graph = graph.for_branch()
    graph.remove_node(task_id)
    return graph


def is_another(known: Any, task: Any) -> bool:
    """Whether two tasks of one id are different ones, not one and a copy that a pickle or an envelope made of it."""
    if known is task:
        return False
    if type(known) is not type(task):
        return True
    function, other = getattr(known, "func", None), getattr(task, "func", None)
    if known.is_copy or task.is_copy:
        return getattr(function, "__qualname__", None) != getattr(other, "__qualname__", None)
    if function is None or not (function is other or _are_one_method(function, other)):
        return True
    return not _are_same(known.bound_arguments, task.bound_arguments)


def _are_one_method(function: object, other: object) -> bool:
    return isinstance(function, MethodType) and isinstance(other, MethodType) and function == other


def _are_same(bound: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bound.keys() == other.keys() and all(value is other[name] for name, value in bound.items())
