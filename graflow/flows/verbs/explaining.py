"""Why a step of a flow has the outcome that it has."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from graflow.exceptions import FlowNotFoundError
from graflow.flows.registry import near
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import StepStatus
from graflow.state.store import StateStore


class StepExplanation(BaseModel):
    """Where the outcome of a step, or of a member of a group, comes from.

    Attributes:
        flow_id: The flow.
        step_name: The step.
        visit: Its visit.
        index: The member; None for the step itself.
        status: Its state.
        text: Where its outcome comes from, in a sentence.
        cache: For a task with a cache, what came of asking for a kept value: `{"hit", "why", "key", "source" or
            "nearest", "age", "differs"}`.
        source: For REUSED and CACHED, where the outcome was computed.
        inputs: What it was given, where that is small.
        input_digest: As in `FlowStepState`.
        attempts: How often it was executed.
    """

    flow_id: str
    step_name: str
    visit: int
    index: int | None = None
    status: StepStatus
    text: str
    cache: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    inputs: Any = None
    input_digest: str | None = None
    attempts: int = 0


def begun_row(flow: FlowState, step: str, visit: int | None, *, first: bool = False) -> FlowStepState:
    """The row of a visit of a step; of the last, or first, one when None.

    Raises:
        FlowNotFoundError: When the flow has begun none.
    """
    rows = [row for row in flow.steps if row.step_name == step]
    found = [row for row in rows if visit in {None, row.visit}]
    if not rows:
        begun = sorted({row.step_name for row in flow.steps})
        raise FlowNotFoundError(f"Flow '{flow.flow_id}' has begun no step {step!r}{near(step, begun)}")
    if not found:
        raise FlowNotFoundError(
            f"Flow '{flow.flow_id}' has begun no visit {visit} of step {step!r}; it has {len(rows)}"
        )
    return min(found, key=lambda row: row.visit) if first else max(found, key=lambda row: row.visit)


def explained(store: StateStore, flow: FlowState, step: str, visit: int | None, index: int | None) -> StepExplanation:
    """Why a step of a flow, or a member of it, has its outcome; of its last visit when None.

    Raises:
        FlowNotFoundError: It has begun no such step, or the step has no such member.
    """
    row = begun_row(flow, step, visit)
    if index is not None:
        row = _member(store, flow.flow_id, row, index)
    return StepExplanation(
        flow_id=flow.flow_id,
        text=_text(flow, row),
        **row.model_dump(include={*StepExplanation.model_fields} - {"flow_id", "text"}),
    )


def _member(store: StateStore, flow_id: str, row: FlowStepState, index: int) -> FlowStepState:
    if not row.size or not 0 <= index < row.size:
        has = f"it has {row.size}" if row.size else "it is no group"
        raise FlowNotFoundError(f"Step '{row.step_name}' of flow '{flow_id}' has no member {index}; {has}")
    cursor = None
    while True:
        page = store.list_members(flow_id, row.step_name, visit=row.visit, cursor=cursor, limit=1000)
        found = next((member for member in page if member.index == index), None)
        if found is not None or page.next_cursor is None:
            return found or FlowStepState(step_name=row.step_name, index=index, visit=row.visit)
        cursor = page.next_cursor


def _text(flow: FlowState, row: FlowStepState) -> str:
    if flow.cache is not None and flow.cache["hit"] and row.status is StepStatus.CACHED and row.cache is None:
        return f"The whole flow was kept: {flow.cache['why']}"
    if row.cache is not None:
        what = "A kept value was given" if row.cache["hit"] else "No kept value was given"
        return f"{what}: {row.cache['why']}"
    if row.source is not None:
        return f"Its outcome is that of flow '{row.source.get('flow_id')}' ({row.source.get('why')})"
    if row.status.is_success:
        return "It ran here; its task has no cache"
    if row.size:
        return f"It is {row.status.value}; name a member to see why that has its outcome"
    return f"It is {row.status.value}" + (f": {row.error}" if row.error else "")
