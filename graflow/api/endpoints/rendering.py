"""Pages about questions: templates in which everything is escaped, without scripts, with a style sheet of their own."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("graflow.api.endpoints"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["masked"] = _masked
    made.filters["as_json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return made


def page(to: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page; `root` in it is the prefix of a proxy."""
    root = to.scope.get("root_path", "").rstrip("/")
    return HTMLResponse(_templates().get_template(f"{name}.html").render(root=root, **values), status)


@cache
def style_sheet() -> str:
    """The style sheet of all pages."""
    return (files(__package__) / "templates" / "feedback.css").read_text(encoding="utf-8")


def _masked(feedback_id: str) -> str:
    return f"{feedback_id[:1]}{'*' * 14}{feedback_id[-1:]}"
