"""Turns what Redis answers into the data of the group record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from graflow.exceptions import SignatureError
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record.blobs import parted
from graflow_celery.record.data import (
    Claim,
    Completion,
    Cursor,
    GrantedMember,
    GroupHeader,
    GroupSpec,
    GroupState,
    GroupStatus,
    MemberState,
    Opened,
    OutcomePage,
    RecordedOutcome,
    Reopened,
)
from graflow_celery.record.specs import Specs

COUNTS = (
    "n",
    "running",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "CANCELLED",
    "LOST",
    "executions",
    "losses",
    "retries",
    "late",
    "refused",
    "retrying",
)
"""Fields of the header that make a status; `read.lua` answers them in this order."""


def seconds(milliseconds: bytes | int | None) -> float | None:
    """A time of the record; 0 stands for none."""
    return int(milliseconds) / 1000 if milliseconds and int(milliseconds) else None


def status_of(state: bytes, counts: Sequence[bytes | int | None]) -> GroupStatus:
    n, running, succeeded, failed, timed_out, cancelled, lost, executions, losses, retries, late, refused, retrying = (
        int(count or 0) for count in counts
    )
    return GroupStatus(
        total=n,
        pending=n - running - succeeded - failed - timed_out - cancelled - lost,
        running=running,
        succeeded=succeeded,
        failed=failed + timed_out,
        cancelled=cancelled,
        lost=lost,
        state=GroupState(state.decode()),
        timed_out=timed_out,
        executions=executions,
        losses=losses,
        retries=retries,
        late=late,
        refused=refused,
        retrying=retrying,
    )


def header_of(fields: Mapping[bytes, bytes], spec: GroupSpec, now: float) -> GroupHeader:
    return GroupHeader(
        spec=spec,
        state=GroupState(fields[b"state"].decode()),
        status=status_of(fields[b"state"], [fields.get(name.encode()) for name in COUNTS]),
        epoch=fields[b"epoch"].decode(),
        opened_at=seconds(fields.get(b"opened")) or 0.0,
        deadline=seconds(fields.get(b"deadline")),
        finished_at=seconds(fields.get(b"finished")),
        published=fields.get(b"published") == b"1",
        closed=fields.get(b"closed") == b"1",
        reason=fields.get(b"reason", b"").decode(),
        manifest_bytes=int(fields[b"manifest_bytes"]),
        outcome_bytes=int(fields.get(b"outcome_bytes", 0)),
        now=now,
    )


def outcome_of(index: int, text: bytes) -> RecordedOutcome:
    """An outcome is stored as one line "state attempt time late owner" and the payload as it came."""
    line, _, rest = text.partition(b"\n")
    payload, blobs = parted(rest)
    state, attempts, finished, late, owner = line.decode().split(" ", 4)
    return RecordedOutcome(
        index=index,
        state=MemberState(state),
        attempts=int(attempts),
        owner=owner,
        finished_at=int(finished) / 1000,
        late=late == "1",
        payload=payload,
        blobs=blobs,
    )


def outcomes_of(pairs: Sequence[bytes]) -> list[RecordedOutcome]:
    """Outcomes of a flat list: index, text, index, text."""
    return [outcome_of(int(pairs[i]), pairs[i + 1]) for i in range(0, len(pairs), 2)]


def granted_of(numbers: Sequence[bytes], envelopes: Sequence[bytes | None]) -> list[GrantedMember]:
    """Granted members of a flat list (index, attempt, losses, retries) and their envelopes, which may be left out."""
    flat = map(int, numbers)
    members = zip(flat, flat, flat, flat, strict=True)
    return [
        GrantedMember(index, attempt, losses, retries, envelope or b"")
        for (index, attempt, losses, retries), envelope in zip_longest(members, envelopes)
    ]


def page_of(reply: Any, position: int) -> OutcomePage:
    """What `read.lua` answers from a position on."""
    state, closed, epoch, counts, last_event, pairs, recorded, round_ = reply
    outcomes = outcomes_of(pairs)
    position += len(outcomes)
    return OutcomePage(
        outcomes=outcomes,
        cursor=Cursor(position, epoch.decode()),
        last_event=last_event,
        status=status_of(state, counts),
        more=position < recorded,
        closed=closed == 1 and position >= recorded,
        round=round_,
    )


def opened_of(reply: Any) -> Opened:
    """What `open.lua` answers for a group that is there."""
    status, state, epoch, published = reply
    return Opened(
        created=status == b"CREATED",
        state=GroupState(state.decode()),
        epoch=epoch.decode(),
        published=int(published) == 1,
    )


def reopened_of(reply: Any, run_id: str, index: int | None, specs: Specs) -> Reopened:
    """What `reopen.lua` answers for a run that is there.

    Raises:
        RetryRefusedError: nothing was done, and why.
    """
    status, *rest = reply
    spec = specs.read(rest[0], run_id)
    if status != b"REOPENED":
        raise RetryRefusedError(run_id, _refusal(status.decode(), spec, index))
    members, lost, continuation = rest[1:]
    return Reopened(
        spec=spec,
        members=[i for i in integers(members) if i < spec.n],
        lost=integers(lost),
        continuation=continuation == 1,
    )


def _refusal(status: str, spec: GroupSpec, index: int | None) -> str:
    run, last = f"group run '{spec.run_id}'", spec.n - 1
    return {
        "OPEN": f"{run} has not ended; wait until it has, or cancel it and submit its group anew",
        "CANCELLED": f"{run} was cancelled; submit its group anew, under another run id",
        "INNER": f"a member of group run '{spec.parent_run}' opened {run}; retry that one instead",
        "ABSENT": f"{run} has no member {index}; its members are 0 to {last}" if spec.n else f"{run} has no members",
        "SUCCEEDED": f"member {index} of {run} succeeded; only what did not can run again",
        "NOTHING": f"nothing of {run} failed",
        "ENOUGH": f"enough members of {run} succeeded; its policy leaves out the others",
    }[status]


def claim_of(reply: Any, asked: Sequence[int], run_id: str, specs: Specs) -> Claim:
    """What `claim.lua` answers; a run that is gone refuses everything."""
    if reply[0] is None:
        return Claim(None, None, [], [], list(asked), [], None)
    text, written, found = reply
    spec, distrust = None, None
    try:
        spec = specs.read(written, run_id)
    except SignatureError as error:
        distrust = error
    state, remaining, granted, left, refused, blocked = text.split(b";")
    return Claim(
        spec=spec,
        distrust=distrust,
        state=GroupState(state.decode()),
        granted=granted_of(granted.split(), found),
        left=[int(index) for index in left.split()],
        refused=integers(refused.split()),
        blocked=integers(blocked.split()),
        remaining=None if int(remaining) < 0 else int(remaining) / 1000,
    )


def completion_of(reply: bytes | None, reported: Sequence[int]) -> Completion:
    """What `complete.lua` answers; a run that is gone refuses everything."""
    if reply is None:
        return Completion([], [], list(reported), None, False, False, [])
    state, recorded, late, refused, done, continuation, ready = reply.split(b";")
    return Completion(
        recorded=integers(recorded.split()),
        late=integers(late.split()),
        refused=integers(refused.split()),
        state=GroupState(state.decode()),
        done=done == b"1",
        continuation=continuation == b"1",
        ready=integers(ready.split()),
    )


def integers(values: Sequence[bytes]) -> list[int]:
    """Indices, each once and in order."""
    return sorted({int(value) for value in values})
