"""What a running task may ask of its run: more tasks, another pass, an early end, a checkpoint."""

from __future__ import annotations

import uuid
from typing import Any

from graflow.core.nodes.executable import Executable, leftmost_of
from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.agenda import RunQueue
from graflow.core.run.state import Interrupted
from graflow.core.run.task_context import Control, TaskExecutionContext, base_id_of
from graflow.exceptions import GraflowRuntimeError
from graflow.protocols import upward
from graflow.queue.base import TaskSpec
from graflow.trace.notify import tell

_Frame = TaskExecutionContext | None


class RunRequests(RunQueue):
    """The state of a run, and the requests of its tasks."""

    # -- more tasks ------------------------------------------------------------------------------------------------

    def next_task(self, executable: Executable, goto: bool = False) -> str:
        """Queue a task on behalf of the running one; see `TaskExecutionContext.next_task`."""
        return self.request_task(self.current_task_context, executable, goto=goto)

    def request_task(self, frame: _Frame, executable: Executable, *, goto: bool) -> str:
        """Queue a task on behalf of one execution; see `TaskExecutionContext.next_task`."""
        target = leftmost_of(executable)
        task_id = target.task_id
        known = self.graph.has_node(task_id) or task_id in self.elsewhere
        is_new = not known or (frame is not None and self._is_born_in(frame, task_id))
        if not known or task_id in self.graph.known_by_name:
            executable.register_in(self.graph)
        if is_new:
            self._note_dynamic(task_id, frame, is_iteration=False)
        if frame is not None and (goto or not is_new) and frame.control < Control.GOTO:
            frame.control = Control.GOTO
        if not is_new and not self.in_scope(task_id):
            self.jumps_out.append(task_id)
            return task_id
        self.joins.forget(task_id)
        self.queue_for(frame, self.graph.get_node(task_id))
        return task_id

    def _is_born_in(self, frame: TaskExecutionContext, task_id: str) -> bool:
        """Whether the node is younger than this execution, or than the interrupted one that it repeats."""
        if self.graph.born_since(task_id, frame.birth_mark):
            return True
        return frame.repeats is not None and task_id in frame.repeats.born

    def next_iteration(self, data: Any = None, task_id: str | None = None) -> str:
        """Queue one more pass of the running task; see `TaskExecutionContext.next_iteration`.

        Raises:
            ValueError: When no task runs, or the task is not in the graph.
            CycleLimitExceededError: When the limit is reached.
        """
        frame = self.current_task_context
        current = task_id or (None if frame is None else frame.task_id)
        if current is None:
            raise ValueError("next_iteration() needs a running task, or a task_id")
        return self.request_iteration(frame, current, data)

    def request_iteration(self, frame: _Frame, task_id: str, data: Any) -> str:
        """Queue one more pass of a task on behalf of one execution."""
        base_id = base_id_of(task_id)
        if not self.graph.has_node(base_id):
            raise ValueError(f"next_iteration(): task '{base_id}' is not in the graph")
        self.cycle_controller.check_cycle_limit(base_id)
        base = self.graph.get_node(base_id)
        iteration_id = f"{base_id}_cycle_{self.cycle_controller.get_cycle_count(base_id)}_{uuid.uuid4().hex[:8]}"
        task = IterationTask(iteration_id, base_id, data, getattr(base, "handler_type", "direct"))
        self.graph.add_node(task)
        self._note_dynamic(iteration_id, frame, is_iteration=True)
        if frame is not None:
            frame.is_iterating = True
        spec = self.queue_for(frame, task)
        self._stand_in(spec)
        return iteration_id

    def _note_dynamic(self, task_id: str, frame: _Frame, *, is_iteration: bool) -> None:
        if self.graph.is_dynamic(task_id):
            return
        self.graph.mark_dynamic(task_id)
        parent = None
        if frame is not None:
            parent = frame.task_id
            frame.note_born(task_id)
        self.dynamic_nodes.append((task_id, [] if parent is None else [parent]))
        tell(self.tracer.on_dynamic_task_added, task_id, parent_task_id=parent, is_iteration=is_iteration)

    def queue_for(self, frame: _Frame, task: Any) -> TaskSpec:
        """Queue a task that an execution asked for."""
        if frame is not None and frame.repeats is not None:
            self._replace_repeated(frame.repeats, task)
        spec = self.add_to_queue(task)
        if frame is not None:
            if frame.queued is None:
                frame.queued = []
            frame.queued.append(spec)
        return spec

    def _replace_repeated(self, interrupted: Interrupted, task: Any) -> None:
        """Drop the entry of an interrupted execution that its repetition asks for again."""
        for spec in self.task_queue.get_pending_task_specs():
            if spec.task_id in interrupted.queued and _is_same_request(spec.executable, task):
                interrupted.queued.remove(spec.task_id)
                self._withdraw(spec)
                return

    def _withdraw(self, spec: TaskSpec) -> None:
        if self.task_queue.discard(spec) and isinstance(spec.executable, IterationTask):
            self.stood_in(spec.executable.base_id)

    def rollback(self, frame: TaskExecutionContext) -> None:
        """Undo what a failed execution queued and added, so that the next attempt starts from the same graph."""
        for spec in frame.queued or ():
            self._withdraw(spec)
        for task_id in frame.born or ():
            if task_id in self.graph.nodes:
                self.graph.remove_node(task_id)
        if frame.born:
            self.dynamic_nodes = [node for node in self.dynamic_nodes if node[0] not in frame.born]
        frame.queued = frame.born = None

    # -- an early end ----------------------------------------------------------------------------------------------

    def terminate_workflow(self, message: str) -> None:
        """End the run normally after the running task."""
        self.request_end(self.current_task_context, Control.TERMINATE, message)

    def cancel_workflow(self, message: str) -> None:
        """End the run with `GraflowWorkflowCanceledError` after the running task."""
        self.request_end(self.current_task_context, Control.CANCEL, message)

    def request_end(self, frame: _Frame, control: Control, message: str) -> None:
        """End the run after an execution; a weaker request changes nothing."""
        if frame is None or control > frame.control:
            self.ctrl_message = message
            if frame is not None:
                frame.control = control

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def request_checkpoint(self, metadata: dict[str, Any] | None = None, *, path: str | None = None) -> None:
        """Ask the engine to save the run after the current task."""
        self.checkpoint_requested = True
        self.checkpoint_request_metadata = dict(metadata or {})
        self.checkpoint_request_path = path

    def checkpoint_from_task(
        self, frame: TaskExecutionContext, metadata: dict[str, Any] | None, *, path: str | None, deferred: bool
    ) -> Any:
        """What `TaskExecutionContext.checkpoint` does."""
        described = {
            "task_id": frame.task_id,
            "cycle_count": frame.cycle_count,
            "elapsed_time": frame.elapsed_time(),
            "mode": "deferred" if deferred else "immediate",
            **(metadata or {}),
        }
        if deferred:
            self.request_checkpoint(described, path=path)
            return None
        if self._is_away():
            raise GraflowRuntimeError(
                f"Task '{frame.task_id}' runs on a worker, which holds only its own part of the run and cannot write a "
                "checkpoint at once; use deferred=True, and the run is saved when the group has ended"
            )
        outermost = self._task_execution_stack[0] if self._task_execution_stack else frame
        return upward.checkpoint(self, path=path, metadata=described, resuming_task_id=outermost.task_id)

    def write_requested_checkpoint(self) -> None:
        """Save the run when a task asked for it; on a worker the request goes back with the outcome instead."""
        if self.checkpoint_requested and not self._is_away():
            metadata, path = self.checkpoint_request_metadata, self.checkpoint_request_path
            self.clear_checkpoint_request()
            upward.checkpoint(self, path=path, metadata=metadata)

    def _is_away(self) -> bool:
        """Whether this is a branch whose run is in another process."""
        return self._scope is not None and self.parent_context is None


def _is_same_request(earlier: Any, repeated: Any) -> bool:
    if isinstance(earlier, IterationTask) and isinstance(repeated, IterationTask):
        return earlier.base_id == repeated.base_id
    return bool(earlier.task_id == repeated.task_id)
