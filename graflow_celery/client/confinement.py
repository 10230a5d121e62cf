"""What an outcome may say: a branch answers for its own tasks, and asks nothing that only its submitter decides."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, Protocol

from graflow.core.branches.outcome import BranchOutcome
from graflow.core.memberships import is_group
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.exceptions import PayloadError


class Nodes(Protocol):
    """The graph of the run, as far as it is asked here."""

    @property
    def known_by_name(self) -> Container[str]: ...

    def has_node(self, task_id: str, /) -> bool: ...


def check_confined(outcome: BranchOutcome, own: Container[str], graph: Nodes, outer: Container[str] = ()) -> None:
    """Return when an outcome stays inside its branch.

    Args:
        outcome: What a worker reported of a member.
        own: Ids of the tasks of its branch.
        graph: The nodes of the run; those that are known by name have run elsewhere before.
        outer: Ids of nodes of the runs around this one.

    Raises:
        PayloadError: When it says something of another task, leads to no node of the run, or names a file.
    """
    if outcome.completed == [outcome.task_id] and len(outcome.results) == 1 and _asks_nothing(outcome):
        _check_names(outcome, (outcome.results[0][0], *outcome.cycle_counts), own, graph, outer)
        return
    requests = outcome.requests
    names = {name for name, _ in outcome.results}.union(outcome.completed, outcome.cycle_counts, outcome.retry_counts)
    names.update(name for name, _ in requests.nodes)
    names.update(requests.passes)
    names.update(w.key.removesuffix(RESULT_SUFFIX) for w in outcome.writes if w.key.endswith(RESULT_SUFFIX))
    names.update(source for source, _ in requests.exits)
    _check_names(outcome, names, own, graph, outer)
    for target in (*requests.jumps, *(target for _, target in requests.exits)):
        if not (graph.has_node(target) or target in outer):
            raise PayloadError(f"Member '{outcome.task_id}' reports a way to '{target}', which is no task of this run")
    if requests.checkpoint is not None and requests.checkpoint.get("path") is not None:
        raise PayloadError(
            f"Member '{outcome.task_id}' reports a path for a checkpoint; where one is written is not a worker's to say"
        )


def ids_inside(tasks: Iterable[Any]) -> Iterator[str]:
    """Ids of the members of groups among the tasks, of groups in those, and so on."""
    for group in filter(is_group, tasks):
        yield from (member.task_id for member in group.tasks)
        yield from ids_inside(group.tasks)


def _asks_nothing(outcome: BranchOutcome) -> bool:
    requests = outcome.requests
    return requests.is_empty() and not (requests.passes or outcome.writes or outcome.retry_counts)


def _check_names(
    outcome: BranchOutcome, names: Iterable[str], own: Container[str], graph: Nodes, outer: Container[str]
) -> None:
    for name in names:
        if name not in own and (graph.has_node(name) or name in outer) and name not in graph.known_by_name:
            raise PayloadError(
                f"Member '{outcome.task_id}' reports what became of task '{name}', which does not belong to its branch"
            )
