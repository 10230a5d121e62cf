"""What stands before each request about questions: its Host, its origin, its size."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graflow.api.http.gate import LOOPBACK_NAMES

BODY_LIMIT: Final = 1024 * 1024
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class FeedbackGate:
    """The outermost part of the application.

    There is no login: whoever reaches the server may answer. So pages of other sites must not, neither by a form nor by
    a name that they have led to this machine.

    Args:
        app: What is behind it.
        allowed_hosts: Names that the Host header may have, beside those of loopback.
        origins: Other origins whose pages may answer.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = {name.lower() for name in (*LOOPBACK_NAMES, *allowed_hosts)}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_LIMIT:
                raise HTTPException(413, f"A request is at most {BODY_LIMIT} bytes long")
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, bounded, sent)
        else:
            status, why = refusal
            await JSONResponse({"detail": why}, status)(scope, receive, sent)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason for a request that is not served."""
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
        if name not in self._hosts:
            return 421, "This host is not served here; --allow-host NAME serves it"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            return 413, f"A request is at most {BODY_LIMIT} bytes long"
        if method in _READING or self._is_of_ours(headers, host):
            return None
        return 403, "A page of another origin asked for a change"

    def _is_of_ours(self, headers: Headers, host: str) -> bool:
        """Programs send neither header; browsers send them with each change, and pages cannot leave them out."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins:
            return True
        if site is not None:  # a form of a page without referrers sends the origin `null` to its own site as well
            return site in {"same-origin", "none"}
        return origin is None or urlsplit(origin).netloc.lower() == host
