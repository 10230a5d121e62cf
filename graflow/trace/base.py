"""The listener interface: engine and context call these hooks, each of them optional to override."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import networkx as nx

from graflow.protocols import Node, Run


class Tracer:
    """Listens to runs; this base class does nothing.

    Hooks are called on the thread that runs the task, those of group members on several threads at once. A hook that
    raises is logged by the caller and does not change the run.
    """

    def on_workflow_start(self, name: str, context: Run) -> None:
        """A run begins; not called for branches."""

    def on_workflow_end(
        self, name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        """A run has ended, with an error when it failed or was canceled."""

    def on_task_queued(self, task: Any, context: Any) -> None:
        """A task waits for its turn."""

    def on_task_start(self, task: Node, context: Run) -> None:
        """A task begins, once for each attempt."""

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        """A task has ended, with an error when it failed."""

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        """The members of a group are about to start."""

    def on_member_end(
        self,
        group_id: str,
        member_id: str,
        context: Run,
        error: BaseException | None = None,
        ran: Mapping[str, bool] | None = None,
    ) -> None:
        """The outcome of a member that runs in another process has arrived; `ran` tells which tasks succeeded there."""

    def on_parallel_group_end(
        self, group_id: str, member_ids: Sequence[str], context: Run, results: Mapping[str, Any] | None = None
    ) -> None:
        """All members of a group have ended; `results` maps their ids to `TaskResult`."""

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """A running task added a node to the graph."""

    def clone(self, trace_id: str) -> Self:
        """The listener for a branch of the run `trace_id`; by default the same one hears all branches."""
        return self

    def flush(self) -> None:
        """Hand over what is buffered."""

    def shutdown(self) -> None:
        """Release what the listener holds; it is not used afterwards."""

    def get_runtime_graph(self) -> nx.DiGraph[str] | None:
        """A graph of what ran, or None when it is not recorded."""
        return None

    def get_execution_order(self) -> list[str]:
        """Task ids in the order in which they started, one entry for each execution."""
        return []

    def export_runtime_graph(self, format: str = "dict") -> dict[str, Any] | str | None:  # noqa: A002 - public name
        """The runtime graph as `"dict"`, `"json"` (both in node-link form) or `"graphml"` text; None without one.

        Raises:
            ValueError: any other format.
        """
        if format not in {"dict", "json", "graphml"}:
            raise ValueError(f"Unknown format '{format}'; choose dict, json or graphml")
        graph = self.get_runtime_graph()
        if graph is None:
            return None
        if format == "graphml":
            return "\n".join(nx.generate_graphml(graph))
        data: dict[str, Any] = nx.node_link_data(graph, edges="edges")
        return data if format == "dict" else json.dumps(data)
