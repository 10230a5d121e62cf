"""What came of a branch, as typed JSON data and back: for workers that send it, and for flows that record it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from graflow.channels.branch import ChannelWrite
from graflow.codec import ErrorData, describe_error, from_jsonable, rebuild_error, to_jsonable
from graflow.core.branches.outcome import BranchOutcome, OpenQuestion, Requests
from graflow.encoding.shapes import (
    Shape,
    anything,
    check_parts,
    check_shapes,
    is_count,
    is_flag,
    is_object,
    is_seconds,
    is_text,
    list_of,
    object_of,
    optional,
    row_of,
)
from graflow.exceptions import PayloadError
from graflow.values.blobs import LONG, GivenBlobs, TakenBlobs
from graflow.values.pickles import Pickles
from graflow.values.plain import MAX_INT_BITS

_SHAPES: Final[Mapping[str, Shape]] = {
    "duration": is_seconds,
    "timestamp": is_seconds,
    "results": list_of(row_of(is_text, is_object)),
    "completed": list_of(is_text),
    "steps": is_count,
    "cycle_counts": object_of(is_count),
    "retry_counts": object_of(is_count),
    "losses": is_count,
    "writes": list_of(row_of(is_text, anything, optional(is_seconds), is_flag)),
    "nodes": list_of(row_of(is_text, list_of(is_text))),
    "passes": object_of(is_text),
    "exits": list_of(row_of(is_text, is_text)),
    "jumps": list_of(is_text),
    "waiting": list_of(row_of(is_text, is_text, is_seconds)),
    "canceled": is_flag,
    "cancel_message": optional(is_text),
    "cancel_task_id": optional(is_text),
    "checkpoint": lambda value: is_object(value) and value.keys() == {"metadata", "path"},
    "terminated": optional(is_text),
    "said": list_of(row_of(is_seconds, is_text, is_text)),
}

Check = Callable[[object, str], None]
"""Refuses a value before it is held several times over; given the value and the words for where it is."""


def outcome_to_data(
    outcome: BranchOutcome,
    pickles: Pickles | None = None,
    check: Check | None = None,
    blobs: TakenBlobs | None = None,
) -> dict[str, Any]:
    """An outcome as JSON data; what is as usual is left out.

    Args:
        outcome: What came of a branch.
        pickles: What values go by that have no other form; they are refused when None.
        check: Looks at each value first.
        blobs: Takes long values; they are a part of the data when None.

    Raises:
        PayloadError: When a value cannot be kept; the text names task and type.
    """
    task_id = outcome.task_id
    body: dict[str, Any] = {"duration": round(outcome.duration, 6), "timestamp": outcome.timestamp}
    if outcome.success:
        body["value"] = kept(outcome.value, f"the result of task '{task_id}'", pickles, check, blobs)
    elif outcome.error is not None:
        body["error"] = describe_error(outcome.error).to_dict()
    alone = outcome.completed == [task_id] and outcome.cycle_counts == {task_id: 1} and outcome.steps == 1
    if not (alone and outcome.success and [name for name, _ in outcome.results] == [task_id]):
        body["results"] = [
            [name, result_to_data(name, value, pickles, check, blobs)] for name, value in outcome.results
        ]
        body["completed"] = outcome.completed
        body["steps"] = outcome.steps
        body["cycle_counts"] = outcome.cycle_counts
    body.update(_rarely_used(outcome, pickles, check, blobs))
    return body


def _rarely_used(
    outcome: BranchOutcome, pickles: Pickles | None, check: Check | None, blobs: TakenBlobs | None
) -> dict[str, Any]:
    where, requests = f"a channel value of task '{outcome.task_id}'", outcome.requests
    rare: dict[str, Any] = {
        "retry_counts": outcome.retry_counts,
        "losses": outcome.losses,
        "writes": [
            [w.key, kept(w.value, f"{where}, key '{w.key}'", pickles, check, blobs), w.ttl, w.deleted]
            for w in outcome.writes
        ],
        "nodes": requests.nodes,
        "passes": requests.passes,
        "exits": requests.exits,
        "jumps": requests.jumps,
        "waiting": [[asked.feedback_id, asked.task_id, asked.timeout] for asked in requests.waiting],
        "canceled": outcome.canceled,
        "cancel_message": outcome.cancel_message,
        "cancel_task_id": outcome.cancel_task_id,
        "checkpoint": requests.checkpoint
        and kept(requests.checkpoint, f"the checkpoint of task '{outcome.task_id}'", None, check, blobs),
        "said": outcome.said,
    }
    found = {name: value for name, value in rare.items() if value}
    if requests.terminated is not None:
        found["terminated"] = requests.terminated
    return found


def outcome_from_data(
    body: Mapping[str, Any], task_id: str, pickles: Pickles | None = None, blobs: GivenBlobs | None = None
) -> BranchOutcome:
    """The outcome that `outcome_to_data` wrote.

    Raises:
        PayloadError: When it cannot be read.
    """
    check_shapes(body, _SHAPES, what := f"What came of '{task_id}'")
    error = None if "error" not in body else rebuild_error(ErrorData.from_dict(body["error"]), task_id)
    outcome = BranchOutcome(
        task_id,
        success=error is None and not body.get("canceled") and not body.get("waiting"),
        value=from_jsonable(body.get("value"), pickles=pickles, blobs=blobs),
        error=error,
        duration=float(body.get("duration", 0.0)),
        timestamp=float(body.get("timestamp", 0.0)),
    )
    if "results" in body:
        check_parts(body, "completed", "steps", "cycle_counts", what=what)
        outcome.results = [(name, result_from_data(name, data, pickles, blobs)) for name, data in body["results"]]
        outcome.completed = list(body["completed"])
        outcome.steps = int(body["steps"])
        outcome.cycle_counts = dict(body["cycle_counts"])
    else:
        outcome.results = [(task_id, outcome.value)]
        outcome.completed, outcome.steps, outcome.cycle_counts = [task_id], 1, {task_id: 1}
    outcome.retry_counts = dict(body.get("retry_counts", {}))
    outcome.losses = int(body.get("losses", 0))
    outcome.said = [(at, level, text) for at, level, text in body.get("said", ())]
    outcome.writes = [
        ChannelWrite(key, from_jsonable(value, pickles=pickles, blobs=blobs), ttl, deleted)
        for key, value, ttl, deleted in body.get("writes", ())
    ]
    outcome.canceled = bool(body.get("canceled"))
    outcome.cancel_message, outcome.cancel_task_id = body.get("cancel_message"), body.get("cancel_task_id")
    outcome.requests = Requests(
        nodes=[(name, list(parents)) for name, parents in body.get("nodes", ())],
        passes=dict(body.get("passes", {})),
        exits=[(source, target) for source, target in body.get("exits", ())],
        jumps=list(body.get("jumps", ())),
        waiting=[OpenQuestion(*asked) for asked in body.get("waiting", ())],
        terminated=body.get("terminated"),
        checkpoint=from_jsonable(body.get("checkpoint"), blobs=blobs),
    )
    return outcome


def kept(
    value: object,
    where: str,
    pickles: Pickles | None = None,
    check: Check | None = None,
    blobs: TakenBlobs | None = None,
) -> Any:
    """A value as JSON data.

    Raises:
        PayloadError: When it has no form; the text says where it is.
    """
    if value is None or type(value) is bool or (type(value) is int and value.bit_length() <= MAX_INT_BITS):
        return value
    if check is not None:
        check(value, where)
    if type(value) is str and (blobs is None or len(value) < LONG):
        return value
    try:
        return to_jsonable(value, where=where, pickles=pickles, blobs=blobs)
    except TypeError as error:
        raise PayloadError(str(error), error) from error


def result_to_data(
    name: str,
    value: object,
    pickles: Pickles | None = None,
    check: Check | None = None,
    blobs: TakenBlobs | None = None,
) -> dict[str, Any]:
    """The result of a task, which may be the exception that it failed with.

    Raises:
        PayloadError: When it has no form.
    """
    if isinstance(value, BaseException):
        return {"error": describe_error(value).to_dict()}
    return {"value": kept(value, f"the result of task '{name}'", pickles, check, blobs)}


def result_from_data(
    name: str, data: Mapping[str, Any], pickles: Pickles | None = None, blobs: GivenBlobs | None = None
) -> Any:
    """What `result_to_data` wrote.

    Raises:
        PayloadError: When it cannot be read.
    """
    check_parts(data, *(() if "error" in data else ("value",)), what=f"The result of '{name}'")
    if "error" in data:
        return rebuild_error(ErrorData.from_dict(data["error"]), name)
    return from_jsonable(data["value"], pickles=pickles, blobs=blobs)
