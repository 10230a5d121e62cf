"""Questions in a Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graflow.state.changes import Json
from graflow.state.encoding import from_text, to_text
from graflow.state.questions import (
    LISTED,
    QuestionPage,
    QuestionQuery,
    QuestionRow,
    QuestionStore,
    QuestionWrite,
    RowKind,
    ended_error,
)
from graflow.state.reading import behind_flow, flow_cursor
from graflow.state.redis.keys import Keys
from graflow.state.redis.server import Server
from graflow.state.statuses import FlowStatus
from graflow.state.transitions import not_found

_COLUMNS = ("flow", "kind", "state", "at", "version", "data")


class RedisQuestions(QuestionStore):
    """The part of a store in a Redis that keeps questions; the server's own clock decides deadlines."""

    _keys: Keys
    _server: Server

    def now(self) -> float:
        seconds, micro = self._server.call("TIME")
        return int(seconds) + int(micro) / 1e6

    def write_questions(self, writes: Sequence[QuestionWrite]) -> bool:
        arguments: list[Any] = []
        for write in writes:
            row = write.row
            due, before = ("" if each is None else repr(float(each)) for each in (row.due, write.before))
            arguments += (row.id, row.flow_id, row.kind.value, row.state, repr(float(row.at)), due, row.version)
            arguments += (to_text(row.data), before, int(write.ends), len(write.lines), *map(to_text, write.lines))
        keys = self._keys
        what, *found = self._server.run(
            "questions_write", [*keys.questions, keys.questions_due], keys.prefix, len(writes), *arguments
        )
        if what == b"missing":
            raise not_found(found[0].decode())
        if what == b"ended":
            raise ended_error(found[0].decode(), FlowStatus(found[1].decode()))
        return bool(what == b"ok")

    def get_questions(self, ids: Sequence[str]) -> list[QuestionRow | None]:
        call, keys = self._server.call, self._keys
        found = [
            (call("HMGET", keys.question(each), *_COLUMNS), call("ZSCORE", keys.questions_due, each)) for each in ids
        ]
        return [_row(each, row, due) for each, (row, due) in zip(ids, found, strict=True)]

    def list_questions(self, query: QuestionQuery) -> QuestionPage:
        behind, limit = behind_flow(query.cursor), max(1, min(query.limit, LISTED))
        upper, last = ("+inf", "") if behind is None else (repr(behind[0]), behind[1])
        every, only_open = self._keys.questions
        index = only_open if query.is_open else every
        if query.flow_id is not None:
            index = self._keys.flow_questions(query.flow_id)
        wanted = "" if query.is_open is None else int(query.is_open)
        ids = self._server.run("questions_list", [index], self._keys.prefix, upper, last, wanted, limit + 1)
        page = [row for row in self.get_questions([each.decode() for each in ids[:limit]]) if row is not None]
        return QuestionPage(page, flow_cursor(page[-1].at, page[-1].id) if len(ids) > limit and page else None)

    def due_questions(self, at: float, limit: int = 100) -> list[QuestionRow]:
        due = self._keys.questions_due
        ids = self._server.call("ZRANGEBYSCORE", due, "-inf", repr(float(at)), "LIMIT", 0, limit)
        return [row for row in self.get_questions([each.decode() for each in ids]) if row is not None]

    def question_lines(self, question_id: str) -> list[Json]:
        lines = self._server.call("LRANGE", f"{self._keys.question(question_id)}:lines", 0, -1)
        return [from_text(line) for line in lines]


def _row(row_id: str, columns: Sequence[bytes | None], due: bytes | None) -> QuestionRow | None:
    flow, kind, state, at, version, data = columns
    if flow is None or kind is None or state is None or at is None or version is None or data is None:
        return None
    return QuestionRow(
        row_id,
        flow.decode(),
        RowKind(kind.decode()),
        state.decode(),
        float(at),
        None if due is None else float(due),
        int(version),
        from_text(data),
    )
