"""What a verb would do to a flow: which steps are reused, adopted, run again or left out, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from graflow.core.durable.graph_fingerprint import Difference
from graflow.core.graph import TaskGraph
from graflow.exceptions import PlanOutdatedError
from graflow.flows.inputs import digest_of
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, Move, StepStatus
from graflow.state.transitions import refusal

Action = Literal["reuse", "adopt", "run", "skip", "cancel"]

_UNDER_WAY: Final = frozenset({StepStatus.RUNNING, StepStatus.WAITING, StepStatus.READY})


class PlannedStep(BaseModel):
    """What would become of one visit of a step.

    Attributes:
        step: The step.
        visit: Its visit; None for one that has not begun.
        action: `reuse` its outcome, `adopt` the members of a group that are done or run on workers, `run` it (again),
            `skip` it, or `cancel` it.
        reason: Why.
        members: For a group, its members by what becomes of them.
    """

    step: str
    visit: int | None = None
    action: Action
    reason: str
    members: dict[str, int] | None = None


class FlowPlan(BaseModel):
    """What a verb would do; nothing has been done.

    Attributes:
        flow_id: The flow.
        verb: `resume`, `retry`, `fork`, `pause` or `cancel`.
        status: The flow's state now.
        steps: What would become of each step.
        changes: How the code or graph is not what was recorded.
        refusal: Why the verb would be refused; None when it would not.
        digest: Given to the verb, it is refused when this plan holds no longer.
    """

    flow_id: str
    verb: str
    status: str
    steps: list[PlannedStep] = Field(default_factory=list)
    changes: list[str] = Field(default_factory=list)
    refusal: str | None = None
    digest: str = ""

    def sealed(self, record: FlowRecord, fingerprint: Mapping[str, Any] | None) -> FlowPlan:
        """The plan with the digest of what it was made from."""
        made_from = [
            record.version,
            record.epoch,
            dict(record.inputs),
            fingerprint,
            self.model_dump(mode="json", exclude={"digest"}),
        ]
        self.digest = digest_of(made_from)[:32]
        return self

    def require(self, digest: str | FlowPlan | None) -> None:
        """Refuse another plan than this one.

        Raises:
            PlanOutdatedError: When the digest is that of another one.
        """
        given = digest.digest if isinstance(digest, FlowPlan) else digest
        if given is not None and given != self.digest:
            raise PlanOutdatedError(
                f"The plan to {self.verb} flow '{self.flow_id}' holds no longer: the flow, or its code, has changed "
                "since; make another one"
            )


def planned(
    state: FlowState, graph: TaskGraph, reset: Mapping[tuple[str, int], str], differences: Iterable[Difference]
) -> list[PlannedStep]:
    """What becomes of each step when a flow goes on, `reset` steps (with the reason) run again.

    Args:
        state: The flow.
        graph: As it is built now.
        reset: By step and visit, why its outcome is not used.
        differences: Between the graph that was recorded and this one.
    """
    code = {each.node: each.text for each in differences}
    steps = [_of_row(row, reset.get((row.step_name, row.visit)), code) for row in state.steps]
    begun = {row.step_name for row in state.steps}
    members = {member for node in graph.nodes for member in graph.get_parallel_group_members(node)}
    why = "has not begun; runs if the flow comes to it"
    later = [node for node in graph.nodes if node not in begun and node not in members]
    return [*steps, *(PlannedStep(step=node, action="run", reason=why) for node in later)]


def cancel_plan(record: FlowRecord, state: FlowState) -> FlowPlan:
    """What becomes of each step when the flow is cancelled."""
    plan = _stop_plan(record, state, "cancel", lambda row: "cancel" if row.status in _UNDER_WAY else "skip")
    if record.status in {FlowStatus.COMPLETED, FlowStatus.FAILED}:
        plan.refusal = str(refusal(record.flow_id, Move.CANCEL, record.status))
    return plan.sealed(record, None)


def pause_plan(record: FlowRecord, state: FlowState) -> FlowPlan:
    """What becomes of each step when the flow is paused: those that run end first."""

    def action(row: FlowStepState) -> Action:
        return "run" if row.status in _UNDER_WAY else "reuse" if row.status.is_success else "skip"

    plan = _stop_plan(record, state, "pause", action)
    if record.status.is_terminal or record.status is FlowStatus.CANCELLING:
        plan.refusal = str(refusal(record.flow_id, Move.PAUSE, record.status))
    return plan.sealed(record, None)


def _stop_plan(record: FlowRecord, state: FlowState, verb: str, action: Callable[[FlowStepState], Action]) -> FlowPlan:
    steps = [
        PlannedStep(
            step=row.step_name,
            visit=row.visit,
            action=action(row),
            reason=f"is {row.status.value}",
            members=row.counts,
        )
        for row in state.steps
    ]
    return FlowPlan(flow_id=record.flow_id, verb=verb, status=record.status.value, steps=steps)


def _of_row(row: FlowStepState, reason: str | None, code: Mapping[str, str]) -> PlannedStep:
    def plan(action: Action, why: str) -> PlannedStep:
        members = None if row.counts is None else dict(row.counts)
        return PlannedStep(step=row.step_name, visit=row.visit, action=action, reason=why, members=members)

    if reason is not None:
        return plan("run", reason)
    if row.status.is_success:
        return plan("reuse", f"is {row.status.value}")
    if row.size and any((row.counts or {}).get(state.value) for state in StepStatus if state.is_success):
        return plan("adopt", "members that succeeded are reused, those that run on workers go on")
    changed = f"; {code[row.step_name]}" if row.step_name in code else ""
    if row.status is StepStatus.FAILED:
        return plan("run", f"failed: {row.error}{changed}")
    return plan("run", f"was {row.status.value} when the flow stopped{changed}")
