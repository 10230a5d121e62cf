"""The REST interface for questions, below `/api/feedback`."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request

from graflow.api.endpoints.managing import Manager, answerer, note_look, question_of, settled_by
from graflow.api.schemas.feedback import (
    FeedbackDetailResponse,
    FeedbackRequestResponse,
    FeedbackResponseDetails,
    FeedbackResponseRequest,
    MessageResponse,
    PendingFeedbackListResponse,
)
from graflow.exceptions import FeedbackAnswerError
from graflow.hitl.types import FeedbackRequest, FeedbackResponse

router = APIRouter(prefix="/api/feedback", tags=["feedback"])

_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "There is no such question"}}


@router.get("")
def list_pending(manager: Manager, session_id: str | None = None) -> PendingFeedbackListResponse:
    """Questions that somebody waits for in place."""
    found = [_shown(question) for question in manager.list_pending_requests(session_id or None)]
    return PendingFeedbackListResponse(count=len(found), requests=found)


@router.get("/{feedback_id}", responses=_UNKNOWN)
def show(feedback_id: str, request: Request, manager: Manager) -> FeedbackDetailResponse:
    """A question with its answer."""
    note_look(request, feedback_id)
    question, answer = question_of(manager, feedback_id), manager.get_response(feedback_id)
    details = None if answer is None else FeedbackResponseDetails(**answer.to_dict())
    return FeedbackDetailResponse(request=_shown(question), response=details)


@router.post("/{feedback_id}/respond", responses={**_UNKNOWN, 400: {"description": "It is settled"}})
def respond(
    feedback_id: str, body: FeedbackResponseRequest, request: Request, manager: Manager
) -> FeedbackResponseDetails:
    """Answer a question; the first answer counts."""
    question = question_of(manager, feedback_id)
    given = {**body.model_dump(), "responded_by": answerer(request, body.responded_by)}
    answer = FeedbackResponse(feedback_id=feedback_id, response_type=question.feedback_type, **given)
    try:
        is_first = manager.provide_feedback(feedback_id, answer)
    except FeedbackAnswerError as error:
        fault = {"type": "value_error", "loc": ["body", error.field], "msg": f"{error.field} {error.why}"}
        raise HTTPException(422, [fault]) from error
    if not is_first:
        raise HTTPException(400, settled_by(manager, question_of(manager, feedback_id)))
    return FeedbackResponseDetails(**answer.to_dict())


@router.delete("/{feedback_id}", responses={**_UNKNOWN, 409: {"description": "It is settled"}})
def cancel(feedback_id: str, manager: Manager) -> MessageResponse:
    """Withdraw a question; whoever waits for it hears of it at once."""
    question_of(manager, feedback_id)
    if not manager.cancel_request(feedback_id):
        raise HTTPException(409, settled_by(manager, question_of(manager, feedback_id)))
    return MessageResponse(message="Feedback request cancelled", feedback_id=feedback_id)


def _shown(question: FeedbackRequest) -> FeedbackRequestResponse:
    return FeedbackRequestResponse(**question.to_dict())
