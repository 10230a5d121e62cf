"""What one transition does to the tables; runs inside a transaction."""

from __future__ import annotations

from typing import Final

from graflow.exceptions import StaleEpochError
from graflow.state.changes import Appended, Change, FlowRecord, NewFlow, Request, RequestKind
from graflow.state.reading import searched_text
from graflow.state.sqlite.rows import LINES, FlowWriter
from graflow.state.sqlite.session import Session
from graflow.state.statuses import MOVES, FlowStatus, Move, MoveRule
from graflow.state.transitions import (
    RUNNING,
    answers_requests,
    fields_of,
    refusal,
    refuse,
    refuse_delete,
    refuse_request,
    refused_line,
    request_line,
)
from graflow.state.written import Written

_OWNED_OF_NAME: Final = (
    f"SELECT count(*) FROM flows WHERE status IN ({', '.join(repr(each.value) for each in sorted(RUNNING))}) "  # noqa: S608
    "AND flow_name = (SELECT flow_name FROM flows WHERE no = ?)"
)
_END_QUESTIONS: Final = "UPDATE questions SET due = 0 WHERE flow_no = ? AND state = 'open'"
_DELETIONS: Final = (
    "DELETE FROM question_lines WHERE question_no IN (SELECT no FROM questions WHERE flow_no = :no)",
    "DELETE FROM questions WHERE flow_no = :no",
    "DELETE FROM members WHERE step_no IN (SELECT no FROM steps WHERE flow_no = :no)",
    "DELETE FROM member_blocks WHERE step_no IN (SELECT no FROM steps WHERE flow_no = :no)",
    "DELETE FROM steps WHERE flow_no = :no",
    "DELETE FROM journal WHERE place BETWEEN :first AND :last",
    "DELETE FROM flow_values WHERE flow_no = :no",
    "DELETE FROM flow_texts WHERE flow_no = :no",
    """DELETE FROM blobs WHERE digest IN (SELECT digest FROM blob_uses WHERE flow_no = :no)
    AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob_uses.digest = blobs.digest AND flow_no <> :no)""",
    "DELETE FROM blob_uses WHERE flow_no = :no",
    "DELETE FROM flows WHERE no = :no",
)


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
    if rule.target is not None:
        _move(session, flow, change, rule, written)
    elif written.fields:
        flow.set_fields(written.fields, written.texts)
    flow.version += 1
    flow.beats += rule.by_owner
    if change.cut:
        flow.cut(change.cut)
    flow.write(written, change.at, change.guard if rule.by_owner else flow.epoch)
    if rule.target is None and not written.fields:
        flow.save_quickly()
    else:
        flow.save()
    return Appended(flow.seq, flow.version, flow.epoch, flow.requests)


def _move(session: Session, flow: FlowWriter, change: Change, rule: MoveRule, written: Written) -> None:
    """Bring a flow to another state."""
    status = flow.status = rule.target or flow.status
    fields = fields_of(change, status, written.fields)
    if fields:
        flow.set_fields(fields, written.texts)
    flow.epoch += rule.raises_epoch
    if status not in RUNNING:
        flow.owner = None
    if answers_requests(change.move, status):
        flow.requests = ()
    if status.is_terminal:
        session.connection.execute(_END_QUESTIONS, (flow.no,))


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
