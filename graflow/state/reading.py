"""Stored rows as the models that are shown."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.exceptions import InvalidCursorError
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.transitions import FOREVER, RUNNING

SEARCHED: Final = 10_000  # characters of inputs, as text, that a search looks into; of longer ones none
_RUNNING: Final = frozenset({StepStatus.RUNNING, StepStatus.WAITING, StepStatus.CANCELLING})
UNSHOWN: Final = frozenset({"fingerprint", "retry_from"})
"""Fields of a flow that are its runner's alone, and that a state does not have."""


def step_values(step: str, visit: int, fields: dict[str, Any]) -> dict[str, Any]:
    """What the model of a step is made from: the fields of its row, which are used up."""
    fields["step_name"], fields["visit"] = step, visit
    started, completed = fields.get("started_at"), fields.get("completed_at")
    if started is not None and completed is not None and fields.get("execution_time") is None:
        fields["execution_time"] = completed - started
    return fields


def member_state(step: str, visit: int, index: int, fields: Mapping[str, Any]) -> FlowStepState:
    """The row of a member as a model."""
    return FlowStepState.model_validate(step_values(step, visit, {**fields, "index": index}))


def flow_state(record: FlowRecord, steps: Sequence[dict[str, Any]], counts: Mapping[str, int]) -> FlowState:
    """The row of a flow, with `step_values` of its steps, as a model: one call makes them all."""
    values: dict[str, Any] = {
        **record.fields,
        "flow_id": record.flow_id,
        "flow_name": record.flow_name,
        "status": record.status,
        "version": record.version,
        "epoch": record.epoch,
        "generation": record.generation,
        "owner": record.owner,
        "seq": record.seq,
        "inputs": record.inputs,
        "counts": counts,
        "steps": steps,
    }
    running = [step for step in steps if step.get("status") in _RUNNING] if record.status in RUNNING else []
    values["current_steps"] = [step["step_name"] for step in running]
    latest = max(running, key=lambda step: step.get("started_at") or 0.0, default=None)
    values["current_step"] = latest["step_name"] if latest is not None else None
    return _timed_state(values)


def listed_state(values: dict[str, Any]) -> FlowState:
    """A flow as a list shows it, from its columns and fields, which are used up."""
    values.pop("outputs", None)
    return _timed_state(values)


def _timed_state(values: dict[str, Any]) -> FlowState:
    if values.get("wake_at") == FOREVER:
        values["wake_at"] = None
    started = values.get("started_at")
    if started is not None:
        end = values.get("completed_at")
        values.setdefault("total_execution_time", max(0.0, (time.time() if end is None else end) - started))
    return FlowState.model_validate(values)


# -- pages -------------------------------------------------------------------------------------------------------------


def flow_cursor(created_at: float, flow_id: str) -> str:
    """The cursor of the page behind a flow."""
    text = json.dumps([created_at, flow_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def behind_flow(cursor: str | None) -> tuple[float, str] | None:
    """What `flow_cursor` was given.

    Raises:
        InvalidCursorError: It has not made this.
    """
    if cursor is None:
        return None
    try:
        created_at, flow_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(created_at), str(flow_id)
    except (ValueError, TypeError, binascii.Error):
        raise InvalidCursorError(f"No page of flows has given the cursor {cursor!r}") from None


def searched_text(flow_id: str, flow_name: str, inputs: Mapping[str, Any]) -> str:
    """What a search looks into: id, name and, where they are small, the inputs."""
    text = json.dumps(inputs, ensure_ascii=False)
    told = "\n".join((flow_id, flow_name, text if len(text) <= SEARCHED else ""))
    return told.casefold().encode(errors="replace").decode()


def status_names(status: Sequence[FlowStatus]) -> list[str]:
    """The states of a question; a single one may be given as itself."""
    return [FlowStatus(each).value for each in ([status] if isinstance(status, str) else status)]
