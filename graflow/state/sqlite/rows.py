"""The rows of one flow: what a transition writes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final, NamedTuple

from graflow.state.encoding import Stored, from_text, is_small, to_text
from graflow.state.groups.blocks import BLOCK_STATUS, span_behind
from graflow.state.groups.strips import begun, count, move_members
from graflow.state.requests import requests_from, requests_text
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.transitions import not_found
from graflow.state.written import Written, WrittenBlock, WrittenEntry, WrittenMember, WrittenStep

LARGE: Final = "@"
LINES: Final = 1 << 32  # that a journal may have
_PENDING: Final = StepStatus.PENDING.value
_ENDED: Final = frozenset(
    each.value for each in StepStatus if each.is_success or each in {StepStatus.SKIPPED, StepStatus.CANCELLED}
)
_CHUNK: Final = 500  # members that are asked for at once
_HEAD: Final = (
    "SELECT no, status, version, epoch, generation, owner, beats, seq, requests, counts FROM flows WHERE flow_id = ?"
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
_BLOCK: Final = "INSERT INTO member_blocks VALUES (?, ?, ?, ?)"
_BLOCKS_AROUND: Final = (
    "SELECT idx, behind FROM member_blocks WHERE step_no = ? AND idx <= ? AND behind > ? ORDER BY idx"
)
_COUNT_CHANGE: Final = "UPDATE changes SET last = last + 1"
_QUICK: Final = (
    "UPDATE flows SET version = ?, beats = ?, seq = ?, counts = ?, changed = (SELECT last FROM changes) WHERE no = ?"
)
_WHOLE: Final = (
    "UPDATE flows SET version = ?, beats = ?, seq = ?, counts = ?, status = ?, epoch = ?, generation = ?, owner = ?, "
    "requests = ?, changed = (SELECT last FROM changes) WHERE no = ?"
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
        for block in written.blocks:
            self._set_block(block)
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
                execute("DELETE FROM member_blocks WHERE step_no = ?", (row.no,))
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

    def _group(self, step: str, visit: int) -> Row:
        return self._row(step, visit) or self._set_step(WrittenStep(step, visit, None, None, "{}"))

    def _set_block(self, block: WrittenBlock) -> None:
        row = self._group(block.step, block.visit)
        self._connection.execute(_BLOCK, (row.no, block.first, block.end, block.content))
        if row.size:
            self._count_members(row, [(range(block.first, block.end), _PENDING, BLOCK_STATUS)])

    def _set_members(self, step: str, visit: int, members: list[WrittenMember]) -> None:
        row = self._group(step, visit)
        states = self._member_states(row.no, members)
        rows, moves = [], []
        for index, status, fields in members:
            old = states.get(index, _PENDING)
            states[index] = new = status or old
            rows.append((row.no, index, new, fields))
            moves.append((range(index, index + 1), old, new))
        self._connection.executemany(_MEMBER, rows)
        if row.size:
            self._count_members(row, moves)

    def _count_members(self, row: Row, moves: Iterable[tuple[range, str, str]]) -> None:
        execute = self._connection.execute
        texts = execute("SELECT counts, strip FROM steps WHERE no = ?", (row.no,)).fetchone()
        counts, strip = map(from_text, texts)
        for indices, old, new in moves:
            move_members(counts, strip, row.size, indices, old, new)
        execute("UPDATE steps SET counts = ?, strip = ? WHERE no = ?", (to_text(counts), to_text(strip), row.no))

    def _member_states(self, no: int, members: Sequence[WrittenMember]) -> dict[int, str]:
        first, last = min(each.member for each in members), max(each.member for each in members)
        spans = [range(*span) for span in self._connection.execute(_BLOCKS_AROUND, (no, last, first))]
        states = {
            each.member: BLOCK_STATUS for each in members if spans and each.member in span_behind(spans, each.member)
        }
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
