"""The task graph: a `networkx.DiGraph` of executables, and the graph that operators record into."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import networkx as nx

from graflow.exceptions import DuplicateTaskError
from graflow.protocols import upward


class GraphScope:
    """Where operators record: a graph, and whether tasks enter it as soon as they are created."""

    __slots__ = ("graph", "registers_on_creation")

    def __init__(self, graph: TaskGraph, *, registers_on_creation: bool) -> None:
        self.graph = graph
        self.registers_on_creation = registers_on_creation


_scope: ContextVar[GraphScope | None] = ContextVar("graflow_scope", default=None)


def current_scope() -> GraphScope | None:
    """The scope that operators record into now, or None."""
    return _scope.get()


def ensure_scope() -> GraphScope:
    """The current scope; an anonymous workflow becomes current when there is none."""
    scope = _scope.get()
    if scope is None:
        made: GraphScope = upward.scope()
        return made
    return scope


def set_scope(scope: GraphScope | None) -> None:
    _scope.set(scope)


@contextmanager
def recording_into(scope: GraphScope) -> Iterator[None]:
    """Make `scope` the current one for the length of the block."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def is_group(task: Any) -> bool:
    """Whether a node holds members (asked of the type, so that stand-ins with any attribute are no groups)."""
    return getattr(type(task), "is_group", False) is True


class TaskGraph:
    """Nodes are ids with the task in the attribute `"task"`; edges are precedence.

    Members of groups are nodes of their own; the group that holds them is remembered, so that they are never start
    nodes and an edge into a member counts as an edge into its group.
    """

    def __init__(self) -> None:
        self._graph: Any = nx.DiGraph()  # Any: hot paths read its private tables
        self._lock = threading.RLock()
        self._group_count = 0
        self.group_prefix = ""  # tells the names that are given here from those that are given elsewhere
        self._group_nodes: dict[str, int] = {}  # how many members are noted in `_groups_of`
        self._groups_of: dict[str, list[str]] = {}
        self._births: dict[str, int] | None = None
        self._dynamic: dict[str, None] = {}
        self._known_by_name: dict[str, None] = {}  # nodes whose tasks only another process has had

    # -- nodes and edges -------------------------------------------------------------------------------------------

    def add_node(self, task: Any, task_id: str | None = None, skip_if_exists: bool = False) -> None:
        """Add a task under its id.

        Raises:
            DuplicateTaskError: When the id is taken and `skip_if_exists` is off.
        """
        node_id = task.task_id if task_id is None else task_id
        with self._lock:
            is_known = node_id in self._graph._node
            if is_known and not (skip_if_exists and node_id in self._known_by_name):
                if skip_if_exists:
                    return
                raise DuplicateTaskError(node_id)
            self._known_by_name.pop(node_id, None)
            self._graph.add_node(node_id, task=task)
            if self._births is not None and not is_known:
                self._births[node_id] = len(self._births)
            if is_group(task):
                self._group_nodes[node_id] = 0
                self._note_members(node_id, task)

    def add_edge(self, from_id: str, to_id: str) -> None:
        """Let one node precede another; ids without a node are entered and need a task before they run."""
        successors, predecessors = self._graph._succ, self._graph._pred
        with self._lock:
            if from_id not in successors or to_id not in successors:
                self._graph.add_edge(from_id, to_id)
            elif to_id not in successors[from_id]:
                # What `DiGraph.add_edge` does for two known nodes, at a third of its price.
                successors[from_id][to_id] = predecessors[to_id][from_id] = {}

    def remove_node(self, task_id: str) -> None:
        """Take a node and its edges out; members of a removed group stay.

        Raises:
            KeyError: Naming the id.
        """
        with self._lock:
            if task_id not in self._graph._node:
                raise KeyError(f"Node '{task_id}' not found in graph")
            self._graph.remove_node(task_id)
            self._dynamic.pop(task_id, None)
            self._known_by_name.pop(task_id, None)
            if task_id not in self._group_nodes:
                return
            del self._group_nodes[task_id]
            for member, groups in list(self._groups_of.items()):
                if task_id in groups:
                    groups.remove(task_id)
                    if not groups:
                        del self._groups_of[member]

    def rename_node(self, old: str, new: str) -> None:
        """Give a node another id; position and edges are kept.

        Raises:
            KeyError: When `old` is not a node.
            ValueError: When `new` is taken.
        """
        with self._lock:
            if old not in self._graph._node:
                raise KeyError(f"Node '{old}' not found in graph")
            if new == old:
                return
            if new in self._graph._node:
                raise ValueError(f"Cannot rename '{old}': the id '{new}' is already taken")
            successors, predecessors = self._graph._succ, self._graph._pred
            beside = [successors[source] for source in predecessors[old]]
            beside += [predecessors[target] for target in successors[old]]
            for table in (*beside, self._graph._node, successors, predecessors):
                _rename_key(table, old, new)
            for groups in self._groups_of.values():
                groups[:] = [new if group == old else group for group in groups]
            for index in (self._groups_of, self._group_nodes, self._births, self._dynamic, self._known_by_name):
                if index is not None and old in index:
                    _rename_key(index, old, new)
            task = self._graph._node[new].get("task")
            if getattr(task, "_task_id", None) == old:
                task._task_id = new  # what runs under one id and is looked up under another loses its successors

    def get_node(self, task_id: str) -> Any:
        """The task with that id, a member of a group included.

        Raises:
            KeyError: Naming the id.
        """
        attributes = self._graph._node.get(task_id)
        if attributes is not None and "task" in attributes:
            return attributes["task"]
        for group_id in self._holders().get(task_id, ()):
            for member in self.get_node(group_id).tasks:
                if member.task_id == task_id:
                    return member
        raise KeyError(f"Node '{task_id}' not found in graph")

    def has_node(self, task_id: str) -> bool:
        """Whether there is a node, or a member of a group, with that id."""
        return task_id in self._graph._node or task_id in self._holders()

    @property
    def nodes(self) -> Any:
        return self._graph.nodes

    @property
    def edges(self) -> Any:
        return self._graph.edges

    def get_edges(self) -> list[tuple[str, str]]:
        with self._lock:
            return list(self._graph.edges())

    def successors(self, task_id: str) -> list[str]:
        """Ids in edge order; none for an id that is not a node."""
        return list(self._graph._succ.get(task_id, ()))

    def predecessors(self, task_id: str) -> list[str]:
        """Ids in edge order; none for an id that is not a node."""
        return list(self._graph._pred.get(task_id, ()))

    def detect_cycles(self) -> list[list[str]]:
        """Each simple cycle as the ids on it."""
        with self._lock:
            return [list(cycle) for cycle in nx.simple_cycles(self._graph)]

    def nx_graph(self) -> nx.DiGraph[str]:
        """The graph itself, not a copy."""
        graph: nx.DiGraph[str] = self._graph
        return graph

    def clear(self) -> None:
        with self._lock:
            self._graph.clear()
            self._groups_of.clear()
            self._group_nodes.clear()
            self._dynamic.clear()
            self._known_by_name.clear()
            self._births = None
            self._group_count = 0

    # -- groups ----------------------------------------------------------------------------------------------------

    def next_group_name(self) -> str:
        """`ParallelGroup_<n>`, n counting from 1 in this graph; numbers whose name is taken are skipped."""
        with self._lock:
            while True:
                self._group_count += 1
                name = f"{self.group_prefix}ParallelGroup_{self._group_count}"
                if name not in self._graph._node:
                    return name

    def note_member(self, group_id: str, member_id: str) -> bool:
        """Remember that a group holds a member; False when that was known."""
        with self._lock:
            groups = self._groups_of.setdefault(member_id, [])
            if group_id in groups:
                return False
            groups.append(group_id)
            if group_id in self._group_nodes:
                self._group_nodes[group_id] += 1
            return True

    def _note_members(self, group_id: str, group: Any) -> None:
        """Remember the members of a group and, where these are groups without a node, of those too."""
        for member in group.tasks:
            is_known = not self.note_member(group_id, member.task_id)
            if not is_known and is_group(member) and member.task_id not in self._graph._node:
                self._note_members(member.task_id, member)

    def _holders(self) -> dict[str, list[str]]:
        """Groups by member, after a look for members that joined a group without the graph being told."""
        with self._lock:
            for group_id, noted in self._group_nodes.items():
                group = self._graph._node[group_id]["task"]
                if len(group.tasks) != noted:
                    self._note_members(group_id, group)
                    self._group_nodes[group_id] = len(group.tasks)
        return self._groups_of

    def groups_of(self, task_id: str) -> list[str]:
        """Ids of the groups that hold this task directly."""
        return list(self._groups_of.get(task_id, ()))

    def get_parallel_group_members(self, task_id: str) -> list[str]:
        """Ids of a group's members in order; none for any other node."""
        attributes = self._graph._node.get(task_id)
        task: Any = attributes.get("task") if attributes is not None else None
        return [member.task_id for member in task.tasks] if is_group(task) else []

    def get_start_nodes(self) -> list[str]:
        """Ids without predecessors that are no member of any group and were not added by a running task."""
        with self._lock:
            members, predecessors = self._holders(), self._graph._pred
            return [
                node
                for node in self._graph._node
                if not predecessors[node] and node not in members and node not in self._dynamic
            ]

    # -- what a run adds -------------------------------------------------------------------------------------------

    def birth_mark(self) -> int:
        """A point in time for `born_since`; from the first call on, the birth of every node is remembered."""
        births = self._births
        if births is None:
            with self._lock:
                births = self._births = {} if self._births is None else self._births
        return len(births)

    def born_since(self, task_id: str, mark: int) -> bool:
        """Whether the node was added after `birth_mark` returned `mark`."""
        births = self._births
        return births is not None and births.get(task_id, -1) >= mark

    def is_dynamic(self, task_id: str) -> bool:
        """Whether a running task added the node."""
        return task_id in self._dynamic

    def mark_dynamic(self, task_id: str) -> None:
        """Remember that a running task added this node, so that it is never a start node."""
        self._dynamic[task_id] = None

    def add_name(self, task: Any) -> None:
        """Add a node whose task only another process has had; `task` stands in until the task itself is added."""
        with self._lock:
            self.add_node(task)
            self._known_by_name[task.task_id] = None
            self.mark_dynamic(task.task_id)

    def lacks(self, task_id: str) -> bool:
        """Whether the task itself has yet to be added, be the id known or not."""
        return task_id not in self._graph._node or task_id in self._known_by_name

    @property
    def known_by_name(self) -> list[str]:
        """Ids of the nodes whose tasks only another process has had."""
        return list(self._known_by_name)

    def copy(self) -> TaskGraph:
        """A graph with its own structure over the same task objects."""
        with self._lock, _no_collections():
            twin = TaskGraph()
            source, target = self._graph, twin._graph
            target.graph.update(source.graph)
            target._node.update({node: data.copy() for node, data in source._node.items()})
            target._succ.update({node: neighbours.copy() for node, neighbours in source._succ.items()})
            target._pred.update({node: neighbours.copy() for node, neighbours in source._pred.items()})
            twin._group_count = self._group_count
            twin._group_nodes = self._group_nodes.copy()
            twin._groups_of = {member: groups.copy() for member, groups in self._groups_of.items()}
            twin._dynamic = self._dynamic.copy()
            twin._known_by_name = self._known_by_name.copy()
            twin.group_prefix = self.group_prefix
            return twin

    def __str__(self) -> str:
        try:
            with self._lock:
                return upward.draw(self._graph)
        except Exception:  # noqa: BLE001 - whatever a node holds, looking at a graph never fails
            return f"TaskGraph({', '.join(map(str, list(self._graph._node)))})"

    def __getstate__(self) -> dict[str, Any]:
        # The state of a copy: another thread may add nodes while the pickler walks.
        with self._lock:
            state = self.copy().__dict__ | {"_births": None if self._births is None else self._births.copy()}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


@contextmanager
def _no_collections() -> Iterator[None]:
    """Copying makes no garbage; collecting in the middle of it costs several times the copy."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rename_key(table: dict[str, Any], old: str, new: str) -> None:
    """Rename a key in place, keeping its position."""
    items = [(new if key == old else key, value) for key, value in table.items()]
    table.clear()
    table.update(items)
