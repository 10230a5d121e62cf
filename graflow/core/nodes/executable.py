"""What can stand in a graph, and what its operators make of it: chains and groups."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self, final, overload

from graflow.core.building.entering import enter, graph_for, has_room, is_another, leave_room
from graflow.core.building.scopes import GraphScope, current_scope, ensure_scope, recording_into
from graflow.core.bulk.garbage import no_collections
from graflow.core.graph import TaskGraph, duplicate
from graflow.core.nodes.aio import is_in_loop_of
from graflow.core.nodes.base import BaseNode, no_task
from graflow.core.nodes.columns import ids_in
from graflow.core.nodes.execution_config import change_execution, initial_execution
from graflow.core.nodes.options import checked_id
from graflow.protocols import Run, upward
from graflow.values.plain import SCALARS


class Executable(BaseNode):
    """A node of a workflow graph, with the operators that connect it.

    Subclasses implement `task_id`, `run` and `__call__` and call `super().__init__()`. Equality is identity.
    """

    def __rshift__(self, other: Executable) -> SequentialTask:
        return link(self, checked_node(other, ">>"))

    def __lshift__(self, other: Executable) -> SequentialTask:
        return link(checked_node(other, "<<"), self)

    def __or__(self, other: Executable) -> ParallelGroup:
        return join(self, checked_node(other, "|"))

    # Of what is no task; a task on the left has its own operator.

    def __rrshift__(self, other: object) -> NoReturn:
        raise no_task(other, ">>")

    def __rlshift__(self, other: object) -> NoReturn:
        raise no_task(other, "<<")

    def __ror__(self, other: object) -> NoReturn:
        raise no_task(other, "|")


def checked_node(value: object, where: str) -> Executable:
    """The value, when it can be a node; `where` is the operator or function that it was given to.

    Raises:
        TypeError: It is something else; the text says what to write instead.
    """
    if isinstance(value, Executable):
        return value
    raise no_task(value, where)


@final
class SequentialTask(Executable):
    """The value of `>>`: the tasks that were chained, left to right. Not a node of the graph.

    Chains that grow from one another share one list, so that building `a >> b >> …` stays linear.

    Args:
        tasks: The tasks, at least one.
        after: A chain that comes before them.
    """

    _home: weakref.ref[TaskGraph] | None = None  # the graph that has its tasks and edges

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

    def register_in(self, graph: TaskGraph) -> TaskGraph:
        """Make all tasks nodes of the graph, with the edges between them."""
        if self._is_in(graph):
            return graph
        tasks = self.tasks
        for task in tasks:
            graph = task.register_in(graph)
        for left, right in itertools.pairwise(tasks):
            graph.add_edge(left.task_id, right.task_id)
        self._home = weakref.ref(graph)
        return graph

    def _is_in(self, graph: TaskGraph) -> bool:
        if self._home is None or self._home() is not graph:
            return False
        return graph.task_at(self.task_id) is self.leftmost  # a failed execution takes out what it added

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
        state["_home"] = None
        return state


class ParallelGroup(Executable):
    """A node whose members run side by side; its successors run when all members, with their branches, have ended.

    Args:
        tasks: The members, unique by id; a chain contributes its leftmost task.
        name: The id of the node; `ParallelGroup_<n>` when not given.

    Raises:
        DuplicateTaskError: Two different tasks have one id.
        ValueError: The name is taken, or is none.
    """

    is_group = True
    tasks: list[Executable]
    _chains: tuple[SequentialTask, ...] = ()  # what is behind members; it comes along to each graph
    _named_in: weakref.ref[TaskGraph] | None = None  # the graph that made up its name
    _grows: ClassVar[bool] = True  # whether `|` adds members to this group instead of making one around it

    def __init__(self, tasks: Iterable[Executable], name: str | None = None) -> None:
        members: dict[str, Executable] = {}
        if isinstance(tasks, Executable) or not isinstance(tasks, Iterable):
            raise TypeError(f"A group takes a list of tasks, not {tasks!r}")
        for given in [checked_node(task, "A group") for task in tasks]:
            self._chains += _chain_of(given)
            task = leftmost_of(given)
            known = members.setdefault(task.task_id, task)
            if is_another(known, task):
                raise duplicate(task.task_id, known, task)
        self.tasks = list(members.values())
        self._execution_config: dict[str, Any] = initial_execution()
        graph = graph_for(*self.tasks)
        generated = graph.next_group_name()
        self._task_id = generated if name is None else checked_id(name)
        self._named_in = weakref.ref(graph) if name is None else None
        if name is not None and not has_room(name, graph):
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
        return f"ParallelGroup({[*self.member_ids]!r})"

    @property
    def is_async(self) -> bool:
        """Whether to run it is to wait, since all of its members are coroutines or such groups."""
        return all(getattr(member, "is_async", False) for member in self.members)

    # -- members ---------------------------------------------------------------------------------------------------

    @property
    def members(self) -> Sequence[Executable]:
        """The members, to be read: `tasks`; those of a fan-out become tasks when somebody asks for one."""
        return self.tasks

    @property
    def member_ids(self) -> Sequence[str]:
        """The ids of the members, in order."""
        return ids_in(self.members)

    def _adopt(self, given: Executable, *, first: bool = False) -> Self:
        """Take in one more member and make it, and the chain behind it, nodes of the current graph."""
        task = leftmost_of(given)
        if task is self:
            return self
        if task.is_group and isinstance(task, ParallelGroup) and task._holds(self):
            raise ValueError(f"Group '{self._task_id}' is inside '{task.task_id}' and cannot be a member of itself")
        graph = given.register_in(self.register_in(graph_for(self, task)))
        if given is not task:
            self._chains += _chain_of(given)
        if graph.note_member(self._task_id, task.task_id):
            self.tasks.insert(0 if first else len(self.tasks), task)
        return self

    def _holds(self, group: ParallelGroup) -> bool:
        return any(
            member is group or (isinstance(member, ParallelGroup) and member._holds(group)) for member in self.tasks
        )

    def register_in(self, graph: TaskGraph) -> TaskGraph:
        self._pending_registration = False
        known = graph.task_at(self._task_id)
        if known is self:
            return graph
        if known is not None and self._named_in is not None and is_another(known, self):
            self._take_another_name(graph)
            known = None
        if not (graph.lacks(self._task_id) or is_another(known, self)):
            return graph
        with no_collections():
            return enter(self, self._register_members(graph))

    def _register_members(self, graph: TaskGraph) -> TaskGraph:
        for part in (*self.tasks, *self._chains):
            graph = part.register_in(graph)
        return graph

    def _take_another_name(self, graph: TaskGraph) -> None:
        """Give up a made-up name that another group has in a graph where this one is used as well."""
        home = None if self._named_in is None else self._named_in()
        name = graph.next_group_name()
        while home is not None and home.has_node(name):
            name = graph.next_group_name()
        if home is not None and home.task_at(self._task_id) is self:
            home.rename_node(self._task_id, name)
        self._task_id = name

    def set_group_name(self, name: str) -> Self:
        """Rename the group, in the current graph too.

        Raises:
            ValueError: When the name is taken, or is none.
        """
        checked_id(name)
        graph = ensure_scope().graph
        if graph.task_at(self._task_id) is self:
            leave_room(name, graph)
            graph.rename_node(self._task_id, name)
        elif graph.has_node(name):
            raise ValueError(f"Cannot rename group '{self._task_id}': the id '{name}' is already taken")
        self._task_id, self._named_in = name, None
        return self

    def _has_successors(self) -> bool:
        scope = current_scope()
        if scope is None:
            return False
        members = set(self.member_ids)
        return any(successor not in members for successor in scope.graph.successors(self._task_id))

    def _merged(self, other: ParallelGroup) -> ParallelGroup:
        if other is self:
            return self
        if self._execution_config != other._execution_config or not (self._grows and other._grows):
            return ParallelGroup([self, other])
        if self._has_successors() or other._has_successors():
            return ParallelGroup([self, other])
        graph = self.register_in(graph_for(self, other))
        for member in other.tasks:
            self._adopt(member)
        self._chains += other._chains
        if graph.has_node(other.task_id):
            for predecessor in graph.predecessors(other.task_id):
                graph.add_edge(predecessor, self._task_id)
            graph.remove_node(other.task_id)
        return self

    # -- execution -------------------------------------------------------------------------------------------------

    def with_execution(
        self, backend: object = None, backend_config: Mapping[str, Any] | None = None, policy: object = None
    ) -> Self:
        """Choose where the members run and which results are accepted; what is not given stays as it was.

        Args:
            backend: A `CoordinationBackend` or its name.
            backend_config: Merged key by key over earlier calls; a live `redis_client` is turned into parameters.
            policy: A policy, its name, or its mapping form.

        Raises:
            ValueError: The backend or the policy is unknown, or a setting does not fit.
            TypeError: One of them is of a wrong type.

        Example:
            >>> from graflow import task, workflow
            >>> with workflow("numbers") as wf:
            ...
            ...     @task
            ...     def halved(number: int) -> float:
            ...         return number / (number - 1) / 2
            ...
            ...     _ = halved.map([1, 2, 3]).with_execution("threading", {"thread_count": 2}, policy="best_effort")
            >>> wf.execute()
            [None, 1.0, 0.75]
        """
        change_execution(self._execution_config, backend, backend_config, policy)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_chains": (), "_named_in": None}  # edges travel with their graph

    def run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the signature of Executable
        """Run all members and apply the policy; the results live under the members' ids.

        Outside any run it is a run of its own, which gives the list of the members' values.
        """
        if self._context_or_none() is None:
            return self._run_alone()
        self._run_members()
        return None

    def _run_alone(self) -> list[Any]:
        context = upward.context()
        with recording_into(GraphScope(context.graph, registers_on_creation=False)):
            self.register_in(context.graph)
        upward.engine().execute(context, self._task_id)
        return self.values_in(context)

    def values_in(self, context: Run) -> list[Any]:
        """What the members returned in a run, in member order; None at the places of those that failed.

        At the place of a group is the list of its members' values.
        """
        ids = self.member_ids
        values = context.get_results(ids)
        if not SCALARS.issuperset(map(type, values)):
            values = [
                None if isinstance(value, BaseException) and not context.has_completed(task_id) else value
                for task_id, value in zip(ids, values, strict=True)
            ]
        members = self.members
        for index, member in enumerate(members if isinstance(members, list) else ()):
            if values[index] is None and isinstance(member, ParallelGroup) and context.has_completed(ids[index]):
                values[index] = member.values_in(context)
        return values

    def _run_members(self) -> Any:
        context = self.get_execution_context()
        engine = getattr(context, "engine", None)
        if not is_in_loop_of(engine):
            return self._run_members_in(context)
        # A coroutine waits, and its loop with it: members that are coroutines need another one.
        apart = context.engine = (upward.engine() if engine is None else engine).apart()
        try:
            return self._run_members_in(context)
        finally:
            context.engine = engine
            apart.close()

    def _run_members_in(self, context: Any) -> Any:
        config = self._execution_config
        upward.group_executor().execute_parallel_group(
            self._task_id,
            self.members,
            context,
            backend=config["backend"],
            backend_config=config["backend_config"],
            policy=config["policy"],
        )
        return context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


def link(left: Executable, right: Executable) -> SequentialTask:
    """Record the edge from the end of `left` to the start of `right` and return the longer chain."""
    end = left.rightmost if type(left) is SequentialTask else left
    start = right.leftmost if type(right) is SequentialTask else right
    graph = graph_for(end, start)
    if type(left) is SequentialTask:
        graph = left.register_in(graph)
    if type(right) is SequentialTask:
        graph = right.register_in(graph)
    end_id, start_id = end.task_id, start.task_id
    if graph.task_at(end_id) is not end or end._pending_registration:
        graph = end.register_in(graph)
    if graph.task_at(start_id) is not start or start._pending_registration:
        graph = start.register_in(graph)
    graph.add_edge(end_id, start_id)
    tail = right.tasks if type(right) is SequentialTask else [right]
    linked = SequentialTask(tail, after=left) if type(left) is SequentialTask else SequentialTask([left, *tail])
    linked._home = weakref.ref(graph)
    return linked


def join(left: Executable, right: Executable) -> ParallelGroup:
    """The value of `left | right`."""
    if left.is_group and isinstance(left, ParallelGroup):
        if right.is_group and isinstance(right, ParallelGroup):
            return left._merged(right)
        if left._grows:
            return left._adopt(right)
    elif right.is_group and isinstance(right, ParallelGroup) and right._grows:
        return right._adopt(left, first=True)
    return ParallelGroup([left, right])


def leftmost_of(task: Executable) -> Executable:
    return task.leftmost if type(task) is SequentialTask else task


def _chain_of(task: Executable) -> tuple[SequentialTask, ...]:
    return (task,) if type(task) is SequentialTask else ()
