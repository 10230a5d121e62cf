"""Which loop a run goes round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from graflow.core.graph import TaskGraph
from graflow.core.nodes.iteration import IterationTask

_SHOWN: Final = 10  # tasks of a loop by jumps


def busiest_loop(graph: TaskGraph, executions: Mapping[str, int]) -> list[str]:
    """The shortest way from the task that ran most often back to itself, through tasks that ran more than once.

    Where no edges lead back, jumps did: then it is the tasks that ran as often, in the order of their first executions,
    if there are ten at most. A task that asks for passes of its own is a loop by itself. Empty when nothing ran twice.
    """
    repeated = {task_id: count for task_id, count in executions.items() if count > 1}
    if not repeated:
        return []
    start = max(repeated, key=repeated.__getitem__)
    before: dict[str, str] = {}
    layer = [start]
    while layer:
        reached = []
        for node in layer:
            for following in (*graph.succ.get(node, ()), *graph.get_parallel_group_members(node)):
                if following == start:
                    return _way(start, node, before)
                if following in repeated and following not in before:
                    before[following] = node
                    reached.append(following)
        layer = reached
    tasks = map(graph.task_at, tuple(graph.succ))
    iterated = {task.base_id for task in tasks if isinstance(task, IterationTask)}
    alike = [node for node, count in repeated.items() if count >= repeated[start] - 1 and node not in iterated]
    return [start] if start in iterated or len(alike) > _SHOWN else alike


def _way(start: str, end: str, before: Mapping[str, str]) -> list[str]:
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]
