"""Nodes without a function: one that does nothing, and one that stands for a task of another process."""

from __future__ import annotations

from typing import Any

from graflow.core.nodes.executable import Executable
from graflow.core.nodes.options import checked_id
from graflow.exceptions import GraflowRuntimeError


class Task(Executable):
    """A node that does nothing."""

    def __init__(self, task_id: str, register_to_context: bool = True) -> None:
        self._task_id = checked_id(task_id)
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
