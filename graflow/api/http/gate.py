"""What stands before every request: its Host, its size, who sent it, and that no page of another site made it.

Every answer gets the headers that keep browsers from doing more with it than the page needs.
"""

from __future__ import annotations

from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graflow.api.http.auth import SESSION_COOKIE, Identity, Role
from graflow.api.http.problems import ProblemError, problem_response
from graflow.api.http.service import Service
from graflow.text.shown import get_logger, one_line

_log = get_logger(__name__)

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]", "testserver")
"""Hosts that are always served; the last one is what test clients say, which no browser finds."""

BODY_LIMIT: Final = 16 * 1024 * 1024
LOOKING: Final = ["GET", "HEAD"]
"""Methods of a page: mail scanners and link previews ask for the head alone, which FastAPI refuses by itself."""

_READING: Final = frozenset({*LOOKING, "OPTIONS"})
_GUARDED: Final = ("/api/", "/metrics", "/openapi.json", "/plain/")
_PLAIN: Final = "/plain/"
_ANSWER: Final = "/answer/"  # whose addresses are secrets that let somebody in
_FORMS: Final = (_ANSWER, _PLAIN)  # pages without scripts
_LOGIN: Final = "/plain/login"
_OPEN: Final = frozenset({"/api/v1/session", _LOGIN})
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types lit-html"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGES_MARK: Final = "x-graflow"


class Gate:
    """The outermost part of an application.

    Args:
        app: What is behind it.
        service: Whose tokens hold.
        allowed_hosts: Names that the Host header may have, beside those of loopback; `*` for any.
        body_limit: Bytes.
    """

    def __init__(
        self, app: ASGIApp, service: Service, allowed_hosts: Collection[str] = (), body_limit: int = BODY_LIMIT
    ) -> None:
        self._app = app
        self._service = service
        self._hosts = {name.lower() for name in (*LOOPBACK_NAMES, *allowed_hosts)}
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_begun = False
        scope["root_path"] = self._service.root_path or scope.get("root_path", "")
        path = _path_of(scope)

        async def sent(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                _secure(MutableHeaders(scope=message), path)
            await send(message)

        try:
            scope["graflow.identity"] = self._let_in(scope, path)
            await self._app(scope, self._bounded(receive), sent)
        except ProblemError as problem:
            await problem_response(problem)(scope, receive, sent)
        except Exception as error:
            _log.exception("%s %s failed", scope["method"], one_line(_loggable(path)))
            if is_begun:
                raise
            detail = f"{type(error).__name__} in the server; its log has more"
            await problem_response(ProblemError(500, "internal", detail))(scope, receive, sent)

    # -- who and from where ----------------------------------------------------------------------------------------

    def _let_in(self, scope: Scope, path: str) -> Identity:
        """Who sent a request.

        Raises:
            ProblemError: When it is not served.
        """
        headers = Headers(scope=scope)
        self._check_host(headers)
        changes = scope["method"] not in _READING
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_limit:
            raise ProblemError(413, "content-too-large", f"A request is at most {self._body_limit} bytes long")
        if changes:
            _check_origin(headers, is_form=path.startswith(_FORMS))
        asker = self._asker(headers)
        if not path.startswith(_GUARDED) or path in _OPEN:
            return asker or Identity(Role.VIEW)
        if asker is None and path.startswith(_PLAIN):
            where = {"Location": f"{self._service.root_path}{_LOGIN}"}
            raise ProblemError(303, "not-authenticated", "This server wants a login", headers=where)
        if asker is None:
            raise ProblemError(
                *(401, "not-authenticated", "This server wants a token: Authorization: Bearer TOKEN"),
                headers={"WWW-Authenticate": "Bearer"},
            )
        if changes and not asker.role.includes(Role.OPERATE):
            raise ProblemError(
                403, "forbidden", "This token may view and change nothing; it takes one that may operate"
            )
        return asker

    def _check_host(self, headers: Headers) -> None:
        given = headers.get("host", "").lower()
        name = given if given.endswith("]") else given.rpartition(":")[0] if ":" in given else given
        if name not in self._hosts and "*" not in self._hosts:
            raise ProblemError(
                *(421, "host-not-allowed", f"Host {one_line(name)!r} is not served here; --allow-host serves it")
            )

    def _asker(self, headers: Headers) -> Identity | None:
        auth = self._service.auth
        if auth.is_open:
            return Identity(Role.OPERATE)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return auth.of_token(token.strip())
        session = session_in(headers)
        return None if session is None else auth.of_session(session, self._service.clock())

    # -- how much --------------------------------------------------------------------------------------------------

    def _bounded(self, receive: Receive) -> Receive:
        """Reads a body up to the limit, also one that does not say how long it is."""
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._body_limit:
                raise HTTPException(413, f"A request is at most {self._body_limit} bytes long")
            return message

        return bounded


def session_in(headers: Headers) -> str | None:
    """The session that a request's cookie names."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def _path_of(scope: Scope) -> str:
    """The path behind the prefix of a proxy, whether that takes it off or not."""
    path: str = scope["path"]
    root: str = scope["root_path"].rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _loggable(path: str) -> str:
    """A path without the secret that one of a link is."""
    return f"{_ANSWER}..." if path.startswith(_ANSWER) else path


def _check_origin(headers: Headers, *, is_form: bool = False) -> None:
    """Refuse a change that a page of another site asks of a browser, which sends along what it knows of us.

    Programs send none of these headers; browsers send them with each change, and pages cannot leave them out.

    Raises:
        ProblemError: For such a one, and for a body that is no JSON, as forms send.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if has_body and kind != ("application/x-www-form-urlencoded" if is_form else "application/json"):
        raise ProblemError(
            415, "media-type-unsupported", "The body of a change is JSON: Content-Type: application/json"
        )
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None and "cookie" not in headers:
        return
    is_same = site in {"same-origin", "none"} if site is not None else _is_of(origin, headers.get("host", ""))
    if not is_same:
        raise ProblemError(403, "foreign-origin", "A page of another origin asked for a change")
    if _PAGES_MARK not in headers and not is_form:
        raise ProblemError(403, "foreign-origin", "A change that a browser sends needs the header X-Graflow: 1")


def _is_of(origin: str | None, host: str) -> bool:
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def _secure(headers: MutableHeaders, path: str) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if path.startswith(_GUARDED):
        headers.setdefault("Cache-Control", "no-store")
