"""Questions in one SQLite file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import Any, Final

from graflow.state.changes import Json
from graflow.state.encoding import from_text, to_text
from graflow.state.questions import (
    LISTED,
    OPEN,
    QuestionPage,
    QuestionQuery,
    QuestionRow,
    QuestionStore,
    QuestionWrite,
    RowKind,
    ended_error,
)
from graflow.state.reading import behind_flow, flow_cursor
from graflow.state.sqlite.database import Database
from graflow.state.sqlite.session import Session
from graflow.state.statuses import FlowStatus
from graflow.state.transitions import not_found

_COLUMNS: Final = (
    "questions.id, flows.flow_id, questions.kind, questions.state, questions.at, questions.due, questions.version, "
    "questions.data"
)
_FROM: Final = f"SELECT {_COLUMNS} FROM questions JOIN flows ON flows.no = questions.flow_no"  # noqa: S608 - columns only
_ONE: Final = f"{_FROM} WHERE questions.id = ?"
_DUE: Final = f"{_FROM} WHERE questions.due <= ? ORDER BY questions.due, questions.id LIMIT ?"
_FLOW: Final = "SELECT no, status FROM flows WHERE flow_id = ?"
_PRESENT: Final = "SELECT version FROM questions WHERE id = ?"
_WRITE: Final = (
    "INSERT INTO questions (id, flow_no, kind, state, at, due, version, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due, version = excluded.version, "
    "data = excluded.data"
)
_LINE: Final = (
    "INSERT INTO question_lines SELECT no, (SELECT count(*) + 1 FROM question_lines WHERE question_no = no), ? "
    "FROM questions WHERE id = ?"
)
_LINES: Final = (
    "SELECT line FROM question_lines JOIN questions ON no = question_no WHERE id = ? ORDER BY question_lines.place"
)


class SqliteQuestions(QuestionStore):
    """The part of a store in a file that keeps questions.

    Attributes:
        clock: Gives the time by which deadlines are decided: that of this machine, which alone has the file.
    """

    _database: Database

    def __init__(self) -> None:
        self.clock: Callable[[], float] = time.time

    def now(self) -> float:
        return self.clock()

    def write_questions(self, writes: Sequence[QuestionWrite]) -> bool:
        made = [(each, to_text(each.row.data), list(map(to_text, each.lines))) for each in writes]

        def work(session: Session) -> bool:
            execute = session.connection.execute
            numbers = [self._flow_of(session.connection, each) for each in writes]
            if None in numbers:
                return False
            for (write, data, lines), number in zip(made, numbers, strict=True):
                row = write.row
                execute(_WRITE, (row.id, number, row.kind.value, row.state, row.at, row.due, row.version, data))
                for line in lines:
                    execute(_LINE, (line, row.id))
            return True

        return self._database.write(work)

    def _flow_of(self, connection: Connection, write: QuestionWrite) -> int | None:
        """The number of the flow, or None when the row is not as it was read, or it is too late."""
        row = write.row
        found = connection.execute(_FLOW, (row.flow_id,)).fetchone()
        if found is None:
            raise not_found(row.flow_id)
        number, status = int(found[0]), FlowStatus(found[1])
        if status.is_terminal and not write.ends:
            raise ended_error(row.flow_id, status)
        present = connection.execute(_PRESENT, (row.id,)).fetchone()
        is_as_seen = row.version == (1 if present is None else present[0] + 1)
        return number if is_as_seen and (write.before is None or self.clock() < write.before) else None

    def get_questions(self, ids: Sequence[str]) -> list[QuestionRow | None]:
        def work(connection: Connection) -> list[QuestionRow | None]:
            found = [connection.execute(_ONE, (each,)).fetchone() for each in ids]
            return [None if each is None else _row(each) for each in found]

        return self._database.read(work)

    def list_questions(self, query: QuestionQuery) -> QuestionPage:
        behind, limit = behind_flow(query.cursor), max(1, min(query.limit, LISTED))
        asked, values = ["questions.kind = ?"], [RowKind.QUESTION.value]
        if query.is_open is not None:
            asked.append(f"questions.state {'=' if query.is_open else '<>'} '{OPEN}'")
        if behind is not None:
            asked.append("(questions.at, questions.id) < (?, ?)")
            values += behind  # type: ignore[arg-type]  # what SQLite takes

        def work(connection: Connection) -> list[QuestionRow]:
            if query.flow_id is not None:
                found = connection.execute(_FLOW, (query.flow_id,)).fetchone()
                if found is None:
                    return []
                asked.append(f"questions.flow_no = {int(found[0])}")
            where = (
                f"{_FROM} WHERE {' AND '.join(asked)} ORDER BY questions.at DESC, questions.id DESC LIMIT {limit + 1}"
            )
            return [_row(each) for each in connection.execute(where, values)]

        rows = self._database.read(work)
        page = rows[:limit]
        return QuestionPage(page, flow_cursor(page[-1].at, page[-1].id) if len(rows) > limit else None)

    def due_questions(self, at: float, limit: int = 100) -> list[QuestionRow]:
        return self._database.read(lambda connection: list(map(_row, connection.execute(_DUE, (at, limit)))))

    def question_lines(self, question_id: str) -> list[Json]:
        return self._database.read(
            lambda connection: [from_text(line) for (line,) in connection.execute(_LINES, (question_id,))]
        )


def _row(found: Sequence[Any]) -> QuestionRow:
    row_id, flow_id, kind, state, at, due, version, data = found
    return QuestionRow(row_id, flow_id, RowKind(kind), state, at, due, version, from_text(data))
