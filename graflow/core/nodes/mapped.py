"""The group of a fan-out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from graflow.core.graph import TaskGraph, current_scope
from graflow.core.nodes.entering import has_room
from graflow.core.nodes.executable import Executable, ParallelGroup, fresh_execution_config

if TYPE_CHECKING:
    import typing_extensions

    R = typing_extensions.TypeVar("R", default=Any)
else:
    R = TypeVar("R")


class MappedGroup(ParallelGroup, Generic[R]):
    """The group that `task.map(items)` makes: one member per item, and the list of their values as its result."""

    _grows = False

    def __init__(self, tasks: list[Executable], name: str) -> None:
        self.tasks = tasks
        if len({task.task_id for task in tasks}) != len(tasks):
            ((twice, _),) = Counter(task.task_id for task in tasks).most_common(1)
            raise ValueError(f"Two items of the fan-out '{name}' have the same member id '{twice}'; use another key=")
        self._execution_config = fresh_execution_config()
        self._task_id = name
        self._pending_registration = True
        scope = current_scope()
        if scope is not None and scope.registers_on_creation and len(scope.unused) < 2:
            scope.unused.append(self)  # one alone is what its workflow runs; more of them are kept by whoever made them

    def register_in(self, graph: TaskGraph) -> TaskGraph:
        if graph.task_at(self._task_id) is not self and not has_room(self._task_id, graph):
            raise ValueError(
                f"Cannot use the fan-out '{self._task_id}' here: the id is already taken; give it another name="
            )
        scope = current_scope()
        if scope is not None and self in scope.unused:
            scope.unused.remove(self)
        return super().register_in(graph)

    def run(self, *args: Any, **kwargs: Any) -> list[R]:  # noqa: ARG002 - the signature of Executable
        """Run all members; the value is the list of their values in item order, None at failed places."""
        if not self.tasks:
            return []
        return self.values_in(self._run_members())
