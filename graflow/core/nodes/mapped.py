"""The group of a fan-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from graflow.core.building.entering import has_room, running_frame
from graflow.core.building.scopes import current_scope
from graflow.core.graph import TaskGraph
from graflow.core.handlers.group_policy import resolve_group_policy
from graflow.core.nodes.columns import MappedMembers, refuse_twice
from graflow.core.nodes.executable import Executable, ParallelGroup
from graflow.core.nodes.execution_config import initial_execution

if TYPE_CHECKING:
    import typing_extensions

    R = typing_extensions.TypeVar("R", default=Any)
else:
    R = TypeVar("R")


_SHOWN: Final = 20  # members that a repr names


class MappedGroup(ParallelGroup, Generic[R]):
    """The group that `task.map(items)` makes: one member per item, and the list of their values as its result.

    Args:
        members: The members; a fan-out of many items has them in column form until somebody asks for a task.
        name: The id of the group.
        template_id: The id of the task that was mapped, where the group has a name that nobody chose: whoever gave the
            task that id asks for the values by it as well.
    """

    _grows = False

    def __init__(self, members: MappedMembers | list[Executable], name: str, *, template_id: str | None = None) -> None:
        if isinstance(members, list) and len({task.task_id for task in members}) != len(members):
            refuse_twice(name, (task.task_id for task in members))
        self._members = members
        self._execution_config = initial_execution()
        self._task_id = name
        self.template_id = template_id if template_id != name else None
        self._pending_registration = True
        scope = current_scope()
        if scope is not None and scope.registers_on_creation and len(scope.unused) < 2:
            scope.unused.append(self)  # one alone is what its workflow runs; more of them are kept by whoever made them

    @property
    def members(self) -> Sequence[Executable]:
        return self._members

    @property
    def tasks(self) -> list[Executable]:
        """The members as tasks; all of them are made at the first look."""
        return self._members.made() if isinstance(self._members, MappedMembers) else self._members

    @tasks.setter
    def tasks(self, tasks: list[Executable]) -> None:
        self._members = tasks

    @property
    def is_async(self) -> bool:
        column = self._members
        return column.prototype.template.is_async if isinstance(column, MappedMembers) else super().is_async

    def __repr__(self) -> str:
        ids = self.member_ids
        if len(ids) <= _SHOWN:
            return super().__repr__()
        return f"ParallelGroup([{ids[0]!r}, {ids[1]!r}, ..., {ids[-1]!r}])"

    def register_in(self, graph: TaskGraph) -> TaskGraph:
        if graph.task_at(self._task_id) is not self and not has_room(self._task_id, graph):
            raise ValueError(
                f"Cannot use the fan-out '{self._task_id}' here: the id is already taken; give it another name="
            )
        scope = current_scope()
        if scope is not None and self in scope.unused:
            scope.unused.remove(self)
        return super().register_in(graph)

    def _register_members(self, graph: TaskGraph) -> TaskGraph:
        if running_frame.get() is not None:
            return super()._register_members(graph)
        column = self._members
        if isinstance(column, MappedMembers) and column.may_be_folded and graph.fold(self._task_id, column):
            return graph
        members = self.tasks
        is_plain = {type(member).register_in for member in members} <= {Executable.register_in}
        if not is_plain or not graph.lacks_all(self.member_ids):
            return super()._register_members(graph)
        for member in members:
            member._pending_registration = False
        graph.add_nodes(members)
        return graph

    def run(self, *args: Any, **kwargs: Any) -> list[R]:  # noqa: ARG002 - the signature of Executable
        """Run all members; the value is the list of their values in item order, None at failed places."""
        if self._context_or_none() is None:
            return self._run_alone()
        if not self.members:
            resolve_group_policy(self._execution_config["policy"]).validate([])
        values = self.values_in(self._run_members()) if self.members else []
        context = self._context_or_none()
        if self.template_id is not None and context is not None and context.graph.lacks(self.template_id):
            context.set_result(self.template_id, values)
        return values
