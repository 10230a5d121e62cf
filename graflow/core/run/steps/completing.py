"""What follows when a step has ended well: it is booked, and what comes behind it is queued."""

from __future__ import annotations

from typing import Any

from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.asking import keep_last_pass
from graflow.core.run.frame import Control, Frame
from graflow.core.run.members.branching import BranchRun, follow_group


def complete(context: BranchRun, task: Any, frame: Frame) -> None:
    """Complete the task and queue what follows."""
    task_id, agenda, ledger = frame.task_id, context.agenda, context.ledger
    ledger.completed[task_id] = None
    if ledger.failed:
        ledger.failed.discard(task_id)
    ledger.steps += 1
    base_id = task_id
    if type(task) is IterationTask:
        base_id = task.base_id
        ledger.set_result(base_id, frame.task_result)
        keep_last_pass(context, base_id, task_id)
    if frame.control == Control.TERMINATE:
        return
    has_more_passes = frame.is_iterating or base_id in agenda.passes
    if frame.control == Control.NORMAL and not has_more_passes:
        if frame.exits is None:
            exits = agenda.joins.finished(base_id, context.graph, agenda)
        else:
            exits = follow_group(context, base_id, frame)
        if exits:
            context.requests.exits += exits
            agenda.joins.reconsider(context.graph, agenda)
    elif agenda.joins.waiting and not has_more_passes:
        agenda.joins.reconsider(context.graph, agenda)
