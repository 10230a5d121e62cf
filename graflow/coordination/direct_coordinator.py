"""Members one after another in the calling thread, in member order."""

from __future__ import annotations

import time
from collections.abc import Sequence

from graflow.coordination.coordinator import TaskCoordinator, checked_timeout
from graflow.core.handlers.group_policy import resolve_group_policy
from graflow.exceptions import GroupTimeoutError
from graflow.protocols import GroupContext, Unit


class DirectCoordinator(TaskCoordinator):
    """Runs members in order.

    Args:
        timeout: Seconds for the whole group, looked at before each member; None for no limit.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = checked_timeout(timeout)

    def execute_group(
        self, group_id: str, tasks: Sequence[Unit], execution_context: GroupContext, policy: object
    ) -> None:
        resolved = resolve_group_policy(policy)
        run = execution_context.open_group(group_id, tasks)
        run.judge_by(resolved)
        end = None if self._timeout is None else time.monotonic() + self._timeout
        for index in run.pending():
            if run.canceled:
                break
            if end is not None and time.monotonic() > end:
                raise GroupTimeoutError(run.group_id, run.finished_count(), len(run.members), timeout=self._timeout)
            run.run(index)
        run.close(resolved)
