"""`WorkflowEngine`: the step loop over one execution context."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from graflow.coordination.executor import GroupExecutor
from graflow.core.branches.ownership import branch_nodes
from graflow.core.failures import failure_of, of_both_types, without_engine_frames
from graflow.core.graph import GraphScope, TaskGraph, current_scope, recording_into
from graflow.core.handler import TaskHandler
from graflow.core.handlers.direct import DirectTaskHandler
from graflow.core.memberships import is_group
from graflow.core.nodes.aio import EventLoopThread
from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.context import ExecutionContext
from graflow.core.run.state import Delayed
from graflow.core.run.task_context import Control, TaskExecutionContext
from graflow.exceptions import (
    CycleLimitExceededError,
    GraflowWorkflowCanceledError,
    MaxStepsExceededError,
    RetryLimitExceededError,
    RunOwnedError,
    UnknownHandlerError,
    UnknownNodeError,
)
from graflow.queue.base import TaskSpec
from graflow.queue.memory import start_task
from graflow.trace.notify import tell

_NEVER_RETRIED = (GraflowWorkflowCanceledError, CycleLimitExceededError, MaxStepsExceededError, RunOwnedError)


class WorkflowEngine:
    """Runs a context step by step; knows handlers by type and holds no state of a run.

    Args:
        handlers: Handlers by type, beside `"direct"`.
    """

    def __init__(self, handlers: Mapping[str, TaskHandler] | None = None) -> None:
        self._handlers: dict[str, TaskHandler] = {"direct": DirectTaskHandler(), **(handlers or {})}
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
            raise UnknownHandlerError(f"Unknown handler type: {handler_type}; known are {known}") from None

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
            RunOwnedError: When another execution continues the same run.
            ValueError: For an unknown start node or handler type.
        """
        name, tracer = context.workflow_name or context.session_id, context.tracer
        is_root = context.parent_context is None
        previous, context.engine = context.engine, self
        scope = current_scope()
        eager = scope is not None and scope.registers_on_creation
        result, error = None, None
        context.stop_reason = None
        if is_root:
            tell(tracer.on_workflow_start, name, context)
        try:
            with self.event_loop, recording_into(GraphScope(context.graph, registers_on_creation=eager)):
                result = self._run_whole(context, start_task_id)
        except BaseException as raised:  # an interruption ends a run like any error
            error = raised
            context.stop_reason = _stop_reason(raised)
            raise
        finally:
            context.engine = previous
            if is_root:
                context.channel.run_ended()
                tell(tracer.on_workflow_end, name, context, result=result, error=error)
                tell(tracer.flush)
        return result

    def _run_whole(self, context: ExecutionContext, start_task_id: str | None) -> Any:
        """Run from where the context stands, and let go at the end of what the run came to hold meanwhile."""
        is_inside = bool(context.held)
        try:
            if context.was_begun:
                GroupExecutor.resume(_own_groups(context.graph), context)
            _begin_at(context, start_task_id)
            result = self._run(context)
        except BaseException as error:  # an interruption as well: nothing stays held
            if context.held and not is_inside:
                context.release_all(error)
            raise
        if context.held and not is_inside:
            context.release_all(None)
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
        """Stop the event loop that async tasks shared, if one is running."""
        self.event_loop.close()

    # -- the loop --------------------------------------------------------------------------------------------------

    def _run(self, context: ExecutionContext) -> Any:
        """Run step by step; the lock is let go only while a task's body runs, so that others find the run there."""
        with context.step_lock:
            return self._run_steps(context, context.step_lock.acquire, context.step_lock.release)

    def _run_steps(self, context: ExecutionContext, acquire: Callable[[], Any], release: Callable[[], None]) -> Any:
        result: Any = None
        nodes = context.graph.succ
        while (spec := _next(context)) is not None:
            if context.steps >= context.max_steps:
                context.requeue(spec)
                _stop_at_max_steps(context, [entry.task_id for entry in context.pending_specs()])
                return result
            context.running_spec = spec
            task = spec.executable
            if type(task) is IterationTask:
                context.stood_in(task.base_id)
            frame: TaskExecutionContext | None = None
            try:
                release()
                if task.task_id not in nodes:
                    _require_node(task.task_id, context)
                with context.executing_task(task) as frame:
                    value = frame.task_result = self._execute_task(task, context)
                    if frame.control == Control.CANCEL:
                        raise GraflowWorkflowCanceledError(context.ctrl_message or "", task.task_id)  # noqa: TRY301 - as if the task did
            except BaseException as error:  # noqa: BLE001 - raised again unless the task is tried again
                acquire()
                context.running_spec = None
                if _after_failure(context, spec, frame, error):
                    continue
                return result
            acquire()
            result = value
            context.running_spec = None
            _after_success(context, task, frame)
            if context.checkpoint_requested:
                with _unlocked(context):
                    context.write_requested_checkpoint()
            if frame.control == Control.TERMINATE:
                context.stop_reason = "terminated"
                return result
        context.stop_reason = "completed"
        return result


@contextmanager
def _unlocked(context: ExecutionContext) -> Iterator[None]:
    """Let others look at the run during the block."""
    context.step_lock.release()
    try:
        yield
    finally:
        context.step_lock.acquire()


def _next(context: ExecutionContext) -> TaskSpec | None:
    """The next entry to run: a retry that is due, what waits in the queue, a join that waits on others only."""
    if context.looks_first:
        if context.held:
            with _unlocked(context):
                context.check_held()
        if context.delayed:
            return _next_with_delays(context)
    spec = context.task_queue.dequeue()
    if spec is None and context.joins.waiting and context.joins.release_oldest(context):
        spec = context.task_queue.dequeue()
    return spec


def _next_with_delays(context: ExecutionContext) -> TaskSpec | None:
    first = min(context.delayed, key=lambda entry: entry.due)
    waits = first.due - time.monotonic()
    if waits > 0:
        spec = context.task_queue.dequeue()
        if spec is not None:
            return spec
        # Nothing else is ready. The policy's own figure is slept when nothing has run since the failure.
        with _unlocked(context):
            time.sleep(first.delay if first.since_step == context.steps else waits)
    return context.take_delayed(first)


def _require_node(task_id: str, context: ExecutionContext) -> None:
    """Refuse a task that was queued but is nowhere in the graph; members may be known to their group alone."""
    if context.parent_context is None and context.in_scope(task_id) and not context.graph.has_node(task_id):
        raise UnknownNodeError(f"Task '{task_id}' is queued but not found in graph; add it with graph.add_node()")


def _after_success(context: ExecutionContext, task: Any, frame: TaskExecutionContext) -> None:
    """Complete the task and queue what follows."""
    task_id = frame.task_id
    context._completed[task_id] = None
    context.steps += 1
    base_id = task_id
    if type(task) is IterationTask:
        base_id = task.base_id
        context.set_result(base_id, frame.task_result)
    if frame.control == Control.TERMINATE:
        return
    has_more_passes = frame.is_iterating or base_id in context._standing_in
    if frame.control == Control.NORMAL and not has_more_passes:
        if frame.exits is None:
            exits = context.joins.finished(base_id, context.graph, context)
        else:
            exits = context.follow_group(base_id, frame)
        if exits:
            context.exits += exits
            context.joins.reconsider(context.graph, context)
    elif context.joins.waiting and not has_more_passes:
        context.joins.reconsider(context.graph, context)


def _after_failure(
    context: ExecutionContext, spec: TaskSpec, frame: TaskExecutionContext | None, error: BaseException
) -> bool:
    """Plan another attempt while the budget lasts, else raise.

    A task that is given up stays the next one to run, so that the run can be taken up again there.

    Returns:
        True when the run goes on, False when it ends normally although steps are left to do.
    """
    if frame is None or not isinstance(error, Exception) or isinstance(error, UnknownHandlerError):
        if frame is not None:
            context.rollback(frame)
        context.requeue(spec)
        raise error
    context.rollback(frame)
    if frame.control == Control.CANCEL and not isinstance(error, GraflowWorkflowCanceledError):
        context.requeue(spec)
        raise GraflowWorkflowCanceledError(context.ctrl_message or "", frame.task_id) from error
    retries, task_id = context.retry_controller, frame.task_id
    limit = 0 if _is_group_failure(spec.executable, context) else retries.get_max_retries_for_node(task_id)
    if not isinstance(error, _NEVER_RETRIED) and retries.get_retry_count(task_id) < limit:
        return _plan_retry(context, spec, task_id, error)
    context.requeue(spec)
    if isinstance(error, MaxStepsExceededError) and is_group(spec.executable):
        _stop_at_max_steps(context, error.pending)
        return False
    if isinstance(error, _NEVER_RETRIED):
        raise error
    context._retried.add(task_id)
    if limit > 0:
        exhausted = RetryLimitExceededError(task_id, limit + 1, limit, error)
        without_engine_frames(error)
        raise of_both_types(failure_of(exhausted, task_id, context.session_id), error)
    raise failure_of(error, task_id, context.session_id)


def _plan_retry(context: ExecutionContext, spec: TaskSpec, task_id: str, error: Exception) -> bool:
    """Count the retry and see to it that it is made; False when that is left to whoever runs this branch."""
    retries = context.retry_controller
    retries.increment(task_id, error)
    delay = retries.get_delay(task_id)
    if context.leaves_retry is not None and context.leaves_retry(delay):
        context.requeue(spec)
        context.retry_in = delay
        return False
    if delay <= 0:
        context.requeue(spec)
    else:
        context.retry_later(Delayed(spec, delay, time.monotonic() + delay, context.steps))
    return True


def _own_groups(graph: TaskGraph) -> Iterable[Any]:
    """Groups that are in no branch of another group with the same backend, which may run elsewhere as a whole."""
    groups = {task_id: task for task_id, data in graph.nodes.items() if is_group(task := data.get("task"))}
    backends = {task_id: GroupExecutor.backend_of(group) for task_id, group in groups.items()}
    inside = {
        (backends[task_id], node)
        for task_id, group in groups.items()
        for nodes in branch_nodes(graph, task_id, group.tasks).values()
        for node in nodes
    }
    return [group for task_id, group in groups.items() if (backends[task_id], task_id) not in inside]


def _begin_at(context: ExecutionContext, start_task_id: str | None) -> None:
    """Queue the first task where that is still to be done."""
    queue = context.task_queue
    if start_task_id is not None:
        try:
            task = start_task(context.graph, start_task_id)
        except ValueError as error:
            raise UnknownNodeError(str(error)) from None
        if not context.steps and queue.to_list() == [context.start_node]:
            queue.cleanup()
        if not queue.holds(start_task_id):
            context.add_to_queue(task)
    else:
        context.queue_start()


def _is_group_failure(task: Any, context: ExecutionContext) -> bool:
    """Whether a group failed that has no retry limit of its own; its members have used up theirs."""
    return is_group(task) and task.task_id not in context.retry_controller.node_max_retries


def _stop_at_max_steps(context: ExecutionContext, pending: Sequence[str] | int) -> None:
    context.stop_reason = "max_steps"
    error = MaxStepsExceededError(context.max_steps, pending)
    if context.on_max_steps == "raise":
        raise error
    warnings.warn(str(error), stacklevel=4)


def _stop_reason(error: BaseException) -> str:
    if isinstance(error, GraflowWorkflowCanceledError):
        return "canceled"
    return "max_steps" if isinstance(error, MaxStepsExceededError) else "failed"
