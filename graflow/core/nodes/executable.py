"""What can stand in a graph, and the operators that connect it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, overload

from graflow.core.graph import TaskGraph, current_scope, ensure_scope
from graflow.exceptions import GraflowRuntimeError
from graflow.protocols import Run, upward

if TYPE_CHECKING:
    from graflow.core.task import ParallelGroup

# The task context of the task that runs in this thread (or coroutine); set by `ExecutionContext.executing_task`.
running_frame: ContextVar[Any] = ContextVar("graflow_running_frame", default=None)


class Executable(ABC):
    """A node of a workflow graph.

    Subclasses implement `task_id`, `run` and `__call__` and call `super().__init__()`. Equality is identity.
    """

    is_group: ClassVar[bool] = False
    handler_type: str = "direct"

    _execution_context: Any = None
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
        if frame is not None and (frame.task is self or self._execution_context is not None):
            return frame.execution_context
        return self._execution_context

    def register_in(self, graph: TaskGraph) -> None:
        """Make this task a node of the graph; the first one under an id stays."""
        self._pending_registration = False
        if graph.lacks(self.task_id):
            graph.add_node(self, skip_if_exists=True)

    def _register_on_creation(self) -> None:
        """Enter the current workflow's graph at once, or wait for the first operator."""
        scope = current_scope()
        if scope is not None and scope.registers_on_creation:
            scope.graph.add_node(self)
            frame = running_frame.get()
            if frame is not None:
                frame.note_born(self.task_id)
        else:
            self._pending_registration = True

    def __rshift__(self, other: Executable) -> SequentialTask:
        return link(self, other) if isinstance(other, Executable) else NotImplemented

    def __lshift__(self, other: Executable) -> SequentialTask:
        return link(other, self) if isinstance(other, Executable) else NotImplemented

    def __or__(self, other: Executable) -> ParallelGroup:
        if not isinstance(other, Executable):
            return NotImplemented
        joined: ParallelGroup = upward.join(self, other)
        return joined

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_execution_context", None)
        return state


class Task(Executable):
    """A node that does nothing."""

    def __init__(self, task_id: str, register_to_context: bool = True) -> None:
        self._task_id = task_id
        self.__name__ = task_id
        self.__qualname__ = task_id
        self.__module__ = type(self).__module__
        if register_to_context:
            self._register_on_creation()

    @property
    def task_id(self) -> str:
        return self._task_id

    def run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the signature of Executable
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Task({self._task_id})"


class TaskElsewhere(Task):
    """Stands for a task that a member on a worker added: only its id has come back."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id, register_to_context=False)

    def run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the signature of Executable
        raise GraflowRuntimeError(
            f"Task '{self._task_id}' was added by a member on a worker, so only its id is known here; hand the task "
            "itself to next_task()"
        )


class SequentialTask(Executable):
    """The value of `>>`: the tasks that were chained, left to right. Not a node of the graph.

    Chains that grow from one another share one list, so that building `a >> b >> …` stays linear.

    Args:
        tasks: The tasks, at least one.
        after: A chain that comes before them.
    """

    def __init__(self, tasks: Iterable[Executable], *, after: SequentialTask | None = None) -> None:
        self._items: list[Executable]
        if after is None:
            self._items = list(tasks)
        else:
            self._items = after._items if after._length == len(after._items) else after.tasks
            self._items.extend(tasks)
        self._length: int = len(self._items)
        if not self._items:
            raise ValueError("SequentialTask requires at least one task")

    @property
    def tasks(self) -> list[Executable]:
        return self._items[: self._length]

    @property
    def leftmost(self) -> Executable:
        return self._items[0]

    @property
    def rightmost(self) -> Executable:
        return self._items[self._length - 1]

    @property
    def task_id(self) -> str:
        return self.leftmost.task_id

    def register_in(self, graph: TaskGraph) -> None:
        tasks = self.tasks
        for task in tasks:
            task.register_in(graph)
        for left, right in itertools.pairwise(tasks):
            graph.add_edge(left.task_id, right.task_id)

    def set_execution_context(self, context: Run) -> None:
        super().set_execution_context(context)
        for task in self.tasks:
            task.set_execution_context(context)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the leftmost task only; the others follow by their edges."""
        if self._execution_context is not None:
            self.set_execution_context(self._execution_context)
        return self.leftmost.run(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Executable: ...
    @overload
    def __getitem__(self, index: slice) -> list[Executable]: ...
    def __getitem__(self, index: int | slice) -> Executable | list[Executable]:
        return self.tasks[index]

    def __iter__(self) -> Iterator[Executable]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        return f"SequentialTask([{' >> '.join(task.task_id for task in self.tasks)}])"

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_items"] = self.tasks
        return state


def link(left: Executable, right: Executable) -> SequentialTask:
    """Record the edge from the end of `left` to the start of `right` and return the longer chain."""
    graph = ensure_scope().graph
    end = left.rightmost if isinstance(left, SequentialTask) else left
    start = right.leftmost if isinstance(right, SequentialTask) else right
    end_id, start_id = end.task_id, start.task_id
    if graph.lacks(end_id) or end._pending_registration:
        end.register_in(graph)
    if graph.lacks(start_id) or start._pending_registration:
        start.register_in(graph)
    graph.add_edge(end_id, start_id)
    tail = right.tasks if isinstance(right, SequentialTask) else [right]
    return SequentialTask(tail, after=left) if isinstance(left, SequentialTask) else SequentialTask([left, *tail])


def leftmost_of(task: Executable) -> Executable:
    return task.leftmost if isinstance(task, SequentialTask) else task


def chain(*tasks: Executable) -> SequentialTask:
    """`chain(a, b, c)` is `a >> b >> c`; a single task gives a chain of one.

    Raises:
        ValueError: Without any task.
    """
    if not tasks:
        raise ValueError("chain() requires at least one task")
    first, *rest = tasks
    result = first if isinstance(first, SequentialTask) else SequentialTask([first])
    for task in rest:
        result = result >> task
    return result
