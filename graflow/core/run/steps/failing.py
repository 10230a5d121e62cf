"""What follows when a step has failed: another attempt, or the end of the run."""

from __future__ import annotations

import warnings
from typing import Any

from graflow.core.memberships import is_group
from graflow.core.run.asking import rollback
from graflow.core.run.failures import (
    CONTROL_ERRORS,
    failure_of,
    forget_locals,
    of_both_types,
    without_engine_frames,
)
from graflow.core.run.frame import Control, Frame
from graflow.core.run.members.branching import BranchRun
from graflow.core.run.steps.loops import busiest_loop
from graflow.core.run.steps.waiting import may_wait, wait_for_people
from graflow.exceptions import (
    GraflowWorkflowCanceledError,
    MaxStepsExceededError,
    RetryLimitExceededError,
    UnknownHandlerError,
    named,
)
from graflow.exceptions.feedback import FeedbackTimeoutError
from graflow.queue.base import TaskSpec
from graflow.text.shown import get_logger, one_line

_log = get_logger("graflow.core.engine")


def fail(context: BranchRun, spec: TaskSpec, frame: Frame | None, error: BaseException) -> bool:
    """Plan another attempt while the budget lasts, else raise.

    A task that is given up stays the next one to run, so that the run can be resumed there.

    Returns:
        True when the run goes on, False when it ends normally although steps are left to do, or waits for people.
    """
    agenda, ledger = context.agenda, context.ledger
    if frame is not None:
        rollback(context, frame)
    if frame is None or not isinstance(error, Exception):
        agenda.requeue(spec)
        raise error
    if isinstance(error, UnknownHandlerError):
        _give_up(context, spec, frame, error)
        raise error
    if isinstance(error, FeedbackTimeoutError) and frame.control != Control.CANCEL and may_wait(context, error):
        return wait_for_people(context, spec, frame, error)
    ledger.failed.add(frame.task_id)
    is_control = isinstance(error, CONTROL_ERRORS) and error.is_of(context.session_id)
    if frame.control == Control.CANCEL and not (is_control and isinstance(error, GraflowWorkflowCanceledError)):
        _give_up(context, spec, frame, error)
        raise canceled(context, frame.task_id) from error
    retries, task_id = ledger.retries, frame.task_id
    limit = 0 if _is_group_failure(spec.executable, context) else retries.get_max_retries_for_node(task_id)
    has_budget = not is_control and retries.get_retry_count(task_id) < limit
    may_help = context.recording is None or error is not context.recording.refused
    if has_budget and may_help and retries.is_worth_retry(task_id, error):
        return _plan_retry(context, spec, frame, error)
    _give_up(context, spec, frame, error)
    if is_control:
        if isinstance(error, MaxStepsExceededError):
            return stop_at_max_steps(context, error)
        raise error
    ledger.retried.add(task_id)
    if limit > 0 and not has_budget:
        exhausted = RetryLimitExceededError(task_id, limit + 1, limit, error)
        without_engine_frames(error)
        raise of_both_types(failure_of(exhausted, task_id, context.session_id), error)
    raise failure_of(error, task_id, context.session_id)


def _give_up(context: BranchRun, spec: TaskSpec, frame: Frame, error: Exception) -> None:
    """Leave a task the next one to run, and have it on record that it failed."""
    context.agenda.requeue(spec)
    if context.recording is not None:
        context.recording.failed(frame, error, None)


def _plan_retry(context: BranchRun, spec: TaskSpec, frame: Frame, error: Exception) -> bool:
    """Count the retry and see to it that it is made; False when that is left to whoever runs this branch."""
    agenda, retries, task_id = context.agenda, context.ledger.retries, frame.task_id
    retries.increment(task_id, error)
    forget_locals(error)
    delay = retries.get_delay(task_id)
    _log.warning(
        "Task '%s' of run %s failed at attempt %d of %d and is tried again in %.3g s: %s",
        task_id,
        context.session_id,
        retries.get_retry_count(task_id),
        retries.get_max_retries_for_node(task_id) + 1,
        delay,
        named(error),
    )
    if context.recording is not None:
        context.recording.failed(frame, error, delay)
    if agenda.leaves_retry is not None and agenda.leaves_retry(delay):
        agenda.requeue(spec)
        agenda.retry_in = delay
        return False
    if delay <= 0:
        agenda.requeue(spec)
    else:
        agenda.retry_later(spec, delay)
    return True


def _is_group_failure(task: Any, context: BranchRun) -> bool:
    """Whether a group failed that has no retry limit of its own; its members have used up theirs."""
    return is_group(task) and task.task_id not in context.ledger.retries.node_max_retries


def canceled(context: BranchRun, task_id: str) -> GraflowWorkflowCanceledError:
    """The error that a task ends its run with when it asked for that."""
    return GraflowWorkflowCanceledError(context.requests.message or "", task_id, context.session_id)


def stop_at_max_steps(context: BranchRun, error: MaxStepsExceededError) -> bool:
    """End the run with work left: by the error, or by a warning and False."""
    context.ledger.stop_reason = "max_steps"
    if context.ledger.on_max_steps == "raise":
        raise error
    warnings.warn(one_line(error), stacklevel=4)
    return False


def too_many_steps(context: BranchRun) -> MaxStepsExceededError:
    """The error of a run that has used up its steps."""
    ledger = context.ledger
    pending = [entry.task_id for entry in context.agenda.pending()]
    loop = busiest_loop(context.graph, ledger.cycles.cycle_counts)
    return MaxStepsExceededError(ledger.max_steps, pending, loop, context.session_id)
