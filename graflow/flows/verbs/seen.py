"""A recorded flow beside its code as it is now: what changed, and what a retry would take back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import networkx as nx

from graflow.core.durable.graph_fingerprint import Difference, graph_differences
from graflow.core.durable.runs import durable_run
from graflow.core.engine import WorkflowEngine
from graflow.core.run.recorded.recorder import StepVisit
from graflow.exceptions import FlowChangedError, FlowConflictError, TakeOverError
from graflow.flows.recording.journal import RETRIED, Past, Visit, past_of, session_of, without
from graflow.flows.recording.resetting import Downstream, OnChange, Reset
from graflow.flows.running.driving import Driver
from graflow.flows.running.execution import Program, changed_text
from graflow.flows.running.program import PreparedProgram
from graflow.flows.verbs.explaining import begun_row
from graflow.flows.verbs.plans import FlowPlan, planned
from graflow.state.changes import Change, Entry, FlowRecord
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import Move


class Seen:
    """A flow as it is recorded, beside its graph as it is built now."""

    def __init__(self, driver: Driver, record: FlowRecord, program: Program) -> None:
        self.record = record
        self.program = program
        self._driver = driver
        self.journal = driver.store.events(record.flow_id)
        self.past: Past = past_of(self.journal)
        self.graph, self._start = program.build(record.inputs)
        self.fingerprint = program.fingerprint(self.graph)
        recorded = record.fields.get("fingerprint")
        self.differences: Sequence[Difference] = (
            graph_differences(recorded, self.fingerprint, self.past.completed_nodes()) if recorded else ()
        )

    @cached_property
    def state(self) -> FlowState:
        """The flow with its steps."""
        return self._driver.state(self.record.flow_id)

    def prepared(self) -> PreparedProgram:
        """The program for an execution that follows at once, which need not build the graph again."""
        return PreparedProgram(self.program, self.record.inputs, self.graph, self._start, self.fingerprint)

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
        return begun_row(self.state, step, visit, first=first)

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

    def reset(self, row: FlowStepState, members: list[int], downstream: Downstream, *, ask_again: bool) -> Reset:
        """What a retry of a step resets.

        Raises:
            FlowConflictError: When it cannot be reset.
        """
        step, visit = row.step_name, row.visit
        followers = self.descendants(step)
        self._require_acyclic({step: ""}, FlowConflictError)
        why = f"is retried: {len(members)} of {row.size} members, the others are kept" if members else "is retried"
        why = f"{why}; asks people again" if ask_again else why
        reasons: dict[Visit, str] = {(step, visit): why}
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
        reset = Reset(step, visit, members, reasons, alone=alone, ask_again=ask_again)
        self._try(reset)
        return reset

    def _try(self, reset: Reset) -> None:
        """Take over what would be left, without running anything.

        Raises:
            FlowConflictError: When a run cannot come there.
        """
        graph, start = self.program.build(self.record.inputs)
        session_id = session_of(self.record.flow_id, self.record.generation + 1)
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


class _Nobody:
    """Is told what a run does, and writes nothing."""

    takes_blocks = True

    def step_started(self, step: StepVisit) -> None: ...

    def step_completed(self, step: StepVisit, outcome: Mapping[str, Any], value: object) -> None: ...

    def step_failed(
        self, step: StepVisit, error: BaseException, outcome: Mapping[str, Any], retry_in: float | None
    ) -> None: ...

    def members_ended(self, step: StepVisit, outcomes: Sequence[Mapping[str, Any]]) -> None: ...

    def block_ended(self, step: StepVisit, block: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...
