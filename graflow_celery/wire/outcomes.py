"""The outcome of a member on its way back from a worker: typed JSON around a `BranchOutcome`."""

from __future__ import annotations

from typing import Any

from graflow.codec import ErrorData, describe_error, from_jsonable
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import outcome_from_data, outcome_to_data
from graflow.core.serialization import signed_pickles
from graflow.signing import SigningKeys
from graflow.values.pickles import Pickles
from graflow_celery.record import RecordedOutcome
from graflow_celery.wire.payload import PAYLOAD_LIMIT, VERSION, dump, pack, parse, too_long, unpack


def result_pickles(keys: SigningKeys | None, run_id: str, index: int) -> Pickles:
    """What values of a member's outcome go by that have no other form."""
    return signed_pickles(keys, "result", run_id, str(index))


def pack_outcome(outcome: BranchOutcome, pickles: Pickles | None = None) -> bytes:
    """The outcome of a member as typed JSON.

    Raises:
        PayloadError: When a value cannot be kept or is over the limit; the text names task and type.
    """
    body = {"version": VERSION, **outcome_to_data(outcome, pickles, _refuse_long)}
    return pack(dump(body), what=f"the result of task '{outcome.task_id}'")


def unpack_outcome(packed: bytes, task_id: str, pickles: Pickles | None = None) -> BranchOutcome:
    """The outcome that `pack_outcome` wrote.

    Raises:
        PayloadError: When it cannot be read.
    """
    return outcome_from_data(parse(unpack(packed), "outcome"), task_id, pickles)


def remote_error_of(packed: bytes) -> ErrorData | None:
    """The error of a packed outcome as data, or None."""
    body = parse(unpack(packed), "outcome")
    return ErrorData.from_dict(body["error"]) if "error" in body else None


def loss_of(outcome: RecordedOutcome) -> tuple[int, str]:
    """How often a LOST member was lost, and how the last of its processes died, as far as that is known."""
    losses, _, how = outcome.payload.decode().partition(" ")
    return int(losses or 0), how


def value_of(packed: bytes, pickles: Pickles | None = None) -> Any:
    """The value of a packed outcome."""
    return from_jsonable(parse(unpack(packed), "outcome").get("value"), pickles=pickles)


def pack_failure(error: BaseException, timestamp: float, losses: int = 0) -> bytes:
    """An outcome for a member whose task never ran to its end."""
    body = {"version": VERSION, "duration": 0.0, "timestamp": timestamp, "error": describe_error(error).to_dict()}
    body.update({"results": [], "completed": [], "steps": 0, "cycle_counts": {}, "losses": losses})
    return pack(dump(body), what="an error")


def _refuse_long(value: object, where: str) -> None:
    if isinstance(value, str | bytes | bytearray) and len(value) > PAYLOAD_LIMIT:
        raise too_long(where, len(value))  # before it is held several times over
