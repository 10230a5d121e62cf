"""What steps and members printed and logged, as far as it was kept with what came of them.

`GET /api/v1/{flow}/flows/{id}/logs?step=&visit=&index=&attempt=&level=&search=&after=&limit=`::

    {"lines": [{"at": "…Z", "level": "WARNING", "text": "page 17 is empty", "step": "pages", "visit": 1, "index": 17,
                "attempt": 1, "worker": "bor-2"}, …],
     "cursor": "417.3.12", "next_cursor": "417.3.12" or null}

Lines come in the order in which those that said them ended, each one's together. `level` is the name that logging has
for it, or `OUT` and `ERR` for what was printed. `?level=WARNING` gives what is at least that grave, where `OUT` counts
as `INFO` and `ERR` as `WARNING`. `?after=` takes a `cursor` of an answer before: with `next_cursor` there is more now,
even where few lines were found; with the `cursor` of the last page, what is said from there on. `?download=1` sends all
of them as a file of text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from graflow.api.http.columns import FILE_TYPE, NOT_MODIFIED, answer, file_headers, moment
from graflow.api.http.etags import is_known, not_modified, tag_of
from graflow.api.http.problems import described
from graflow.api.http.service import Served
from graflow.api.runs.listing import record_of, record_tag
from graflow.api.runs.steps import Visit, graph_of, visit_of
from graflow.exceptions import InvalidCursorError
from graflow.state.changes import Journaled
from graflow.state.store import StateStore

router = APIRouter(tags=["logs"])

MOST_LINES: Final = 1_000
MOST_BYTES: Final = 256_000
"""Bytes of texts on one page, beyond which only a line that is longer by itself goes."""
_LOOKED_AT: Final = 50_000  # steps and members at most for one page, whatever is found
_AT_ONCE: Final = 200  # lines of a journal
_CURSOR: Final = re.compile(r"(\d{1,15})\.(\d{1,9})\.(\d{1,9})", re.ASCII)
_ENDS: Final = frozenset({"step.completed", "step.failed", "step.suspended"})
_PRINTED: Final = {"OUT": logging.INFO, "ERR": logging.WARNING}

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Place(NamedTuple):
    """Behind a line: the number in the journal, which of those that ended there, and how many of its lines."""

    seq: int
    ended: int
    line: int

    def __str__(self) -> str:
        return ".".join(map(str, self))


class LogLine(BaseModel):
    """One line.

    Attributes:
        at: When, UTC.
        level: As logging names it; `OUT` and `ERR` for what was printed.
        text: What was said; may have several lines.
        step: Who said it.
        visit: In which execution of the step.
        index: Which member of a group.
        attempt: In which attempt.
        worker: Where, if it was on a worker.
    """

    at: str
    level: str
    text: str
    step: str
    visit: int
    index: int | None
    attempt: int | None
    worker: str | None


class LogLines(BaseModel):
    """A page of lines.

    Attributes:
        lines: In order.
        cursor: `after` of what comes behind this page, now or later.
        next_cursor: The same where there may be more now; None on the last page.
    """

    lines: list[LogLine]
    cursor: str
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    step: str | None
    visit: int | None
    index: int | None
    attempt: int | None
    level: int
    search: str

    def takes_line(self, line: Journaled) -> bool:
        return self.step in {None, line.step} and self.visit in {None, line.visit}

    def takes_words(self, words: _Words) -> bool:
        return self.index in {None, words.index} and self.attempt in {None, words.attempt}

    def takes(self, level: str, text: str) -> bool:
        return _gravity(level) >= self.level and self.search in text.casefold()


@dataclass(frozen=True, slots=True)
class _Words:
    """What one attempt of a step, or one member, said: for each line time, level and text."""

    index: int | None
    attempt: int | None
    worker: str | None
    said: Sequence[tuple[float, str, str]]


@router.get("/{flow}/flows/{flow_id}/logs", response_model=LogLines, responses={**NOT_MODIFIED, **described(404)})
def logs(
    flow: str,
    flow_id: str,
    request: Request,
    service: Served,
    step: Annotated[str | None, Query(max_length=1000, description="What this step said.")] = None,
    visit: Visit = None,
    index: Annotated[int | None, Query(ge=0, lt=2**31, description="What this member of the group said.")] = None,
    attempt: Annotated[int | None, Query(ge=1, lt=2**31, description="What was said in this attempt.")] = None,
    level: Annotated[Level | None, Query(description="Lines at least this grave.")] = None,
    search: Annotated[str, Query(max_length=1000, description="Lines with this text, whatever its case.")] = "",
    after: Annotated[str | None, Query(max_length=50, description="`cursor` of an answer before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LINES, description="At most so many.")] = MOST_LINES,
    download: Annotated[bool, Query(description="Send all lines from there on as a file of text.")] = False,
) -> Response:
    """What steps and members of a run printed and logged."""
    record = record_of(service, flow, flow_id)
    tag = tag_of(record_tag(record), step, visit, index, attempt, level, search, after, limit, download)
    if is_known(request, tag):
        return not_modified(tag)
    if step is not None:
        state = service.runner.get_flow_state(flow_id)
        visit_of(state, graph_of(service, state), step, visit)
    wanted = _Wanted(step, visit, index, attempt, _gravity(level) if level else 0, search.casefold())
    begin = _place(after)
    if download:
        file = _file(service.store, flow_id, wanted, begin)
        return StreamingResponse(file, media_type=FILE_TYPE, headers={"ETag": tag, **file_headers("log.txt")})
    return answer(request, tag, _page(service.store, flow_id, wanted, begin, limit))


# -- parts -------------------------------------------------------------------------------------------------------------


def _page(store: StateStore, flow_id: str, wanted: _Wanted, begin: Place, limit: int) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    cursor, room, looked_at = begin, MOST_BYTES, 0
    for place, line in _spoken(store, flow_id, wanted, begin):
        if line is None:
            looked_at += 1
        else:
            room -= len(line["text"].encode("utf-8", "replace"))
            if lines and room < 0:
                break
            lines.append(line)
        cursor = place
        if len(lines) == limit or looked_at == _LOOKED_AT:
            break
    else:
        return {"lines": lines, "cursor": str(cursor), "next_cursor": None}
    return {"lines": lines, "cursor": str(cursor), "next_cursor": str(cursor)}


def _file(store: StateStore, flow_id: str, wanted: _Wanted, begin: Place) -> Iterator[bytes]:
    """All lines as text: time, level, who said it, and what."""
    for _, line in _spoken(store, flow_id, wanted, begin):
        if line is not None:
            who = line["step"] if line["index"] is None else f"{line['step']}[{line['index']}]"
            text = line["text"].rstrip("\n")
            yield f"{line['at']} {line['level']:<8} {who}: {text}\n".encode("utf-8", "replace")


def _spoken(
    store: StateStore, flow_id: str, wanted: _Wanted, begin: Place
) -> Iterator[tuple[Place, dict[str, Any] | None]]:
    """The lines that are wanted, each with the place behind it; None where somebody has no more."""
    for line in _journal(store, flow_id, begin.seq):
        for ended, words in enumerate(_told(line) if wanted.takes_line(line) else ()):
            if (line.seq, ended) < begin[:2]:
                continue
            known = begin.line if (line.seq, ended) == begin[:2] else 0
            if wanted.takes_words(words):
                for place, (at, level, text) in enumerate(words.said[known:], known + 1):
                    if wanted.takes(level, text):
                        yield Place(line.seq, ended, place), _shown(line, words, at, level, text)
            yield Place(line.seq, ended, max(known, len(words.said))), None


def _journal(store: StateStore, flow_id: str, first: int) -> Iterator[Journaled]:
    """The lines from one on."""
    after = max(0, first - 1)
    while True:
        page = store.events(flow_id, after, _AT_ONCE)
        yield from page
        if len(page) < _AT_ONCE:
            return
        after = page[-1].seq


def _told(line: Journaled) -> Iterator[_Words]:
    """What those said whose end a line tells."""
    if line.kind in _ENDS:
        yield _Words(None, line.attempt, None, (line.data.get("outcome") or {}).get("said", ()))
    if line.kind != "group.members":
        return
    for told in line.data["outcomes"]:  # those in blocks have said nothing
        outcome: Mapping[str, Any] = told.get("outcome") or {}
        yield _Words(told["index"], told.get("attempts"), told.get("worker"), outcome.get("said", ()))


def _shown(line: Journaled, words: _Words, at: float, level: str, text: str) -> dict[str, Any]:
    return {
        "at": moment(at),
        "level": level,
        "text": text,
        "step": line.step,
        "visit": line.visit,
        "index": words.index,
        "attempt": words.attempt,
        "worker": words.worker,
    }


def _gravity(level: str) -> int:
    """How grave a level is, as logging counts; what it does not know is as grave as what is printed."""
    return _PRINTED.get(level) or logging.getLevelNamesMapping().get(level, logging.INFO)


def _place(cursor: str | None) -> Place:
    """Where an answer before ended.

    Raises:
        InvalidCursorError: No answer has given this.
    """
    if cursor is None:
        return Place(0, 0, 0)
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidCursorError(f"No page of log lines has given the cursor {cursor!r}")
    return Place(*map(int, found.groups()))
