"""What may be asked of a recorded flow: go on, run a step again, fork, pause, cancel; and the plans of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import networkx as nx

from graflow.core.durable import durable_run
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.graph_fingerprint import Difference, graph_differences, graph_fingerprint
from graflow.core.run.recorder import StepVisit
from graflow.exceptions import ConfigError, TakeOverError
from graflow.flows.driving import Driver, rests
from graflow.flows.execution import Program, changed_text
from graflow.flows.identity import uuid7
from graflow.flows.inputs import digest_of
from graflow.flows.journal import RETRIED, Past, Visit, past_of, without
from graflow.flows.plans import FlowPlan, PlannedStep, planned
from graflow.flows.registry import FlowRegistry, near
from graflow.state.changes import (
    Change,
    Entry,
    FlowRecord,
    Journaled,
    MemberRow,
    NewFlow,
    Request,
    RequestKind,
    StepRow,
)
from graflow.state.errors import FlowChangedError, FlowConflictError, FlowNotFoundError
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import MOVES, FlowStatus, Move, StepStatus
from graflow.state.transitions import refusal

OnChange = Literal["refuse", "reuse"]
Downstream = Literal["none", "failed", "all"]

_FRESH = {"completed_at": None, "error": None, "error_data": None, "outputs": None, "execution_time": None}


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
        program = program or self._registry.get(record.flow_name)
        if record.status in MOVES[Move.RESUME].sources:
            seen = _Seen(self._driver, record, program)
            self._plan_resume(seen, on_change).require(plan)
            self._append(seen.resumption(on_change, self._now()))
        elif record.status is FlowStatus.CANCELLED:
            raise refusal(flow_id, Move.RESUME, record.status)
        return self._go_on(flow_id, program, wait=wait)

    def plan_resume(self, flow_id: str, *, on_change: OnChange = "refuse") -> FlowPlan:
        record = self._driver.record(flow_id)
        seen = _Seen(self._driver, record, self._registry.get(record.flow_name))
        return self._plan_resume(seen, on_change)

    def _plan_resume(self, seen: _Seen, on_change: OnChange) -> FlowPlan:
        if on_change not in {"refuse", "reuse"}:
            raise ConfigError(f'on_change is "refuse" or "reuse", not {on_change!r}')
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
        plan: str | FlowPlan | None = None,
        wait: bool = True,
    ) -> FlowState:
        seen, reset = self._retry(flow_id, step, index, visit, downstream)
        if seen.record.status not in MOVES[Move.RETRY].sources:
            raise refusal(flow_id, Move.RETRY, seen.record.status)
        if seen.matters:
            raise FlowChangedError(changed_text(flow_id, seen.differences))
        seen.plan("retry", reset.reasons, None).require(plan)
        self._append(reset.change(seen.record, self._now()))
        return self._go_on(flow_id, seen.program, wait=wait)

    def plan_retry(
        self,
        flow_id: str,
        step: str,
        *,
        index: int | None = None,
        visit: int | None = None,
        downstream: Downstream = "failed",
    ) -> FlowPlan:
        seen, reset = self._retry(flow_id, step, index, visit, downstream)
        why = None
        if seen.record.status not in MOVES[Move.RETRY].sources:
            why = str(refusal(flow_id, Move.RETRY, seen.record.status))
        elif seen.matters:
            why = changed_text(flow_id, seen.differences)
        return seen.plan("retry", reset.reasons, why)

    def _retry(
        self, flow_id: str, step: str, index: int | None, visit: int | None, downstream: Downstream
    ) -> tuple[_Seen, _Reset]:
        if downstream not in {"none", "failed", "all"}:
            raise ConfigError(f'downstream is "none", "failed" or "all", not {downstream!r}')
        record = self._driver.record(flow_id)
        seen = _Seen(self._driver, record, self._registry.get(record.flow_name))
        row = seen.row(step, visit)
        members = self._members_to_reset(flow_id, row, index)
        return seen, seen.reset(row, members, downstream)

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
        seen, lines, visit = self._fork(flow_id, from_step, visit)
        self._plan_fork(seen, lines, from_step, visit).require(plan)
        record = seen.record
        definition = self._registry.get(record.flow_name)
        stored = definition.inputs.stored({**record.inputs, **inputs}) if inputs else dict(record.inputs)
        made = NewFlow(
            new_flow_id or uuid7(),
            record.flow_name,
            FlowStatus.PENDING if wait else FlowStatus.QUEUED,
            stored,
            digest_of([record.flow_name, stored]),
            self._now(),
            durability=record.fields.get("durability", "best_effort"),
            metadata=record.fields.get("metadata") or {},
            parent_flow_id=flow_id,
            parent_step=from_step,
            entries=[Entry(line.kind, line.step, line.visit, line.index, line.attempt, line.data) for line in lines],
            steps=_reused_steps(flow_id, lines, seen.state),
            members=_reused_members(flow_id, lines),
            flow={} if inputs else {"fingerprint": record.fields.get("fingerprint")},
        )
        created = self._store.create(made)
        if not created.is_new:
            raise FlowConflictError(f"Flow '{made.flow_id}' exists already; give the fork another new_flow_id")
        return self._go_on(made.flow_id, definition, wait=wait)

    def plan_fork(self, flow_id: str, from_step: str, *, visit: int | None = None) -> FlowPlan:
        seen, lines, visit = self._fork(flow_id, from_step, visit)
        return self._plan_fork(seen, lines, from_step, visit)

    def _plan_fork(self, seen: _Seen, lines: Sequence[Journaled], from_step: str, visit: int) -> FlowPlan:
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

    def _fork(self, flow_id: str, from_step: str, visit: int | None) -> tuple[_Seen, list[Journaled], int]:
        """The lines before the start of a visit."""
        record = self._driver.record(flow_id)
        seen = _Seen(self._driver, record, self._registry.get(record.flow_name))
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

    def pause(self, flow_id: str, reason: str) -> FlowState:
        record = self._driver.record(flow_id)
        if record.status in MOVES[Move.PAUSE].sources:
            entry = Entry("flow.paused", data={"reason": reason})
            self._append(Change(flow_id, Move.PAUSE, record.version, self._now(), [entry]))
        elif record.status is not FlowStatus.PAUSED:
            self._ask(flow_id, RequestKind.PAUSE, reason)
        return self._driver.state(flow_id)

    def cancel(self, flow_id: str, reason: str, *, plan: str | FlowPlan | None = None) -> FlowState:
        record = self._driver.record(flow_id)
        if plan is not None:
            self.plan_cancel(flow_id).require(plan)
        if record.status in MOVES[Move.CANCEL].sources:
            entry = Entry("flow.cancelled", data={"reason": reason})
            self._append(Change(flow_id, Move.CANCEL, record.version, self._now(), [entry]))
        elif record.status is not FlowStatus.CANCELLED:
            asked = self._ask(flow_id, RequestKind.CANCEL, reason)
            self._driver.cancel_groups(asked)
            if self._driver.home.is_free(asked) and self._driver.knows(record.flow_name):
                self._driver.advance(flow_id)
        return self._driver.state(flow_id)

    def plan_cancel(self, flow_id: str) -> FlowPlan:
        record, state = self._driver.record(flow_id), self._driver.state(flow_id)
        running = {StepStatus.RUNNING, StepStatus.WAITING, StepStatus.READY}
        steps = [
            PlannedStep(
                step=row.step_name,
                visit=row.visit,
                action="cancel" if row.status in running else "skip",
                reason=f"is {row.status.value}",
                members=row.counts,
            )
            for row in state.steps
        ]
        plan = FlowPlan(flow_id=flow_id, verb="cancel", status=record.status.value, steps=steps)
        if record.status in {FlowStatus.COMPLETED, FlowStatus.FAILED}:
            plan.refusal = str(refusal(flow_id, Move.CANCEL, record.status))
        return plan.sealed(record, None)

    def _ask(self, flow_id: str, kind: RequestKind, reason: str) -> FlowRecord:
        request = Request(kind, "python", reason, self._now())
        record = self._store.request(flow_id, request)
        recorder = self._driver.home.recorder_of(flow_id)
        if recorder is not None:  # need not wait for its next beat
            recorder.hear([request])
        return record

    def _append(self, change: Change) -> None:
        self._store.append(change)

    def _now(self) -> float:
        return self._driver.home.runtime.time()


class _Seen:
    """A flow as it is recorded, beside its graph as it is built now."""

    def __init__(self, driver: Driver, record: FlowRecord, program: Program) -> None:
        self.record = record
        self.program = program
        self.state = driver.state(record.flow_id)
        self.journal = driver.store.events(record.flow_id)
        self.past: Past = past_of(self.journal)
        self.graph: TaskGraph = program.build(record.inputs)[0]
        self.fingerprint = graph_fingerprint(self.graph)
        recorded = record.fields.get("fingerprint")
        self.differences: Sequence[Difference] = (
            graph_differences(recorded, self.fingerprint, self.past.completed_nodes()) if recorded else ()
        )

    @property
    def matters(self) -> bool:
        """Whether an outcome depends on something that changed."""
        return any(each.matters for each in self.differences)

    def plan(self, verb: str, reset: Mapping[Visit, str], refused: str | None) -> FlowPlan:
        plan = FlowPlan(
            flow_id=self.record.flow_id,
            verb=verb,
            status=self.record.status.value,
            steps=planned(self.state, self.graph, reset, self.differences),
            changes=[each.text for each in self.differences],
            refusal=refused,
        )
        return plan.sealed(self.record, self.fingerprint)

    def row(self, step: str, visit: int | None, *, first: bool = False) -> FlowStepState:
        """The row of a visit of a step; the last, or first, one.

        Raises:
            FlowNotFoundError: When there is none.
        """
        rows = [row for row in self.state.steps if row.step_name == step and visit in {None, row.visit}]
        if not rows:
            begun = sorted({row.step_name for row in self.state.steps})
            what = f"step {step!r}" if visit is None else f"visit {visit} of step {step!r}"
            raise FlowNotFoundError(f"Flow '{self.record.flow_id}' has begun no {what}{near(step, begun)}")
        return min(rows, key=lambda row: row.visit) if first else max(rows, key=lambda row: row.visit)

    def last_reset(self, step: str, visit: int) -> int:
        """The line at which a visit was reset last; 0 when it never was."""
        return max(
            (line.seq for line in self.journal if line.kind == RETRIED and [step, visit] in line.data.get("cut", ())),
            default=0,
        )

    def descendants(self, step: str) -> set[str]:
        nodes = self.graph.nx_graph()
        return set(nx.descendants(nodes, step)) if step in nodes else set()

    # -- what changed ----------------------------------------------------------------------------------------------

    def changed_visits(self) -> dict[Visit, str]:
        """Visits whose outcome depends on what changed, with the reason.

        Raises:
            FlowChangedError: When that cannot be told, as on a cycle.
        """
        changed = {each.node: each.text for each in self.differences if each.matters}
        reasons = dict(changed)
        for node in changed:
            for follower in self.descendants(node):
                reasons.setdefault(follower, f"comes after '{node}', which changed")
        self._require_acyclic(reasons, FlowChangedError)
        return {
            (row.step_name, row.visit): reasons[row.step_name] for row in self.state.steps if row.step_name in reasons
        }

    def _require_acyclic(self, nodes: Mapping[str, str], error: type[FlowChangedError | FlowConflictError]) -> None:
        cyclic = sorted(node for node in nodes if node in self.descendants(node))
        cyclic += sorted(row.step_name for row in self.state.steps if row.step_name in nodes and row.visit > 1)
        if cyclic:
            raise error(
                f"Step '{cyclic[0]}' of flow '{self.record.flow_id}' runs several times, so that it cannot be reset "
                "without what came between: fork the flow instead, from the visit at which it should go on"
            )

    def resumption(self, on_change: OnChange, now: float) -> Change:
        """The transition with which the flow goes on."""
        record, entry = self.record, Entry("flow.resumed")
        if not self.matters:
            return Change(record.flow_id, Move.RESUME, record.version, now, [entry], flow={"takeovers": 0})
        if on_change == "refuse":
            raise FlowChangedError(changed_text(record.flow_id, self.differences))
        cut = list(self.changed_visits())
        data = {"cut": [list(visit) for visit in cut], "why": "the code changed"}
        fields = {"generation": record.generation + 1, "takeovers": 0, "fingerprint": self.fingerprint}
        return Change(
            record.flow_id, Move.RETRY, record.version, now, [Entry(RETRIED, data=data), entry], flow=fields, cut=cut
        )

    # -- resetting -------------------------------------------------------------------------------------------------

    def reset(self, row: FlowStepState, members: list[int], downstream: Downstream) -> _Reset:
        """What a retry of a step resets.

        Raises:
            FlowConflictError: When it cannot be reset.
        """
        step, visit = row.step_name, row.visit
        followers = self.descendants(step)
        self._require_acyclic({step: ""}, FlowConflictError)
        reasons: dict[Visit, str] = {(step, visit): "is retried"}
        left_done = []
        for other in self.state.steps:
            if other.step_name not in followers or other.step_name == step:
                continue
            if downstream == "all" or (downstream == "failed" and not other.status.is_success):
                reasons[other.step_name, other.visit] = f"comes after '{step}'"
            elif other.status.is_success:
                left_done.append(other.step_name)
        self._require_acyclic({name: "" for name, _ in reasons}, FlowConflictError)
        alone = bool(left_done) or (downstream == "none" and bool(followers))
        reset = _Reset(step, visit, [] if alone else members, reasons, alone=alone)
        self._try(reset)
        return reset

    def _try(self, reset: _Reset) -> None:
        """Take over what would be left, without running anything.

        Raises:
            FlowConflictError: When a run cannot come there.
        """
        graph, start = self.program.build(self.record.inputs)
        session_id = f"{self.record.flow_id}.{self.record.generation + 1}"
        try:
            durable_run(
                graph,
                session_id=session_id,
                recorder=_Nobody(),
                engine=WorkflowEngine(),
                recorded=without(self.past.lines, reset.data()),
                start_node=start,
            )
        except TakeOverError as error:
            raise FlowConflictError(
                f"Flow '{self.record.flow_id}' cannot go on without what came behind '{reset.step}': {error}. Fork it "
                "instead"
            ) from error


class _Reset:
    """What a retry takes back."""

    def __init__(self, step: str, visit: int, members: list[int], reasons: dict[Visit, str], *, alone: bool) -> None:
        self.step = step
        self.reasons = reasons
        self._visit = visit
        self._members = members
        self._alone = alone

    def _cut(self) -> list[Visit]:
        key = (self.step, self._visit)
        return [visit for visit in self.reasons if not (visit == key and (self._members or self._alone))]

    def data(self) -> dict[str, Any]:
        """What the journal says of it."""
        key = (self.step, self._visit)
        cut, members = [list(visit) for visit in self._cut()], [[*key, index] for index in self._members]
        return {"cut": cut, "members": members, **({"alone": list(key)} if self._alone else {})}

    def change(self, record: FlowRecord, now: float) -> Change:
        """The transition."""
        key = (self.step, self._visit)
        kept = [StepRow(*key, {"status": "ready", **_FRESH})] if self._members or self._alone else []
        rows = [MemberRow(*key, index, {"status": "pending", **_FRESH}) for index in self._members]
        fields = {
            "generation": record.generation + 1,
            "takeovers": 0,
            "retry_from": self._alone_at(record) if self._alone else None,
        }
        return Change(
            record.flow_id,
            Move.RETRY,
            record.version,
            now,
            [Entry(RETRIED, self.step, self._visit, data=self.data())],
            kept,
            rows,
            fields,
            self._cut(),
        )

    def _alone_at(self, record: FlowRecord) -> dict[str, Any]:
        was, outputs = record.status.value, record.fields.get("outputs")
        return {"step": self.step, "visit": self._visit, "was": was, "outputs": outputs}


class _Nobody:
    """Is told what a run does, and writes nothing."""

    def step_started(self, step: StepVisit) -> None: ...

    def step_completed(self, step: StepVisit, outcome: Mapping[str, Any], value: object) -> None: ...

    def step_failed(
        self, step: StepVisit, error: BaseException, outcome: Mapping[str, Any], retry_in: float | None
    ) -> None: ...

    def members_ended(self, step: StepVisit, outcomes: Sequence[Mapping[str, Any]]) -> None: ...

    def flush(self) -> None: ...


def _reused_steps(flow_id: str, lines: Sequence[Journaled], state: FlowState) -> list[StepRow]:
    """Rows of the steps that a fork reuses."""
    rows = {(row.step_name, row.visit): row for row in state.steps}
    found = []
    for line in lines:
        row = rows.get((line.step or "", line.visit or 1))
        if line.kind != "step.completed" or row is None:
            continue
        fields = row.model_dump(
            mode="json", exclude={"step_name", "visit", "index", "counts", "strip"}, exclude_none=True
        )
        for name in ("queued_at", "started_at", "completed_at"):
            moment = getattr(row, name)
            if moment is not None:
                fields[name] = moment.timestamp()
        fields.pop("attempt_history", None)
        source = row.source or {"flow_id": flow_id, "step": row.step_name, "visit": row.visit, "why": "fork"}
        found.append(StepRow(row.step_name, row.visit, {**fields, "status": "reused", "source": source}))
    return found


def _reused_members(flow_id: str, lines: Sequence[Journaled]) -> list[MemberRow]:
    """Rows of the members that a fork reuses."""
    return [
        MemberRow(
            line.step or "",
            line.visit or 1,
            told["index"],
            {
                "status": "reused" if told["success"] else "failed",
                "source": {
                    "flow_id": flow_id,
                    "step": line.step,
                    "visit": line.visit,
                    "index": told["index"],
                    "why": "fork",
                },
            },
        )
        for line in lines
        if line.kind == "group.members"
        for told in line.data["outcomes"]
    ]
