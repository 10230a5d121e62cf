"""What may be asked of a recorded flow: go on, run a step again, fork, pause, cancel; and the plans of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from graflow.exceptions import ConfigError, FlowChangedError, FlowConflictError, FlowNotFoundError
from graflow.flows.inputs import checked_id, digest_of
from graflow.flows.recording.journal import past_of, session_of
from graflow.flows.recording.resetting import Downstream, OnChange, Reset, lines_taken, reused_members, reused_steps
from graflow.flows.recording.stopping import rests
from graflow.flows.registry import FlowRegistry
from graflow.flows.running.driving import Driver
from graflow.flows.running.execution import Program, changed_text
from graflow.flows.verbs.plans import FlowPlan, cancel_plan, pause_plan
from graflow.flows.verbs.seen import Seen
from graflow.ids import uuid7
from graflow.state.changes import (
    Change,
    Entry,
    Journaled,
    NewFlow,
    RequestKind,
)
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import MOVES, FlowStatus, Move, StepStatus
from graflow.state.transitions import refusal
from graflow.trace.carrying import trace_context

PYTHON: Final = "python"
"""Who asks, as the journal has it, where nobody says."""


class Verbs:
    """Asks things of flows.

    Args:
        driver: Has them run.
        registry: Builds their graphs.
    """

    def __init__(self, driver: Driver, registry: FlowRegistry) -> None:
        self._driver = driver
        self._store = driver.store
        self._registry = registry

    # -- going on --------------------------------------------------------------------------------------------------

    def resume(
        self,
        flow_id: str,
        *,
        on_change: OnChange = "refuse",
        plan: str | FlowPlan | None = None,
        wait: bool = True,
        program: Program | None = None,
    ) -> FlowState:
        record = self._driver.record(flow_id)
        if record.status is FlowStatus.COMPLETED:
            return self._driver.state(flow_id)
        made = program or self._registry.get(record.flow_name)
        if record.status in MOVES[Move.RESUME].sources:
            _check_on_change(on_change)
            seen = Seen(self._driver, record, made)
            if plan is not None:
                self._plan_resume(seen, on_change).require(plan)
            self._append(seen.resumption(on_change, self._now()))
            made = seen.prepared()
        elif record.status is FlowStatus.CANCELLED:
            raise refusal(flow_id, Move.RESUME, record.status)
        if program is not None:  # nobody else can build it
            return self._driver.drive(flow_id, made)
        return self._go_on(flow_id, made, wait=wait)

    def plan_resume(self, flow_id: str, *, on_change: OnChange = "refuse") -> FlowPlan:
        record = self._driver.record(flow_id)
        seen = Seen(self._driver, record, self._registry.get(record.flow_name))
        return self._plan_resume(seen, on_change)

    def _plan_resume(self, seen: Seen, on_change: OnChange) -> FlowPlan:
        _check_on_change(on_change)
        record, why = seen.record, None
        if seen.matters and on_change == "refuse":
            why = changed_text(record.flow_id, seen.differences)
        elif record.status is FlowStatus.CANCELLED:
            why = str(refusal(record.flow_id, Move.RESUME, record.status))
        reset = seen.changed_visits() if on_change == "reuse" else {}
        return seen.plan("resume", reset, why)

    def _go_on(self, flow_id: str, program: Program | None, *, wait: bool) -> FlowState:
        if wait and self._driver.publish is None:
            return self._driver.drive(flow_id, program)
        record = self._driver.record(flow_id)
        if not rests(record.status) and self._driver.home.is_free(record):
            self._driver.begin(record)
        return self._driver.wait(flow_id, None) if wait else self._driver.state(flow_id)

    # -- a step ----------------------------------------------------------------------------------------------------

    def retry(
        self,
        flow_id: str,
        step: str,
        *,
        index: int | None = None,
        visit: int | None = None,
        downstream: Downstream = "failed",
        ask_again: bool = False,
        plan: str | FlowPlan | None = None,
        wait: bool = True,
    ) -> FlowState:
        seen, reset = self._retry(flow_id, step, index, visit, downstream, ask_again=ask_again)
        if seen.record.status not in MOVES[Move.RETRY].sources:
            raise refusal(flow_id, Move.RETRY, seen.record.status)
        if seen.matters:
            raise FlowChangedError(changed_text(flow_id, seen.differences))
        if plan is not None:
            seen.plan("retry", reset.reasons, None).require(plan)
        self._append(reset.change(seen.record, self._now()))
        if ask_again:
            self._driver.questions.withdraw_earlier(flow_id, reset.step, reset.visit, seen.record.generation + 1)
        return self._go_on(flow_id, seen.prepared(), wait=wait)

    def plan_retry(
        self,
        flow_id: str,
        step: str,
        *,
        index: int | None = None,
        visit: int | None = None,
        downstream: Downstream = "failed",
        ask_again: bool = False,
    ) -> FlowPlan:
        seen, reset = self._retry(flow_id, step, index, visit, downstream, ask_again=ask_again)
        why = None
        if seen.record.status not in MOVES[Move.RETRY].sources:
            why = str(refusal(flow_id, Move.RETRY, seen.record.status))
        elif seen.matters:
            why = changed_text(flow_id, seen.differences)
        return seen.plan("retry", reset.reasons, why)

    def _retry(
        self, flow_id: str, step: str, index: int | None, visit: int | None, downstream: Downstream, *, ask_again: bool
    ) -> tuple[Seen, Reset]:
        if downstream not in ("none", "failed", "all"):
            raise ConfigError(f'downstream is "none", "failed" or "all", not {downstream!r}')
        record = self._driver.record(flow_id)
        seen = Seen(self._driver, record, self._registry.get(record.flow_name))
        row = seen.row(step, visit)
        members = self._members_to_reset(flow_id, row, index)
        return seen, seen.reset(row, members, downstream, ask_again=ask_again)

    def _members_to_reset(self, flow_id: str, row: FlowStepState, index: int | None) -> list[int]:
        """Members of a group that run again; none means the step as a whole."""
        if index is not None:
            if not row.size or not 0 <= index < row.size:
                raise FlowNotFoundError(
                    f"Step '{row.step_name}' of flow '{flow_id}' has no member {index}"
                    + (f"; it has {row.size}" if row.size else "; it is no group")
                )
            return [index]
        if not row.size or not (row.counts or {}).get(StepStatus.FAILED.value):
            return []
        found: list[int] = []
        cursor = None
        while True:
            page = self._store.list_members(
                flow_id, row.step_name, visit=row.visit, status=[StepStatus.FAILED], cursor=cursor, limit=1000
            )
            found += [member.index for member in page if member.index is not None]
            cursor = page.next_cursor
            if cursor is None:
                return found

    # -- forks -----------------------------------------------------------------------------------------------------

    def fork(
        self,
        flow_id: str,
        from_step: str,
        *,
        visit: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        new_flow_id: str | None = None,
        plan: str | FlowPlan | None = None,
        wait: bool = True,
    ) -> FlowState:
        seen, lines, visit = self._fork(flow_id, from_step, visit, inputs)
        if plan is not None:
            self._plan_fork(seen, lines, from_step, visit).require(plan)
        record = seen.record
        definition, stored = self._registry.get(record.flow_name), dict(record.inputs)
        made_id = uuid7() if new_flow_id is None else checked_id(new_flow_id)
        made = NewFlow(
            made_id,
            record.flow_name,
            FlowStatus.PENDING if wait else FlowStatus.QUEUED,
            stored,
            digest_of([record.flow_name, stored]),
            self._now(),
            durability=record.fields.get("durability", "best_effort"),
            metadata=record.fields.get("metadata") or {},
            parent_flow_id=flow_id,
            parent_step=from_step,
            entries=lines_taken(flow_id, lines, session_of(made_id)),
            steps=reused_steps(flow_id, lines, seen.state),
            members=reused_members(flow_id, lines),
            flow={
                "is_fork": True,
                **({} if inputs else {"fingerprint": record.fields.get("fingerprint")}),
                **trace_context(),
            },
        )
        created = self._store.create(made)
        if not created.is_new:
            raise FlowConflictError(f"Flow '{made.flow_id}' exists already; give the fork another new_flow_id")
        return self._go_on(made.flow_id, definition, wait=wait)

    def plan_fork(
        self,
        flow_id: str,
        from_step: str,
        *,
        visit: int | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> FlowPlan:
        seen, lines, visit = self._fork(flow_id, from_step, visit, inputs)
        return self._plan_fork(seen, lines, from_step, visit)

    def _plan_fork(self, seen: Seen, lines: Sequence[Journaled], from_step: str, visit: int) -> FlowPlan:
        kept = {(line.step, line.visit) for line in lines if line.kind == "step.completed"}
        why = f"comes after the start of '{from_step}'"
        reset = {
            (row.step_name, row.visit): "is where the fork begins"
            if (row.step_name, row.visit) == (from_step, visit)
            else why
            for row in seen.state.steps
            if (row.step_name, row.visit) not in kept
        }
        return seen.plan("fork", reset, None)

    def _fork(
        self, flow_id: str, from_step: str, visit: int | None, inputs: Mapping[str, Any] | None
    ) -> tuple[Seen, list[Journaled], int]:
        """The flow as it would be with these inputs over its own, and the lines before the start of a visit."""
        record = self._driver.record(flow_id)
        definition = self._registry.get(record.flow_name)
        if inputs:
            record = replace(record, inputs=definition.inputs.stored({**record.inputs, **inputs}))
        seen = Seen(self._driver, record, definition)
        row = seen.row(from_step, visit, first=True)
        begun = [line for line in seen.journal if line.kind == "step.started"]
        at = [line.seq for line in begun if (line.step, line.visit) == (from_step, row.visit)]
        if at:
            # The last beginning that holds: what a retry reset before it is gone in the journal up to there, too.
            start = min(seq for seq in at if seq > seen.last_reset(from_step, row.visit))
            return seen, past_of(line for line in seen.journal if line.seq < start).lines, row.visit
        lines = seen.past.lines  # a fork's own journal has no beginnings: its lines are in order all the same
        places = [place for place, line in enumerate(lines) if (line.step, line.visit) == (from_step, row.visit)]
        return seen, lines[: places[0]] if places else list(lines), row.visit

    # -- stopping --------------------------------------------------------------------------------------------------

    def pause(self, flow_id: str, reason: str, *, plan: str | FlowPlan | None = None, by: str = PYTHON) -> FlowState:
        record = self._driver.record(flow_id)
        if plan is not None:
            self.plan_pause(flow_id).require(plan)
        if record.status in MOVES[Move.PAUSE].sources:
            entry = Entry("flow.paused", data={"reason": reason, "by": by})
            self._append(Change(flow_id, Move.PAUSE, record.version, self._now(), [entry]))
        elif record.status is not FlowStatus.PAUSED:
            self._driver.ask(flow_id, RequestKind.PAUSE, reason, by)
        return self._driver.state(flow_id)

    def plan_pause(self, flow_id: str) -> FlowPlan:
        return pause_plan(self._driver.record(flow_id), self._driver.state(flow_id))

    def cancel(self, flow_id: str, reason: str, *, plan: str | FlowPlan | None = None, by: str = PYTHON) -> FlowState:
        record = self._driver.record(flow_id)
        if plan is not None:
            self.plan_cancel(flow_id).require(plan)
        self._driver.cancel(record.flow_id, reason, by)
        return self._driver.state(flow_id)

    def plan_cancel(self, flow_id: str) -> FlowPlan:
        return cancel_plan(self._driver.record(flow_id), self._driver.state(flow_id))

    def _append(self, change: Change) -> None:
        self._store.append(change)

    def _now(self) -> float:
        return self._driver.home.runtime.time()


def _check_on_change(on_change: object) -> None:
    if on_change not in {"refuse", "reuse"}:
        raise ConfigError(f'on_change is "refuse" or "reuse", not {on_change!r}')
