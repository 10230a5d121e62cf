"""What a coordinator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum

from graflow.durations import checked_seconds
from graflow.exceptions import SettingError
from graflow.protocols import GroupContext, Unit


class CoordinationBackend(Enum):
    """Where the members of a group run: Celery workers, threads, or the calling thread one after another."""

    REDIS = "redis"
    THREADING = "threading"
    DIRECT = "direct"


class TaskCoordinator(ABC):
    """Runs the members of a group and waits for all of them."""

    @abstractmethod
    def execute_group(
        self, group_id: str, tasks: Sequence[Unit], execution_context: GroupContext, policy: object
    ) -> None:
        """Run every member once, merge what they did into the context, and apply the policy, in any of its forms.

        Raises:
            ParallelGroupError: When the policy refuses the results.
            GraflowWorkflowCanceledError: When a member cancelled the workflow.
        """

    def resume(self, execution_context: GroupContext) -> None:  # noqa: B027 - most backends have nothing to do
        """Be told that a run with groups for this backend goes on after an earlier execution; nothing by default.

        Called once for each of the groups that run from here, before any step.
        """

    def cancel(self, run_key: str, reason: str) -> bool:  # noqa: ARG002 - most backends run nothing elsewhere
        """End an execution that an earlier process left open; whether there was one."""
        return False


def checked_timeout(timeout: float | None) -> float | None:
    """The time limit of a group in seconds; None for no limit.

    Raises:
        ConfigError: When it is no number above 0.
    """
    try:
        seconds = checked_seconds("timeout", timeout)
    except (TypeError, ValueError) as error:
        raise SettingError(str(error)) from None
    if seconds is not None and seconds <= 0:
        raise SettingError(f"timeout must be seconds above 0, not {timeout!r}")
    return timeout
