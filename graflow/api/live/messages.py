"""Server-sent events as they are sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from graflow.api.http.columns import moment


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a stream.

    Attributes:
        kind: `change`, `graph`, `question`, `action`, `log`, `beat`, `reset` or `end`.
        data: JSON.
        id: The position behind which a client goes on that has it; None for none.
    """

    kind: str
    data: str
    id: int | None = None

    @classmethod
    def of(cls, kind: str, data: Mapping[str, Any], id: int | None = None) -> Message:  # noqa: A002 - the word of SSE
        return cls(kind, json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_shown), id)

    def encoded(self) -> bytes:
        """As it is sent."""
        position = "" if self.id is None else f"id: {self.id}\n"
        return f"event: {self.kind}\n{position}data: {self.data}\n\n".encode("utf-8", "replace")


def reset(reason: str, cursor: int) -> Message:
    """That the client has to read all again, and to go on behind a position."""
    return Message.of("reset", {"reason": reason, "cursor": cursor}, cursor)


def _shown(value: object) -> str | None:
    if isinstance(value, datetime):
        return moment(value)
    raise TypeError(f"A {type(value).__name__} is no JSON")
