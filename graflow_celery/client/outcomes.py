"""A member's outcome as users see it, and the verdict over a group's outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from graflow.codec import ErrorData, describe_error
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.handlers.group_policy import GroupExecutionPolicy, StrictGroupPolicy
from graflow.exceptions import (
    GroupTimeoutError,
    MemberCancelledError,
    MemberLeftOutError,
    MemberLostError,
    ParallelGroupError,
    PayloadError,
    RemoteTaskError,
    TaskError,
    TaskTimeoutError,
)
from graflow_celery.record import GroupHeader, GroupSpec, MemberState, RecordedOutcome
from graflow_celery.wire.outcomes import loss_of, opened, result_pickles, unpack_outcome
from graflow_celery.wire.seal import RunSeal

_LONGEST_REASON: Final = 1000  # bytes


@dataclass(frozen=True)
class LogLine:
    """Something that a member printed or logged.

    Attributes:
        at: When, in UTC, by the clock of its worker.
        level: The level's name; `OUT` and `ERR` for what was printed.
        text: What; a log record with a traceback has several lines.
    """

    at: datetime
    level: str
    text: str


@dataclass(frozen=True)
class MemberOutcome:
    """What users see of one member that ended; times are aware and in UTC.

    Attributes:
        index: Its place in the group.
        task_id: Its id.
        state: `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `CANCELLED` or `LOST`.
        value: What its task returned; None unless it succeeded.
        error: Why it did not succeed, as data.
        attempts: How often it was executed, with those that were retried in their slot or lost with their worker.
        losses: How many of those were lost; since the last `retry` of the run.
        worker: The worker that reported it; None when none did.
        queued_at: When its group was opened.
        started_at: When this execution began; None when the record itself ended it.
        finished_at: When the outcome was recorded.
        logs: The last 64 KiB of what this execution printed and logged, the oldest first; in a run that was lost with
            its worker, and one that was tried again, nothing is kept.
    """

    index: int
    task_id: str
    state: MemberState
    value: Any = None
    error: ErrorData | None = None
    attempts: int = 0
    worker: str | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    losses: int = 0
    logs: tuple[LogLine, ...] = ()


@dataclass(frozen=True)
class Member:
    """A member by its id, as policies look at it."""

    task_id: str


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _is_reported(stored: RecordedOutcome) -> bool:
    """Whether a worker has said what came of the member; else the record itself ended it."""
    return bool(stored.payload) and stored.state not in {MemberState.CANCELLED, MemberState.LOST}


def branch_outcome(stored: RecordedOutcome, task_id: str, spec: GroupSpec, seal: RunSeal) -> BranchOutcome:
    """The outcome as the engine takes it, also of a member that the record itself ended.

    Raises:
        SignatureError: When what the member is said to have reported is not signed for it.
        PayloadError: When what the member reported cannot be read here, naming the member.
    """
    if _is_reported(stored):
        try:
            return unpack_outcome(opened(seal, stored), task_id, result_pickles(seal, stored.index), stored.blobs)
        except PayloadError as unread:
            raise PayloadError(f"What task '{task_id}' reported cannot be read here: {unread}", unread) from unread
    error: TaskError
    if stored.state is MemberState.LOST:
        losses, how = loss_of(stored)
        error = MemberLostError(task_id, stored.attempts, losses, how)
    elif stored.state is MemberState.TIMED_OUT:
        error = TaskTimeoutError(task_id, spec.timeout or 0.0)
    elif stored.payload:
        error = MemberLeftOutError(task_id, stored.payload[:_LONGEST_REASON].decode(errors="replace"))
    else:
        error = MemberCancelledError(task_id)
    error.run_id = spec.run_id
    return BranchOutcome(task_id, success=False, error=error, timestamp=stored.finished_at, results=[(task_id, error)])


def member_outcome(stored: RecordedOutcome, task_id: str, header: GroupHeader, seal: RunSeal) -> MemberOutcome:
    """The outcome as users see it."""
    outcome = branch_outcome(stored, task_id, header.spec, seal)
    started = stored.finished_at - outcome.duration if _is_reported(stored) else None
    losses = loss_of(stored)[0] if stored.state is MemberState.LOST else outcome.losses
    executions = losses + outcome.retry_counts.get(task_id, 0) + 1 if _is_reported(stored) else losses
    error = None if outcome.error is None else getattr(outcome.error, "remote", None) or describe_error(outcome.error)
    return MemberOutcome(
        index=stored.index,
        task_id=task_id,
        state=stored.state,
        value=outcome.value,
        error=error,
        attempts=max(stored.attempts, executions),
        losses=losses,
        worker=stored.worker,
        queued_at=_at(header.opened_at),
        started_at=None if started is None else _at(max(started, header.opened_at)),
        finished_at=_at(stored.finished_at),
        logs=tuple(LogLine(_at(at), level, text) for at, level, text in outcome.said),
    )


def judge(
    spec: GroupSpec,
    task_ids: Sequence[str],
    outcomes: Mapping[int, BranchOutcome],
    policy: GroupExecutionPolicy,
) -> None:
    """Apply the policy.

    Raises:
        ParallelGroupError: When it refuses; chained to the first member's error with its remote traceback.
    """
    if type(policy) is StrictGroupPolicy and all(outcome.success for outcome in outcomes.values()):
        return
    results = {outcome.task_id: outcome.as_result() for _, outcome in sorted(outcomes.items())}
    try:
        policy.on_group_finished(spec.group_id, [Member(task_id) for task_id in task_ids], results, None)
    except ParallelGroupError as error:
        name_run(error, spec.run_id)
        _raise_with_remote(error)


def name_run(error: ParallelGroupError, run_id: str) -> None:
    """Say which run on workers was refused, for whoever looks at it or retries it."""
    error.run_id = run_id
    error.message = f"{error.message} (group run '{run_id}')"
    error.args = (error.message,)


def _raise_with_remote(error: ParallelGroupError) -> NoReturn:
    first = next(iter(error.errors.values()), None)
    remote = getattr(first, "remote", None)
    if remote is None:
        raise error
    task_id = next(iter(error.errors))
    raise error from RemoteTaskError(remote, task_id)


def group_timeout(group_id: str, spec: GroupSpec, stored: Mapping[int, RecordedOutcome]) -> GroupTimeoutError:
    """What waiters raise where the time of the whole group was over; the members that ended before have a payload."""
    done = sum(1 for outcome in stored.values() if outcome.payload)
    return GroupTimeoutError(group_id, done, spec.n, timeout=spec.timeout, run_id=spec.run_id)
