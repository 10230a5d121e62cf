"""Groups that end before all of their members have: what their policy has seen, and what becomes of the rest."""

from __future__ import annotations

import time
from collections.abc import Iterable

from graflow.core.branches.outcome import BranchOutcome
from graflow.core.handlers.group_policy import EarlyEnd, impatient
from graflow.exceptions import MemberLeftOutError


class EarlyEnding:
    """Counts the members that end, for a policy that may have seen enough.

    Args:
        policy: In resolved form.
        finished: What has ended already.

    Attributes:
        end: How the group ends early; None as long as it does not.
    """

    def __init__(self, policy: object, finished: Iterable[BranchOutcome]) -> None:
        self.end: EarlyEnd | None = None
        self._policy = impatient(policy)
        self._succeeded = self._failed = 0
        if self._policy is not None:
            for outcome in finished:
                self.count(outcome)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody has to hear of each member that ends."""
        return self._policy is not None

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
