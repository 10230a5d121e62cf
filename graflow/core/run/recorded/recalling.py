"""What is kept of members that are to run elsewhere: asked for before they are sent, kept when they have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from graflow.core.branches.outcome import BranchOutcome
from graflow.core.nodes.arguments import filled
from graflow.core.nodes.columns import MappedMembers
from graflow.core.nodes.keeping import Facts, Recalled, TaskCache, cache_of, tell_no_cache, tell_not_kept
from graflow.core.nodes.templates import TaskTemplate

_IN_A_BRANCH = "on workers, only members are kept that have no steps of their own behind them"


def recalled_members(
    context: Any, members: Sequence[Any], branches: Mapping[int, AbstractSet[str]], pending: Callable[[], Sequence[int]]
) -> Iterator[tuple[int, Recalled]]:
    """What is kept of the members with a cache.

    Args:
        context: The run that the group is in.
        members: All members.
        branches: Nodes that belong to the branch of a member, where there are others than itself.
        pending: Gives the indices of those that are to run.
    """
    if isinstance(members, MappedMembers) and not branches and not _has_cache(members.prototype):
        return
    cache = cache_of(context)
    for index in pending():
        own = branches[index]
        cached = [task for task in _tasks_of(context, members[index], own) if _has_cache(task)]
        for task in cached:
            if cache is None:
                tell_no_cache(context, task)
            elif len(own) > 1:
                tell_not_kept(task, _IN_A_BRANCH)
            else:
                yield index, _recalled(cache, context, task, index)


def _tasks_of(context: Any, member: Any, own: AbstractSet[str]) -> Sequence[Any]:
    if not own:
        return (member,)
    graph = context.graph
    return [graph.get_node(task_id) for task_id in own if graph.has_node(task_id)]


def _has_cache(task: Any) -> bool:
    template = getattr(task, "template", None)
    return template is not None and template.cache is not None


def _recalled(cache: TaskCache, context: Any, task: Any, index: int) -> Recalled:
    template: TaskTemplate = task.template
    given = dict(task.bound_arguments)
    if template.resolve_keyword_args and not template.inject_context:
        given = filled(task.task_id, template.plan(0).wanted, given, context)
    return cache.recalled(task, context, index, given)


def facts_of_arrived(recalled: Recalled, outcome: BranchOutcome) -> Facts:
    """Keep what a member gave that has come back, where its value follows from its arguments; what to record of it."""
    if recalled.keep is None or not outcome.success:
        return recalled.facts
    return recalled.keep(outcome.value, _use_of_run(outcome))


def _use_of_run(outcome: BranchOutcome) -> str | None:
    """Why the value of a member does not follow from its arguments alone."""
    if outcome.writes:
        return "it uses the channel of its run"
    if outcome.canceled or len(outcome.results) > 1 or not outcome.requests.is_empty():
        return "it asks something of its run"
    return None
