"""What the handlers of both interfaces share: the manager of the application, and answers in one step."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from graflow.api.http.auth import identity_of
from graflow.exceptions import QuestionNotFoundError
from graflow.hitl.manager import FeedbackManager
from graflow.hitl.types import ANSWERABLE, FeedbackRequest


def manager_of(request: Request) -> FeedbackManager:
    """The manager of the application.

    Raises:
        HTTPException: There is none.
    """
    manager = getattr(request.app.state, "feedback_manager", None)
    if manager is None:
        raise HTTPException(500, "FeedbackManager not initialized: set app.state.feedback_manager")
    return manager  # type: ignore[no-any-return]  # the state of an application has no types


Manager = Annotated[FeedbackManager, Depends(manager_of)]


def answerer(request: Request, claimed: str | None) -> str | None:
    """Who answers: whoever has logged in, where that is needed, and else whom the answer names."""
    service = getattr(request.app.state, "service", None)
    return claimed if service is None or service.auth.is_open else identity_of(request).name


def note_look(request: Request, feedback_id: str) -> None:
    """Have the log of a flow's question tell who looks at it; questions of others have no log."""
    service = getattr(request.app.state, "service", None)
    if service is not None:
        with suppress(QuestionNotFoundError):
            service.runner.view(feedback_id, identity_of(request).name, via="rest", verified=not service.auth.is_open)


def question_of(manager: FeedbackManager, feedback_id: str) -> FeedbackRequest:
    """A question.

    Raises:
        HTTPException: It is unknown.
    """
    found = manager.get_request(feedback_id)
    if found is None:
        raise HTTPException(404, f"Feedback request {feedback_id} not found")
    return found


def settled_by(manager: FeedbackManager, question: FeedbackRequest) -> str:
    """Why a question takes no answer any more, with who was first; or that it does."""
    answer = manager.get_response(question.feedback_id)
    if answer is None and question.status in ANSWERABLE:
        return f"Feedback request is {question.status}; it can still be answered"
    if answer is None:
        return f"Feedback request is {question.status}; it takes no answer"
    who = f" by {answer.responded_by}" if answer.responded_by else ""
    return f"Feedback request was answered already{who}, at {answer.responded_at}"
