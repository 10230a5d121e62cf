"""The templates of plain pages: everything in them is escaped."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from graflow.questions.models import Question, iso
from graflow.secret import masked
from graflow.text.shown import printable

_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_WORDS: Final = {True: "approved", False: "rejected"}


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("graflow.api.plain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["told"] = _told
    made.filters["printable"] = lambda text: printable(text, "")
    made.filters["time"] = lambda at: (iso(at) or "")[:19].replace("T", " ")
    return made


def plain_page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page; `root` in it is the prefix of a proxy, `inside` whether it links to others, `has_login` whether out."""
    known = {"root": request.scope.get("root_path", "").rstrip("/"), "inside": False, "has_login": False, **values}
    text = _templates().get_template(f"{name}.html").render(known)
    return HTMLResponse(text, status, headers=_PRIVATE)


def outcome_of(question: Question) -> str:
    """What a settled question has come to, and by whom; empty for an open one."""
    if question.is_open:
        return ""
    by = "" if question.settled_by in {None, "", "clock"} else f" by {question.settled_by}"
    if question.state == "answered":
        return f"answered{by}"
    return {"withdrawn": f"withdrawn{by}", "defaulted": "nobody answered in time, and the default holds"}.get(
        question.state, "expired: nobody answered in time"
    )


def subject_of(question: Question) -> Any:
    """What a question is about, with secrets masked; None for nothing."""
    metadata = None if question.feedback is None else question.feedback.metadata
    return masked(metadata or question.subject)


def _told(value: Any) -> str:
    """An answer as text."""
    if isinstance(value, bool):
        return _WORDS[value]
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1), "")
