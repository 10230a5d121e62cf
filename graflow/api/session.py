"""Sessions of browsers: a token is given once, and a cookie that no script can read stands for it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from graflow.api.http.auth import SESSION_COOKIE, SESSION_SECONDS
from graflow.api.http.gate import session_in
from graflow.api.http.limits import RateLimit
from graflow.api.http.problems import ProblemError, described
from graflow.api.http.service import Served

router = APIRouter(tags=["session"])

FAILED_LOGINS: Final = 5
"""That one address may have within a minute."""


class Login(BaseModel):
    """A token to make a session from."""

    token: Annotated[str, Field(max_length=1000)]


class Session(BaseModel):
    """A session that has begun.

    Attributes:
        role: What its holder may do.
        expires_at: UTC; None where the server has no tokens, and everybody may do everything.
    """

    role: str
    expires_at: datetime | None = None


@router.post("/session", responses=described(401, 429))
async def log_in(login: Login, request: Request, response: Response, service: Served) -> Session:
    """Begin a session; its cookie is sent along by the browser, and readable by no script."""
    auth = service.auth
    if auth.is_open:
        return Session(role="operate")
    tries: RateLimit = request.app.state.tries
    address, now = request.client.host if request.client else "", time.monotonic()
    tries.check(address, now)
    identity, at = auth.of_token(login.token), service.clock()
    session = auth.begin_session(login.token, at)
    if identity is None or session is None:
        tries.note(address, now)
        raise ProblemError(401, "not-authenticated", "This is no token of this server")
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=SESSION_SECONDS,
        path=service.root_path or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return Session(role=identity.role.value, expires_at=datetime.fromtimestamp(int(at) + SESSION_SECONDS, UTC))


@router.delete("/session", status_code=204)
async def log_out(request: Request, service: Served) -> Response:
    """End the session of this browser."""
    session = session_in(request.headers)
    if session is not None:
        service.auth.end_session(session, service.clock())
    answer = Response(status_code=204)
    answer.delete_cookie(SESSION_COOKIE, path=service.root_path or "/", httponly=True, samesite="strict")
    return answer
