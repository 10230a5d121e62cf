"""Errors of tasks and of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graflow.exceptions.base import GraflowRuntimeError


class TaskError(GraflowRuntimeError):
    """A task failed."""

    def __init__(self, task_id: str, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message, cause)
        self.task_id = task_id

    def _text(self) -> str:
        return f"Error in task '{self.task_id}': {self.message}"


class TaskTimeoutError(TaskError, TimeoutError):
    """A task ran longer than its `timeout`, in seconds."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(task_id, f"not finished within its timeout of {timeout:g} s")
        self.timeout = timeout


class MemberLostError(TaskError):
    """The worker of a group's member was lost as often as `max_attempts` allows."""

    def __init__(self, task_id: str, attempts: int, losses: int = 0, how: str = "") -> None:
        count = losses or attempts
        lost = "an attempt that lost its worker" if count == 1 else f"{count} attempts that each lost their worker"
        last = f"{', the last one ' if count > 1 else ', '}{how}" if how else ""
        super().__init__(task_id, f"given up after {lost}{last}; see max_attempts")
        self.attempts = attempts
        self.losses = losses
        self.how = how


class MemberCancelledError(TaskError):
    """A member of a group was cancelled before it finished."""

    def __init__(self, task_id: str, message: str = "cancelled") -> None:
        super().__init__(task_id, message)


class MemberLeftOutError(MemberCancelledError):
    """A member did not run, or not to its end, because its group's policy had seen enough: no failure of its own.

    Attributes:
        why: What the policy had seen.
    """

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(task_id, f"left out: {why}")
        self.why = why


class ParallelGroupError(GraflowRuntimeError):
    """A group's results were not accepted by its policy.

    Attributes:
        failed_tasks: `(task id, message)` of each failed member, in member order.
        successful_tasks: Ids of the members that succeeded, in member order.
        errors: The exceptions of the failed members by task id.
    """

    def __init__(
        self,
        message: str,
        group_id: str,
        failed_tasks: Sequence[tuple[str, str]],
        successful_tasks: Sequence[str],
        errors: Mapping[str, BaseException] | None = None,
    ) -> None:
        super().__init__(message)
        self.group_id = group_id
        self.failed_tasks = [(task_id, text) for task_id, text in failed_tasks]
        self.successful_tasks = list(successful_tasks)
        self.errors = dict(errors or {})


class GroupTimeoutError(GraflowRuntimeError, TimeoutError):
    """A group was not finished within the time that was given to it or to the wait for it.

    Attributes:
        group_id: The group.
        done: How many of its members had ended.
        total: How many members it has.
        timeout: The seconds that the group itself had; None when only a wait for it is over, and it goes on.
        run_id: Its run on workers; None for a group of this process.
        task_id: The continuation that was waited for, where it is not the group itself.
    """

    def __init__(
        self,
        group_id: str,
        done: int,
        total: int,
        *,
        timeout: float | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        group, ended = f"Group '{group_id}'", f"{done} of {total} members"
        if timeout is not None:
            others = "" if run_id is None else f", the others are cancelled (group run '{run_id}')"
            text = f"{group} was not finished within its timeout of {timeout:g} s: {ended} had ended{others}"
        else:
            awaited = group if task_id is None else f"The continuation '{task_id}' of group '{group_id}'"
            again = f"graflow_celery.attach('{run_id}'){'' if task_id is None else '.continuation()'}"
            text = f"{awaited} has not ended yet: {ended} have. It goes on; {again} continues waiting for it"
        super().__init__(text)
        self.group_id = group_id
        self.done = done
        self.total = total
        self.timeout = timeout
        self.run_id = run_id
        self.task_id = task_id


class GroupNotFoundError(GraflowRuntimeError, LookupError):
    """There is no record of a group run with that id, or only a part of it.

    Attributes:
        run_id: The run.
        why: What became of its record; empty when nothing is known of it here.
    """

    def __init__(self, run_id: str, why: str = "") -> None:
        super().__init__(
            f"No group run '{run_id}' on this Redis: {why or 'wrong key_prefix, or its record has expired'}"
        )
        self.run_id = run_id
        self.why = why


class GroupConflictError(GraflowRuntimeError):
    """The same run id was submitted with other content."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class GroupLostError(GraflowRuntimeError):
    """The record of a running group is gone."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class NoWorkerError(GraflowRuntimeError):
    """No worker consumes the queue of a group."""

    def __init__(self, message: str, queue: str, length: int) -> None:
        super().__init__(message)
        self.queue = queue
        self.length = length
