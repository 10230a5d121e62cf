"""The outcome of a member on its way back from a worker: typed JSON around a `BranchOutcome`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.channels.branch import ChannelWrite
from graflow.codec import ErrorData, describe_error, from_jsonable, rebuild_error, to_jsonable
from graflow.core.branches.outcome import BranchOutcome, Requests
from graflow.core.serialization import signed_pickles
from graflow.exceptions import PayloadError
from graflow.signing import SigningKeys
from graflow.values.pickles import Pickles
from graflow_celery.wire.payload import PAYLOAD_LIMIT, VERSION, dump, pack, parse, too_long, unpack


def result_pickles(keys: SigningKeys | None, run_id: str, index: int) -> Pickles:
    """What values of a member's outcome go by that have no other form."""
    return signed_pickles(keys, "result", run_id, str(index))


def pack_outcome(outcome: BranchOutcome, pickles: Pickles | None = None) -> bytes:
    """The outcome of a member as typed JSON.

    Raises:
        PayloadError: When a value cannot be kept or is over the limit; the text names task and type.
    """
    task_id = outcome.task_id
    where = f"the result of task '{task_id}'"
    body: dict[str, Any] = {
        "version": VERSION,
        "duration": round(outcome.duration, 6),
        "timestamp": outcome.timestamp,
    }
    if outcome.success:
        body["value"] = _kept(outcome.value, where, pickles)
    elif outcome.error is not None:
        body["error"] = describe_error(outcome.error).to_dict()
    alone = outcome.completed == [task_id] and outcome.cycle_counts == {task_id: 1} and outcome.steps == 1
    if not (alone and outcome.success and [name for name, _ in outcome.results] == [task_id]):
        body["results"] = [[name, _kept_result(name, value, pickles)] for name, value in outcome.results]
        body["completed"] = outcome.completed
        body["steps"] = outcome.steps
        body["cycle_counts"] = outcome.cycle_counts
    body.update(_rarely_used(outcome, pickles))
    return pack(dump(body), what=where)


def _rarely_used(outcome: BranchOutcome, pickles: Pickles | None) -> dict[str, Any]:
    where, requests = f"a channel value of task '{outcome.task_id}'", outcome.requests
    rare: dict[str, Any] = {
        "retry_counts": outcome.retry_counts,
        "writes": [
            [w.key, _kept(w.value, f"{where}, key '{w.key}'", pickles), w.ttl, w.deleted] for w in outcome.writes
        ],
        "nodes": requests.nodes,
        "passes": requests.passes,
        "exits": requests.exits,
        "jumps": requests.jumps,
        "canceled": outcome.canceled,
        "cancel_message": outcome.cancel_message,
        "cancel_task_id": outcome.cancel_task_id,
        "checkpoint": requests.checkpoint
        and _kept(requests.checkpoint, f"the checkpoint of task '{outcome.task_id}'", None),
    }
    kept = {name: value for name, value in rare.items() if value}
    if requests.terminated is not None:
        kept["terminated"] = requests.terminated
    return kept


def unpack_outcome(packed: bytes, task_id: str, pickles: Pickles | None = None) -> BranchOutcome:
    """The outcome that `pack_outcome` wrote.

    Raises:
        PayloadError: When it cannot be read.
    """
    body = parse(unpack(packed), "outcome")
    error = None if "error" not in body else rebuild_error(ErrorData.from_dict(body["error"]), task_id)
    outcome = BranchOutcome(
        task_id,
        success=error is None and not body.get("canceled"),
        value=from_jsonable(body.get("value"), pickles=pickles),
        error=error,
        duration=float(body.get("duration", 0.0)),
        timestamp=float(body.get("timestamp", 0.0)),
    )
    if "results" in body:
        outcome.results = [(name, _result_of(name, data, pickles)) for name, data in body["results"]]
        outcome.completed = list(body["completed"])
        outcome.steps = int(body["steps"])
        outcome.cycle_counts = dict(body["cycle_counts"])
    else:
        outcome.results = [(task_id, outcome.value)]
        outcome.completed, outcome.steps, outcome.cycle_counts = [task_id], 1, {task_id: 1}
    outcome.retry_counts = dict(body.get("retry_counts", {}))
    outcome.writes = [
        ChannelWrite(key, from_jsonable(value, pickles=pickles), ttl, deleted)
        for key, value, ttl, deleted in body.get("writes", ())
    ]
    outcome.canceled = bool(body.get("canceled"))
    outcome.cancel_message, outcome.cancel_task_id = body.get("cancel_message"), body.get("cancel_task_id")
    outcome.requests = Requests(
        nodes=[(name, list(parents)) for name, parents in body.get("nodes", ())],
        passes=dict(body.get("passes", {})),
        exits=[(source, target) for source, target in body.get("exits", ())],
        jumps=list(body.get("jumps", ())),
        terminated=body.get("terminated"),
        checkpoint=from_jsonable(body.get("checkpoint")),
    )
    return outcome


def remote_error_of(packed: bytes) -> ErrorData | None:
    """The error of a packed outcome as data, or None."""
    body = parse(unpack(packed), "outcome")
    return ErrorData.from_dict(body["error"]) if "error" in body else None


def value_of(packed: bytes, pickles: Pickles | None = None) -> Any:
    """The value of a packed outcome."""
    return from_jsonable(parse(unpack(packed), "outcome").get("value"), pickles=pickles)


def pack_failure(error: BaseException, timestamp: float) -> bytes:
    """An outcome for a member whose task never ran to its end."""
    body = {"version": VERSION, "duration": 0.0, "timestamp": timestamp, "error": describe_error(error).to_dict()}
    body.update({"results": [], "completed": [], "steps": 0, "cycle_counts": {}})
    return pack(dump(body), what="an error")


def _kept(value: object, where: str, pickles: Pickles | None) -> Any:
    if isinstance(value, str | bytes | bytearray) and len(value) > PAYLOAD_LIMIT:
        raise too_long(where, len(value))  # before it is held several times over
    if value is None or type(value) in (bool, int, str):
        return value
    try:
        return to_jsonable(value, where=where, pickles=pickles)
    except TypeError as error:
        raise PayloadError(str(error), error) from error


def _kept_result(name: str, value: object, pickles: Pickles | None) -> dict[str, Any]:
    if isinstance(value, BaseException):
        return {"error": describe_error(value).to_dict()}
    return {"value": _kept(value, f"the result of task '{name}'", pickles)}


def _result_of(name: str, data: Mapping[str, Any], pickles: Pickles | None) -> Any:
    if "error" in data:
        return rebuild_error(ErrorData.from_dict(data["error"]), name)
    return from_jsonable(data["value"], pickles=pickles)
