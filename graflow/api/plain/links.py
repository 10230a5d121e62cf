"""The page behind a signed link, with which one person answers one question without any other login."""

from __future__ import annotations

import time
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from graflow.api.http.gate import LOOKING
from graflow.api.http.limits import RateLimit
from graflow.api.http.service import Served
from graflow.api.plain.fields import Field, blamed, filled, form_of, is_right
from graflow.api.plain.inbox import Sent
from graflow.api.plain.rendering import outcome_of, plain_page, subject_of
from graflow.api.questions import GONE, faults_of
from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
    GraflowError,
    NotAskedError,
    QuestionNotFoundError,
    SignatureError,
)
from graflow.questions.models import Question
from graflow.text.shown import printable

router = APIRouter(include_in_schema=False)

LINK_ANSWERS: Final = 20
"""Answers that one link may give within a minute."""

_MISFIT: Final = "Something is missing, or does not fit"


@router.api_route("/answer/{token}", methods=LOOKING)
def answer_page(token: str, request: Request, service: Served) -> Response:
    """Show the question of a link; this answers nothing, as programs open links before people do."""
    try:
        found, link = service.runner.linked(token)
        if request.method != "HEAD":
            found = service.runner.view(found.id, link.person, via="link")
    except (SignatureError, QuestionNotFoundError) as error:
        return _nothing(request, error, 404)
    note = "" if found.is_open else f"This question is {found.state.value}; nothing is left to do."
    return _page(request, found, link.person, form_of(found.answer_schema), note=note)


@router.post("/answer/{token}")
def answer_by_link(token: str, request: Request, service: Served, sent: Sent) -> Response:
    """Answer the question of a link as the person that it was made for."""
    try:
        found, link = service.runner.linked(token)
    except (SignatureError, QuestionNotFoundError) as error:
        return _nothing(request, error, 404)
    limit: RateLimit = request.app.state.link_answers
    limit.take(f"{found.id} {link.person}", time.monotonic())
    form, person = form_of(found.answer_schema), link.person
    value = filled(form, sent)
    reason = str(sent.get("reason", "")).strip()

    def again(note: str, status: int) -> Response:
        return _page(request, service.runner.question(found.id), person, form, note=note, status=status, reason=reason)

    if not is_right(form):
        return again(_MISFIT, 422)
    try:
        after = service.runner.answer(found.id, value, person, reason or None, via="link", roles=link.roles)
    except AnswerInvalidError as error:
        return again("; ".join(blamed(form, faults_of(error))) or _MISFIT, 422)
    except AnswerRefusedError as error:
        return again(printable(error), 410 if error.state in GONE else 409)
    except NotAskedError as error:
        return _nothing(request, error, 403)
    note = "Thank you. Others have to answer as well." if after.is_open else "Thank you. The answer is on record."
    return plain_page(request, "note", title="Answered", note=note)


def _nothing(request: Request, error: GraflowError, status: int) -> Response:
    return plain_page(request, "note", status, title="Link", note=printable(error))


def _page(
    request: Request, question: Question, person: str, form: Field, *, note: str, status: int = 200, reason: str = ""
) -> Response:
    shown: dict[str, Any] = {
        "question": question,
        "form": form,
        "note": note,
        "outcome": outcome_of(question),
        "about": subject_of(question),
    }
    asker = f"step {question.step} of run {question.flow_id}, of {person}"
    words = {"reason": reason, "by": ""}
    return plain_page(
        *(request, "question", status),
        **shown,
        asker=asker,
        may_answer=True,
        says_who=False,
        words=words,
    )
