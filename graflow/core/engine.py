"""`WorkflowEngine`: the step loop over one execution context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Self

from graflow.coordination.executor import GroupExecutor
from graflow.core.branches.ownership import branch_nodes
from graflow.core.building.entering import running_frame
from graflow.core.building.scopes import GraphScope, current_scope, recording_into
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler, checked_handlers, require_handler
from graflow.core.handlers.direct import DirectTaskHandler
from graflow.core.memberships import is_group
from graflow.core.nodes.aio import EventLoopThread, awaited, on_thread
from graflow.core.nodes.iteration import coroutine_of, is_async
from graflow.core.run.asking import write_requested_checkpoint
from graflow.core.run.context import ExecutionContext
from graflow.core.run.frame import Control, Frame
from graflow.core.run.ledger import DefaultMaxSteps
from graflow.core.run.steps.completing import complete
from graflow.core.run.steps.failing import canceled, fail, stop_at_max_steps, too_many_steps
from graflow.exceptions import (
    GraflowWorkflowCanceledError,
    MaxStepsExceededError,
    UnknownHandlerError,
    UnknownNodeError,
)
from graflow.observing import Happening, observe, observers
from graflow.queue.base import TaskSpec
from graflow.queue.memory import start_task
from graflow.text.shown import get_logger
from graflow.trace.notify import end_workflow, tell

_log = get_logger(__name__)

_LOOK = 0.2  # seconds after which a run that waits asks what it holds whether it may go on


class WorkflowEngine:
    """Runs a context step by step; knows handlers by type and holds no state of a run.

    Args:
        handlers: Handlers by type, beside `"direct"`.
    """

    def __init__(self, handlers: Mapping[str, TaskHandler] | None = None) -> None:
        self._handlers: dict[str, TaskHandler] = {
            "direct": DirectTaskHandler(),
            **checked_handlers("handlers", handlers),
        }
        self.event_loop = EventLoopThread()

    def apart(self) -> Self:
        """An engine with the same handlers and an event loop of its own, for what a coroutine waits for."""
        made = type(self)(self._handlers)
        made.event_loop = EventLoopThread(is_apart=True)
        return made

    def register_handler(self, handler_type: str, handler: TaskHandler) -> None:
        """Run tasks of this `handler_type` with `handler`, members of groups included."""
        require_handler("register_handler()", handler_type, handler)
        self._handlers[handler_type] = handler

    def _get_handler(self, task: Any) -> TaskHandler:
        handler_type = getattr(task, "handler_type", "direct")
        try:
            return self._handlers[handler_type]
        except KeyError:
            known = ", ".join(sorted(self._handlers))
            raise UnknownHandlerError(
                f"Unknown handler type: {handler_type}; known are {known}; add it with wf.register_handler()"
            ) from None

    def _execute_task(self, task: Any, context: ExecutionContext) -> Any:
        return self._get_handler(task).execute_task(task, context)

    # -- a run -----------------------------------------------------------------------------------------------------

    def execute(self, context: ExecutionContext, start_task_id: str | None = None) -> Any:
        """Run the context to its end.

        Args:
            context: The run; one that was saved half-way goes on where it was.
            start_task_id: Begin here instead of at the context's start node.

        Returns:
            The value of the last task that ran. None with `context.stop_reason == "waiting"` when a task waits for the
            answer to a question: the run is saved then, and `context.waiting` lists what is open.

        Raises:
            GraflowRuntimeError: When a task fails, is cancelled, or a limit is reached.
            RunOwnedError: When another execution continues the same run.
            ValueError: For an unknown start node or handler type.
        """
        if not isinstance(context, ExecutionContext):
            raise TypeError(
                f"WorkflowEngine.execute() takes an ExecutionContext, not {context!r}; make one with "
                "ExecutionContext.create(wf.graph), or call wf.execute()"
            )
        scope = current_scope()
        eager = scope is not None and scope.registers_on_creation
        recording = recording_into(GraphScope(context.graph, registers_on_creation=eager))
        with _Execution(self, context) as execution, self.event_loop, recording:
            value = self._run_whole(context, start_task_id)
            execution.result = None if context.stop_reason == "waiting" else value
        return execution.result

    def _run_whole(self, context: ExecutionContext, start_task_id: str | None) -> Any:
        """Run from where the context stands, and release at the end what the run came to hold meanwhile."""
        with context.holdings.released_at_end():
            if context.ledger.steps or context.last_checkpoint_path:  # an earlier execution has run a part of it
                GroupExecutor.resume(_own_groups(context.graph), context)
            _begin_at(context, start_task_id)
            return self._run(context)

    def run_branch(self, context: ExecutionContext) -> Any:
        """Run the branch of one member of a group."""
        if current_scope() is None:
            with recording_into(GraphScope(context.graph, registers_on_creation=False)):
                return self._run(context)
        return self._run(context)

    def can_await(self, task: Any, context: ExecutionContext) -> bool:
        """Whether a task is a coroutine, which the event loop runs without a thread."""
        is_direct = type(self._handlers.get(getattr(task, "handler_type", ""))) is DirectTaskHandler
        return is_direct and is_async(task, context.graph)

    async def run_branch_async(self, context: ExecutionContext) -> None:
        """Run a branch whose first task is a coroutine; what comes behind coroutines has a thread."""
        scope = current_scope() or GraphScope(context.graph, registers_on_creation=False)
        with recording_into(scope):
            if await self._await_steps(context):
                return
            if context.agenda.has_work():
                await on_thread(partial(self._run, context), f"graflow-{context.session_id}")
            else:
                self._run(context)

    def execute_with_cycles(self, graph: TaskGraph, start_node: str, max_steps: int = 10) -> None:
        """Run from a node; reaching `max_steps` gives a warning only."""
        self.execute(ExecutionContext(graph, start_node, max_steps, on_max_steps="warn"))

    def close(self) -> None:
        """Stop the event loop that async tasks shared, if one is running."""
        self.event_loop.close()

    # -- the loop --------------------------------------------------------------------------------------------------

    def _run(self, context: ExecutionContext) -> Any:
        """Run step by step; the lock is let go only while a task's body runs, so that others find the run there."""
        with context.agenda.step_lock:
            return self._run_steps(context, context.agenda.step_lock.acquire, context.agenda.step_lock.release)

    def _run_steps(self, context: ExecutionContext, acquire: Callable[[], Any], release: Callable[[], None]) -> Any:
        result: Any = context.ledger.carried_value
        agenda, ledger, requests = context.agenda, context.ledger, context.requests
        recording, outcome = context.recording, {}
        nodes, held = context.graph.succ, context.holdings.held
        pause = partial(_pause, context)
        while True:
            if held:
                with _unlocked(context):
                    context.holdings.check()
            spec = agenda.next(pause)
            if spec is None:
                break
            if (ledger.repeats if type(ledger.max_steps) is DefaultMaxSteps else ledger.steps) >= ledger.max_steps:
                agenda.requeue(spec)
                stop_at_max_steps(context, too_many_steps(context))
                return result
            agenda.running = spec
            task = spec.executable
            frame: Frame | None = None
            try:
                release()
                if task.task_id not in nodes:
                    _require_node(task.task_id, context)
                with context.executing_task(task) as frame:
                    if recording is not None:
                        recording.begin(frame)
                    # In a copy: what a step sets of context variables is its own, as that of a coroutine.
                    value = frame.task_result = copy_context().run(self._execute_task, task, context)
                    if frame.control == Control.CANCEL:
                        raise canceled(context, task.task_id)  # noqa: TRY301 - as if the task did
                    if recording is not None:
                        outcome = recording.outcome_of(frame, value)
            except BaseException as error:  # noqa: BLE001 - raised again unless the task is tried again
                acquire()
                agenda.running = None
                if agenda.is_still:
                    agenda.move_again()
                if fail(context, spec, frame, error):
                    continue
                return result
            acquire()
            result, ledger.last, agenda.running = value, task, None
            if agenda.is_still:
                agenda.move_again()
            complete(context, task, frame)
            if recording is not None:
                recording.completed(frame, outcome, value)
            if requests.checkpoint is not None:
                with _unlocked(context):
                    write_requested_checkpoint(context)
            if frame.control == Control.TERMINATE:
                _terminate(context)
                return result
        ledger.stop_reason = "completed"
        return result

    # -- the loop of coroutines ------------------------------------------------------------------------------------

    async def _await_steps(self, context: ExecutionContext) -> bool:
        """As `_run_steps`, as long as what is next is a coroutine; whether the run has ended."""
        agenda, ledger, requests = context.agenda, context.ledger, context.requests
        agenda.step_lock.acquire()
        try:
            while (spec := self._next_awaited(context)) is not None:
                agenda.running, task = spec, spec.executable
                frame: Frame | None = None
                try:
                    agenda.step_lock.release()
                    with context.executing_task(task) as frame:
                        frame.task_result = await _await_task(task, context, frame)
                        if frame.control == Control.CANCEL:
                            raise canceled(context, task.task_id)  # noqa: TRY301 - as if the task did
                except BaseException as error:  # noqa: BLE001 - raised again unless the task is tried again
                    agenda.step_lock.acquire()
                    agenda.running = None
                    if not fail(context, spec, frame, error):
                        return True
                    continue
                agenda.step_lock.acquire()
                ledger.last, agenda.running = task, None
                complete(context, task, frame)
                if requests.checkpoint is not None:
                    with _unlocked(context):
                        await on_thread(partial(write_requested_checkpoint, context), "graflow-checkpoint")
                if frame.control == Control.TERMINATE:
                    _terminate(context)
                    return True
        finally:
            agenda.step_lock.release()
        return False

    def _next_awaited(self, context: ExecutionContext) -> TaskSpec | None:
        """The next entry, when it is one that can be awaited and nothing is in its way."""
        agenda = context.agenda
        spec = None if agenda.delays.entries or context.ledger.is_full else agenda.queue.first()
        if spec is None or not self.can_await(spec.executable, context):
            return None
        with _unlocked(context):
            context.holdings.check()
        return agenda.next(partial(_pause, context))


async def _await_task(task: Any, context: ExecutionContext, frame: Frame) -> Any:
    """As `DirectTaskHandler`: run the task once and store its value, or the exception that it raises, as its result."""
    try:
        value = await awaited(coroutine_of(task, context, frame))
    except Exception as error:  # of the user's code, whatever it is
        context.set_result(task.task_id, error)
        raise
    context.set_result(task.task_id, value)
    return value


class _Execution:
    """The block in which an engine runs a context; listeners are told of its beginning, and of how it ended.

    Attributes:
        result: What the execution gave.
    """

    def __init__(self, engine: WorkflowEngine, context: ExecutionContext) -> None:
        self.result: Any = None
        self._engine, self._context = engine, context
        self._name, self._tracer = context.workflow_name or context.session_id, context.tracer
        self._is_root = context.parent_context is None
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        context = self._context
        self._previous, context.engine = context.engine, self._engine
        context.ledger.stop_reason = None
        context.requests.waiting = []
        if self._is_root:
            caller = running_frame.get()
            context.called_by = None if caller is None or caller.execution_context.root is context else caller
            tell(self._tracer.on_workflow_start, self._name, context)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        context, tracer = self._context, self._tracer
        if error is not None:  # an interruption ends a run like any error
            context.ledger.stop_reason = _stop_reason(error)
        context.engine, context.called_by = self._previous, None
        if self._is_root:
            if observers and context.recording is None:  # a flow tells of its executions itself
                end = context.ledger.stop_reason or "completed"
                observe(Happening.RUN_ENDED, time.monotonic() - self._begun, context.workflow_name or "", end)
            context.ledger.channel.run_ended()
            tell(end_workflow, tracer, self._name, context, self.result, error)
            tell(tracer.flush)


@contextmanager
def _unlocked(context: ExecutionContext) -> Iterator[None]:
    """Let others look at the run during the block."""
    context.agenda.step_lock.release()
    try:
        yield
    finally:
        context.agenda.step_lock.acquire()


def _pause(context: ExecutionContext, seconds: float) -> None:
    if context.recording is not None:
        context.recording.flush()
    with _unlocked(context):
        if not context.holdings.held:
            time.sleep(seconds)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            context.holdings.check()  # what is held may end the wait
            time.sleep(min(left, _LOOK))


def _terminate(context: ExecutionContext) -> None:
    """The run has ended because a task asked for it."""
    context.ledger.stop_reason, context.requests.terminated = "terminated", context.requests.message or ""


def _require_node(task_id: str, context: ExecutionContext) -> None:
    """Refuse a task that was queued but is nowhere in the graph; members may be known to their group alone."""
    if context.parent_context is None and context.agenda.in_scope(task_id) and not context.graph.has_node(task_id):
        raise UnknownNodeError(f"Task '{task_id}' is queued but not found in graph; add it with graph.add_node()")


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
    agenda, ledger = context.agenda, context.ledger
    if start_task_id is None:
        agenda.start(is_fresh=ledger.is_blank)
        return
    try:
        task = start_task(context.graph, start_task_id)
    except ValueError as error:
        raise UnknownNodeError(str(error)) from None
    if not ledger.steps and agenda.queue.to_list() == [agenda.start_node]:
        agenda.queue.cleanup()
    if not agenda.queue.holds(start_task_id):
        agenda.add(task)


def _stop_reason(error: BaseException) -> str:
    if isinstance(error, GraflowWorkflowCanceledError):
        return "canceled"
    return "max_steps" if isinstance(error, MaxStepsExceededError) else "failed"
