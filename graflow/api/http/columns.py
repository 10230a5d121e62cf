"""Answers of many rows as columns, and JSON that is made once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response

from graflow.api.http.etags import is_known, not_modified

NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "As the tag says that you have it"}}

FILE_TYPE: Final = "application/octet-stream"

Columns = dict[str, list[Any]]
"""By name, the values of all rows."""


def columns_of(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Columns:
    """Rows turned by a quarter."""
    found: Columns = {name: [] for name in names}
    columns = list(found.values())
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return found


def answer(request: Request, tag: str, made: Any) -> Response:
    """Plain JSON with its tag, or 304; times are ISO in UTC."""
    if is_known(request, tag):
        return not_modified(tag)
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"), default=_shown)
    return Response(text.encode("utf-8", "replace"), headers={"ETag": tag}, media_type="application/json")


def file_headers(name: str) -> dict[str, str]:
    """What has a browser keep an answer as a file, and run nothing of it."""
    return {"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": "sandbox"}


def moment(at: datetime | float | None) -> str | None:
    """A time as ISO 8601 in UTC."""
    if at is None:
        return None
    made = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return made.isoformat().replace("+00:00", "Z")


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value) or ""
    raise TypeError(f"A {type(value).__name__} is no JSON")
