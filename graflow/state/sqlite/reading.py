"""What is read of the tables; runs inside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from sqlite3 import Connection, Cursor
from typing import Any, Final

from graflow.exceptions import StoreError
from graflow.state.changes import FlowChange, FlowChanges, FlowRecord, Journaled
from graflow.state.encoding import Stored, decode, decode_fields, decode_rows, from_text
from graflow.state.groups.blocks import KeptMembers, Row
from graflow.state.groups.members import MemberFacts, MemberQuery, member_facts, member_page
from graflow.state.groups.strips import Strip
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.reading import UNSHOWN, flow_cursor, flow_state, listed_state, step_values
from graflow.state.requests import requests_from
from graflow.state.sqlite.rows import LARGE, LINES
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.transitions import OPEN, not_found

_MEMBERS: Final = 500  # that are read at once
_COLUMNS: Final = (
    "no, flow_id, flow_name, status, version, epoch, generation, owner, beats, input_digest, requests, counts, "
    "created_at, fields, seq"
)
_RECORD: Final = f"SELECT {_COLUMNS} FROM flows WHERE flow_id = ?"  # noqa: S608 - columns only
_OPEN: Final = (
    f"SELECT {_COLUMNS} FROM flows WHERE status IN ({', '.join(repr(each.value) for each in OPEN)}) "  # noqa: S608
    f"AND (status <> '{FlowStatus.QUEUED.value}' OR wake_at IS NULL OR wake_at <= ?) ORDER BY created_at, flow_id"
)
_ENDED: Final = (
    "SELECT flow_id FROM (SELECT flow_id, status, ended_at, row_number() OVER (ORDER BY ended_at DESC, flow_id DESC) "
    "AS place FROM flows WHERE ended_at IS NOT NULL) WHERE place > ? OR ended_at <= ? ORDER BY place DESC LIMIT ?"
)


class FlowReader:
    """The row of one flow."""

    def __init__(self, connection: Connection, row: Sequence[Any]) -> None:
        self._connection = connection
        self._row = row
        self.no, self.flow_id, self.created_at = row[0], row[1], row[12]
        self._fields: dict[str, Any] = from_text(row[13])
        self._large: list[str] = self._fields.pop(LARGE, [])

    @classmethod
    def find(cls, connection: Connection, flow_id: str) -> FlowReader | None:
        row = connection.execute(_RECORD, (flow_id,)).fetchone()
        return None if row is None else cls(connection, row)

    def record(self, large: Callable[[str], bool] = lambda _: True) -> FlowRecord:
        """The row, with those large fields that are asked for."""
        fields = dict(self._fields)
        for name in filter(large, self._large):
            fields[name] = self._value(name)
        inputs = fields.pop("inputs", {})
        _, flow_id, name, status, version, epoch, generation, owner, beats, digest, requests, *_ = self._row
        return FlowRecord(
            flow_id,
            name,
            FlowStatus(status),
            version,
            epoch,
            generation,
            owner,
            beats,
            inputs,
            digest,
            fields,
            requests_from(requests),
            self._row[14],
        )

    @property
    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = from_text(self._row[11])
        return counts

    def state(self) -> FlowState:
        """The flow with the rows of its steps."""
        rows = self._connection.execute(
            "SELECT step, visit, status, size, counts, strip, fields FROM steps WHERE flow_no = ? ORDER BY no",
            (self.no,),
        )
        record = self.record(lambda name: name not in UNSHOWN)
        return flow_state(record, [_step_values(*row) for row in rows], self._counts)

    def shown(self) -> FlowState:
        """The flow as a list shows it."""
        values = self._fields
        _, values["flow_id"], values["flow_name"], values["status"], *numbers, _, _, _, counts, _, _, seq = self._row
        values["version"], values["epoch"], values["generation"], values["owner"] = numbers
        values["counts"], values["seq"] = from_text(counts), seq
        return listed_state(values)

    def _value(self, name: str) -> Any:
        (stored,) = self._connection.execute(
            "SELECT value FROM flow_values WHERE flow_no = ? AND name = ?", (self.no, name)
        ).fetchone()
        return decode(stored, lambda digest: blob(self._connection, digest))


def blob(connection: Connection, digest: str) -> bytes:
    """The content of a digest."""
    row = connection.execute("SELECT content FROM blobs WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise StoreError(f"The store names the content {digest} and does not have it; its file is damaged")
    content: bytes = row[0]
    return content


def _step_values(
    step: str, visit: int, status: str, size: int, counts: str | None, strip: str | None, fields: Stored
) -> dict[str, Any]:
    shown = {**decode_fields(fields), "status": status}
    if size and counts is not None and strip is not None:
        shown["counts"], shown["strip"] = from_text(counts), from_text(strip)
    return step_values(step, visit, shown)


def flows(
    connection: Connection,
    *,
    flow_name: str | None,
    statuses: Sequence[str],
    search: str,
    since: float | None,
    behind: tuple[float, str] | None,
    limit: int,
) -> FlowPage:
    """One page of flows, newest first."""
    conditions: list[str] = []
    values: list[Any] = []

    def require(condition: str, *given: object) -> None:
        conditions.append(condition)
        values.extend(given)

    if flow_name is not None:
        require("flow_name = ?", flow_name)
    if statuses:
        require(f"status IN ({', '.join('?' * len(statuses))})", *statuses)
    if since is not None:
        require("created_at >= ?", since)
    if behind is not None:
        require("(created_at, flow_id) < (?, ?)", *behind)
    if search:
        require("no IN (SELECT flow_no FROM flow_texts WHERE instr(searched, ?) > 0)", search)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    query = f"SELECT {_COLUMNS} FROM flows {where}ORDER BY created_at DESC, flow_id DESC LIMIT ?"  # noqa: S608 - conditions of ours
    found = [FlowReader(connection, row) for row in connection.execute(query, (*values, limit + 1))]
    page = found[:limit]
    last = page[-1] if len(found) > len(page) else None
    return FlowPage(
        [flow.shown() for flow in page], flow_cursor(last.created_at, last.flow_id) if last is not None else None
    )


def members(
    connection: Connection,
    flow_id: str,
    step: str,
    *,
    visit: int | None,
    status: Sequence[StepStatus],
    cursor: str | None,
    limit: int,
) -> MemberPage:
    """One page of a group."""
    group = _group(connection, flow_id, step, visit)
    if group is None:
        return MemberPage([])
    no, which, size, strip = group
    query = MemberQuery.of(cursor, size, status, strip)
    return member_page(step, which, query, limit, _kept_members(connection, no))


def facts_of_members(
    connection: Connection,
    flow_id: str,
    step: str,
    *,
    visit: int,
    first: int,
    end: int | None,
    status: Sequence[StepStatus],
) -> list[MemberFacts]:
    """Light rows of the members from one up to another one."""
    group = _group(connection, flow_id, step, visit)
    if group is None:
        return []
    no, _, size, strip = group
    query = MemberQuery.between(first, size, status, strip)
    return member_facts(query, _kept_members(connection, no), end)


def _group(connection: Connection, flow_id: str, step: str, visit: int | None) -> tuple[int, int, int, Strip] | None:
    """Number, visit, size and strip of a visit, the last one when None."""
    flow = connection.execute("SELECT no FROM flows WHERE flow_id = ?", (flow_id,)).fetchone()
    if flow is None:
        raise not_found(flow_id)
    condition, values = ("", ()) if visit is None else ("AND visit = ? ", (visit,))
    query = "SELECT no, visit, size, strip FROM steps WHERE flow_no = ? AND step = ? "
    row = connection.execute(f"{query}{condition}ORDER BY visit DESC LIMIT 1", (*flow, step, *values)).fetchone()
    if row is None:
        return None
    no, which, size, strip = row
    return no, which, size, from_text(strip) if strip is not None else []


def _kept_members(connection: Connection, no: int) -> KeptMembers:
    query = "SELECT idx, status, fields FROM members WHERE step_no = ? AND idx >= ? AND idx < ? "

    def fetch(start: int, end: int, states: Collection[str]) -> tuple[list[Row], int]:
        condition = f"AND status IN ({', '.join('?' * len(states))}) " if states else ""
        found = connection.execute(f"{query}{condition}ORDER BY idx LIMIT ?", (no, start, end, *states, _MEMBERS))
        listed = found.fetchall()
        rows: list[Row] = []
        for (index, state, _), fields in zip(listed, decode_rows([row[2] for row in listed]), strict=True):
            fields["status"] = state
            rows.append((index, fields))
        return rows, rows[-1][0] + 1 if len(rows) == _MEMBERS else end

    def content(first: int) -> Any:
        found = connection.execute("SELECT content FROM member_blocks WHERE step_no = ? AND idx = ?", (no, first))
        return decode(found.fetchone()[0], lambda digest: blob(connection, digest))

    spans = connection.execute("SELECT idx, behind FROM member_blocks WHERE step_no = ? ORDER BY idx", (no,))
    return KeptMembers(fetch, [range(*span) for span in spans], content)


def events(connection: Connection, flow_id: str, after: int, limit: int | None) -> list[Journaled]:
    """Lines of a journal."""
    row = connection.execute("SELECT no FROM flows WHERE flow_id = ?", (flow_id,)).fetchone()
    if row is None:
        return []
    first = row[0] * LINES
    lines = connection.execute(
        "SELECT place, at, kind, step, visit, idx, attempt, epoch, generation, data FROM journal "
        "WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
        (first + after, first + LINES, -1 if limit is None else limit),
    )
    return list(_journaled(connection, lines, first))


def _journaled(connection: Connection, lines: Cursor, first: int) -> Iterator[Journaled]:
    for place, at, kind, step, visit, index, attempt, epoch, generation, data in lines:
        value = decode(data, lambda digest: blob(connection, digest))
        yield Journaled(
            kind, step, visit, index, attempt, value, seq=place - first, at=at, epoch=epoch, generation=generation
        )


def changed_flows(connection: Connection, after: int | None, limit: int) -> FlowChanges:
    """Flows that changed behind a number."""
    (last,) = connection.execute("SELECT last FROM changes").fetchone()
    if after is None or after >= last:
        return FlowChanges(last)
    rows = connection.execute(
        "SELECT changed, flow_id, flow_name, status, version, seq FROM flows "
        "WHERE changed > ? ORDER BY changed LIMIT ?",
        (after, limit),
    )
    return FlowChanges(
        last,
        tuple(
            FlowChange(number, flow_id, name, FlowStatus(status), version, seq)
            for number, flow_id, name, status, version, seq in rows
        ),
    )


def open_flows(connection: Connection, at: float) -> list[FlowRecord]:
    """What recovery looks at."""
    return [FlowReader(connection, row).record(lambda _: False) for row in connection.execute(_OPEN, (at,))]


def ended_flows(connection: Connection, before: float, keep: int, limit: int) -> list[str]:
    """Flows that ended up to a time, or beyond so many that ended after them; the oldest first."""
    return [flow_id for (flow_id,) in connection.execute(_ENDED, (keep, before, limit))]
