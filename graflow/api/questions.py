"""Questions of flows over HTTP: who is asked what, answers, signals, and the page behind a signed link."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from graflow.api.http.auth import Asker, Identity
from graflow.api.http.bodies import Reason
from graflow.api.http.etags import tagged
from graflow.api.http.limits import RateLimit
from graflow.api.http.paging import Cursor, Limit, Page
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served, Service
from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
)
from graflow.questions.asks import MOST_PEOPLE
from graflow.questions.drafts import Ballot
from graflow.questions.models import Question, iso
from graflow.state.models import json_of
from graflow.state.questions import LISTED
from graflow.text.shown import printable

router = APIRouter(tags=["questions"])

ANSWERS: Final = 300
"""Answers that one token may give within a minute."""

_CLAIMED: Final = 200  # characters of a name
GONE: Final = frozenset({"withdrawn", "expired"})
"""States of questions that were settled without an answer."""


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


class Reassigned(Reason):
    """Who is asked from now on.

    Attributes:
        of: People, and roles as `role:<name>`; anybody when empty.
    """

    of: Annotated[list[Annotated[str, Field(min_length=1, max_length=_CLAIMED)]], Field(max_length=MOST_PEOPLE)]


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
    chosen = None if state == "all" else state
    found = service.runner.questions(chosen, flow_id=flow, cursor=cursor, limit=limit, **_asked_of(asker, of))
    return tagged(request, Page[QuestionShown](items=[_shown(each) for each in found], next_cursor=found.next_cursor))


@router.get("/questions/count", response_model=Counted)
def count(
    request: Request,
    service: Served,
    asker: Asker,
    of: Annotated[str | None, Query(max_length=200, description="Whom these may ask; `me` for the asker.")] = None,
) -> Response:
    """How many questions are open."""
    found = service.runner.questions("open", limit=LISTED, **_asked_of(asker, of))
    return tagged(request, Counted(count=len(found), is_more=found.next_cursor is not None))


@router.get("/questions/{question_id}", response_model=QuestionShown, responses=described(404))
def question(question_id: str, request: Request, service: Served, asker: Asker) -> Response:
    """One question: what is asked, of whom, and what was answered so far; its log tells who has looked."""
    return tagged(request, _shown(viewed(request, service, asker, question_id)))


@router.post(
    "/questions/{question_id}/answers",
    response_model=QuestionShown,
    status_code=201,
    responses={
        200: {"model": QuestionShown, "description": "It was counted before"},
        202: {"model": QuestionShown, "description": "It is counted; more people have to answer"},
        **described(403, 404, 409, 410, 429),
    },
)
def answer(
    question_id: str,
    body: AnswerBody,
    request: Request,
    service: Served,
    asker: Asker,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Answer a question; its flow goes on by itself when that settles it."""
    try:
        after, is_replay = answered(request, service, asker, question_id, body, idempotency_key)
    except AnswerRefusedError as error:
        raise _refused(error) from None
    except AnswerInvalidError as error:
        raise ProblemError(422, "answer-invalid", printable(error), errors=faults_of(error)) from None
    status = 200 if is_replay else 202 if after.is_open else 201
    return Response(json_of(_shown(after)), status, media_type="application/json")


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


@router.post("/questions/{question_id}/reassign", response_model=QuestionShown, responses=described(404, 409, 410))
def reassign(question_id: str, body: Reassigned, service: Served, asker: Asker) -> QuestionShown:
    """Ask other people instead; what those have answered who are not asked any more does not count."""
    try:
        return _shown(service.runner.reassign(question_id, body.of, body.reason, by=asker.name, via="rest"))
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
        is_new = service.runner.signal(flow_id, name, body.value, id=body.id, by=asker.name)
    except AnswerInvalidError as error:
        raise ProblemError(422, "answer-invalid", printable(error)) from None
    return SignalTold(is_new=is_new)


# -- parts -------------------------------------------------------------------------------------------------------------


def _shown(question: Question) -> QuestionShown:
    return QuestionShown.model_validate(question.shown())


def answered(
    request: Request, service: Service, asker: Identity, question_id: str, body: AnswerBody, token: str | None = None
) -> tuple[Question, bool]:
    """Answer a question as whoever sent a request.

    Returns:
        The question afterwards, and whether the answer had been counted before.

    Raises:
        ProblemError: They have answered as often as they may.
    """
    answers: RateLimit = request.app.state.answers
    address = request.client.host if request.client and service.auth.is_open else ""
    answers.take(f"{asker.name} {address}", time.monotonic())
    person, is_verified = _person(service, asker, body.by)
    ballot = Ballot(
        person,
        body.value,
        body.reason,
        via="page" if asker.is_session else "rest",
        roles=asker.roles,
        verified=is_verified,
        token=token,
    )
    return service.runner.player.questions.answer(question_id, ballot)


def viewed(request: Request, service: Service, asker: Identity, question_id: str) -> Question:
    """A question for whoever sent a request that looks at it; of programs that look at heads alone nothing is noted."""
    if request.method == "HEAD":
        return service.runner.question(question_id)
    via = "page" if asker.is_session else "rest"
    return service.runner.view(question_id, asker.name, via=via, verified=not service.auth.is_open)


def _asked_of(asker: Identity, of: str | None) -> dict[str, Any]:
    """Whom a list is for, and their roles, which are known of the asker alone."""
    return {"of": asker.name, "roles": sorted(asker.roles)} if of == "me" else {"of": of}


def _person(service: Service, asker: Identity, claimed: str | None) -> tuple[str, bool]:
    """Who answers, and whether that is known: what a body says counts only where nobody has to log in."""
    if service.auth.is_open:
        return claimed or asker.name, False
    return asker.name, True


def faults_of(error: AnswerInvalidError) -> list[dict[str, Any]]:
    """Where an answer does not fit, and why: a fault begins with its place in the value, or with `it`."""
    faults = []
    for told in error.errors:
        place, _, why = told.partition(": ")
        faults.append({"at": ["value", *(place.split(".") if why and place != "it" else ())], "why": why or told})
    return faults


def _refused(error: AnswerRefusedError) -> ProblemError:
    if error.state in GONE:
        return ProblemError(410, "question-gone", printable(error))
    return ProblemError(
        409, "question-settled", printable(error), answered_by=error.by, answered_at=iso(error.at), via=error.via
    )
