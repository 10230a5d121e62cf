"""`WorkflowEngine`: the step loop over one execution context."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

from graflow.core.aio import EventLoopThread
from graflow.core.context import ExecutionContext
from graflow.core.graph import GraphScope, TaskGraph, current_scope, is_group, recording_into
from graflow.core.handler import TaskHandler
from graflow.core.handlers.direct import DirectTaskHandler
from graflow.core.iteration import IterationTask
from graflow.core.task_context import Control, TaskExecutionContext
from graflow.exceptions import (
    CycleLimitExceededError,
    GraflowRuntimeError,
    GraflowWorkflowCanceledError,
    MaxStepsExceededError,
    RetryLimitExceededError,
    as_runtime_error,
)
from graflow.queue.base import TaskSpec
from graflow.queue.memory import start_task
from graflow.trace.notify import tell

_NEVER_RETRIED = (GraflowWorkflowCanceledError, CycleLimitExceededError, MaxStepsExceededError)


@dataclass
class _Delayed:
    """A failed task that waits to be tried again."""

    spec: TaskSpec
    delay: float
    due: float
    since_step: int


class WorkflowEngine:
    """Runs a context step by step; knows handlers by type and holds no state of a run."""

    def __init__(self) -> None:
        self._handlers: dict[str, TaskHandler] = {"direct": DirectTaskHandler()}
        self.event_loop = EventLoopThread()

    def register_handler(self, handler_type: str, handler: TaskHandler) -> None:
        """Run tasks of this `handler_type` with `handler`, members of groups included."""
        self._handlers[handler_type] = handler

    def _get_handler(self, task: Any) -> TaskHandler:
        handler_type = getattr(task, "handler_type", "direct")
        try:
            return self._handlers[handler_type]
        except KeyError:
            known = ", ".join(sorted(self._handlers))
            raise ValueError(f"Unknown handler type: {handler_type}; known are {known}") from None

    def _execute_task(self, task: Any, context: ExecutionContext) -> Any:
        return self._get_handler(task).execute_task(task, context)

    # -- a run -----------------------------------------------------------------------------------------------------

    def execute(self, context: ExecutionContext, start_task_id: str | None = None) -> Any:
        """Run the context to its end.

        Args:
            context: The run; one that was saved half-way goes on where it was.
            start_task_id: Begin here instead of at the context's start node.

        Returns:
            The value of the last task that ran.

        Raises:
            GraflowRuntimeError: When a task fails, is cancelled, or a limit is reached.
            ValueError: For an unknown start node or handler type.
        """
        _begin_at(context, start_task_id)
        name = context.workflow_name or context.session_id
        previous, context.engine = context.engine, self
        scope = current_scope()
        eager = scope is not None and scope.registers_on_creation
        tell(context.tracer.on_workflow_start, name, context)
        result, error = None, None
        try:
            with recording_into(GraphScope(context.graph, registers_on_creation=eager)):
                result = self._run(context)
        except BaseException as raised:
            error = raised
            context.stop_reason = _stop_reason(raised)
            raise
        finally:
            context.engine = previous
            if previous is None:
                self.close()
            tell(context.tracer.on_workflow_end, name, context, result=result, error=error)
        return result

    def run_branch(self, context: ExecutionContext) -> Any:
        """Run the branch of one member of a group."""
        if current_scope() is None:
            with recording_into(GraphScope(context.graph, registers_on_creation=False)):
                return self._run(context)
        return self._run(context)

    def execute_with_cycles(self, graph: TaskGraph, start_node: str, max_steps: int = 10) -> None:
        """Run from a node; reaching `max_steps` gives a warning only."""
        self.execute(ExecutionContext(graph, start_node, max_steps, on_max_steps="warn"))

    def close(self) -> None:
        """Stop the event loop that async tasks shared, if one was started."""
        self.event_loop.close()

    # -- the loop --------------------------------------------------------------------------------------------------

    def _run(self, context: ExecutionContext) -> Any:
        result: Any = None
        delayed: list[_Delayed] = []
        while (spec := _next(context, delayed)) is not None:
            if context.steps >= context.max_steps:
                _stop_at_max_steps(context, spec, delayed)
                return result
            task = spec.executable
            if type(task) is IterationTask:
                context.stood_in(task.base_id)
            self._get_handler(task)  # an unknown type is a mistake in the set-up, not a failure of the task
            frame: TaskExecutionContext | None = None
            try:
                with context.executing_task(task) as frame:
                    value = frame.task_result = self._execute_task(task, context)
                    if frame.control == Control.CANCEL:
                        raise GraflowWorkflowCanceledError(context.ctrl_message or "", task.task_id)
            except Exception as error:
                self._after_failure(context, spec, frame, error, delayed)
                continue
            result = value
            if self._after_success(context, task, frame):
                context.stop_reason = "terminated"
                return result
        context.stop_reason = "completed"
        return result

    @staticmethod
    def _after_success(context: ExecutionContext, task: Any, frame: TaskExecutionContext) -> bool:
        """Complete the task and queue what follows; True when the run ends here."""
        task_id = frame.task_id
        context._completed[task_id] = None
        context.steps += 1
        base_id = task_id
        if type(task) is IterationTask:
            base_id = task.base_id
            context.set_result(base_id, frame.task_result)
        if frame.control == Control.TERMINATE:
            context.write_requested_checkpoint()
            return True
        if frame.control == Control.NORMAL and not frame.is_iterating:
            if frame.exits is None:
                exits = context.joins.finished(base_id, context.graph, context)
            else:
                exits = context.follow_group(base_id, frame)
            if exits:
                context.exits += exits
                context.joins.reconsider(context.graph, context)
        elif context.joins.waiting and not frame.is_iterating:
            context.joins.reconsider(context.graph, context)
        context.write_requested_checkpoint()
        return False

    @staticmethod
    def _after_failure(
        context: ExecutionContext,
        spec: TaskSpec,
        frame: TaskExecutionContext | None,
        error: Exception,
        delayed: list[_Delayed],
    ) -> None:
        """Plan another attempt while the budget lasts, else raise."""
        if frame is None:
            raise error
        context.take_back(frame)
        retries, task_id = context.retry_controller, frame.task_id
        limit = 0 if _is_group_failure(spec.executable, context) else retries.get_max_retries_for_node(task_id)
        if isinstance(error, _NEVER_RETRIED):
            raise error
        if retries.get_retry_count(task_id) < limit:
            retries.increment(task_id, error)
            delay = retries.get_delay(task_id)
            if delay <= 0:
                context.task_queue.enqueue_first(spec)
            else:
                context._running.add(task_id)
                delayed.append(_Delayed(spec, delay, time.monotonic() + delay, context.steps))
            return
        context._retried.add(task_id)
        if limit > 0:
            raise RetryLimitExceededError(task_id, limit + 1, limit, error) from error
        wrapped = as_runtime_error(error)
        if wrapped is error:
            raise error
        raise wrapped from error


def _next(context: ExecutionContext, delayed: list[_Delayed]) -> TaskSpec | None:
    """The next entry to run: a retry that is due, what waits in the queue, a join that waits on others only."""
    if delayed:
        return _next_with_delays(context, delayed)
    spec = context.task_queue.dequeue()
    if spec is None and context.joins.waiting and context.joins.release_oldest(context):
        spec = context.task_queue.dequeue()
    return spec


def _next_with_delays(context: ExecutionContext, delayed: list[_Delayed]) -> TaskSpec | None:
    first = min(delayed, key=lambda entry: entry.due)
    waits = first.due - time.monotonic()
    if waits > 0:
        spec = context.task_queue.dequeue()
        if spec is not None:
            return spec
        # Nothing else is ready. The policy's own figure is slept when nothing has run since the failure.
        time.sleep(first.delay if first.since_step == context.steps else waits)
    delayed.remove(first)
    context._running.discard(first.spec.task_id)
    return first.spec


def _begin_at(context: ExecutionContext, start_task_id: str | None) -> None:
    """Queue the first task where that is still to be done."""
    queue = context.task_queue
    if start_task_id is not None:
        task = start_task(context.graph, start_task_id)
        if not context.steps and queue.to_list() == [context.start_node]:
            queue.cleanup()
        if not queue.holds(start_task_id):
            context.add_to_queue(task)
    elif context.is_untouched() and context.start_node is not None:
        context.add_to_queue(start_task(context.graph, context.start_node))


def _is_group_failure(task: Any, context: ExecutionContext) -> bool:
    """Whether a group failed that has no retry limit of its own; its members have used up theirs."""
    return is_group(task) and task.task_id not in context.retry_controller.node_max_retries


def _stop_at_max_steps(context: ExecutionContext, spec: TaskSpec, delayed: list[_Delayed]) -> None:
    queue = context.task_queue
    for entry in delayed:
        queue.enqueue_first(entry.spec)
    queue.enqueue_first(spec)
    context.stop_reason = "max_steps"
    error = MaxStepsExceededError(context.max_steps, queue.to_list())
    if context.on_max_steps == "raise":
        raise error
    warnings.warn(str(error), stacklevel=4)


def _stop_reason(error: BaseException) -> str:
    if isinstance(error, GraflowWorkflowCanceledError):
        return "canceled"
    return "max_steps" if isinstance(error, MaxStepsExceededError) else "failed"
