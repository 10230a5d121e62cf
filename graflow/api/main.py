"""`python -m graflow.api`: the application for questions on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from graflow.api.feedback import TITLE, create_feedback_api

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PROGRAM: Final = "python -m graflow.api"


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; those of the process when None."""
    parser = argparse.ArgumentParser(_PROGRAM, description="Serve questions that workflows ask people.")
    add = parser.add_argument
    add("--backend", choices=("filesystem", "redis"), default="filesystem", help="where questions are kept")
    add("--data-dir", default="feedback_data", help="folder of the questions (filesystem)")
    add("--redis-host", default="localhost")
    add("--redis-port", type=int, default=6379)
    add("--redis-db", type=int, default=0)
    add("--redis-expiration-days", type=int, default=7, help="days that settled questions are kept")
    add("--host", default="127.0.0.1", help="address to listen on: loopback, since there is no login")
    add("--port", type=int, default=8000)
    add("--allow-host", action="append", default=[], metavar="NAME", help="host name under which a proxy shows it")
    add("--reload", action="store_true", help="start again when code changes")
    add("--workers", type=int, default=1, help="processes")
    add("--log-level", default="info", choices=("critical", "error", "warning", "info", "debug", "trace"))
    add("--title", default=TITLE)
    add("--enable-cors", action=argparse.BooleanOptionalAction, default=True, help="let pages of --cors-origins in")
    add("--cors-origins", nargs="*", default=None, metavar="ORIGIN")
    add("--disable-web-ui", action="store_true", help="REST alone, without pages")
    return parser.parse_args(args)


def create_app_from_args(args: argparse.Namespace) -> FastAPI:
    """The application that these arguments ask for."""
    config: dict[str, Any] = {"data_dir": args.data_dir}
    if args.backend == "redis":
        config = {
            "host": args.redis_host,
            "port": args.redis_port,
            "db": args.redis_db,
            "expiration_days": args.redis_expiration_days,
        }
    return create_feedback_api(
        args.backend,
        config,
        title=args.title,
        enable_cors=args.enable_cors,
        cors_origins=[origin for given in args.cors_origins or () for origin in given.split(",") if origin],
        enable_web_ui=not args.disable_web_ui,
        allowed_hosts=getattr(args, "allow_host", ()),
    )


def served() -> FastAPI:
    """The application of this process's own arguments: what further processes make."""
    return create_app_from_args(parse_args())


def main(args: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    given = parse_args(args)
    if given.host not in _LOOPBACK:
        sys.exit(
            f"{_PROGRAM}: --host {given.host} would let everyone in the network answer, since there is no login. "
            "Listen on loopback, with a proxy before it that asks who it is, and name its host with --allow-host"
        )
    options = {"host": given.host, "port": given.port, "log_level": given.log_level, "access_log": False}
    if given.reload or given.workers > 1:
        if args is not None:
            sys.argv[1:] = args  # processes that uvicorn starts read them there
        uvicorn.run(f"{__name__}:served", factory=True, reload=given.reload, workers=given.workers, **options)
    else:
        uvicorn.run(create_app_from_args(given), **options)
