"""The task graph: a `networkx.DiGraph` of executables."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Collection, KeysView, Mapping, Sequence
from typing import Any, Final

import networkx as nx

from graflow.core.bulk.folds import Column, Fold, are_apart, holds, without_ages
from graflow.core.bulk.garbage import no_collections
from graflow.core.growth import Growth
from graflow.core.memberships import Memberships, has_groups, is_group, rename_key
from graflow.exceptions import DuplicateTaskError
from graflow.foreign import attempt
from graflow.protocols import Node, upward

_MOST_FOLDED: Final = 8
_REOPENED: Final = (
    "_lock",
    "_nodes",
    "_succ",
    "_pred",
    "succ",
    "pred",
    "_folds",
    "_enters_at_once",
)  # what a copy or a loaded graph has of its own


def _tables_of(graph: Any) -> tuple[Any, Any, Any]:
    """Attributes of nodes, successors and predecessors, as networkx has them."""
    return graph._node, graph._succ, graph._pred


def duplicate(task_id: str, first: Any, second: Any) -> DuplicateTaskError:
    """The error for two tasks under one id, with the places of their functions."""
    places = [place for place in map(_place_of, (first, second)) if place]
    return DuplicateTaskError(task_id, places)


def _place_of(task: Any) -> str:
    func = inspect.unwrap(getattr(task, "func", None) or task)
    code = getattr(getattr(func, "func", func), "__code__", None)  # of a partial, the function inside
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


class TaskGraph:
    """Nodes are ids with the task in the attribute `"task"`; edges are precedence.

    Members of groups are nodes of their own; the group that holds them is remembered, so that they are never start
    nodes and an edge into a member counts as an edge into its group.

    `succ`, `pred` and `groups` are the living tables, for whoever walks at every step: nothing is copied, so take what
    you keep with `tuple`, since another member may add edges meanwhile. They change through the methods only. Members
    of a fan-out, which have no edges, are not in there as long as it `is_folded`: until somebody looks for one of them.

    Attributes:
        succ: The ids behind each node, in edge order; every node has an entry, members of folded fan-outs aside.
        pred: The ids before each node, likewise.
        groups: Which nodes are groups, and which groups hold an id.
        growth: When its nodes came, and what a run added.
        stands_for: For the graph of one branch, the one that the others share.
        additions: Nodes and edges in the order in which they come, where somebody wants to know: `(id,)` and
            `(from, to)`.
    """

    succ: Mapping[str, Mapping[str, Any]]
    pred: Mapping[str, Mapping[str, Any]]
    groups: Memberships
    additions: list[tuple[str, ...]] | None = None

    def __init__(self) -> None:
        self._graph: Any = nx.DiGraph()
        self._open_tables()
        self.groups = Memberships()
        self._lock = threading.RLock()
        self._group_count = 0
        self.group_prefix = ""  # tells the names that are given here from those that are given elsewhere
        self.growth = Growth()
        self.stands_for: TaskGraph | None = None
        self._folds: dict[str, Fold] = {}
        self._enters_at_once = False  # each member of a fan-out, as somebody has looked for one, or has the tables

    def _open_tables(self) -> None:
        # What networkx offers in public wraps each look in views that cost more than a step of a run may.
        self._nodes, self._succ, self._pred = _tables_of(self._graph)
        self.succ, self.pred = self._succ, self._pred

    # -- nodes and edges -------------------------------------------------------------------------------------------

    def add_node(self, task: Node, task_id: str | None = None, skip_if_exists: bool = False) -> None:
        """Add a task under its id.

        Raises:
            DuplicateTaskError: When the id is taken and `skip_if_exists` is off.
        """
        node_id = task.task_id if task_id is None else task_id
        with self._lock:
            if self._folds:
                self._look_for(node_id)
            is_known = node_id in self._nodes
            if is_known and node_id not in self.growth.by_name:
                if skip_if_exists:
                    return
                raise duplicate(node_id, self.task_at(node_id), task)
            if is_known:
                del self.growth.by_name[node_id]
                self._nodes[node_id]["task"] = task
            else:
                # What `DiGraph.add_node` does for a new node, at a third of its price.
                self._nodes[node_id], self._succ[node_id], self._pred[node_id] = {"task": task}, {}, {}
                self.growth.enter(node_id)
            if self.additions is not None:
                self.additions.append((node_id,))
            if node_id in self._folds:
                self.groups.add_folded(node_id, len(self._folds[node_id].column.ids))
            elif is_group(task):
                self.groups.add_group(node_id, task, self._nodes)

    def add_nodes(self, tasks: Sequence[Node]) -> None:
        """Add many tasks under their ids, as `add_node` does one by one."""
        with self._lock:
            self._unfold()
            by_id = {task.task_id: task for task in tasks}
            is_plain = len(by_id) == len(tasks) and self.additions is None and not has_groups(tasks)
            if not (is_plain and self._nodes.keys().isdisjoint(by_id)):
                for task in tasks:
                    self.add_node(task)
                return
            self._nodes.update({node_id: {"task": task} for node_id, task in by_id.items()})
            self._succ.update({node_id: {} for node_id in by_id})
            self._pred.update({node_id: {} for node_id in by_id})
            self.growth.enter_all(by_id)

    def add_edge(self, from_node: str, to_node: str) -> None:
        """Let one node precede another; ids without a node are entered and need a task before they run."""
        with self._lock:
            if self._folds:
                self._look_for(from_node, to_node)
            successors, predecessors = self._succ, self._pred
            if from_node not in successors or to_node not in successors:
                self._graph.add_edge(from_node, to_node)
            elif to_node not in successors[from_node]:
                # What `DiGraph.add_edge` does for two known nodes, at a third of its price.
                successors[from_node][to_node] = predecessors[to_node][from_node] = {}
            if self.additions is not None:
                self.additions.append((from_node, to_node))

    def remove_node(self, task_id: str) -> None:
        """Take a node and its edges out; members of a removed group stay.

        Raises:
            KeyError: Naming the id.
        """
        with self._lock:
            if self._folds:
                self._look_for(task_id)
                if task_id in self._folds:
                    self._unfold()
            if task_id not in self._nodes:
                raise KeyError(f"Node '{task_id}' not found in graph")
            self._graph.remove_node(task_id)
            self.growth.forget(task_id)
            self.groups.forget(task_id)

    def rename_node(self, old_task_id: str, new_task_id: str) -> None:
        """Give a node another id; position and edges are kept.

        Raises:
            KeyError: When `old_task_id` is not a node.
            ValueError: When `new_task_id` is taken.
        """
        with self._lock:
            self._unfold()
            if old_task_id not in self._nodes:
                raise KeyError(f"Node '{old_task_id}' not found in graph")
            if new_task_id == old_task_id:
                return
            if new_task_id in self._nodes:
                raise ValueError(f"Cannot rename '{old_task_id}': the id '{new_task_id}' is already taken")
            successors, predecessors = self._succ, self._pred
            beside = [successors[source] for source in predecessors[old_task_id]]
            beside += [predecessors[target] for target in successors[old_task_id]]
            for table in (*beside, self._nodes, successors, predecessors):
                rename_key(table, old_task_id, new_task_id)
            self.growth.rename(old_task_id, new_task_id)
            self.groups.rename(old_task_id, new_task_id)
            task = self.task_at(new_task_id)
            if getattr(task, "_task_id", None) == old_task_id:
                # What runs under one id and is looked up under another loses its successors.
                task._task_id = new_task_id

    def get_node(self, task_id: str) -> Any:
        """The task with that id, a member of a group included.

        Raises:
            KeyError: Naming the id.
        """
        attributes = self._nodes.get(task_id) or self._attributes(task_id)
        if attributes and "task" in attributes:
            return attributes["task"]
        for group_id in self._holders().get(task_id, ()):
            for member in self.get_node(group_id).tasks:
                if member.task_id == task_id:
                    return member
        raise KeyError(f"Node '{task_id}' not found in graph")

    def task_at(self, task_id: str) -> Any:
        """The task of a node; None for an id without one, members without a node included."""
        attributes = self._attributes(task_id)
        return None if attributes is None else attributes.get("task")

    def _attributes(self, task_id: str) -> Any:
        folds = self._folds  # as they were before the look: another thread may unfold them meanwhile
        attributes = self._nodes.get(task_id)
        if attributes is None and folds:
            self._look_for(task_id)
            attributes = self._nodes.get(task_id)
        return attributes

    def has_node(self, task_id: str) -> bool:
        """Whether there is a node, or a member of a group, with that id."""
        return task_id in self._nodes or holds(self._folds, task_id) or task_id in self._holders()

    @property
    def is_empty(self) -> bool:
        """Whether there is no node."""
        return not self._nodes

    @property
    def nodes(self) -> Any:
        return self.nx_graph().nodes

    @property
    def edges(self) -> Any:
        return self.nx_graph().edges

    def get_edges(self) -> list[tuple[str, str]]:
        with self._lock:
            return list(self._graph.edges())

    def successors(self, node: str) -> list[str]:
        """Ids in edge order; none for an id that is not a node."""
        return list(self._succ.get(node, ()))

    def predecessors(self, node: str) -> list[str]:
        """Ids in edge order; none for an id that is not a node."""
        return list(self._pred.get(node, ()))

    def detect_cycles(self) -> list[list[str]]:
        """Each simple cycle as the ids on it."""
        with self._lock:
            return [list(cycle) for cycle in nx.simple_cycles(self._graph)]

    def nx_graph(self) -> nx.DiGraph[str]:
        """The graph itself, not a copy."""
        self.unfold()
        self._enters_at_once = True
        graph: nx.DiGraph[str] = self._graph
        return graph

    def clear(self) -> None:
        with self._lock:
            self._folds = {}
            self._graph.clear()
            self.groups.clear()
            self.growth.clear()
            self._group_count = 0

    # -- groups ----------------------------------------------------------------------------------------------------

    def next_group_name(self) -> str:
        """`ParallelGroup_<n>`, n counting from 1 in this graph; numbers whose name is taken are skipped."""
        with self._lock:
            while True:
                self._group_count += 1
                name = f"{self.group_prefix}ParallelGroup_{self._group_count}"
                if name not in self._nodes:
                    return name

    def note_member(self, group_id: str, member_id: str) -> bool:
        """Remember that a group holds a member; False when that was known."""
        with self._lock:
            return self.groups.note(group_id, member_id)

    def fold(self, group_id: str, column: Column) -> bool:
        """Have the members of a fan-out as nodes, which are entered when somebody looks for one; its own node is next.

        Returns:
            Whether that can be: not with ids that are taken, nor where somebody follows what comes, nor beside many
            others, as each look for a node goes through all of them.
        """
        with self._lock:
            if self._enters_at_once or self.additions is not None or len(self._folds) >= _MOST_FOLDED:
                return False
            if not are_apart(self._nodes.keys(), column.ids):
                return False
            fold = Fold(column, self.growth.reserve(len(column.ids)))
            self._folds = {**self._folds, group_id: fold}  # another table, as others may walk in the one before
            return True

    def is_folded(self, group_id: str) -> bool:
        """Whether a group is a fan-out of whose members nobody has looked for one: they have no edges then."""
        return group_id in self._folds

    def unfold(self) -> None:
        """Enter the members of all fan-outs, which are about to be looked for by several threads."""
        if self._folds:
            self._unfold()

    def _look_for(self, *task_ids: str) -> None:
        """Enter members of fan-outs where one of these is among them."""
        if any(holds(self._folds, task_id) for task_id in task_ids):
            self._unfold()

    def _unfold(self) -> None:
        """Enter the members of fan-outs, each before its group.

        The tables are new ones then: whoever walks in the old ones in another thread comes to the end of his way.
        """
        with self._lock:
            if not self._folds:
                return
            unfolded: Any = nx.DiGraph()
            unfolded.graph.update(self._graph.graph)
            nodes, successors, predecessors = _tables_of(unfolded)
            with no_collections():
                for node_id, attributes in self._nodes.items():
                    if node_id in self._folds:
                        members = self._unfolded_members(node_id)
                        nodes.update({task_id: {"task": member} for task_id, member in members.items()})
                        successors.update({task_id: {} for task_id in members})
                        predecessors.update({task_id: {} for task_id in members})
                    nodes[node_id] = attributes
                    successors[node_id], predecessors[node_id] = self._succ[node_id], self._pred[node_id]
                self._graph = unfolded
                self._open_tables()
                self._folds, self._enters_at_once = {}, True  # not to be made anew for each further look

    def _unfolded_members(self, group_id: str) -> dict[str, Any]:
        """The members of a fan-out by id, once it is noted that they came and whose they are."""
        fold = self._folds[group_id]
        members = fold.members()
        self.groups.unfold(group_id, members)
        if fold.age is not None:
            self.growth.note_since(fold.age, members)
        return members

    def _holders(self) -> dict[str, tuple[str, ...]]:
        """Groups by member, after a look for members that joined a group without the graph being told."""
        with self._lock:
            self.groups.look_again(self._nodes)
        return self.groups.holders

    def groups_of(self, task_id: str) -> list[str]:
        """Ids of the groups that hold this task directly."""
        if self._folds:
            self._look_for(task_id)
        return list(self.groups.holders.get(task_id, ()))

    def get_parallel_group_members(self, group_id: str) -> list[str]:
        """Ids of a group's members in order; none for any other node."""
        task = self.task_at(group_id)
        return list(task.member_ids) if is_group(task) else []

    def get_start_nodes(self) -> list[str]:
        """Ids without predecessors that are no member of any group and were not added by a running task."""
        with self._lock:
            members = self._holders()
            return [
                node
                for node, sources in self._pred.items()
                if not sources and node not in members and node not in self.growth.dynamic
            ]

    # -- what a run adds -------------------------------------------------------------------------------------------

    def add_name(self, task: Node) -> None:
        """Add a node whose task only another process has had; `task` stands in until the task itself is added."""
        with self._lock:
            self.add_node(task)
            self.growth.by_name[task.task_id] = None
            self.growth.mark_dynamic(task.task_id)

    def lacks(self, task_id: str) -> bool:
        """Whether the task itself has yet to be added, be the id known or not."""
        if self._folds:
            self._look_for(task_id)
        return task_id not in self._nodes or task_id in self.growth.by_name

    def lacks_all(self, task_ids: Collection[str]) -> bool:
        """Whether each of these tasks has yet to be added."""
        self.unfold()
        return self._nodes.keys().isdisjoint(task_ids) or all(map(self.lacks, task_ids))

    @property
    def known_by_name(self) -> KeysView[str]:
        """Ids of the nodes whose tasks only another process has had."""
        return self.growth.by_name.keys()

    def copy(self) -> TaskGraph:
        """A graph with its own structure over the same task objects."""
        with self._lock, no_collections():
            twin = TaskGraph()
            twin._graph.graph.update(self._graph.graph)
            twin._nodes.update({node: data.copy() for node, data in self._nodes.items()})
            for table, own in ((self._succ, twin._succ), (self._pred, twin._pred)):
                own.update({node: neighbours.copy() if neighbours else {} for node, neighbours in table.items()})
            twin._folds = without_ages(self._folds)
            twin._group_count = self._group_count
            twin.groups = self.groups.copy()
            twin.growth = self.growth.copy()
            twin.group_prefix = self.group_prefix
            return twin

    def for_branch(self) -> TaskGraph:
        """A copy that one branch has in the place of this graph, with the ages of all nodes."""
        with self._lock:
            self._unfold()
            own = self.copy()
            own.growth, own.stands_for = self.growth.copy(with_ages=True), self
            return own

    def take_over(self, branch: TaskGraph) -> None:
        """Take over what running tasks added to the graph of a branch; under ids that are known the first one stays."""
        with self._lock:
            self._unfold()
            added = [task_id for task_id in branch.growth.owners if task_id not in self._nodes]
            for task_id in added:
                self.add_node(branch.task_at(task_id))
                self.growth.owners[task_id] = branch.growth.owners[task_id]
                self.growth.mark_dynamic(task_id)
            for task_id in added:
                for target in branch.succ[task_id]:
                    self.add_edge(task_id, target)

    def __str__(self) -> str:
        with self._lock:  # whatever a node holds, looking at a graph never fails
            return attempt(
                lambda: upward.draw(self.nx_graph()), lambda _: f"TaskGraph({', '.join(map(str, self._nodes))})"
            )

    def __getstate__(self) -> dict[str, Any]:
        # The state of a copy: another thread may add nodes while the pickler walks.
        with self._lock:
            self._unfold()
            state = self.copy().__dict__ | {"growth": self.growth.copy(with_ages=True)}
        for name in _REOPENED:
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._folds, self._enters_at_once = {}, False
        self._lock = threading.RLock()
        self._open_tables()
