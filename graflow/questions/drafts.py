"""What a question is on the way to its next version: the answer that comes, what changes, and the chained log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from graflow.exceptions import GraflowError
from graflow.questions.models import Notice, Question


@dataclass(frozen=True)
class Ballot:
    """An answer on its way to its question.

    Attributes:
        person: Who answers.
        value: Plain JSON.
        reason: Their words.
        via: By what way.
        roles: Of the person, as whoever has let them in knows them.
        verified: Whether somebody has made sure that it is they.
        token: The caller's name for this call, under which it may come again.
    """

    person: str
    value: Any
    reason: str | None = None
    via: str = "python"
    roles: frozenset[str] = frozenset()
    verified: bool = True
    token: str | None = None


class Draft:
    """A question on its way to its next version.

    Attributes:
        question: As it will be.
        lines: What its log will have besides, as it is kept: without the id of the question.
        at: Now, seconds since the epoch.
        before: When it will be too late to write it.
        refusal: What to raise when it is written.
        is_replay: Whether nothing is to be written, since it was before.
        is_late: Whether time has settled it first, and what came is to be looked at again.
        settles: Whether it is open until this.
    """

    def __init__(self, question: Question, at: float) -> None:
        self.question = question.model_copy()
        self.lines: list[dict[str, Any]] = []
        self.at = at
        self.before: float | None = None
        self.refusal: GraflowError | None = None
        self.is_replay = False
        self.is_late = False
        self.settles = False

    def set(self, **fields: Any) -> Draft:
        self.question = self.question.model_copy(update=fields)
        return self

    def note(self, what: str, who: str, via: str = "", **data: Any) -> Draft:
        """Add a line to the log, which is chained: each has the digest of the one before."""
        question = self.question
        line = {
            "seq": question.lines + 1,
            "prev": question.head,
            "at": self.at,
            "what": what,
            "who": who,
            "via": via,
            "data": data,
        }
        self.lines.append(line)
        return self.set(lines=question.lines + 1, head=digest_of({"question_id": question.id, **line}))

    def tell(self, kind: str) -> Draft:
        """Put a notice for each channel into the outbox."""
        question = self.question
        made = [
            Notice(id=f"{question.id}.{len(question.notices) + place}", kind=kind, to=to, due=self.at)
            for place, to in enumerate(question.notify)
        ]
        return self.set(notices=[*question.notices, *made]) if made else self


def digest_of(value: Any) -> str:
    """The digest of plain JSON, whatever the order of its keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def whole_lines(question_id: str, lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The log of a question as it is chained and shown."""
    return [{"question_id": question_id, **line} for line in lines]


def broken_line(lines: Iterable[Mapping[str, Any]]) -> int | None:
    """The number of the first line of a log that does not follow from the one before; None when all do."""
    head = ""
    for place, line in enumerate(lines, 1):
        if line.get("seq") != place or line.get("prev") != head:
            return place
        head = digest_of(line)
    return None
