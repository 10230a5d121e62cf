"""Errors of a run and of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from graflow.exceptions.base import GraflowError, GraflowRuntimeError, named


class GraphCompilationError(GraflowError):
    """A graph cannot be run as it is."""


class DuplicateTaskError(GraphCompilationError):
    """A second task under the id of another one in the same graph.

    Attributes:
        task_id: The id.
        places: Where the functions of the two begin, as `file:line`; fewer for tasks that are no functions.
    """

    def __init__(self, task_id: str, places: Sequence[str] = ()) -> None:
        text = f"Duplicate task ID: {task_id}"
        if places:
            text += f", for two tasks ({' and '.join(places)}); give one of them another id, as in @task(id=...)"
        super().__init__(text)
        self.task_id = task_id
        self.places = list(places)


class UnknownNodeError(GraflowRuntimeError, ValueError):
    """A run was told to go on at a task that is nowhere in the graph."""


class CycleLimitExceededError(GraflowRuntimeError):
    """A task was iterated more often than its limit allows."""

    def __init__(self, task_id: str, cycle_count: int, max_cycles: int, run_id: str | None = None) -> None:
        super().__init__(
            f"Cycle limit exceeded for task '{task_id}': {cycle_count} of {max_cycles} cycles; raise its max_cycles"
        )
        self.run_id = run_id
        self.task_id = task_id
        self.cycle_count = cycle_count
        self.max_cycles = max_cycles


class RetryLimitExceededError(GraflowRuntimeError):
    """A task still failed after its last retry."""

    def __init__(
        self, task_id: str, retry_count: int, max_retries: int, last_error: BaseException | None = None
    ) -> None:
        super().__init__(
            f"Retry limit exceeded for task '{task_id}': {retry_count} failed attempts, max_retries {max_retries}",
            last_error,
        )
        self.task_id = task_id
        self.retry_count = retry_count
        self.max_retries = max_retries
        self.last_error = last_error

    def __str__(self) -> str:
        return self.message if self.cause is None else f"{self.message}: {named(self.cause)}"


class TaskFailedError(GraflowRuntimeError):
    """A task raised an error, which is the `cause`.

    What a run raises is of the cause's type as well, so that `except KeyError` catches a task's `KeyError`, and has the
    cause's attributes; see `graflow.core.run.failures`.

    Attributes:
        task_id: The task.
        run_id: The run, where known.
    """

    def __init__(self, task_id: str, cause: BaseException, run_id: str | None = None) -> None:
        super().__init__(f"Task '{task_id}' failed", cause)
        self.task_id = task_id
        self.run_id = run_id

    def __str__(self) -> str:
        return self.message if self.cause is None else f"{self.message}: {named(self.cause)}"


class MaxStepsExceededError(GraflowRuntimeError):
    """A run reached its limit of steps with work still pending.

    Attributes:
        max_steps: The limit.
        pending: Ids of the tasks that were to run next, or how many there are.
        loop: Ids of the loop that ran most often, in order; empty when nothing ran twice.
    """

    def __init__(
        self, max_steps: int, pending: Sequence[str] | int, loop: Sequence[str] = (), run_id: str | None = None
    ) -> None:
        around = f"; it goes round the cycle {' >> '.join([*loop, loop[0]])}" if loop else ""
        super().__init__(
            f"Stopped after max_steps={max_steps} with work pending: {_listed(pending)}{around}; "
            "raise max_steps to go on"
        )
        self.max_steps = max_steps
        self.pending = pending
        self.loop = list(loop)
        self.run_id = run_id


def _listed(pending: Sequence[str] | int) -> str:
    if isinstance(pending, int):
        return f"{pending} tasks"
    shown = 10
    more = "" if len(pending) <= shown else f" and {len(pending) - shown} more"
    return ", ".join(map(str, pending[:shown])) + more


class GraflowWorkflowCanceledError(GraflowRuntimeError):
    """A task cancelled the workflow."""

    def __init__(self, message: str, task_id: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.run_id = run_id

    def _text(self) -> str:
        by = "" if self.task_id is None else f" by task '{self.task_id}'"
        return f"Workflow canceled{by}: {self.message}"


class RunOwnedError(GraflowRuntimeError):
    """Another execution continues the same run of a workflow, so this one must not.

    Attributes:
        session_id: The run.
        owner: `host:pid` of the process that continues it.
        since: When that process took it, in seconds since the epoch.
    """

    def __init__(self, session_id: str, owner: str, since: float) -> None:
        super().__init__(
            f"Run '{session_id}' belongs to {owner} since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC; "
            "nothing more of it runs in this process. Wait for the other one, or end it and resume the run again"
        )
        self.session_id = session_id
        self.owner = owner
        self.since = since
