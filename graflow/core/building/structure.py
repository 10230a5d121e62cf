"""The structure of a workflow around one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.core.building.scopes import ensure_scope
from graflow.core.graph import TaskGraph


def build_graph(start_node: Any, context: Any = None) -> TaskGraph:
    """Reduce a workflow's graph to what is connected with a task, with an edge from each group to its members.

    The graph of the workflow `context` (default: the current one) is changed and returned. Of a chain the leftmost
    task counts.
    """
    graph: TaskGraph = ensure_scope().graph if context is None else context.graph
    start = getattr(start_node, "leftmost", start_node)
    graph.add_node(start, skip_if_exists=True)
    members = {node: graph.get_parallel_group_members(node) for node in list(graph.nodes())}
    connected = _connected(graph, start.task_id, members)
    for node in list(graph.nodes()):
        if node not in connected:
            graph.remove_node(node)
    for group_id, member_ids in members.items():
        if group_id in connected:
            for member_id in member_ids:
                if member_id not in graph.nodes:
                    graph.add_node(graph.get_node(member_id), member_id)
                graph.add_edge(group_id, member_id)
    return graph


def _connected(graph: TaskGraph, start: str, members: Mapping[str, list[str]]) -> set[str]:
    groups: dict[str, list[str]] = {}
    for group_id, member_ids in members.items():
        for member_id in member_ids:
            groups.setdefault(member_id, []).append(group_id)
    found, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        beside = (*graph.successors(node), *graph.predecessors(node), *members.get(node, ()), *groups.get(node, ()))
        for other in beside:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
