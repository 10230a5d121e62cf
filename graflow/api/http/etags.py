"""Entity tags: a client that has the present answer is told so instead of being sent it again."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from graflow.state.models import json_of

_LENGTH: Final = 32


def tag_of(*parts: object) -> str:
    """A weak tag of what an answer was made from."""
    return f'W/"{hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has the answer of this tag."""
    given = request.headers.get("if-none-match", "")
    opaque = tag.removeprefix("W/")
    return given.strip() == "*" or opaque in {each.strip().removeprefix("W/") for each in given.split(",")}


def not_modified(tag: str) -> Response:
    """The answer to a client that has it already."""
    return Response(status_code=304, headers={"ETag": tag})


def tagged(request: Request, answer: BaseModel, tag: str | None = None, **besides: Any) -> Response:
    """An answer with its tag, or 304.

    Args:
        request: The request.
        answer: What is sent.
        tag: Its tag; made from the answer itself when None.
        besides: Fields that change without need, such as the server's time; set after the tag was made.
    """
    mark = tag if tag is not None else tag_of(json_of(answer))
    if is_known(request, mark):
        return not_modified(mark)
    sent = answer.model_copy(update=besides) if besides else answer
    return Response(json_of(sent), headers={"ETag": mark}, media_type="application/json")


def digest_in(if_match: str | None) -> str | None:
    """The digest that `If-Match` names; None for none, and for `*`, which any fits."""
    given = "*" if if_match is None else if_match.strip()
    return None if given == "*" else given.removeprefix("W/").strip('"')
