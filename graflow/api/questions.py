"""Questions of flows over HTTP: who is asked what, answers, signals, and the page behind a signed link."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Header, Query, Request
from jinja2 import Environment
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, Response

from graflow.api.http.auth import Asker, Identity
from graflow.api.http.bodies import Reason
from graflow.api.http.etags import tagged
from graflow.api.http.paging import Cursor, Limit, Page
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
    GraflowError,
    NotAskedError,
    QuestionNotFoundError,
    SignatureError,
)
from graflow.questions.models import Question, iso
from graflow.questions.rules import Ballot
from graflow.shown import printable
from graflow.state.questions import LISTED

router = APIRouter(tags=["questions"])
pages = APIRouter(include_in_schema=False)

_CLAIMED: Final = 200  # characters of a name
_GONE: Final = frozenset({"withdrawn", "expired"})
_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class QuestionShown(BaseModel):
    """A question as people see it; times are UTC."""

    model_config = ConfigDict(extra="allow")

    id: str
    flow_id: str
    step: str
    state: str
    prompt: str


class Counted(BaseModel):
    """How many questions there are.

    Attributes:
        count: At most 200.
        is_more: Whether there are more than that.
    """

    count: int
    is_more: bool


class AnswerBody(BaseModel):
    """An answer.

    Attributes:
        value: Of the type that the question's schema says.
        reason: Words about it.
        by: Who answers, where the server has no tokens; it is only said then. With tokens it is whoever has one.
    """

    model_config = ConfigDict(extra="forbid")

    value: Any = None
    reason: Annotated[str, Field(max_length=16_384)] | None = None
    by: Annotated[str, Field(max_length=_CLAIMED)] | None = None


class SignalBody(BaseModel):
    """A signal to a flow.

    Attributes:
        value: Plain JSON.
        id: Makes the request idempotent.
    """

    model_config = ConfigDict(extra="forbid")

    value: Any = None
    id: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class SignalTold(BaseModel):
    """What came of a signal.

    Attributes:
        is_new: Whether it had not come before.
    """

    is_new: bool


class Log(BaseModel):
    """The log of a question: its lines in order, each with the digest of the one before."""

    lines: list[dict[str, Any]]


@router.get("/questions", response_model=Page[QuestionShown])
def questions(
    request: Request,
    service: Served,
    asker: Asker,
    state: Literal["open", "settled", "all"] = "open",
    of: Annotated[str | None, Query(max_length=200, description="Whom this may answer; `me` for the asker.")] = None,
    flow: Annotated[str | None, Query(max_length=200, description="The id of a run.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Questions to people, newest first."""
    person = asker.name if of == "me" else of
    chosen = None if state == "all" else state
    found = service.runner.questions(chosen, person, flow_id=flow, cursor=cursor, limit=limit)
    return tagged(request, Page[QuestionShown](items=[_shown(each) for each in found], next_cursor=found.next_cursor))


@router.get("/questions/count", response_model=Counted)
def count(
    request: Request,
    service: Served,
    asker: Asker,
    of: Annotated[str | None, Query(max_length=200, description="Whom these may ask; `me` for the asker.")] = None,
) -> Response:
    """How many questions are open."""
    found = service.runner.questions("open", asker.name if of == "me" else of, limit=LISTED)
    return tagged(request, Counted(count=len(found), is_more=found.next_cursor is not None))


@router.get("/questions/{question_id}", response_model=QuestionShown, responses=described(404))
def question(question_id: str, request: Request, service: Served) -> Response:
    """One question: what is asked, of whom, and what was answered so far."""
    return tagged(request, _shown(service.runner.question(question_id)))


@router.post(
    "/questions/{question_id}/answers",
    response_model=QuestionShown,
    status_code=201,
    responses={
        200: {"model": QuestionShown, "description": "It was counted before"},
        202: {"model": QuestionShown, "description": "It is counted; more people have to answer"},
        **described(403, 404, 409, 410),
    },
)
def answer(
    question_id: str,
    body: AnswerBody,
    service: Served,
    asker: Asker,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Answer a question; its flow goes on by itself when that settles it."""
    person, is_verified = _person(service, asker, body.by)
    ballot = Ballot(
        person,
        body.value,
        body.reason,
        via="page" if asker.is_session else "rest",
        verified=is_verified,
        token=idempotency_key,
    )
    try:
        after, is_replay = service.runner.player.questions.answer(question_id, ballot)
    except AnswerRefusedError as error:
        raise _refused(error) from None
    except AnswerInvalidError as error:
        raise ProblemError(
            422, "answer-invalid", printable(error), errors=[_fault(each) for each in error.errors]
        ) from None
    status = 200 if is_replay else 202 if after.is_open else 201
    return Response(_shown(after).model_dump_json(), status, media_type="application/json")


@router.post("/questions/{question_id}/withdraw", response_model=QuestionShown, responses=described(404, 409, 410))
def withdraw(question_id: str, body: Reason, service: Served, asker: Asker) -> QuestionShown:
    """Take a question back; its step gets an error."""
    try:
        return _shown(service.runner.withdraw(question_id, body.reason, by=asker.name, via="rest"))
    except AnswerRefusedError as error:
        raise _refused(error) from None


@router.post("/questions/{question_id}/remind", response_model=QuestionShown, responses=described(404, 409, 410))
def remind(question_id: str, service: Served, asker: Asker) -> QuestionShown:
    """Have the channels of a question told once more."""
    try:
        return _shown(service.runner.remind(question_id, by=asker.name, via="rest"))
    except AnswerRefusedError as error:
        raise _refused(error) from None


@router.get("/questions/{question_id}/audit", responses=described(404))
def audit(question_id: str, service: Served) -> Log:
    """What happened to a question: when, by whom, by what way."""
    return Log(lines=service.runner.audit(question_id))


@router.post("/flows/{flow_id}/signals/{name}", status_code=202, responses=described(404, 409))
def signal(flow_id: str, name: str, body: SignalBody, service: Served, asker: Asker) -> SignalTold:
    """Tell a run of something that a step waits for, or will wait for."""
    try:
        is_new = service.runner.signal(flow_id, name, body.value, signal_id=body.id, by=asker.name)
    except AnswerInvalidError as error:
        raise ProblemError(422, "answer-invalid", printable(error)) from None
    return SignalTold(is_new=is_new)


# -- the page behind a signed link -------------------------------------------------------------------------------------

_PAGE: Final = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title></head><body><main><h1>{{ title }}</h1>
{% if note %}<p role="status">{{ note }}</p>{% endif %}
{% if question %}<p>{{ question.prompt }}</p>
<p>Asked of {{ person }} by step {{ question.step }} of flow {{ question.flow_id }}</p>
{% if question.is_open %}<form method="post">
{% if kind == "boolean" %}<fieldset><legend>Your answer</legend>
<label><input type="radio" name="value" value="true" required> Approve</label>
<label><input type="radio" name="value" value="false"> Reject</label></fieldset>
{% elif kind == "choice" %}<label>Your answer <select name="value" required>
{% for option in options %}<option value="{{ option[0] }}">{{ option[1] }}</option>{% endfor %}</select></label>
{% elif kind == "text" %}<label>Your answer <textarea name="value" required rows="6"></textarea></label>
{% else %}<label>Your answer, as JSON <textarea name="value" required rows="10"></textarea></label>
<details><summary>What fits</summary><pre>{{ schema }}</pre></details>{% endif %}
<p><label>Reason <input name="reason" maxlength="1000"></label></p>
<p><button type="submit">Send</button></p></form>{% endif %}{% endif %}
</main></body></html>
""")


@pages.get("/answer/{token}")
def answer_page(token: str, service: Served) -> Response:
    """Show the question of a link; this changes nothing, as programs open links before people do."""
    try:
        found, person = service.runner.linked(token)
    except (SignatureError, QuestionNotFoundError) as error:
        return _page("Link", note=printable(error), status=404)
    if not found.is_open:
        return _page("Answered", found, person, note=f"This question is {found.state.value}; nothing is left to do.")
    return _page("Question", found, person)


@pages.post("/answer/{token}")
def answer_by_link(
    token: str, service: Served, value: Annotated[str, Form()] = "", reason: Annotated[str, Form()] = ""
) -> Response:
    """Answer the question of a link as the person that it was made for."""
    try:
        found, person = service.runner.linked(token)
    except (SignatureError, QuestionNotFoundError) as error:
        return _page("Link", note=printable(error), status=404)
    try:
        given = value if _kind_of(found) == "text" else json.loads(value)
        after = service.runner.answer(found.id, given, person, reason or None, via="link", roles=_roles_of(found))
    except (AnswerInvalidError, ValueError) as error:
        note = printable(error) if isinstance(error, GraflowError) else "That is no JSON."
        return _page("Question", found, person, note=note, status=422)
    except AnswerRefusedError as error:
        now = service.runner.question(found.id)
        return _page("Answered", now, person, note=printable(error), status=410 if error.state in _GONE else 409)
    except NotAskedError as error:
        return _page("Question", note=printable(error), status=403)
    note = "Thank you. Others have to answer as well." if after.is_open else "Thank you. The answer is on record."
    return _page("Answered", note=note)


def _page(
    title: str, question: Question | None = None, person: str = "", *, note: str = "", status: int = 200
) -> HTMLResponse:
    schema = {} if question is None else question.answer_schema
    text = _PAGE.render(
        title=title,
        question=question,
        person=person,
        note=note,
        kind="" if question is None else _kind_of(question),
        options=[(json.dumps(each), each) for each in schema.get("enum", ())],
        schema=json.dumps(schema, indent=1),
    )
    return HTMLResponse(text, status, headers=_PRIVATE)


def _kind_of(question: Question) -> str:
    schema = question.answer_schema
    if "enum" in schema:
        return "choice"
    return {"boolean": "boolean", "string": "text"}.get(str(schema.get("type")), "json")


def _roles_of(question: Question) -> list[str]:
    """The roles in which the holder of a link answers: whoever made it has said that they have them."""
    return [each.removeprefix("role:") for each in question.of if each.startswith("role:")]


# -- parts -------------------------------------------------------------------------------------------------------------


def _shown(question: Question) -> QuestionShown:
    return QuestionShown.model_validate(question.shown())


def _person(service: Service, asker: Identity, claimed: str | None) -> tuple[str, bool]:
    """Who answers, and whether that is known: what a body says counts only where nobody has to log in."""
    if service.auth.is_open:
        return claimed or asker.name, False
    return asker.name, True


def _fault(error: str) -> dict[str, Any]:
    """Where an answer does not fit, and why: a fault begins with its place in the value, or with `it`."""
    place, _, why = error.partition(": ")
    return {"at": ["value", *(place.split(".") if why and place != "it" else ())], "why": why or error}


def _refused(error: AnswerRefusedError) -> ProblemError:
    if error.state in _GONE:
        return ProblemError(410, "question-gone", printable(error))
    return ProblemError(
        409, "question-settled", printable(error), answered_by=error.by, answered_at=iso(error.at), via=error.via
    )
