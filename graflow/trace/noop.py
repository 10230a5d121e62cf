"""The default listener: silent, and remembers just enough to draw what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from graflow.protocols import Node, Run
from graflow.trace.base import Tracer


class NoopTracer(Tracer):
    """Keeps the tasks of the latest run in order of starting; the runtime graph is built when somebody asks."""

    def __init__(self, enable_runtime_graph: bool = True) -> None:
        self.enable_runtime_graph = enable_runtime_graph
        self._trace_id: str | None = None
        self._clear()

    def _clear(self) -> None:
        self._started: list[Any] = []
        self._failed: list[tuple[str, int]] = []
        self._groups: list[tuple[str, tuple[str, ...], tuple[tuple[str, bool], ...] | None]] = []
        self._dynamic: list[tuple[str, str | None, bool]] = []
        self._graph: Any = None

    def on_workflow_start(self, name: str, context: Run) -> None:
        """Forget the run before; a run that is continued keeps its record."""
        if context.trace_id != self._trace_id:
            self._clear()
            self._trace_id = context.trace_id

    def on_task_start(self, task: Node, context: Run) -> None:
        """Remember the task object alone: this is called for every task, its id is asked for on request."""
        if self.enable_runtime_graph:
            self._started.append(task)
            self._graph = context.graph

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        if error is not None and self.enable_runtime_graph:
            self._failed.append((task.task_id, len(self._started)))

    def on_member_end(
        self,
        group_id: str,
        member_id: str,
        context: Run,
        error: BaseException | None = None,
        ran: Mapping[str, bool] | None = None,
    ) -> None:
        """Remember the tasks of the member's branch, which have started elsewhere, by their ids."""
        if self.enable_runtime_graph:
            for task_id, succeeded in (ran or {}).items():
                self._started.append(task_id)
                if not succeeded:
                    self._failed.append((task_id, len(self._started)))

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        if self.enable_runtime_graph:
            self._groups.append((group_id, tuple(member_ids), None))

    def on_parallel_group_end(
        self,
        group_id: str,
        member_ids: Sequence[str],
        context: Run,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        if self.enable_runtime_graph and results is not None:
            ended = tuple((member_id, bool(result.success)) for member_id, result in results.items())
            self._groups.append((group_id, tuple(member_ids), ended))

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if self.enable_runtime_graph:
            self._dynamic.append((task_id, parent_task_id, is_iteration))

    def get_execution_order(self) -> list[str]:
        return [task if isinstance(task, str) else task.task_id for task in list(self._started)]

    def get_runtime_graph(self) -> nx.DiGraph[str] | None:
        """Nodes are what ran, with `order` of the first start, number of `executions` and `status`.

        An edge says why a task ran: its predecessor in the workflow (`precedence`), its group (`member`) or the task
        that asked for it (`dynamic`), in the edge attribute `kind`.
        """
        if not self.enable_runtime_graph:
            return None
        graph: nx.DiGraph[str] = nx.DiGraph()
        self._add_nodes(graph)
        self._add_edges(graph)
        return graph

    def _add_nodes(self, graph: nx.DiGraph[str]) -> None:
        last_start: dict[str, int] = {}
        for position, task_id in enumerate(self.get_execution_order()):
            last_start[task_id] = position
            if task_id in graph:
                graph.nodes[task_id]["executions"] += 1
            else:
                graph.add_node(task_id, order=len(graph), executions=1, status="completed")
        for task_id, started_before in list(self._failed):
            if last_start.get(task_id, started_before) < started_before:
                graph.nodes[task_id]["status"] = "failed"
        for _, _, ended in list(self._groups):
            for member_id, succeeded in ended or ():
                if member_id not in graph:
                    status = "completed" if succeeded else "failed"
                    graph.add_node(member_id, order=len(graph), executions=1, status=status)

    def _add_edges(self, graph: nx.DiGraph[str]) -> None:
        if self._graph is not None:
            edges = list(self._graph.get_edges())
            graph.add_edges_from(((a, b) for a, b in edges if a in graph and b in graph), kind="precedence")
        for group_id, member_ids, _ in list(self._groups):
            if group_id in graph:
                graph.add_edges_from(((group_id, m) for m in member_ids if m in graph), kind="member")
        for task_id, parent_id, is_iteration in list(self._dynamic):
            if parent_id is not None and parent_id in graph and task_id in graph:
                graph.add_edge(parent_id, task_id, kind="iteration" if is_iteration else "dynamic")
