"""Groups of tasks that run side by side, and the public names of this floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from graflow.coordination.executor import GroupExecutor
from graflow.core.graph import TaskGraph, current_scope, ensure_scope
from graflow.core.handlers.group_policy import canonicalize_group_policy
from graflow.core.nodes.executable import Executable, SequentialTask, Task, chain, leftmost_of
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.protocols import Run
from graflow.redis.config import normalize_redis_config

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


class ParallelGroup(Executable):
    """A node whose members run side by side; its successors run when all members, with their branches, have ended.

    Args:
        tasks: The members, unique by id; a chain contributes its leftmost task.
        name: The id of the node; `ParallelGroup_<n>` when not given.
    """

    is_group = True
    _grows: ClassVar[bool] = True  # whether `|` adds members to this group instead of making one around it

    def __init__(self, tasks: Iterable[Executable], name: str | None = None) -> None:
        members: dict[str, Executable] = {}
        for task in map(leftmost_of, tasks):
            members.setdefault(task.task_id, task)
        self.tasks = list(members.values())
        self._execution_config: dict[str, Any] = _fresh_execution_config()
        graph = ensure_scope().graph
        generated = graph.next_group_name()
        self._task_id = name or generated
        if name is not None and graph.has_node(name):
            raise ValueError(f"Cannot name a group '{name}': the id is already taken")
        self.register_in(graph)

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def execution_config(self) -> Mapping[str, Any]:
        """What `with_execution` was told: "backend" and "backend_config" as given, "policy" in canonical form."""
        return self._execution_config

    def __repr__(self) -> str:
        return f"ParallelGroup({[task.task_id for task in self.tasks]!r})"

    # -- members ---------------------------------------------------------------------------------------------------

    def _adopt(self, task: Executable, *, first: bool = False) -> Self:
        """Take in one more member and make it a node of the current graph."""
        if task is self:
            return self
        if isinstance(task, ParallelGroup) and task._holds(self):
            raise ValueError(f"Group '{self._task_id}' is inside '{task.task_id}' and cannot be a member of itself")
        graph = ensure_scope().graph
        self.register_in(graph)
        task.register_in(graph)
        if graph.note_member(self._task_id, task.task_id):
            self.tasks.insert(0 if first else len(self.tasks), task)
        return self

    def _holds(self, group: ParallelGroup) -> bool:
        return any(
            member is group or (isinstance(member, ParallelGroup) and member._holds(group)) for member in self.tasks
        )

    def register_in(self, graph: TaskGraph) -> None:
        self._pending_registration = False
        if not graph.lacks(self._task_id):
            return
        for task in self.tasks:
            task.register_in(graph)
        graph.add_node(self, skip_if_exists=True)

    def set_group_name(self, name: str) -> Self:
        """Rename the group, in the current graph too.

        Raises:
            ValueError: When the name is taken.
        """
        graph = ensure_scope().graph
        if graph.nodes.get(self._task_id, {}).get("task") is self:
            graph.rename_node(self._task_id, name)
        elif graph.has_node(name):
            raise ValueError(f"Cannot rename group '{self._task_id}': the id '{name}' is already taken")
        self._task_id = name
        return self

    def _has_successors(self) -> bool:
        scope = current_scope()
        if scope is None:
            return False
        members = {task.task_id for task in self.tasks}
        return any(successor not in members for successor in scope.graph.successors(self._task_id))

    @classmethod
    def joined(cls, left: Executable, right: Executable) -> ParallelGroup:
        """The value of `left | right`."""
        if isinstance(left, ParallelGroup) and isinstance(right, ParallelGroup):
            return left._merged(right)
        if isinstance(left, ParallelGroup) and left._grows:
            return left._adopt(leftmost_of(right))
        if isinstance(right, ParallelGroup) and right._grows:
            return right._adopt(leftmost_of(left), first=True)
        return ParallelGroup([leftmost_of(left), leftmost_of(right)])

    def _merged(self, other: ParallelGroup) -> ParallelGroup:
        if other is self:
            return self
        if self._has_successors() or other._has_successors() or not (self._grows and other._grows):
            return ParallelGroup([self, other])
        graph = ensure_scope().graph
        self.register_in(graph)
        for member in other.tasks:
            self._adopt(member)
        if graph.has_node(other.task_id):
            for predecessor in graph.predecessors(other.task_id):
                graph.add_edge(predecessor, self._task_id)
            graph.remove_node(other.task_id)
        return self

    @classmethod
    def over(cls, members: list[Executable], *, name: str) -> MappedGroup:
        """A group whose result is the list of its members' values; a node only once it is used."""
        return MappedGroup(members, name=name)

    # -- execution -------------------------------------------------------------------------------------------------

    def with_execution(
        self, backend: Any = None, backend_config: Mapping[str, Any] | None = None, policy: Any = None
    ) -> Self:
        """Choose where the members run and which results are accepted; what is not given stays as it was.

        Args:
            backend: A `CoordinationBackend` or its name.
            backend_config: Merged key by key over earlier calls; a live `redis_client` is turned into parameters.
            policy: A policy, its name, or its mapping form.
        """
        if policy is not None:
            self._execution_config["policy"] = canonicalize_group_policy(policy)
        if backend is not None:
            self._execution_config["backend"] = backend
        if backend_config is not None:
            merged = {**self._execution_config["backend_config"], **normalize_redis_config(backend_config)}
            self._execution_config["backend_config"] = merged
        return self

    def run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the signature of Executable
        """Run all members and apply the policy; the results live under the members' ids."""
        self._run_members()

    def values_in(self, context: Run) -> list[Any]:
        """What the members returned in a run, in member order; None at the places of those that failed."""
        values = [context.get_result(task.task_id) for task in self.tasks]
        return [
            None if isinstance(value, BaseException) and not context.has_completed(task.task_id) else value
            for task, value in zip(self.tasks, values, strict=True)
        ]

    def _run_members(self) -> Any:
        context = self.get_execution_context()
        config = self._execution_config
        GroupExecutor.execute_parallel_group(
            self._task_id,
            self.tasks,
            context,
            backend=config["backend"],
            backend_config=config["backend_config"],
            policy=config["policy"],
        )
        return context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class MappedGroup(ParallelGroup):
    """The group that `task.map(items)` makes: one member per item, and the list of their values as its result."""

    _grows = False

    def __init__(self, tasks: list[Executable], name: str) -> None:
        self.tasks = tasks
        if len({task.task_id for task in tasks}) != len(tasks):
            ((twice, _),) = Counter(task.task_id for task in tasks).most_common(1)
            raise ValueError(f"Two items of the fan-out '{name}' have the same member id '{twice}'; use another key=")
        self._execution_config = _fresh_execution_config()
        self._task_id = name
        self._pending_registration = True
        scope = current_scope()
        if scope is not None and scope.registers_on_creation and len(scope.unused) < 2:
            scope.unused.append(self)  # one alone is what its workflow runs; more of them are kept by whoever made them

    def register_in(self, graph: TaskGraph) -> None:
        if graph.task_at(self._task_id) is not self and not graph.lacks(self._task_id):
            raise ValueError(f"Cannot use the fan-out '{self._task_id}' here: the id is already taken; give it a name=")
        scope = current_scope()
        if scope is not None and self in scope.unused:
            scope.unused.remove(self)
        super().register_in(graph)

    def run(self, *args: Any, **kwargs: Any) -> list[Any]:  # noqa: ARG002 - the signature of Executable
        """Run all members; the value is the list of their values in item order, None at failed places."""
        if not self.tasks:
            return []
        return self.values_in(self._run_members())


def _fresh_execution_config() -> dict[str, Any]:
    return {"backend": None, "backend_config": {}, "policy": "strict"}


def parallel(*tasks: Executable) -> ParallelGroup:
    """`parallel(a, b, c)` is `a | b | c`.

    Raises:
        ValueError: With fewer than two tasks.
    """
    if len(tasks) < 2:
        raise ValueError("parallel() requires at least two tasks")
    result = tasks[0] | tasks[1]
    for task in tasks[2:]:
        result = result | task
    return result
