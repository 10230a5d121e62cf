"""What follows when nobody has answered the question of a task: its run is saved, and waits."""

from __future__ import annotations

import warnings
from typing import Any

from graflow.core.branches.outcome import OpenQuestion
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.run.asking import is_away
from graflow.core.run.frame import Frame, Interrupted
from graflow.core.run.parts import RunParts
from graflow.core.run.questions import RunWaits
from graflow.exceptions.feedback import FeedbackTimeoutError
from graflow.foreign import attempt
from graflow.protocols import upward
from graflow.queue.base import TaskSpec
from graflow.text.shown import get_logger, one_line

_log = get_logger(__name__)
_SHOWN = 200  # characters of a prompt


def may_wait(run: RunParts, error: FeedbackTimeoutError) -> bool:
    """Whether the run can wait for the answer: that of a flow does for questions that its store keeps, or can keep."""
    flow = run.root.flow
    return flow is None or flow.is_elsewhere or flow.can_await(_ids_of(error), lambda: run.feedback_manager)


def _ids_of(error: FeedbackTimeoutError) -> list[str]:
    return [each.feedback_id for each in error.questions] if isinstance(error, RunWaits) else [error.feedback_id]


def wait_for_people(run: RunParts, spec: TaskSpec, frame: Frame, error: FeedbackTimeoutError) -> bool:
    """Leave the task the next one to run, and save the run, or leave that to the run around it.

    It counts as no failure, no retry and no cycle: the execution is one that is interrupted.

    Returns:
        False: the run does not go on.

    Raises:
        RunWaits: The run is one inside a task, whose own run waits then.
        BaseException: The run is that of a flow, which is put away.
        TypeError: The run cannot be saved; it stands where it is all the same.
    """
    task_id, agenda, ledger = frame.task_id, run.agenda, run.ledger
    if isinstance(error, RunWaits):
        questions = error.questions
    else:
        questions = [OpenQuestion(error.feedback_id, task_id, error.timeout)]
    ledger.channel.delete(task_id + RESULT_SUFFIX)  # the error, which handlers keep as the value
    if ledger.results is not None:
        ledger.results.pop(task_id, None)
    agenda.interrupted[task_id] = Interrupted([], [])
    run.requests.waiting, ledger.stop_reason = questions, "waiting"
    agenda.running = spec
    try:
        if run.called_by is not None:
            raise RunWaits(questions)
        if run.parent_context is None and not is_away(run):
            if run.flow is None:
                _save(run, questions)
            else:
                run.flow.await_people(_ids_of(error), lambda: run.feedback_manager)
    finally:
        agenda.running = None
        agenda.requeue(spec)
    return False


def _save(run: Any, questions: list[OpenQuestion]) -> None:
    first, *others = (question.to_dict() for question in questions)
    metadata = {"reason": "feedback_timeout", **first}
    if others:
        metadata["waiting"] = [first, *others]
    path, described = upward.checkpoint(run, path=None, metadata=metadata)
    told = {
        "checkpoint_path": path,
        "checkpoint_id": described.checkpoint_id,
        "checkpoint_created_at": described.created_at,
        "checkpoint_steps": described.steps,
        "checkpoint_reason": "feedback_timeout",
    }
    manager = run.feedback_manager
    for question in questions:
        attempt(
            lambda question=question: manager.annotate(question.feedback_id, told),  # type: ignore[misc]
            lambda error: _log.warning("A question does not say where its run is saved: %s", error),
        )
    shown = ", ".join(f"{question.feedback_id} of task '{question.task_id}'" for question in questions[:5])
    more = f" and {len(questions) - 5} more" if len(questions) > 5 else ""
    prompt = attempt(lambda: one_line(manager.get_request(questions[0].feedback_id).prompt)[:_SHOWN], lambda _: "")
    warnings.warn(
        f"Run {run.session_id} waits for people: question {shown}{more}{f' ({prompt})' if prompt else ''}; "
        f"it is saved as {path}. Answer, then go on with CheckpointManager.resume_from_checkpoint() and execute()",
        stacklevel=6,
    )
