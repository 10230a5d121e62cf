"""One execution of one task: the block of `ExecutionContext.executing_task`."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from graflow.channels.attempt import AttemptChannel
from graflow.core.building.entering import running_frame
from graflow.core.nodes.iteration import base_id_of
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.run import asking
from graflow.core.run.ledger import Ledger
from graflow.core.run.parts import RunParts
from graflow.core.run.steps.task_context import TaskExecutionContext
from graflow.text.shown import get_logger

_log = get_logger(__name__)


class ExecutingTask:
    """A block in which `task` is the running one; yields its task context."""

    __slots__ = ("_frame", "_run", "_task", "_token")

    def __init__(self, run: RunParts, task: Any) -> None:
        self._run = run
        self._task = task

    def __enter__(self) -> TaskExecutionContext:
        run, task = self._run, self._task
        frame = self._frame = TaskExecutionContext(task.task_id, run)
        frame.task = task
        task.lent_context = run
        frame.depth = len(run.frames)
        run.frames.append(frame)
        self._token = running_frame.set(frame)
        has_begun = False
        try:
            _begin(run, frame, task)
            has_begun = True
        finally:
            if not has_begun:  # an error or an interruption: nothing runs then
                task.lent_context = None
                running_frame.reset(self._token)
                run.frames.pop()
        return frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running_frame.reset(self._token)
        if self._task.lent_context is self._run:  # not that of another thread by now
            self._task.lent_context = None
        frame = self._frame
        if frame.layer is None:
            _end(self._run, frame, self._task, error)
            return
        is_settled = False
        try:
            _settle(frame.layer, error)
            is_settled = True
        finally:
            if not is_settled:  # what it wrote got lost: it has failed
                error = sys.exception()
                frame.layer.close()
            _end(self._run, frame, self._task, error)


class BegunTask(ExecutingTask):
    """The block of an execution that had begun before an engine came to its task.

    Attributes:
        frame: Its task context, which the first block of the run has once `replay` was called.
    """

    __slots__ = ("_spec", "frame")

    def __init__(self, run: RunParts, task: Any) -> None:
        super().__init__(run, task)
        self._spec = run.agenda.running = run.agenda.next(lambda _: None)
        frame = self._frame = self.frame = TaskExecutionContext(task.task_id, run)
        frame.task, frame.depth = task, 0
        task.lent_context = run
        run.frames.append(frame)
        _begin(run, frame, task)

    def replay(self) -> None:
        """Have the task run, as the next one, in this execution."""
        run: Any = self._run
        run.agenda.running = None
        run.agenda.requeue(self._spec)
        run.executing_task = self._once

    def _once(self, _: Any) -> BegunTask:
        del self._run.executing_task  # of the run itself, in front of its method
        return self

    def __enter__(self) -> TaskExecutionContext:
        self._token = running_frame.set(self._frame)
        return self._frame


def _settle(layer: AttemptChannel, error: BaseException | None) -> None:
    if error is None:
        layer.apply()
    else:
        layer.close()


def _begin(run: RunParts, frame: TaskExecutionContext, task: Any) -> None:
    """Apply the task's own limits, count the execution, and tell the listeners."""
    task_id, ledger, interrupted = frame.task_id, run.ledger, run.agenda.interrupted
    base_id = base_id_of(task, task_id)
    limits = task
    if base_id != task_id and run.graph.has_node(base_id):
        limits = run.graph.get_node(base_id)
        ledger.retries.inherit(task_id, base_id)
    if type(limits) is TaskWrapper:
        template = limits.template
        if template.max_cycles is not None or template.retry_policy is not None or template.max_retries is not None:
            _set_limits(ledger, template, task_id, base_id)
    else:
        _set_limits(ledger, limits, task_id, base_id)
    if interrupted and task_id in interrupted:
        # This execution was begun, and counted, before the run was saved.
        frame.repeats = interrupted.pop(task_id)
    else:
        ledger.count_execution(task_id, base_id)
    try:
        run.tracer.on_task_start(task, run)
    except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
        _log.exception("Tracing hook on_task_start failed")


def _set_limits(ledger: Ledger, limits: object, task_id: str, base_id: str) -> None:
    max_cycles = getattr(limits, "max_cycles", None)
    if max_cycles is not None:
        ledger.cycles.set_node_max_cycles(base_id, max_cycles)
    policy = getattr(limits, "retry_policy", None)
    if policy is not None:
        ledger.retries.set_node_policy(task_id, policy)
    if policy is None or not policy.max_retries:
        max_retries = getattr(limits, "max_retries", None)
        if max_retries is not None:
            ledger.retries.set_node_max_retries(task_id, max_retries)


def _end(run: RunParts, frame: TaskExecutionContext, task: Any, error: BaseException | None) -> None:
    """Note the end of an execution, tell the listeners, and hand requests on to the task that called this one."""
    if error is not None:
        if run.groups.open:
            run.groups.abandon(frame.task_id)
    elif frame.task_id in run.ledger.retries.retry_counts:
        run.ledger.retried.add(frame.task_id)
    try:
        run.tracer.on_task_end(task, run, result=frame.task_result, error=error)
    except Exception:  # noqa: BLE001 - as `tell`, whose price every task would pay
        _log.exception("Tracing hook on_task_end failed")
    stack = run.frames
    stack.pop()
    if stack:
        if error is None:
            stack[-1].adopt(frame)
        else:
            asking.rollback(run, frame)
