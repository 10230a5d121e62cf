"""Pages on which people answer questions, below `/ui/feedback`; they need no script."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from graflow.api.endpoints.managing import Manager, question_of, settled_by
from graflow.api.endpoints.rendering import page, style_sheet
from graflow.api.http.gate import LOOKING
from graflow.exceptions import FeedbackAnswerError
from graflow.hitl.types import SETTLED, FeedbackRequest, FeedbackResponse, FeedbackType

assets = APIRouter(prefix="/ui", include_in_schema=False)
router = APIRouter(prefix="/ui", include_in_schema=False)

_Text = Annotated[str | None, Form()]
_PLACES = ("checkpoint_path", "checkpoint_id")  # where a run is saved is no business of whoever answers


@assets.get("/assets/feedback.css")
def style() -> Response:
    """The style sheet of all pages."""
    return Response(style_sheet(), media_type="text/css")


@router.api_route("/feedback/", methods=LOOKING)
def listing(
    request: Request,
    manager: Manager,
    session_id: str | None = None,
    n_recent: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> HTMLResponse:
    """The questions that take an answer; whoever may answer one has its address."""
    found = manager.list_answerable_requests(session_id or None)[:n_recent]
    return page(request, "list", requests=found, session_id=session_id)


@router.api_route("/feedback/{feedback_id}", methods=LOOKING)
def form(feedback_id: str, request: Request, manager: Manager) -> Response:
    """The form of a question."""
    question = question_of(manager, feedback_id)
    if question.status in SETTLED:
        return _elsewhere(request, feedback_id, "expired", 307)
    return _form(request, question)


@router.post("/feedback/{feedback_id}/submit")
def submit(
    feedback_id: str,
    request: Request,
    manager: Manager,
    approved: _Text = None,
    reason: _Text = None,
    text: _Text = None,
    selected: _Text = None,
    selected_multiple: Annotated[list[str] | None, Form()] = None,
    custom_data: _Text = None,
    responded_by: _Text = None,
) -> Response:
    """Answer a question."""
    question = question_of(manager, feedback_id)
    if question.status in SETTLED:
        return _elsewhere(request, feedback_id, "expired", 307)
    given: dict[str, Any] = {"reason": reason, "responded_by": responded_by}
    match question.feedback_type:
        case FeedbackType.APPROVAL:
            given["approved"] = {"true": True, "false": False}.get(approved or "")
        case FeedbackType.TEXT:
            given["text"] = text or ""
        case FeedbackType.SELECTION:
            given["selected"] = selected
        case FeedbackType.MULTI_SELECTION:
            given["selected_multiple"] = selected_multiple or []
        case FeedbackType.CUSTOM:
            try:
                given["custom_data"] = json.loads(custom_data or "null")
            except (ValueError, RecursionError) as error:
                return _form(request, question, 400, f"This is no JSON: {error}", custom_data or "")
    answer = FeedbackResponse(feedback_id=feedback_id, response_type=question.feedback_type, **given)
    try:
        is_first = manager.provide_feedback(feedback_id, answer)
    except FeedbackAnswerError as error:
        return _form(request, question, 422, str(error), text or custom_data or "")
    if not is_first:
        return _elsewhere(request, feedback_id, "expired", 307)
    return _elsewhere(request, feedback_id, "success", 303)


@router.api_route("/feedback/{feedback_id}/success", methods=LOOKING)
def success(feedback_id: str, request: Request, manager: Manager) -> HTMLResponse:
    """What was answered."""
    question, answer = question_of(manager, feedback_id), manager.get_response(feedback_id)
    if answer is None:
        raise HTTPException(404, "This question has no answer yet")
    return page(request, "success", request=question, answer=answer)


@router.api_route("/feedback/{feedback_id}/expired", methods=[*LOOKING, "POST"])
def expired(feedback_id: str, request: Request, manager: Manager) -> HTMLResponse:
    """Why a question takes no answer; also for a form that came too late, which a browser sends again to here."""
    question = question_of(manager, feedback_id)
    is_answerable = question.status not in SETTLED
    return page(request, "expired", request=question, why=settled_by(manager, question), is_answerable=is_answerable)


def _form(
    request: Request, question: FeedbackRequest, status: int = 200, error: str | None = None, given: str = ""
) -> HTMLResponse:
    metadata = {name: value for name, value in question.metadata.items() if name not in _PLACES}
    return page(
        request,
        "form",
        status,
        request=question,
        kind=question.feedback_type.value,
        metadata=metadata,
        error=error,
        given=given,
    )


def _elsewhere(request: Request, feedback_id: str, where: str, status: int) -> RedirectResponse:
    root = request.scope.get("root_path", "").rstrip("/")
    return RedirectResponse(f"{root}/ui/feedback/{feedback_id}/{where}", status)
