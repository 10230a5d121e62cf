"""The outcome of a member on its way back from a worker: typed JSON around a `BranchOutcome`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from graflow.codec import ErrorData, describe_error, from_jsonable
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import outcome_from_data, outcome_to_data
from graflow.core.serialization import signed_pickles
from graflow.exceptions import SignatureError
from graflow.hearing.words import Line
from graflow.seals import content_of
from graflow.values.blobs import Content, GivenBlobs, TakenBlobs, made_of
from graflow.values.pickles import Pickles
from graflow_celery.record import GrantedMember, MemberReport, MemberState, RecordedOutcome
from graflow_celery.wire.payload import PAYLOAD_LIMIT, VERSION, dump, pack, parse, too_long, unpack
from graflow_celery.wire.seal import RunSeal

_OUTCOME: Final = "outcome"
_LONGEST_LOSS: Final = 1000  # bytes that the record keeps of how a process died
_DIGITS: Final = 10


def result_pickles(seal: RunSeal, index: int) -> Pickles:
    """What values of a member's outcome go by that have no other form."""
    return signed_pickles(seal.keys, "result", seal.run_id, str(index))


def report_of(
    seal: RunSeal,
    member: GrantedMember,
    state: MemberState,
    packed: bytes,
    blobs: Mapping[str, bytes] = MappingProxyType({}),
) -> MemberReport:
    """What a worker tells the record about a member: its packed outcome, sealed for its place and state.

    `blobs` are the long values that the outcome names, by their hashes, which the seal covers with it.
    """
    return MemberReport(member.index, member.attempt, state, sealed(seal, member.index, state, packed), blobs)


def sealed(seal: RunSeal, index: int, state: MemberState, packed: bytes) -> bytes:
    """A packed outcome, sealed for the member and the state that it ended in."""
    return seal.seal(packed, _OUTCOME, str(index), state)


def opened(seal: RunSeal, stored: RecordedOutcome) -> bytes:
    """The packed outcome that a worker has reported.

    Raises:
        SignatureError: When this process has keys, and the outcome is not signed for its place and state.
    """
    try:
        return seal.open(stored.payload, _OUTCOME, str(stored.index), stored.state)
    except SignatureError as error:
        raise SignatureError(
            f"What member {stored.index} of run '{seal.run_id}' is said to have come to is not believed: {error} "
            f"(worker: {stored.worker or 'none'})",
            error,
        ) from error


def pack_outcome(outcome: BranchOutcome, pickles: Pickles | None = None, blobs: TakenBlobs | None = None) -> bytes:
    """The outcome of a member as typed JSON.

    Args:
        outcome: What came of it.
        pickles: What values go by that have no other form.
        blobs: Takes long values, which the JSON then names by their hash; without it they are a part of it.

    Raises:
        PayloadError: When a value cannot be kept or is over the limit; the text names task and type.
    """
    check = _refuse_long if blobs is None else _refuse_long_array
    body = {"version": VERSION, **outcome_to_data(outcome, pickles, check, blobs)}
    return pack(dump(body), what=f"the result of task '{outcome.task_id}'")


def unpack_outcome(
    packed: bytes, task_id: str, pickles: Pickles | None = None, contents: Mapping[str, Content] | None = None
) -> BranchOutcome:
    """The outcome that `pack_outcome` wrote, whose long values are in `contents` by hash.

    Raises:
        PayloadError: When it cannot be read.
    """
    return outcome_from_data(parse(unpack(packed), "outcome"), task_id, pickles, _blobs_in(contents or {}))


def remote_error_of(packed: bytes) -> ErrorData | None:
    """The error of a packed outcome as data, or None; a seal around it is not verified."""
    body = parse(unpack(content_of(packed)), "outcome")
    return ErrorData.from_dict(body["error"]) if "error" in body else None


def loss_of(outcome: RecordedOutcome) -> tuple[int, str]:
    """How often a LOST member was lost, and how the last of its processes died, as far as that is known."""
    losses, _, how = outcome.payload[:_LONGEST_LOSS].decode(errors="replace").partition(" ")
    return int(losses) if losses.isascii() and losses.isdigit() and len(losses) < _DIGITS else 0, how


def value_of(packed: bytes, pickles: Pickles | None = None, contents: Mapping[str, Content] | None = None) -> Any:
    """The value of a packed outcome, as `unpack_outcome` gives it."""
    body = parse(unpack(packed), "outcome")
    return from_jsonable(body.get("value"), pickles=pickles, blobs=_blobs_in(contents or {}))


def _blobs_in(contents: Mapping[str, Content]) -> GivenBlobs:
    return GivenBlobs(lambda kind, name: made_of(kind, name, contents.get(name)))


def pack_failure(error: BaseException, timestamp: float, losses: int = 0, said: Sequence[Line] = ()) -> bytes:
    """An outcome for a member whose task never ran to its end."""
    body = {"version": VERSION, "duration": 0.0, "timestamp": timestamp, "error": describe_error(error).to_dict()}
    body.update({"results": [], "completed": [], "steps": 0, "cycle_counts": {}, "losses": losses})
    if said:
        body["said"] = said
    return pack(dump(body), what="an error")


def _refuse_long(value: object, where: str) -> None:
    if isinstance(value, str | bytes | bytearray) and len(value) > PAYLOAD_LIMIT:
        raise too_long(where, len(value))  # before it is held several times over


def _refuse_long_array(value: object, where: str) -> None:
    if isinstance(value, bytearray):  # text and bytes are looked at where they are taken
        _refuse_long(value, where)
