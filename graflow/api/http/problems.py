"""Errors as `application/problem+json` (RFC 9457): one table from the errors of graflow to status and code."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from graflow.exceptions import (
    AnswerInvalidError,
    ConfigError,
    FlowChangedError,
    FlowConflictError,
    FlowInputError,
    FlowNotFoundError,
    GraflowError,
    InvalidCursorError,
    MoveRefusedError,
    NotAskedError,
    PayloadError,
    QuestionNotFoundError,
    StaleEpochError,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)
from graflow.text.shown import get_logger, printable

_log = get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:graflow:problem:"
_RETRY_AFTER: Final = "2"  # seconds


class Problem(BaseModel):
    """Why a request was not served; further members are told where the handler is described.

    Attributes:
        type: A stable code, such as `urn:graflow:problem:flow-not-found`.
        title: The code in words.
        status: The HTTP status.
        detail: What happened, to what, and what to do.
        errors: For what does not fit, each place and why.
        allowed_actions: For an action that the state of a flow does not allow, those that it does.
        plan: For a plan that holds no longer, the one that would.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(default=None)
    allowed_actions: list[str] | None = Field(default=None)
    plan: dict[str, Any] | None = Field(default=None)


class ProblemError(Exception):
    """Ends a request with a problem.

    Args:
        status: The HTTP status.
        code: The stable code, behind `urn:graflow:problem:`.
        detail: What happened and what to do.
        headers: Further headers of the answer.
        more: Further members of the problem.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.more = dict(headers or {}), more


_TABLE: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    # The first that fits: subclasses before their bases.
    (FlowNotFoundError, 404, "not-found"),
    (QuestionNotFoundError, 404, "not-found"),
    (NotAskedError, 403, "forbidden"),
    (AnswerInvalidError, 422, "answer-invalid"),
    (MoveRefusedError, 409, "action-refused"),
    (FlowConflictError, 409, "flow-conflict"),
    (FlowChangedError, 409, "flow-changed"),
    (VersionConflictError, 409, "version-conflict"),
    (StaleEpochError, 409, "version-conflict"),
    (FlowInputError, 422, "inputs-invalid"),
    (InvalidCursorError, 400, "cursor-invalid"),
    (PayloadError, 413, "content-too-large"),
    (StoreUnavailableError, 503, "store-unavailable"),
    (StoreError, 503, "store-unavailable"),
    (StoreConfigError, 503, "store-unavailable"),
    (ConfigError, 422, "request-invalid"),
)
_CODES: Final = {
    400: "request-invalid",
    401: "not-authenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "content-too-large",
    415: "media-type-unsupported",
    422: "request-invalid",
    429: "too-many-requests",
    503: "store-unavailable",
}


def problem_of(error: GraflowError) -> ProblemError:
    """What an error of graflow tells a client."""
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            headers = {"Retry-After": _RETRY_AFTER} if isinstance(error, StoreUnavailableError) else None
            return ProblemError(status, code, printable(error), headers=headers)
    return ProblemError(500, "internal", printable(error))


def problem_response(problem: ProblemError) -> Response:
    """The answer that tells of a problem."""
    body = Problem(
        type=_URN + problem.code,
        title=problem.code.replace("-", " ").capitalize(),
        status=problem.status,
        detail=problem.detail,
        **problem.more,
    )
    return Response(
        body.model_dump_json(exclude_none=True), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of the problems that a handler may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def add_problems(app: FastAPI) -> None:
    """Have every error of an application told as a problem."""

    @app.exception_handler(ProblemError)
    def _told(_: Request, error: ProblemError) -> Response:
        return problem_response(error)

    @app.exception_handler(GraflowError)
    def _ours(_: Request, error: GraflowError) -> Response:
        problem = problem_of(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.warning("A request was not served: %s: %s", type(error).__name__, error)
        return problem_response(problem)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [{"at": [str(part) for part in each["loc"]], "why": each["msg"]} for each in error.errors()]
        told = "; ".join(f"{'.'.join(each['at'])}: {each['why']}" for each in faults)
        return problem_response(
            ProblemError(422, "request-invalid", f"The request does not fit: {told}", errors=faults)
        )

    @app.exception_handler(HTTPException)
    def _plain(_: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "request-invalid")
        detail: Any = error.detail
        if isinstance(detail, list):  # faults, as the routes have them that are also served without problems
            faults = [{"at": [str(part) for part in each["loc"]], "why": each["msg"]} for each in detail]
            told = "; ".join(str(each["why"]) for each in faults)
            return problem_response(ProblemError(error.status_code, code, told, errors=faults))
        return problem_response(ProblemError(error.status_code, code, error.detail, headers=error.headers))
