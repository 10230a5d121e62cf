"""What rows of steps and members have of values, arguments and outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from typing import Any, Final

from graflow.core.nodes.arguments import RESULT_SUFFIX

_SMALL: Final = 1024  # bytes of a value as JSON that is shown with its step
_SHORT: Final = 100  # characters of an argument that is shown beside large ones
_SIZED: Final = frozenset({str, bytes, list, tuple, dict})
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False)
_encode: Final = _JSON.encode
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


def small_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they are shown: plain JSON where it is small, else what kind of thing each is."""
    try:
        # What has many parts is not written down only to see how long it is.
        if all(type(value) not in _SIZED or len(value) <= _SMALL for value in given.values()):
            text = _encode(given)
            if len(text) <= _SMALL:
                shown: dict[str, Any] = _decode(text)
                return shown
    except (TypeError, ValueError, RecursionError):
        pass  # no plain JSON
    return {name: value if _is_short(value) else f"<{type(value).__name__}>" for name, value in given.items()}


def _is_short(value: object) -> bool:
    if type(value) is str:
        return len(value) <= _SHORT
    return value is None or type(value) in {bool, int} or (type(value) is float and isfinite(value))


def described(value: Any) -> dict[str, Any]:
    """What the row of a step has of a value that is plain JSON."""
    if value is None or type(value) is int or type(value) is bool:
        return {"outputs": value, "output_size": len(str(value))}
    text = _encode(value).encode("utf-8", "surrogatepass")
    if len(text) <= _SMALL:
        return {"outputs": value, "output_size": len(text)}
    return {"outputs": None, "output_size": len(text), "output_digest": sha256(text).hexdigest()}


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
