"""One more pass of a task that asked for it with `next_iteration`."""

from __future__ import annotations

from typing import Any

from graflow.core.building.entering import running_frame
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.protocols import Run


class IterationTask(Executable):
    """Runs the base task with `data` as its first argument after the task context.

    The base is looked up by id in the graph of the context it runs in, so that a pass that was saved acts on the
    context it is loaded into.
    """

    def __init__(self, task_id: str, base_id: str, data: object, handler_type: str) -> None:
        self._task_id = task_id
        self.base_id = base_id
        self.data = data
        self.handler_type = handler_type

    @property
    def task_id(self) -> str:
        return self._task_id

    def run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the signature of Executable
        return self.invoke(self.get_execution_context(), running_frame.get())

    def invoke(self, context: Run, frame: Any, *, is_awaited: bool = False) -> Any:
        """Call the function of the base task; a coroutine is run, unless the caller is going to await it."""
        base = context.graph.get_node(self.base_id)
        given = () if self.data is None else (self.data,)
        if not isinstance(base, TaskWrapper):
            return base.run(frame, *given)
        if not base.inject_context:
            given = (frame, *given)  # it did not ask for the context and gets it as its first argument all the same
        return base.invoke(context, frame, given, {}, is_awaited=is_awaited)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


def coroutine_of(task: Any, context: Run, frame: Any) -> Any:
    """What there is to await of an execution of an async task."""
    if type(task) is IterationTask:
        return task.invoke(context, frame, is_awaited=True)
    return task.invoke(context, frame, (), {}, is_awaited=True)


def is_async(task: Any, graph: Any) -> bool:
    """Whether there is a coroutine to await of a task, or of a pass of one, as this package runs them.

    A cache is asked, and others' computations are waited for, in a thread.
    """
    base = graph.task_at(task.base_id) if type(task) is IterationTask else task
    return type(base) is TaskWrapper and base.is_async and base.template.cache is None


def base_id_of(task: Any, task_id: str) -> str:
    """The id of the task that a pass is one of; `task_id` for whatever is no pass, be its id like that of one."""
    return task.base_id if type(task) is IterationTask else task_id
