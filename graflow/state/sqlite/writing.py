"""What one transition does to the tables; runs inside a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final, NamedTuple

from graflow.exceptions import StaleEpochError
from graflow.state.changes import Appended, Change, FlowRecord, NewFlow, Request, RequestKind
from graflow.state.encoding import Stored, from_text, is_small, to_text
from graflow.state.reading import searched_text
from graflow.state.requests import requests_from, requests_text
from graflow.state.statuses import MOVES, FlowStatus, Move, StepStatus
from graflow.state.strips import begun, count, move_member
from graflow.state.transitions import (
    RUNNING,
    answers_requests,
    fields_of,
    not_found,
    refusal,
    refuse,
    refuse_delete,
    refuse_request,
    refused_line,
    request_line,
)
from graflow.state.written import Written, WrittenEntry, WrittenMember, WrittenStep

LARGE: Final = "@"
LINES: Final = 1 << 32  # that a journal may have
_PENDING: Final = StepStatus.PENDING.value
_ENDED: Final = frozenset(
    each.value for each in StepStatus if each.is_success or each in {StepStatus.SKIPPED, StepStatus.CANCELLED}
)
_CHUNK: Final = 500
_KNOWN: Final = 1000  # flows

_HEAD: Final = (
    "SELECT no, status, version, epoch, generation, owner, beats, seq, requests, counts FROM flows WHERE flow_id = ?"
)
_OWNED_OF_NAME: Final = (
    f"SELECT count(*) FROM flows WHERE status IN ({', '.join(repr(each.value) for each in sorted(RUNNING))}) "  # noqa: S608
    "AND flow_name = (SELECT flow_name FROM flows WHERE no = ?)"
)
_STEP: Final = "SELECT no, status, size FROM steps WHERE flow_no = ? AND step = ? AND visit = ?"
_NEW_STEP: Final = (
    "INSERT INTO steps (flow_no, step, visit, status, size, fields) VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING"
)
_LINE: Final = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MEMBER: Final = (
    "INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET status = excluded.status, fields = fields || excluded.fields"
)
_COUNT_CHANGE: Final = "UPDATE changes SET last = last + 1"
_QUICK: Final = (
    "UPDATE flows SET version = ?, beats = ?, seq = ?, counts = ?, changed = (SELECT last FROM changes) WHERE no = ?"
)
_WHOLE: Final = (
    "UPDATE flows SET version = ?, beats = ?, seq = ?, counts = ?, status = ?, epoch = ?, generation = ?, owner = ?, "
    "requests = ?, changed = (SELECT last FROM changes) WHERE no = ?"
)
_END_QUESTIONS: Final = "UPDATE questions SET due = 0 WHERE flow_no = ? AND state = 'open'"
_DELETIONS: Final = (
    "DELETE FROM question_lines WHERE question_no IN (SELECT no FROM questions WHERE flow_no = :no)",
    "DELETE FROM questions WHERE flow_no = :no",
    "DELETE FROM members WHERE step_no IN (SELECT no FROM steps WHERE flow_no = :no)",
    "DELETE FROM steps WHERE flow_no = :no",
    "DELETE FROM journal WHERE place BETWEEN :first AND :last",
    "DELETE FROM flow_values WHERE flow_no = :no",
    "DELETE FROM flow_texts WHERE flow_no = :no",
    """DELETE FROM blobs WHERE digest IN (SELECT digest FROM blob_uses WHERE flow_no = :no)
    AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob_uses.digest = blobs.digest AND flow_no <> :no)""",
    "DELETE FROM blob_uses WHERE flow_no = :no",
    "DELETE FROM flows WHERE no = :no",
)


class Row(NamedTuple):
    """What is known of the row of a step."""

    no: int
    status: str
    size: int


class FlowWriter:
    """The row of one flow, and what is written about it.

    Raises:
        FlowNotFoundError: There is no such flow.
    """

    def __init__(self, connection: Connection, flow_id: str) -> None:
        row = connection.execute(_HEAD, (flow_id,)).fetchone()
        if row is None:
            raise not_found(flow_id)
        self._connection = connection
        self.no, status, self.version, self.epoch, self.generation, self.owner, self.beats, self.seq, *texts = row
        self.status = FlowStatus(status)
        self.requests = requests_from(texts[0])
        self._counts: dict[str, int] = from_text(texts[1])
        self._rows: dict[tuple[str, int], Row] = {}  # those that may soon be looked for again

    def save(self) -> None:
        """Write the row, whatever of it has changed."""
        self._connection.execute(_COUNT_CHANGE)
        values = (self.version, self.beats, self.seq, to_text(self._counts), self.status.value, self.epoch)
        self._connection.execute(_WHOLE, (*values, self.generation, self.owner, requests_text(self.requests), self.no))

    def save_quickly(self) -> None:
        """Write the row after a step, which changes neither state nor owner; their indices are left alone."""
        self._connection.execute(_COUNT_CHANGE)
        self._connection.execute(_QUICK, (self.version, self.beats, self.seq, to_text(self._counts), self.no))

    def write(self, written: Written, at: float, epoch: int) -> None:
        """Write everything but the flow's own fields."""
        self.note(written.entries, at, epoch)
        for step in written.steps:
            self._set_step(step)
        for (name, visit), members in written.members.items():
            self._set_members(name, visit, members)
        if written.blobs:
            self._keep_blobs(written.blobs)

    def note(self, entries: Iterable[WrittenEntry], at: float, epoch: int) -> None:
        first, seq, generation = self.no * LINES, self.seq, self.generation
        rows = [
            (first + number, at, kind, step, visit, index, attempt, epoch, generation, data)
            for number, (kind, step, visit, index, attempt, data) in enumerate(entries, seq + 1)
        ]
        self._connection.executemany(_LINE, rows)
        self.seq = seq + len(rows)

    def set_fields(self, fields: Mapping[str, Any], texts: Mapping[str, Stored]) -> None:
        """Set fields of the flow; those that are small in its row."""
        execute = self._connection.execute
        present = from_text(execute("SELECT fields FROM flows WHERE no = ?", (self.no,)).fetchone()[0])
        large = set(present.pop(LARGE, ()))
        for name, value in fields.items():
            if name == "generation":
                self.generation = value
                continue
            text = texts[name] if name in texts else to_text(value)
            present.pop(name, None)
            if not is_small(text):
                large.add(name)
                execute("INSERT OR REPLACE INTO flow_values VALUES (?, ?, ?)", (self.no, name, text))
                continue
            if name in large:
                large.discard(name)
                execute("DELETE FROM flow_values WHERE flow_no = ? AND name = ?", (self.no, name))
            if value is not None:
                present[name] = value
        ended_at, wake_at = present.get("completed_at"), present.get("wake_at")
        if large:
            present[LARGE] = sorted(large)
        execute(
            "UPDATE flows SET fields = ?, ended_at = ?, wake_at = ? WHERE no = ?",
            (to_text(present), ended_at, wake_at, self.no),
        )

    def cut(self, rows: Iterable[tuple[str, int]]) -> None:
        """Take rows of steps out again, with their members."""
        execute = self._connection.execute
        for step, visit in rows:
            row = self._row(step, visit)
            if row is not None:
                count(self._counts, row.status, None)
                execute("DELETE FROM members WHERE step_no = ?", (row.no,))
                execute("DELETE FROM steps WHERE no = ?", (row.no,))
                del self._rows[step, visit]

    def _row(self, step: str, visit: int) -> Row | None:
        known = self._rows.get((step, visit))
        if known is None:
            found = self._connection.execute(_STEP, (self.no, step, visit)).fetchone()
            if found is None:
                return None
            known = self._rows[step, visit] = Row(*found)
        return known

    def _make_row(self, step: str, visit: int, status: str, fields: str) -> Row | None:
        """The row of a step, unless there is one."""
        made = self._connection.execute(_NEW_STEP, (self.no, step, visit, status, fields))
        if not made.rowcount:
            return None
        count(self._counts, None, status)
        return Row(made.lastrowid or 0, status, 0)

    def _change_row(self, row: Row, status: str, fields: str) -> Row:
        execute = self._connection.execute
        execute("UPDATE steps SET status = ?, fields = fields || ? WHERE no = ?", (status, fields, row.no))
        if status != row.status:
            count(self._counts, row.status, status)
        return Row(row.no, status, row.size)

    def _set_step(self, step: WrittenStep) -> Row:
        name, visit, status, size, fields = step
        known = self._rows.get((name, visit))
        row = None if known is not None else self._make_row(name, visit, status or _PENDING, fields)
        if row is None:
            present = known or Row(*self._connection.execute(_STEP, (self.no, name, visit)).fetchone())
            row = self._change_row(present, status or present.status, fields)
        if size and not row.size:
            counts, strip = map(to_text, begun(size))
            self._connection.execute(
                "UPDATE steps SET size = ?, counts = ?, strip = ? WHERE no = ?", (size, counts, strip, row.no)
            )
            row = row._replace(size=size)
        if row.status in _ENDED:
            self._rows.pop((name, visit), None)
        else:
            self._rows[name, visit] = row
        return row

    def _set_members(self, step: str, visit: int, members: list[WrittenMember]) -> None:
        row = self._row(step, visit) or self._set_step(WrittenStep(step, visit, None, None, "{}"))
        states = self._member_states(row.no, members)
        rows, moves = [], []
        for index, status, fields in members:
            old = states.get(index, _PENDING)
            states[index] = new = status or old
            rows.append((row.no, index, new, fields))
            moves.append((index, old, new))
        self._connection.executemany(_MEMBER, rows)
        if row.size:
            self._count_members(row, moves)

    def _count_members(self, row: Row, moves: Iterable[tuple[int, str, str]]) -> None:
        execute = self._connection.execute
        texts = execute("SELECT counts, strip FROM steps WHERE no = ?", (row.no,)).fetchone()
        counts, strip = map(from_text, texts)
        for index, old, new in moves:
            move_member(counts, strip, row.size, index, old, new)
        execute("UPDATE steps SET counts = ?, strip = ? WHERE no = ?", (to_text(counts), to_text(strip), row.no))

    def _member_states(self, no: int, members: Sequence[WrittenMember]) -> dict[int, str]:
        states: dict[int, str] = {}
        for start in range(0, len(members), _CHUNK):
            indices = [each.member for each in members[start : start + _CHUNK]]
            marks = ", ".join("?" * len(indices))
            query = f"SELECT idx, status FROM members WHERE step_no = ? AND idx IN ({marks})"  # noqa: S608 - marks only
            states.update(self._connection.execute(query, (no, *indices)).fetchall())
        return states

    def _keep_blobs(self, blobs: Mapping[str, bytes]) -> None:
        many = self._connection.executemany
        many("INSERT OR IGNORE INTO blobs VALUES (?, ?)", blobs.items())
        many("INSERT OR IGNORE INTO blob_uses VALUES (?, ?)", [(self.no, digest) for digest in blobs])


class Session:
    """A connection that writes, and what it knows of flows that it has written about.

    That holds until somebody else has written, or a transaction is rolled back; then it is forgotten.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._flows: dict[str, FlowWriter] = {}
        self._data_version = -1

    def begin(self) -> None:
        """Begin a transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        (data_version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if data_version != self._data_version or len(self._flows) > _KNOWN:
            self._flows.clear()
            self._data_version = data_version

    def roll_back(self) -> None:
        self._flows.clear()
        self.connection.rollback()

    def flow(self, flow_id: str) -> FlowWriter:
        """The row of a flow.

        Raises:
            FlowNotFoundError: There is no such flow.
        """
        flow = self._flows.get(flow_id)
        if flow is None:
            flow = self._flows[flow_id] = FlowWriter(self.connection, flow_id)
        return flow

    def forget(self, flow_id: str) -> None:
        self._flows.pop(flow_id, None)


def create(session: Session, flow: NewFlow, written: Written) -> bool:
    """Record a flow; whether it was not there."""
    connection = session.connection
    if connection.execute("SELECT 1 FROM flows WHERE flow_id = ?", (flow.flow_id,)).fetchone() is not None:
        return False
    status = FlowStatus(flow.status).value
    no = connection.execute(
        "INSERT INTO flows (flow_id, flow_name, status, version, epoch, generation, beats, seq, created_at, "
        "input_digest, requests, counts, fields) VALUES (?, ?, ?, 1, 0, 0, 0, 0, ?, ?, '[]', '{}', '{}')",
        (flow.flow_id, flow.flow_name, status, flow.at, flow.input_digest),
    ).lastrowid
    searched = searched_text(flow.flow_id, flow.flow_name, flow.inputs)
    connection.execute("INSERT INTO flow_texts VALUES (?, ?)", (no, searched))
    row = session.flow(flow.flow_id)
    row.set_fields(written.fields, written.texts)
    row.write(written, flow.at, 0)
    row.save()
    return True


def is_full(session: Session, flow_id: str, limit: int) -> bool:
    """Whether a flow has no owner, and `limit` flows of its name have one."""
    flow = session.flow(flow_id)
    if flow.status in RUNNING:
        return False
    (owned,) = session.connection.execute(_OWNED_OF_NAME, (flow.no,)).fetchone()
    return bool(owned >= limit)


def claim(session: Session, flow_id: str, owner: str, seen: FlowRecord, at: float, written: Written) -> int | None:
    """Become the owner; the new epoch, or None when the flow is not as it was seen."""
    flow = session.flow(flow_id)
    if (flow.status, flow.epoch, flow.beats) != (seen.status, seen.epoch, seen.beats):
        return None
    if flow.status not in MOVES[Move.CLAIM].sources:
        raise refusal(flow_id, Move.CLAIM, flow.status)
    if flow.status is not FlowStatus.CANCELLING:
        flow.status = FlowStatus.RUNNING
    flow.epoch += 1
    flow.version += 1
    flow.beats += 1
    flow.owner = owner
    first = {} if seen.fields.get("started_at") is not None else {"started_at": at}
    flow.set_fields({**first, "wake_at": None, **written.fields}, written.texts)
    flow.write(written, at, flow.epoch)
    flow.save()
    epoch: int = flow.epoch
    return epoch


def append(session: Session, change: Change, written: Written) -> Appended:
    """Apply one transition."""
    flow = session.flow(change.flow_id)
    rule = MOVES[change.move]
    try:
        refuse(change, rule, flow.status, flow.version, flow.epoch)
    except StaleEpochError:
        flow.note(Written.of([refused_line(change)]).entries, change.at, flow.epoch)
        flow.save_quickly()
        raise
    status = rule.target or flow.status
    fields = fields_of(change, status, written.fields)
    is_quick = status is flow.status and not rule.raises_epoch and not fields
    if fields:
        flow.set_fields(fields, written.texts)
    flow.status = status
    flow.epoch += rule.raises_epoch
    flow.version += 1
    flow.beats += rule.by_owner
    if status not in RUNNING:
        flow.owner = None
    requests = flow.requests
    if requests and answers_requests(change.move, status):
        flow.requests = requests = ()
    if change.cut:
        flow.cut(change.cut)
    flow.write(written, change.at, change.guard if rule.by_owner else flow.epoch)
    if is_quick:
        flow.save_quickly()
    else:
        flow.save()
    if status.is_terminal:
        session.connection.execute(_END_QUESTIONS, (flow.no,))
    return Appended(flow.seq, flow.version, flow.epoch, requests)


def beat(session: Session, flow_id: str, epoch: int) -> tuple[Request, ...]:
    """Count a sign of life; what the owner is asked for."""
    flow = session.flow(flow_id)
    if flow.epoch != epoch:
        raise StaleEpochError(flow_id, epoch, flow.epoch)
    if flow.status in RUNNING:
        flow.beats += 1
        session.connection.execute("UPDATE flows SET beats = ? WHERE no = ?", (flow.beats, flow.no))
    return flow.requests


def request(session: Session, flow_id: str, asked: Request) -> None:
    """Ask the owner for something, unless that is asked already."""
    flow = session.flow(flow_id)
    refuse_request(flow_id, asked, flow.status)
    if any(asked.kind is each.kind for each in flow.requests):
        return
    flow.requests = (*flow.requests, asked)
    flow.note(Written.of([request_line(asked)]).entries, asked.at, flow.epoch)
    if asked.kind is RequestKind.CANCEL and flow.status is FlowStatus.RUNNING:
        flow.status = FlowStatus.CANCELLING
        flow.version += 1
    flow.save()


def delete(session: Session, flow_id: str) -> bool:
    """Remove a flow that has ended, with everything that nothing else names; whether it was there."""
    row = session.connection.execute("SELECT no, status FROM flows WHERE flow_id = ?", (flow_id,)).fetchone()
    if row is None:
        return False
    no, status = row
    refuse_delete(flow_id, FlowStatus(status))
    session.forget(flow_id)
    for statement in _DELETIONS:
        session.connection.execute(statement, {"no": no, "first": no * LINES, "last": no * LINES + LINES - 1})
    return True
