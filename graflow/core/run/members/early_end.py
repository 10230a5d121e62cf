"""Groups that end otherwise than by the outcomes of all members: early, cancelled, out of steps, or to be asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from graflow.core.branches.outcome import BranchOutcome, OpenQuestion
from graflow.core.handlers.group_policy import EarlyEnd, impatient
from graflow.core.run.parts import RunParts
from graflow.core.run.questions import RunWaits
from graflow.exceptions import GraflowWorkflowCanceledError, MaxStepsExceededError, MemberLeftOutError


class EarlyEnding:
    """Counts the members that end, for a policy that may have seen enough.

    Args:
        policy: In resolved form.
        finished: What has ended already.

    Attributes:
        end: How the group ends early; None as long as it does not.
        is_awaited: Whether somebody has to hear of each member that ends.
    """

    def __init__(self, policy: object, finished: Iterable[BranchOutcome]) -> None:
        self.end: EarlyEnd | None = None
        self._policy = None if policy is None else impatient(policy)
        self.is_awaited = self._policy is not None
        self._succeeded = self._failed = 0
        if self._policy is not None:
            for outcome in finished:
                self.count(outcome)

    def count(self, outcome: BranchOutcome) -> None:
        """One member more has ended."""
        if self._policy is None or self.end is not None:
            return
        if outcome.success:
            self._succeeded += 1
        else:
            self._failed += 1
        self.end = self._policy.early_end(self._succeeded, self._failed)


def left_out(task_id: str, why: str) -> BranchOutcome:
    """What came of a member that nobody waits for."""
    error = MemberLeftOutError(task_id, why)
    return BranchOutcome(task_id, success=False, error=error, timestamp=time.time(), results=[(task_id, error)])


def raise_if_stopped(run: RunParts, outcomes: Sequence[BranchOutcome], waiting: list[OpenQuestion]) -> None:
    """Raise what keeps the policy from judging a group.

    Args:
        run: What the group ran in.
        outcomes: Of its members, in order.
        waiting: Questions that members without an outcome wait for.

    Raises:
        GraflowWorkflowCanceledError: When a member cancelled the workflow.
        MaxStepsExceededError: When a branch has used up the steps that the run had left.
        RunWaits: When a member waits for the answer to a question.
    """
    for outcome in outcomes:
        if outcome.canceled:
            raise GraflowWorkflowCanceledError(
                outcome.cancel_message or "", outcome.cancel_task_id or outcome.task_id, run.session_id
            )
    stopped = {
        outcome.task_id: error
        for outcome in outcomes
        if outcome.error is not None and (error := _limit_reached(run, outcome.task_id, outcome.error))
    }
    if stopped:
        loop = max((error.loop for error in stopped.values()), key=len)
        raise MaxStepsExceededError(run.ledger.max_steps, list(stopped), loop, run.session_id)
    if waiting:
        raise RunWaits(waiting)


def _limit_reached(run: RunParts, member: str, error: BaseException) -> MaxStepsExceededError | None:
    """How a branch used up the steps of this run; those of a run inside a task are that task's affair."""
    if isinstance(error, MaxStepsExceededError):
        return error if error.is_of(f"{run.session_id}_{member}") else None
    return None
