"""What every node of a graph is, whatever operators make of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from graflow.core.building.entering import enter, graph_for, is_another, running_frame
from graflow.core.building.scopes import current_scope
from graflow.core.graph import TaskGraph
from graflow.exceptions import GraflowRuntimeError
from graflow.protocols import Run


class BaseNode(ABC):
    """A node of a workflow graph: its id, its context, and its way into a graph."""

    is_group: ClassVar[bool] = False
    handler_type: str = "direct"

    _execution_context: Any = None  # set by hand
    lent_context: Any = None  # of the execution that is going on, for threads that a handler starts
    is_copy: bool = False  # whether it came out of a pickle
    _pending_registration: bool = False

    def __init__(self) -> None:
        self._pending_registration = True

    @property
    @abstractmethod
    def task_id(self) -> str:
        """Its id, which no other node of a graph has."""

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work and return its value."""

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def set_execution_context(self, context: Run) -> None:
        self._execution_context = context

    def get_execution_context(self) -> Any:
        """The context this task runs in; two runs in two threads each see their own.

        Raises:
            GraflowRuntimeError: When none was set.
        """
        context = self._context_or_none()
        if context is None:
            raise GraflowRuntimeError(
                f"Task '{self.task_id}' has no execution context; run it through a workflow, or call "
                "set_execution_context() first"
            )
        return context

    def _context_or_none(self) -> Any:
        frame = running_frame.get()
        if frame is not None:
            return frame.execution_context
        return self.lent_context if self._execution_context is None else self._execution_context

    def register_in(self, graph: TaskGraph) -> TaskGraph:
        """Make this task a node of the graph; returns the graph that has it, which may be one of the running branch.

        Raises:
            DuplicateTaskError: When another task has the id.
        """
        self._pending_registration = False
        known = graph.task_at(self.task_id)
        if known is self or not (graph.lacks(self.task_id) or is_another(known, self)):
            return graph
        return enter(self, graph)

    def _register_on_creation(self) -> None:
        """Enter the current workflow's graph at once, or wait for the first operator."""
        scope = current_scope()
        if scope is not None and scope.registers_on_creation:
            enter(self, graph_for(self) if scope.is_implicit else scope.graph)
        else:
            self._pending_registration = True

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_execution_context", None)
        state.pop("lent_context", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.is_copy = True


def no_task(value: object, where: str) -> TypeError:
    """The error for a value that is no node; the text says what to write instead."""
    if isinstance(value, list | tuple | set | frozenset):
        kind = type(value).__name__
        meant = "a | b, or parallel(*tasks)"
        remedy = f"tasks that run side by side are a group: {meant}" if where != "chain()" else "write chain(*tasks)"
        return TypeError(f"{where} takes tasks, not a {kind} of them; {remedy}")
    if isinstance(value, str):
        return TypeError(f"{where} takes tasks, not {value!r}; give the task itself, not its id")
    if callable(value):
        name = getattr(value, "__name__", None) or type(value).__name__
        return TypeError(f"{where} takes tasks, and '{name}' is none yet; write @task above it, or task({name})")
    return TypeError(f"{where} takes tasks, not {value!r}")
