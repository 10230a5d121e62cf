"""What rows of steps and members have of values, arguments and outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from typing import Any, Final

from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.flows.recording.journal import Visit
from graflow.state.described import SHOWN, described
from graflow.state.encoding import quick_encoder
from graflow.state.models import FlowState
from graflow.state.statuses import StepStatus

_SHORT: Final = 100  # characters of an argument that is shown beside large ones
_UNFINISHED: Final = frozenset(
    {StepStatus.PENDING, StepStatus.READY, StepStatus.QUEUED, StepStatus.RUNNING, StepStatus.WAITING, StepStatus.PAUSED}
)
_SIZED: Final = frozenset({str, bytes, list, tuple, dict})
_encode: Final = quick_encoder(ensure_ascii=False)
_decode: Final[Any] = json.JSONDecoder().decode


def value_of_outcome(outcome: Mapping[str, Any], node: str) -> Any:
    """What a step returned; the channel has it already when it went there as it is."""
    if "value" in outcome:
        return outcome["value"]
    key = node + RESULT_SUFFIX
    for operation in reversed(outcome.get("channel", ())):  # nearly always the last one
        if operation[1] == key and operation[0] == "set":
            return operation[2]
    return None


def arguments_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the row of a step has of its arguments.

    All of them, and their digest, where they are plain JSON and small; else the short ones, and what kind of thing each
    other one is.
    """
    try:
        # What has many parts is not written down only to see how long it is.
        if all(type(value) not in _SIZED or len(value) <= SHOWN for value in given.values()):
            text = _encode(given)
            if len(text) <= SHOWN:
                digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
                return {"inputs": _decode(text), "input_digest": digest}
    except (TypeError, ValueError, RecursionError):
        pass  # no plain JSON
    return {
        "inputs": {name: value if _is_short(value) else f"<{type(value).__name__}>" for name, value in given.items()}
    }


def _is_short(value: object) -> bool:
    if type(value) is str:
        return len(value) <= _SHORT
    return value is None or type(value) in {bool, int} or (type(value) is float and isfinite(value))


def unfinished(state: FlowState | None) -> list[Visit]:
    """Visits that have begun, or were to, and have not ended."""
    return [] if state is None else [(row.step_name, row.visit) for row in state.steps if row.status in _UNFINISHED]


def member_fields(told: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a member."""
    started, ended, error = told.get("started_at"), told.get("ended_at"), told.get("error")
    fields: dict[str, Any] = {
        "status": "completed" if told["success"] else "failed",
        "started_at": started,
        "completed_at": ended,
        "attempts": told.get("attempts", 1),
        "worker": told.get("worker"),
    }
    if error is not None:
        fields["error"], fields["error_data"] = f"{error.get('type')}: {error.get('message')}", error
    if told["success"]:
        fields.update(described((told.get("outcome") or {}).get("value")))
    fields.update(told.get("facts") or {} if told["success"] else {})
    return fields
