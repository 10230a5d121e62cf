"""Questions that tasks ask people by `request_feedback`: kept beside the run, or, in a durable flow, by its store."""

from __future__ import annotations

from typing import Any, Final

from graflow.core.run.parts import RunParts
from graflow.core.run.questions import Questions, questions_of
from graflow.hitl.durable import FeedbackAsk
from graflow.hitl.manager import write_answer
from graflow.hitl.types import FeedbackRequest, FeedbackType

_HOLD: Final = 2.0  # seconds for which a step of a flow waits in place, before its flow is put away


def ask_people(run: RunParts, frame: Any, asked: dict[str, Any]) -> Any:
    """Ask a question on behalf of one execution; see `TaskExecutionContext.request_feedback`."""
    around, outermost = _outermost(run, frame)
    questions = questions_of(around)
    branch = around.session_id.removeprefix(around.root.session_id)
    visit = around.cycle_controller.get_cycle_count(outermost.base_id)
    place = branch, outermost.base_id, visit, questions.number_of_next(outermost)
    told = {**asked, "task_id": frame.task_id, "session_id": run.session_id}
    response = _ask_in_flow(around, outermost, place, told)
    if response is None:
        response = _ask_beside(run, questions, place, told)
    if asked["write_to_channel"] and asked["channel_key"]:
        write_answer(frame.get_channel(), asked["channel_key"], response)
    return response


def _ask_in_flow(around: Any, outermost: Any, place: tuple[Any, ...], told: dict[str, Any]) -> Any:
    """The answer to a question that the store of the flow keeps; None where it keeps none."""
    flow = around.root.flow
    if flow is None or not flow.keeps_questions:
        return None
    _, base_id, visit, number = place
    said = {name: value for name, value in told.items() if name not in {"handler", "feedback_type", "metadata"}}
    request = FeedbackRequest(
        feedback_id="new",
        feedback_type=FeedbackType.of(told["feedback_type"]),
        metadata=dict(told["metadata"] or {}),
        **said,
    )
    is_member = around.parent_context is not None
    key = f"{base_id} {visit} feedback {number}" if is_member else f"feedback {number}"
    hold = request.timeout if is_member else min(request.timeout, _HOLD)
    return flow.ask_people(outermost, FeedbackAsk.asking(request, key, hold), told["handler"])


def _ask_beside(run: RunParts, questions: Questions, place: tuple[Any, ...], told: dict[str, Any]) -> Any:
    feedback_id = questions.id_of(*place)
    handler = None if feedback_id in questions.taken else told["handler"]
    response = run.feedback_manager.request_feedback(**{**told, "feedback_id": feedback_id, "handler": handler})
    questions.taken.add(feedback_id)
    return response


def _outermost(run: Any, frame: Any) -> tuple[Any, Any]:
    """The execution that is repeated when its run is resumed, and its run: the calls inside of it come again then."""
    while True:
        if run.frames:
            frame = run.frames[0]
        caller = run.root.called_by
        if caller is None:
            return run, frame
        run, frame = caller.execution_context, caller
