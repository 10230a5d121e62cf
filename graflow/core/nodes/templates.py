"""Tasks that a workflow has only to make instances of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graflow.core.graph import TaskGraph


def starting_steps(graph: TaskGraph) -> list[str]:
    """The start nodes, but for unconnected tasks that only served to make other nodes: those are no steps."""
    starts = graph.get_start_nodes()
    if len(starts) < 2:
        return starts
    templates = (getattr(graph.task_at(name), "template", None) for name in graph.nodes)
    made_from = {id(template) for template in templates if template is not None}
    steps = [name for name in starts if graph.succ[name] or id(graph.task_at(name)) not in made_from]
    return steps or starts
