"""Questions to people for browsers without scripts, below `/plain`; the page with scripts links to it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from graflow.api.http.auth import Asker, Identity, Role
from graflow.api.http.gate import LOOKING
from graflow.api.http.problems import ProblemError
from graflow.api.http.service import Served, Service
from graflow.api.plain.fields import Field, blamed, filled, form_of, is_right
from graflow.api.plain.rendering import outcome_of, plain_page, subject_of
from graflow.api.questions import AnswerBody, answered, faults_of, viewed
from graflow.api.session import Login, log_in, log_out
from graflow.exceptions import AnswerInvalidError, AnswerRefusedError, NotAskedError, QuestionNotFoundError
from graflow.questions.models import Question
from graflow.state.questions import LISTED
from graflow.text.shown import printable

router = APIRouter(include_in_schema=False)

INBOX: Final = "/plain/feedback"
_PAGES: Final = 5  # of open questions, which are listed from the other end
_MOST_FIELDS: Final = 1000

Shown = Literal["open", "mine", "settled"]


async def form_sent(request: Request) -> FormData:
    """The fields of a form."""
    return await request.form(max_fields=_MOST_FIELDS)


Sent = Annotated[FormData, Depends(form_sent)]
"""The annotation by which a handler asks for the form that was sent."""


@router.api_route(INBOX, methods=LOOKING)
def inbox(
    request: Request, service: Served, asker: Asker, show: Shown = "open", cursor: Annotated[str | None, Query()] = None
) -> Response:
    """Questions: open ones from the oldest on, settled ones from the newest on."""
    if show == "settled":
        page = service.runner.questions("settled", cursor=cursor)
        found, next_cursor = list(page), page.next_cursor
    else:
        found, next_cursor = _open(service, asker if show == "mine" else None), None
    return plain_page(
        *(request, "inbox"),
        questions=found,
        show=show,
        next=next_cursor and quote(next_cursor),
        outcome_of=outcome_of,
        inside=True,
        has_login=asker.is_session,
    )


@router.api_route(INBOX + "/{question_id}", methods=LOOKING)
def question(question_id: str, request: Request, service: Served, asker: Asker) -> Response:
    """One question with its form; looking answers nothing, and is noted in the log of the question."""
    try:
        found = viewed(request, service, asker, question_id)
    except QuestionNotFoundError as error:
        return plain_page(request, "note", 404, title="Question", note=printable(error), inside=True)
    return _page(request, service, asker, found, form_of(found.answer_schema))


@router.post(INBOX + "/{question_id}")
def answer(question_id: str, request: Request, service: Served, asker: Asker, sent: Sent) -> Response:
    """Answer it, as the form says."""
    found = service.runner.question(question_id)
    form = form_of(found.answer_schema)
    value = filled(form, sent)
    words = {name: str(sent.get(name, "")).strip() for name in ("reason", "by")}

    def again(note: str, status: int) -> Response:
        now = service.runner.question(question_id)
        return _page(request, service, asker, now, form, note=note, status=status, **words)

    if not is_right(form):
        return again("Something is missing, or does not fit", 422)
    body = AnswerBody(value=value, reason=words["reason"][:16_000] or None, by=words["by"][:200] or None)
    try:
        answered(request, service, asker, question_id, body)
    except AnswerInvalidError as error:
        return again("; ".join(blamed(form, faults_of(error))), 422)
    except AnswerRefusedError:
        return again("Your answer came too late, and was not counted", 409)
    except NotAskedError as error:
        return again(printable(error), 403)
    return RedirectResponse(f"{service.root_path}{INBOX}/{quote(question_id)}", 303)


@router.api_route("/plain/login", methods=LOOKING)
def login_page(request: Request) -> Response:
    """The way in."""
    return plain_page(request, "login", note="")


@router.post("/plain/login")
async def enter(request: Request, service: Served, token: Annotated[str, Form(max_length=1000)] = "") -> Response:
    """Begin a session."""
    inside = RedirectResponse(f"{service.root_path}{INBOX}", 303)
    try:
        await log_in(Login(token=token), request, inside, service)
    except ProblemError as problem:
        return plain_page(request, "login", problem.status, note=problem.detail)
    return inside


@router.post("/plain/logout")
async def leave(request: Request, service: Served) -> Response:
    """End the session."""
    ended = await log_out(request, service)
    outside = RedirectResponse(f"{service.root_path}/plain/login", 303)
    outside.headers["set-cookie"] = ended.headers["set-cookie"]
    return outside


def _open(service: Service, asker: Identity | None) -> list[Question]:
    """Open questions, the oldest first; of one person when that is given."""
    whose = (None, ()) if asker is None else (asker.name, sorted(asker.roles))
    found: list[Question] = []
    cursor = None
    for _ in range(_PAGES):
        page = service.runner.questions("open", whose[0], roles=whose[1], cursor=cursor, limit=LISTED)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            break
    return found[::-1]


def _page(
    request: Request,
    service: Service,
    asker: Identity,
    question: Question,
    form: Field,
    *,
    note: str = "",
    status: int = 200,
    **words: Any,
) -> Response:
    return plain_page(
        *(request, "question", status),
        question=question,
        form=form,
        note=note,
        asker=f"step {question.step} of run {question.flow_id}",
        outcome=outcome_of(question),
        about=subject_of(question),
        may_answer=asker.role.includes(Role.OPERATE),
        says_who=service.auth.is_open,
        words={"reason": "", "by": "", **words},
        inside=True,
        has_login=asker.is_session,
    )
