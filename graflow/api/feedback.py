"""The application for questions alone: REST and pages, without a store of flows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from graflow.api.endpoints import feedback, feedback_ui
from graflow.api.endpoints.rendering import page
from graflow.api.feedback_gate import FeedbackGate
from graflow.exceptions import ConfigError
from graflow.hitl.backend.base import FeedbackBackend
from graflow.hitl.manager import FeedbackManager

TITLE: Final = "Graflow Feedback API"
_DESCRIPTION: Final = "Questions that workflows ask people, and their answers."
_SERVICE: Final = "graflow-feedback-api"
_API: Final = {
    "list_pending": "GET /api/feedback",
    "get_feedback": "GET /api/feedback/{feedback_id}",
    "respond": "POST /api/feedback/{feedback_id}/respond",
    "cancel": "DELETE /api/feedback/{feedback_id}",
}
_WEB_UI: Final = {
    "list": "/ui/feedback/",
    "feedback_form": "/ui/feedback/{feedback_id}",
    "submit": "/ui/feedback/{feedback_id}/submit",
    "success": "/ui/feedback/{feedback_id}/success",
    "expired": "/ui/feedback/{feedback_id}/expired",
}

_CORS: Final[Mapping[str, Any]] = {"allow_methods": ["GET", "POST", "DELETE"], "allow_headers": ["Content-Type"]}


def create_feedback_api(
    feedback_backend: FeedbackBackend | str = "filesystem",
    feedback_config: Mapping[str, Any] | None = None,
    title: str = TITLE,
    description: str = _DESCRIPTION,
    version: str = "1.0.0",
    enable_cors: bool = True,
    cors_origins: list[str] | None = None,
    enable_web_ui: bool = True,
    *,
    allowed_hosts: Collection[str] = (),
) -> FastAPI:
    """The application; its manager is `app.state.feedback_manager`.

    There is no login: whoever reaches it may answer, so it belongs on loopback, or behind a proxy that asks who it is.

    Args:
        feedback_backend: Where questions are kept, as for `FeedbackManager`.
        feedback_config: The settings of that.
        title: Shown in the documentation.
        description: Likewise.
        version: Likewise.
        enable_cors: Whether pages of `cors_origins` may use it.
        cors_origins: Other origins, such as `https://tools.example.org`; none when None. `*` lets every page read, and
            none answer. No page gets credentials.
        enable_web_ui: Whether there are pages.
        allowed_hosts: Host names under which it is reached, beside those of loopback.

    Raises:
        ConfigError: For a setting that cannot be right.
    """
    if isinstance(cors_origins, str):
        raise ConfigError("cors_origins= is a list of origins, not a text")
    manager = FeedbackManager(feedback_backend, feedback_config)
    app = FastAPI(title=title, description=description, version=version, docs_url=None, redoc_url=None)
    app.state.feedback_manager = manager
    app.include_router(feedback.router)
    app.include_router(feedback_ui.assets)
    if enable_web_ui:
        app.include_router(feedback_ui.router)
    backend = feedback_backend if isinstance(feedback_backend, str) else type(feedback_backend).__name__
    _add_information(app, backend, enable_web_ui=enable_web_ui)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    origins = list(cors_origins or ()) if enable_cors else []
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    app.add_middleware(FeedbackGate, allowed_hosts=allowed_hosts, origins=[each for each in origins if each != "*"])
    return app


def create_feedback_api_with_redis(
    redis_host: str = "localhost", redis_port: int = 6379, redis_db: int = 0, **kwargs: Any
) -> FastAPI:
    """As `create_feedback_api`, with questions in Redis; further settings of it go into `feedback_config`."""
    config = {"host": redis_host, "port": redis_port, "db": redis_db, **(kwargs.pop("feedback_config", None) or {})}
    return create_feedback_api("redis", config, **kwargs)


def _add_information(app: FastAPI, backend: str, *, enable_web_ui: bool) -> None:
    @app.get("/", tags=["info"])
    def information() -> dict[str, Any]:
        """What this server is, and where."""
        return {
            "name": app.title,
            "version": app.version,
            "description": app.description,
            "docs": "/docs",
            "redoc": "/redoc",
            "openapi": "/openapi.json",
            "health": "/health",
            "web_ui_enabled": enable_web_ui,
            "endpoints": {"api": _API, **({"web_ui": _WEB_UI} if enable_web_ui else {})},
        }

    @app.get("/health", tags=["info"])
    def health() -> dict[str, str]:
        """That this server answers."""
        return {"status": "healthy", "service": _SERVICE, "version": app.version, "backend": backend}

    @app.get("/docs", include_in_schema=False)
    @app.get("/redoc", include_in_schema=False)
    def docs(request: Request) -> Response:
        return page(request, "docs", api=app.openapi())


def _refused(request: Request, error: Exception) -> Response:
    """Errors as pages for whoever looks at pages, else as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    if _is_page(request):
        title = "Not Found" if error.status_code == 404 else "This does not work"
        return page(request, "problem", error.status_code, title=title, why=str(error.detail))
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


async def _misunderstood(request: Request, error: Exception) -> Response:
    """Likewise for what has fields or a query of other types."""
    if not isinstance(error, RequestValidationError):
        raise error
    if not _is_page(request):
        return await request_validation_exception_handler(request, error)
    faults = [f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()]
    return page(request, "problem", 422, title="This does not work", why="; ".join(faults))


def _is_page(request: Request) -> bool:
    return request.url.path.startswith("/ui/")
