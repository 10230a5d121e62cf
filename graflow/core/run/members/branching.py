"""Branches of a run: how one is run to its end, what came of it, and how its run takes that over."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Protocol, Self

from graflow.channels.branch import BranchChannel, ChannelWrite, apply_writes
from graflow.channels.locks import as_branch
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.surroundings import Surroundings
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.plain import TaskElsewhere
from graflow.core.run import asking
from graflow.core.run.frame import Control, Frame
from graflow.core.run.parts import RunParts
from graflow.exceptions import GraflowWorkflowCanceledError, TaskFailedError
from graflow.exceptions.feedback import FeedbackTimeoutError
from graflow.protocols import upward
from graflow.trace.notify import tell


class BranchRun(RunParts, Protocol):
    """A run that makes branches, which are runs themselves."""

    def surroundings(self, group_id: str = "") -> Surroundings:
        """What the branches of a group inherit."""

    def create_branch_context(self, branch_id: str, around: Surroundings | None = None) -> Self:
        """A run for one member."""

    def join(self, parent: Self) -> None:
        """Become a branch of a run in this process."""


# -- a branch ----------------------------------------------------------------------------------------------------------


def execute_branch(branch: RunParts, member: Executable) -> BranchOutcome:
    """Run a branch to its end and describe what it did."""
    engine = branch.engine
    own_engine = engine is None
    if own_engine:
        engine = branch.engine = upward.engine()
    if branch.ledger.results is None:
        branch.ledger.results = {}
    branch.requests.waiting = []
    error: Exception | None = None
    begun = time.perf_counter()
    try:
        with as_branch():
            engine.run_branch(branch)
    except Exception as raised:  # noqa: BLE001 - a member's failure belongs to its outcome
        error = raised
    finally:
        if own_engine:
            engine.close()
    return _outcome(branch, member.task_id, error, time.perf_counter() - begun)


async def execute_branch_async(branch: RunParts, member: Executable) -> BranchOutcome:
    """As `execute_branch`, for a member that the engine can await."""
    if branch.ledger.results is None:
        branch.ledger.results = {}
    branch.requests.waiting = []
    error: Exception | None = None
    begun = time.perf_counter()
    try:
        with as_branch():
            await branch.engine.run_branch_async(branch)
    except Exception as raised:  # noqa: BLE001 - a member's failure belongs to its outcome
        error = raised
    return _outcome(branch, member.task_id, error, time.perf_counter() - begun)


def _outcome(branch: RunParts, task_id: str, raised: Exception | None, duration: float) -> BranchOutcome:
    ledger, channel, retry_in = branch.ledger, branch.ledger.channel, branch.agenda.retry_in
    is_canceled = isinstance(raised, GraflowWorkflowCanceledError)
    error = raised if raised is None or is_canceled else _original(raised, branch)
    waiting = branch.requests.waiting
    if retry_in is not None:
        error = ledger.retries.get_last_error(task_id)
    elif waiting and error is None:
        error = FeedbackTimeoutError(waiting[0].feedback_id, waiting[0].timeout)
    success = error is None and retry_in is None
    results = ledger.results if ledger.results is not None else {}
    if error is not None and task_id not in results:
        results[task_id] = error
    outcome = BranchOutcome(
        task_id,
        success,
        results.get(task_id) if success else None,
        error,
        duration,
        time.time(),
        list(results.items()),
        [done for done in ledger.completed if done not in ledger.failed] if ledger.failed else list(ledger.completed),
        ledger.steps,
        ledger.cycles.cycle_counts,
        ledger.retries.retry_counts,
        channel.writes({kept + RESULT_SUFFIX for kept in results}) if isinstance(channel, BranchChannel) else [],
        retry_in=retry_in,
        requests=branch.requests,
    )
    if branch.facts is not None:
        outcome.facts = branch.facts.get(task_id)
    if isinstance(raised, GraflowWorkflowCanceledError):
        outcome.canceled, outcome.cancel_message, outcome.cancel_task_id = True, raised.message, raised.task_id
    return outcome


def _original(error: Exception, branch: RunParts) -> BaseException:
    """The task's own exception, without the wrapper that the engine put around it for this branch."""
    if isinstance(error, TaskFailedError) and error.run_id == branch.session_id and error.cause is not None:
        return error.cause
    return error


# -- its run -----------------------------------------------------------------------------------------------------------


def merge_outcomes(run: RunParts, outcomes: Sequence[BranchOutcome], member_ids: Iterable[str]) -> None:
    """Take over what branches did, in order: results and counts always, channel writes of those that succeeded.

    Args:
        run: The run that they are branches of.
        outcomes: What came of them.
        member_ids: The members of their group, those that have not ended included.
    """
    counts = run.ledger.cycles.cycle_counts
    begun_with = {
        task_id: counts[task_id] for outcome in outcomes for task_id in outcome.cycle_counts if task_id in counts
    }
    members: set[str] = set()
    for are_plain, row in groupby(outcomes, _gave_a_value_only):
        if are_plain:
            plain = list(row)
            merge_values(run, [outcome.task_id for outcome in plain], [outcome.value for outcome in plain])
        else:
            members = members or {*member_ids}
            _merge_each(run, (outcome.without_others(members.__contains__) for outcome in row), begun_with)


def _gave_a_value_only(outcome: BranchOutcome) -> bool:
    """Whether a member has given a value, which is one more execution of it, and done nothing else."""
    requests = outcome.requests
    return (
        outcome.success
        and outcome.steps == len(outcome.completed) == len(outcome.results) == 1
        and outcome.cycle_counts == {outcome.task_id: 1}
        and not (outcome.writes or outcome.retry_counts or requests.nodes or requests.passes)
    )


def merge_values(run: RunParts, ids: Sequence[str], values: Sequence[Any]) -> None:
    """The same at once for members that have given a value and done nothing else, at a fifth of the price."""
    run.ledger.set_results(ids, values)
    run.ledger.add(ids, len(ids), dict.fromkeys(ids, 1), {})


def _merge_each(run: RunParts, outcomes: Iterable[BranchOutcome], begun_with: Mapping[str, int]) -> None:
    ledger = run.ledger
    for outcome in outcomes:
        for task_id, value in outcome.results:
            ledger.set_result(task_id, value)
        if outcome.success and outcome.writes:
            apply_writes(ledger.channel, _aged(outcome.writes, max(time.monotonic() - outcome.ended, 0.0)))
        ledger.add(outcome.completed, outcome.steps, outcome.cycle_counts, outcome.retry_counts, begun_with=begun_with)
        ledger.failed.update(outcome.failed)
        requests = outcome.requests
        for task_id, parents in requests.nodes:
            _note_node(run, task_id, parents, outcome)
        if requests.passes:
            ledger.over.update(outcome.over)
            if run.agenda.scope is not None:
                run.requests.passes.update(requests.passes)


def _note_node(run: RunParts, task_id: str, parents: list[str], outcome: BranchOutcome) -> None:
    """Nodes that a worker added are known here by their id alone; they have run already, and passes may be over."""
    if not run.graph.has_node(task_id):
        is_iteration = task_id in outcome.requests.passes
        is_kept = not is_iteration or any(task_id == name for name, _ in outcome.results)
        if is_kept:
            run.graph.add_name(TaskElsewhere(task_id))
        for parent in parents:
            tell(run.tracer.on_dynamic_task_added, task_id, parent_task_id=parent, is_iteration=is_iteration)
        if not is_kept and not asking.is_away(run):
            return
    run.requests.nodes.append((task_id, parents))


def _aged(writes: list[ChannelWrite], age: float) -> Iterator[ChannelWrite]:
    """The writes with the time to live that they have left `age` seconds after the branch ended."""
    for write in writes:
        if write.ttl is None:
            yield write
        elif write.ttl > age:
            yield replace(write, ttl=write.ttl - age)
        else:
            yield ChannelWrite(write.key, None, deleted=True)


def follow_outcomes(run: RunParts, outcomes: Sequence[BranchOutcome]) -> None:
    """Do what the members of a group asked of their run, in member order."""
    frame, agenda, graph = run.current_task_context, run.agenda, run.graph
    asked = [outcome.requests for outcome in outcomes]
    exits = [edge for requests in asked for edge in requests.exits]
    jumps = list(dict.fromkeys(jump for requests in asked for jump in requests.jumps))
    for jump in jumps:
        if agenda.in_scope(jump):
            agenda.joins.forget(jump)
            agenda.add_for(frame, graph.get_node(jump))
        else:
            run.requests.jumps.append(jump)
    if frame is not None:
        frame.exits, frame.jumped = exits, set(jumps)
    elif exits:
        run.requests.exits += agenda.joins.follow(exits, graph, agenda)
    for requests in asked:
        if requests.terminated is not None:
            asking.end(run, frame, Control.TERMINATE, requests.terminated)
        if requests.checkpoint is not None:
            asking.checkpoint_later(run, **requests.checkpoint)


def follow_group(run: RunParts, group_id: str, frame: Frame) -> list[tuple[str, str]]:
    """Follow the edges out of a group's branches, then its own; what a member jumped to is queued already.

    Returns:
        Edges to nodes of an outer run.
    """
    joins, graph, jumped = run.agenda.joins, run.graph, frame.jumped or set()
    edges = [*(frame.exits or ()), *((group_id, target) for target in joins.targets(group_id, graph))]
    return joins.follow([edge for edge in edges if edge[1] not in jumped], graph, run.agenda)
