"""Stored rows as the models that are shown."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.state.changes import FlowRecord
from graflow.state.errors import InvalidCursorError
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.transitions import RUNNING

SEARCHED: Final = 10_000  # characters of inputs, as text, that a search looks into; of longer ones none
_RUNNING: Final = frozenset({StepStatus.RUNNING, StepStatus.WAITING, StepStatus.CANCELLING})
UNSHOWN: Final = frozenset({"fingerprint", "retry_from"})
"""Fields of a flow that are its runner's alone."""


def step_state(step: str, visit: int, fields: Mapping[str, Any], index: int | None = None) -> FlowStepState:
    """The row of a step or member as a model."""
    state = FlowStepState.model_validate({**fields, "step_name": step, "visit": visit, "index": index})
    if state.execution_time is None and state.started_at is not None and state.completed_at is not None:
        state.execution_time = (state.completed_at - state.started_at).total_seconds()
    return state


def flow_state(record: FlowRecord, steps: list[FlowStepState], counts: Mapping[str, int]) -> FlowState:
    """The row of a flow, with those of its steps, as a model."""
    fields = {name: value for name, value in record.fields.items() if name not in UNSHOWN}
    state = FlowState.model_validate(
        {
            **fields,
            "flow_id": record.flow_id,
            "flow_name": record.flow_name,
            "status": record.status,
            "version": record.version,
            "epoch": record.epoch,
            "generation": record.generation,
            "owner": record.owner,
            "inputs": record.inputs,
            "counts": counts,
        }
    )
    state.steps = steps
    running = [step for step in steps if step.status in _RUNNING] if record.status in RUNNING else []
    state.current_steps = [step.step_name for step in running]
    if running:
        latest = max(running, key=lambda step: step.started_at.timestamp() if step.started_at else 0.0)
        state.current_step = latest.step_name
    if state.total_execution_time is None and state.started_at is not None:
        end = state.completed_at.timestamp() if state.completed_at else time.time()
        state.total_execution_time = max(0.0, end - state.started_at.timestamp())
    return state


def listed_state(record: FlowRecord, counts: Mapping[str, int]) -> FlowState:
    """The row of a flow as a list shows it; the record is used up."""
    record.fields = {name: value for name, value in record.fields.items() if name != "outputs"}
    return flow_state(record, [], counts)


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
