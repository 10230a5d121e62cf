"""Whose words they are that the current thread prints and logs, in a run that is written down."""

from __future__ import annotations

from graflow.core.building.entering import running_frame
from graflow.core.run.steps.task_context import TaskExecutionContext
from graflow.hearing.words import Words


def words_of_step() -> Words | None:
    """Those of the step, or the member of a group, that is recorded; None where nothing is, or no words are kept."""
    frame = running_frame.get()
    while isinstance(frame, TaskExecutionContext):
        run, branch = frame.execution_context, None
        while run.parent_context is not None:
            branch, run = run, run.parent_context
        if run.recording is not None:
            words: Words | None = run.recording.words_of(None if branch is None else branch.member)
            return words
        frame = run.called_by  # what a task runs inside of itself is a part of it
    return None
