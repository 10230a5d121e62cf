"""What a running task may ask of its run: more tasks, another pass, an early end, a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from graflow.core.branches.scope import OutsideScope
from graflow.core.building.entering import is_another
from graflow.core.nodes.executable import Executable, checked_node, leftmost_of
from graflow.core.nodes.iteration import IterationTask, base_id_of
from graflow.core.run.frame import Control, Frame
from graflow.core.run.parts import RunParts
from graflow.exceptions import CycleLimitExceededError, GraflowRuntimeError
from graflow.given import checked_path, require_metadata
from graflow.protocols import upward
from graflow.trace.notify import tell

# -- more tasks --------------------------------------------------------------------------------------------------------


def next_task(run: RunParts, frame: Frame | None, executable: Executable | str, *, goto: bool) -> str:
    """Queue a task on behalf of one execution; see `TaskExecutionContext.next_task`."""
    graph, agenda = run.graph, run.agenda
    if isinstance(executable, str):
        task_id = executable
    else:
        task_id = leftmost_of(checked_node(executable, "next_task()")).task_id
    is_known = graph.has_node(task_id) or task_id in elsewhere(run)
    is_new = not is_known or (frame is not None and _is_born_in(run, frame, task_id))
    known = graph.task_at(task_id)
    if isinstance(executable, str):
        if not is_known:
            known_ids = ", ".join(sorted({*graph.nodes, *elsewhere(run)}))  # here and on workers the same
            raise ValueError(
                f"next_task({task_id!r}): no task has this id; there are {known_ids}. "
                "A task that is new is given as such, not by its id"
            )
    elif not is_known or task_id in graph.known_by_name or _is_other(known, executable):
        graph = executable.register_in(graph)
        is_new = is_new or (frame is not None and _is_born_in(run, frame, task_id))
    if is_new:
        _note_dynamic(run, frame, graph.get_node(task_id))
    if frame is not None and (goto or not is_new) and frame.control < Control.GOTO:
        frame.control = Control.GOTO
    if not is_new and not agenda.in_scope(task_id):
        run.requests.jumps.append(task_id)
        return task_id
    agenda.joins.forget(task_id)
    agenda.add_for(frame, graph.get_node(task_id))
    return task_id


def _is_other(known: Any, executable: Executable) -> bool:
    return known is not None and is_another(known, leftmost_of(executable))


def elsewhere(run: RunParts) -> Collection[str]:
    """Ids of the workflow's nodes that this process knows by name only; a branch on a worker has some."""
    around: RunParts | None = run
    while around is not None:
        if isinstance(around.agenda.scope, OutsideScope):
            return around.agenda.scope.outside
        around = around.parent_context
    return ()


def _is_born_in(run: RunParts, frame: Frame, task_id: str) -> bool:
    """Whether the node is younger than this execution, or than the interrupted one that it repeats."""
    if run.graph.growth.is_since(task_id, frame.birth_mark):
        return True
    return frame.repeats is not None and task_id in frame.repeats.born


def next_iteration(run: RunParts, frame: Frame | None, task_id: str | None, data: object) -> str:
    """Queue one more pass of a task on behalf of one execution.

    Raises:
        ValueError: Without a task, or when it is not in the graph.
        CycleLimitExceededError: When the limit is reached.
    """
    if task_id is None:
        raise ValueError("next_iteration() needs a running task, or a task_id")
    is_running = frame is not None and frame.task_id == task_id and frame.task is not None
    base_id = base_id_of(frame.task if frame is not None and is_running else run.graph.task_at(task_id), task_id)
    if not run.graph.has_node(base_id):
        raise ValueError(f"next_iteration(): task '{base_id}' is not in the graph")
    cycles = run.ledger.cycles
    try:
        cycles.check_cycle_limit(base_id)
    except CycleLimitExceededError as error:
        error.run_id = run.session_id
        raise
    base = run.graph.get_node(base_id)
    iteration_id = f"{base_id}_cycle_{cycles.get_cycle_count(base_id)}_{os.urandom(4).hex()}"
    task = IterationTask(iteration_id, base_id, data, getattr(base, "handler_type", "direct"))
    run.graph.add_node(task)
    _note_dynamic(run, frame, task)
    run.requests.passes[iteration_id] = base_id
    if frame is not None:
        frame.is_iterating = True
    run.agenda.add_for(frame, task)
    return iteration_id


def _note_dynamic(run: RunParts, frame: Frame | None, task: Executable) -> None:
    task_id = task.task_id
    if task_id in run.graph.growth.dynamic:
        return
    run.graph.growth.mark_dynamic(task_id)
    parent = None
    if frame is not None:
        parent = frame.task_id
        frame.note_born(task)
    run.requests.nodes.append((task_id, [] if parent is None else [parent]))
    is_iteration = isinstance(task, IterationTask)
    tell(run.tracer.on_dynamic_task_added, task_id, parent_task_id=parent, is_iteration=is_iteration)


def keep_last_pass(run: RunParts, base_id: str, task_id: str) -> None:
    """A pass of a loop has completed: forget the one before it, with the data that it was given."""
    earlier = run.ledger.last_passes.get(base_id)
    run.ledger.last_passes[base_id] = task_id
    if earlier is None or earlier == task_id:
        return
    run.ledger.forget_pass(earlier)
    node = run.graph.task_at(earlier)
    if node is not None:
        run.graph.remove_node(earlier)
    if isinstance(node, IterationTask):
        node.data = None  # tracers remember the node itself
    if not is_away(run):
        run.requests.withdraw_nodes([earlier])
    if run.agenda.scope is None:  # nobody is told
        run.requests.passes.pop(earlier, None)


def rollback(run: RunParts, frame: Frame) -> None:
    """Undo what a failed execution queued and added, so that the next attempt starts from the same graph."""
    for spec in frame.queued or ():
        run.agenda.withdraw(spec)
    if frame.born:
        for task in frame.born:
            if run.graph.task_at(task.task_id) is task:
                run.graph.remove_node(task.task_id)
        run.requests.withdraw_nodes([task.task_id for task in frame.born])
    frame.queued = frame.born = None


# -- an early end ------------------------------------------------------------------------------------------------------


def end(run: RunParts, frame: Frame | None, control: Control, message: str) -> None:
    """End the run after an execution; a weaker request changes nothing."""
    if frame is None or control > frame.control:
        run.requests.message = message
        if frame is not None:
            frame.control = control


# -- checkpoints -------------------------------------------------------------------------------------------------------


def checkpoint_later(run: RunParts, metadata: dict[str, Any] | None, path: str | Path | None) -> None:
    """Ask the engine to save the run after the current task.

    Raises:
        GraflowRuntimeError: When a task on a worker names a path.
        TypeError: One of the two is of a wrong type.
    """
    require_metadata(metadata)
    if path is not None:
        checked_path("The path of a checkpoint", path)
    if path is not None and is_away(run):
        raise GraflowRuntimeError(
            "A task on a worker cannot say where its run is saved, since that is a file of another machine: leave out "
            "path=, and the run is saved below checkpoints/ where it was started"
        )
    run.requests.checkpoint = {"metadata": dict(metadata or {}), "path": path}


def checkpoint_now(run: RunParts, frame: Frame, metadata: dict[str, Any], path: str | Path | None) -> Any:
    """Save the run, so that a resume runs the current task again.

    Raises:
        GraflowRuntimeError: On a worker.
    """
    if is_away(run):
        raise GraflowRuntimeError(
            f"Task '{frame.task_id}' runs on a worker, which holds only its own part of the run and cannot write a "
            "checkpoint at once; use deferred=True, and the run is saved when the group has ended"
        )
    publish_writes(run)  # what the task wrote so far is part of what is saved
    outermost = run.frames[0] if run.frames else frame
    return upward.checkpoint(run, path=path, metadata=metadata, resuming_task_id=outermost.task_id)


def publish_writes(run: RunParts) -> None:
    """Give the channel of the run what its running tasks have written to it so far."""
    for frame in run.frames:
        if frame.layer is not None:
            frame.layer.publish()


def write_requested_checkpoint(run: RunParts) -> None:
    """Save the run when a task asked for it; on a worker the request goes back with the outcome instead."""
    request = run.requests.checkpoint
    if request is not None and not is_away(run):
        run.requests.checkpoint = None
        upward.checkpoint(run, **request)


def is_away(run: RunParts) -> bool:
    """Whether this is a branch whose run is in another process."""
    return run.agenda.scope is not None and run.parent_context is None
