"""One more pass of a task that asked for it with `next_iteration`."""

from __future__ import annotations

from typing import Any

from graflow.core.nodes.entering import running_frame
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.wrapper import TaskWrapper


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
        context = self.get_execution_context()
        frame = running_frame.get()
        base = context.graph.get_node(self.base_id)
        given = () if self.data is None else (self.data,)
        if isinstance(base, TaskWrapper) and base.inject_context:
            return base.invoke(context, frame, given, {})
        # A base that did not ask for the context gets it as its first argument all the same.
        if isinstance(base, TaskWrapper):
            return base.invoke(context, frame, (frame, *given), {})
        return base.run(frame, *given)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


def base_id_of(task: Any, task_id: str) -> str:
    """The id of the task that a pass is one of; `task_id` for whatever is no pass, be its id like that of one."""
    return task.base_id if type(task) is IterationTask else task_id
