"""Turns what Redis answers into the data of the group record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import zip_longest
from typing import Any, Final, ParamSpec, TypeVar

from graflow.exceptions import GraflowError, PayloadError, SignatureError
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record.blobs import parted
from graflow_celery.record.data.blocks import BlockClaim, BlockCompletion, GrantedBlock
from graflow_celery.record.data.groups import GroupHeader, GroupSpec, GroupState, GroupStatus, Opened, Reopened
from graflow_celery.record.data.members import Claim, Completion, GrantedMember, MemberState, RecordedOutcome
from graflow_celery.record.data.pages import ClaimedMember, Cursor, OutcomePage, RecordedBlock
from graflow_celery.record.data.specs import Known, Specs

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


_LATEST: Final = 2 * 10**14  # milliseconds since the epoch
_Answer = TypeVar("_Answer")
_Of = ParamSpec("_Of")


def as_read(function: Callable[_Of, _Answer]) -> Callable[_Of, _Answer]:
    """Have a function that takes answers apart raise `PayloadError` for a record that is damaged, whatever is wrong."""

    @wraps(function)
    def read(*args: _Of.args, **kwargs: _Of.kwargs) -> _Answer:
        try:
            return function(*args, **kwargs)
        except GraflowError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise PayloadError(f"The record of a group is damaged: {type(error).__name__}: {error}") from error

    return read


def seconds(milliseconds: bytes | int | None) -> float | None:
    """A time of the record; 0 stands for none."""
    return _moment(str(int(milliseconds))) if milliseconds and int(milliseconds) else None


@as_read
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


@as_read
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


def _moment(milliseconds: str) -> float:
    """A time of the record in seconds; one that no calendar holds is none.

    Raises:
        ValueError: it is no such time.
    """
    found = int(milliseconds)
    if not 0 <= found < _LATEST:
        raise ValueError(f"{milliseconds[:40]} is no time")
    return found / 1000


@as_read
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
        finished_at=_moment(finished),
        late=late == "1",
        payload=payload,
        blobs=blobs,
    )


@as_read
def block_of(number: int, text: bytes, stride: int, n: int) -> RecordedBlock:
    """A block of which every member is recorded: what `blocks.lua` says of its entry, and of what a reader gets."""
    line, _, rest = text.partition(b"\n")
    members = range(number * stride, min((number + 1) * stride, n))
    kind, *parts = line.decode().split(" ", 4)
    if kind == "e":  # by the record itself
        state, attempts, time, owner = parts
        if state == MemberState.SUCCEEDED:
            raise PayloadError("The record of a group is damaged: only workers tell of members that succeeded")
        return RecordedBlock(number, members, int(attempts), owner, _moment(time), rest, MemberState(state))
    attempts, time, _, owner = parts
    again, _, page = rest.partition(b"\n")
    return RecordedBlock(
        number, members, int(attempts), owner, _moment(time), page, again=frozenset(map(int, again.split()))
    )


def claimed_of(
    n: int, stride: int, opened: int, claims: Mapping[bytes, bytes], blocks: Mapping[bytes, bytes]
) -> list[ClaimedMember]:
    """Who runs what, by index, of the hashes of claims and blocks."""
    found: list[tuple[range, str, str, str, str]] = []
    for index, text in claims.items():
        attempt, _, _, _, queued, since, owner = text.decode().split(" ", 6)
        if int(since):
            found.append((range(int(index), int(index) + 1), attempt, queued, since, owner))
    for number, text in blocks.items():
        if text[:1] == b"c":
            first = int(number) * stride
            _, attempt, queued, since, owner = text.decode().split(" ", 4)
            found.append((range(first, min(first + stride, n)), attempt, queued, since, owner))
    return sorted(
        (
            ClaimedMember(index, int(attempt), owner, (int(queued) or opened) / 1000, int(since) / 1000)
            for members, attempt, queued, since, owner in found
            for index in members
        ),
        key=lambda claimed: claimed.index,
    )


def granted_of(
    numbers: Sequence[bytes], envelopes: Sequence[bytes | None], spec: GroupSpec | None
) -> list[GrantedMember]:
    """Granted members of a flat list (index, attempt, losses, retries) and their envelopes, which may be left out.

    The members of a block share a chunk, which comes with the first of them.
    """
    flat = map(int, numbers)
    members = zip(flat, flat, flat, flat, strict=True)
    chunks: dict[int, bytes] = {}
    granted = []
    for (index, attempt, losses, retries), envelope in zip_longest(members, envelopes):
        found = envelope or b""
        if spec is not None and spec.stride and index < spec.n:
            found = chunks.setdefault(index // spec.stride, found)
        granted.append(GrantedMember(index, attempt, losses, retries, found))
    return granted


@as_read
def page_of(reply: Any, position: int) -> OutcomePage:
    """What `read.lua` answers from a position on."""
    state, closed, epoch, (*counts, stride), last_event, pairs, recorded, round_, overdue = reply
    named = [(pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2)]
    outcomes = [outcome_of(int(name), text) for name, text in named if name[:1] != b"b"]
    blocks = [block_of(int(name[1:]), text, stride, counts[0]) for name, text in named if name[:1] == b"b"]
    position += len(named)
    return OutcomePage(
        outcomes=outcomes,
        cursor=Cursor(position, epoch.decode()),
        last_event=last_event,
        status=status_of(state, counts),
        more=position < recorded,
        closed=closed == 1 and position >= recorded,
        round=round_,
        overdue=overdue == 1,
        blocks=blocks,
    )


@as_read
def opened_of(reply: Any) -> Opened:
    """What `open.lua` answers for a group that is there."""
    status, state, epoch, published, stride, *event = reply
    return Opened(
        created=status == b"CREATED",
        state=GroupState(state.decode()),
        epoch=epoch.decode(),
        published=int(published) == 1,
        stride=int(stride),
        event=event[0] if event else b"",
    )


@as_read
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


def _trusted(
    opener: bytes, written: bytes, run_id: str, specs: Specs, known: Known
) -> tuple[GroupSpec | None, SignatureError | None]:
    """The specification, or why it is not believed."""
    try:
        return specs.claimed(run_id, opener, written, known), None
    except SignatureError as error:
        return None, error


@as_read
def claim_of(reply: Any, asked: Sequence[int], run_id: str, specs: Specs, known: Known) -> Claim:
    """What `claim.lua` answers; a run that is gone refuses everything."""
    if reply[0] is None:
        return Claim(None, None, [], [], list(asked), [], None)
    text, written, found = reply
    state, remaining, granted, left, refused, blocked, opener = text.split(b";")
    spec, distrust = _trusted(opener, written, run_id, specs, known)
    return Claim(
        spec=spec,
        distrust=distrust,
        state=GroupState(state.decode()),
        granted=granted_of(granted.split(), found, spec),
        left=[int(index) for index in left.split()],
        refused=integers(refused.split()),
        blocked=integers(blocked.split()),
        remaining=None if int(remaining) < 0 else int(remaining) / 1000,
    )


@as_read
def block_claim_of(reply: Any, run_id: str, specs: Specs, known: Known) -> BlockClaim:
    """What `claim_blocks.lua` answers; a run that is gone grants and leaves nothing."""
    if reply[0] is None:
        return BlockClaim(None, None, [], [], None)
    text, written, chunks = reply
    state, remaining, granted, left, opener = text.split(b";")
    spec, distrust = _trusted(opener, written, run_id, specs, known)
    ends, flat = [int(end) for end in left.split()], map(int, granted.split())
    places = zip(flat, flat, flat, flat, strict=True)
    return BlockClaim(
        spec=spec,
        distrust=distrust,
        state=GroupState(state.decode()),
        granted=[
            GrantedBlock(number, attempt, range(first, last + 1), chunk)
            for (number, attempt, first, last), chunk in zip(places, chunks, strict=True)
        ],
        left=[index for first, last in zip(ends[::2], ends[1::2], strict=True) for index in range(first, last + 1)],
        remaining=None if int(remaining) < 0 else int(remaining) / 1000,
    )


@as_read
def block_completion_of(reply: bytes | None) -> BlockCompletion:
    """What `complete_blocks.lua` answers; a run that is gone records and splits nothing."""
    if reply is None:
        return BlockCompletion([], [], None, False, False)
    state, recorded, split, done, continuation = reply.split(b";")
    return BlockCompletion(
        recorded=integers(recorded.split()),
        split=integers(split.split()),
        state=GroupState(state.decode()),
        done=done == b"1",
        continuation=continuation == b"1",
    )


@as_read
def completion_of(reply: bytes | None, reported: Sequence[int]) -> Completion:
    """What `complete.lua` answers; a run that is gone refuses everything."""
    if reply is None:
        return Completion([], [], list(reported), None, False, False, [])
    state, recorded, late, refused, done, continuation, ready, missing, has_more = reply.split(b";")
    return Completion(
        recorded=integers(recorded.split()),
        late=integers(late.split()),
        refused=integers(refused.split()),
        state=GroupState(state.decode()),
        done=done == b"1",
        continuation=continuation == b"1",
        ready=integers(ready.split()),
        missing=integers(missing.split()),
        has_more=has_more == b"1",
    )


def integers(values: Sequence[bytes]) -> list[int]:
    """Indices, each once and in order."""
    return sorted({int(value) for value in values})
