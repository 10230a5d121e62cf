"""What a running task sees of its run: `TaskExecutionContext`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graflow.channels.attempt import AttemptChannel
from graflow.channels.base import Channel
from graflow.channels.typed import TypedChannel
from graflow.core.graph import TaskGraph
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.iteration import base_id_of
from graflow.core.run import asking
from graflow.core.run.frame import Control
from graflow.core.run.parts import RunParts
from graflow.core.run.recorded.durable_waits import DurableWaits
from graflow.core.run.steps.feedback_calls import FeedbackCalls
from graflow.exceptions import TaskError
from graflow.given import require_metadata


class TaskExecutionContext(FeedbackCalls, DurableWaits):
    """One execution of one task.

    Args:
        task_id: The id of the task.
        execution_context: The context of the run.
    """

    def __init__(self, task_id: str, execution_context: RunParts) -> None:
        self.task_id = task_id
        self.execution_context = execution_context
        self.start_time = time.time()
        self.birth_mark = execution_context.graph.growth.age

    # -- who and where ---------------------------------------------------------------------------------------------

    @property
    def base_id(self) -> str:
        """The id of the task that this is a pass of; its own otherwise."""
        task = self.graph.task_at(self.task_id) if self.task is None else self.task
        return base_id_of(task, self.task_id)

    @property
    def session_id(self) -> str:
        return self.execution_context.session_id

    @property
    def trace_id(self) -> str:
        return self.execution_context.trace_id

    @property
    def graph(self) -> TaskGraph:
        return self.execution_context.graph

    @property
    def flow(self) -> Any:
        """The durable flow of this run: id, name, inputs, attempt and idempotency key; None without one."""
        flow = self.execution_context.root.flow
        return None if flow is None else flow.seen_by(self)

    # -- counts ----------------------------------------------------------------------------------------------------

    @property
    def cycle_count(self) -> int:
        """1 during the first execution, 2 during the second, and so on."""
        return self.execution_context.cycle_controller.get_cycle_count(self.base_id)

    @property
    def max_cycles(self) -> int:
        """How often the task may run by iteration."""
        return self.execution_context.cycle_controller.get_max_cycles_for_node(self.base_id)

    def can_iterate(self) -> bool:
        """Whether `next_iteration` would be accepted."""
        return self.cycle_count < self.max_cycles

    @property
    def retry_count(self) -> int:
        """0 on the first attempt, then 1, 2, and so on."""
        return self.execution_context.retry_controller.get_retry_count(self.task_id)

    @property
    def max_retries(self) -> int:
        """Attempts after the first."""
        return self.execution_context.retry_controller.get_max_retries_for_node(self.task_id)

    def elapsed_time(self) -> float:
        """Seconds since this execution began."""
        return time.time() - self.start_time

    # -- control ---------------------------------------------------------------------------------------------------

    def next_task(self, executable: Executable | str, goto: bool = False) -> str:
        """Queue a task, or the one of that id, to run after this one.

        A task that is new joins the run and this task's successors still follow; one that existed before is jumped to
        instead of the successors. `goto=True` skips the successors in either case. Returns the id.

        Raises:
            TypeError: For what is no task.
            ValueError: For an id that no task has.
        """
        return asking.next_task(self._run_of("next_task"), self, executable, goto=goto)

    def next_iteration(self, data: object = None) -> str:
        """Run this task once more with `data` as its first argument; its successors follow after the last pass.

        Raises:
            CycleLimitExceededError: When the task has run `max_cycles` times.
        """
        return asking.next_iteration(self._run_of("next_iteration"), self, self.task_id, data)

    def terminate_workflow(self, message: str) -> None:
        """End the run normally after this task; its value is the run's value."""
        asking.end(self._run_of("terminate_workflow"), self, Control.TERMINATE, message)

    def cancel_workflow(self, message: str) -> None:
        """End the run with `GraflowWorkflowCanceledError` after this task's body."""
        asking.end(self._run_of("cancel_workflow"), self, Control.CANCEL, message)

    def checkpoint(
        self, metadata: Mapping[str, Any] | None = None, *, path: str | Path | None = None, deferred: bool = True
    ) -> Any:
        """Save the run: after this task (`deferred`), or at once, so that a resume runs this task again.

        Returns:
            None when deferred, else `(path, metadata)`.

        Raises:
            TypeError: The metadata is no mapping, or holds what JSON does not.
        """
        require_metadata(metadata)
        run = self._run_of("checkpoint")
        described = {
            "task_id": self.task_id,
            "cycle_count": self.cycle_count,
            "elapsed_time": self.elapsed_time(),
            "mode": "deferred" if deferred else "immediate",
            **(metadata or {}),
        }
        if deferred:
            asking.checkpoint_later(run, described, path)
            return None
        return asking.checkpoint_now(run, self, described, path)

    # -- data ------------------------------------------------------------------------------------------------------

    def get_channel(self) -> Channel:
        """What the tasks of the run share, seen through what this execution wrote itself.

        What it sets and deletes counts for others when it succeeds; `append`, `prepend`, `atomic_add` and whatever is
        done under a `lock` act at once.

        Raises:
            TaskError: When the task is over its time and was abandoned.
        """
        run, layer, depth = self.execution_context, self.layer, self.depth
        if layer is not None:
            return layer
        if self.is_abandoned:
            raise self._too_late()
        if depth is None:
            return run.ledger.channel
        parent = run.frames[depth - 1].get_channel() if depth else run.ledger.channel
        self.layer = AttemptChannel(parent, self._too_late)
        self._close_if_abandoned()
        return self.layer

    def _close_if_abandoned(self) -> None:
        """Whoever gave this execution up while the view was made has not seen it."""
        if self.is_abandoned and self.layer is not None:
            self.layer.close()

    def channel_for_reading(self) -> Channel:
        """The innermost view there is, of this execution or of those that called it."""
        layer, run = self.layer, self.execution_context
        if layer is not None:
            return layer
        if self.depth:
            for caller in reversed(run.frames[: self.depth]):
                if caller.layer is not None:
                    return caller.layer  # type: ignore[no-any-return]  # a frame of any kind
        return run.ledger.channel

    def _too_late(self) -> TaskError:
        why = "is over its time and was abandoned" if self.is_abandoned else "has failed"
        return TaskError(self.task_id, f"a write to the channel comes too late: this attempt of the task {why}")

    def get_typed_channel(self, message_type: type) -> TypedChannel:
        """The channel, checking each message against a TypedDict."""
        return TypedChannel(self.get_channel(), message_type)

    def get_result(self, node: str, default: object = None) -> Any:
        """The value of a task, or the exception that it failed with; `default` when it has not run."""
        return self.execution_context.get_result(node, default)

    _local: dict[str, Any] | None = None

    def set_local_data(self, key: str, value: object) -> None:
        """Keep something for this execution alone; it ends with it."""
        if self._local is None:
            self._local = {}
        self._local[key] = value

    def get_local_data(self, key: str, default: object = None) -> Any:
        """What `set_local_data` of this execution kept."""
        return default if self._local is None else self._local.get(key, default)

    # -- as a member of a group ------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The id of the group run this task is a member of, else the session's id."""
        member = self.execution_context.member
        return self.session_id if member is None else member.run_id

    @property
    def index(self) -> int | None:
        """The place of the member in its group, or None outside a group."""
        member = self.execution_context.member
        return None if member is None else member.index

    @property
    def attempt(self) -> int:
        """1 for the first execution of the member, one more each time a worker was lost."""
        member = self.execution_context.member
        return 1 if member is None else member.attempt

    def is_cancelled(self) -> bool:
        """Whether nobody waits for this task any more, so that it may stop."""
        member = self.execution_context.member
        return False if member is None else member.is_cancelled()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the task is; shown by whoever watches the group, or the flow, of which it is a step."""
        run = self.execution_context
        if run.member is not None:
            run.member.progress(done, total, message)
        elif run.root.flow is not None:
            run.root.flow.progress(done, total, message)

    def __str__(self) -> str:
        return f"TaskExecutionContext(task_id={self.task_id}, cycle_count={self.cycle_count})"

    __repr__ = __str__
