"""What may be asked of recorded flows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from graflow.flows.recording.resetting import Downstream, OnChange
from graflow.flows.verbs.changing import PYTHON, Verbs
from graflow.flows.verbs.looking import Looking
from graflow.flows.verbs.plans import FlowPlan
from graflow.state.models import FlowState


class Steering(Looking, ABC):
    """The part of a runner that goes on with flows, forks and stops them."""

    _verbs: Verbs

    @abstractmethod
    def _open(self) -> None:
        """Connect, unless that is done."""

    def resume_flow(
        self, flow_id: str, *, on_change: OnChange = "refuse", plan: str | FlowPlan | None = None, wait: bool = True
    ) -> FlowState:
        """Go on with a flow that failed, was paused or lost: with its unfinished steps, never with completed ones.

        A completed flow is returned as it is; one that runs is waited for.

        Args:
            flow_id: The flow.
            on_change: What to do when the code of completed steps, or edges before them, changed: `"refuse"`, or
                `"reuse"` the steps that did not change and run the others again.
            plan: A plan, or its digest; refused when that holds no longer.
            wait: Return when it rests, else at once.

        Raises:
            FlowNotFoundError: When there is none of this id, or its function is not registered here.
            FlowChangedError: With the difference.
            FlowConflictError: In a state that cannot be resumed, or when the plan holds no longer.
        """
        self._open()
        return self._shown(self._verbs.resume(flow_id, on_change=on_change, plan=plan, wait=wait))

    def retry_failed_step(
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
        """Run one step again, with a fresh budget of retries.

        Args:
            flow_id: The flow; it rests.
            step: The step.
            index: A member of the group `step`; all that failed when None.
            visit: Which execution of the step; the last one when None.
            downstream: What runs again besides: descendants that `"failed"` or never ran, `"all"`, or `"none"`.
            ask_again: Whether people are asked again what the step has asked them; their answers are kept otherwise.
            plan: A plan, or its digest; refused when that holds no longer.
            wait: Return when the flow rests, else at once.

        Raises:
            FlowNotFoundError: When there is no such flow, step or member.
            FlowConflictError: When the step cannot be reset, as one on a cycle; fork the flow instead.
        """
        self._open()
        state = self._verbs.retry(
            *(flow_id, step),
            index=index,
            visit=visit,
            downstream=downstream,
            ask_again=ask_again,
            plan=plan,
            wait=wait,
        )
        return self._shown(state)

    def fork_flow(
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
        """Run a flow anew from the start of a step on, as another flow that reuses what came before.

        Args:
            flow_id: The flow; it stays what it is.
            from_step: The first step that runs again.
            visit: Which execution of it; the first one when None.
            inputs: Other inputs by name, over those that it has.
            new_flow_id: The id of the new flow; a new one when None.
            plan: A plan, or its digest; refused when that holds no longer.
            wait: Return when the new flow rests, else at once.
        """
        self._open()
        state = self._verbs.fork(
            flow_id, from_step, visit=visit, inputs=inputs, new_flow_id=new_flow_id, plan=plan, wait=wait
        )
        return self._shown(state)

    def plan_resume(self, flow_id: str, *, on_change: OnChange = "refuse") -> FlowPlan:
        """What `resume_flow` would do."""
        return self._verbs.plan_resume(flow_id, on_change=on_change)

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
        """What `retry_failed_step` would do."""
        return self._verbs.plan_retry(
            flow_id, step, index=index, visit=visit, downstream=downstream, ask_again=ask_again
        )

    def plan_fork(
        self,
        flow_id: str,
        from_step: str,
        *,
        visit: int | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> FlowPlan:
        """What `fork_flow` would do."""
        return self._verbs.plan_fork(flow_id, from_step, visit=visit, inputs=inputs)

    def plan_cancel(self, flow_id: str) -> FlowPlan:
        """What `cancel_flow` would do."""
        return self._verbs.plan_cancel(flow_id)

    def plan_pause(self, flow_id: str) -> FlowPlan:
        """What `pause_flow` would do."""
        return self._verbs.plan_pause(flow_id)

    def pause_flow(
        self, flow_id: str, reason: str = "", *, plan: str | FlowPlan | None = None, by: str = PYTHON
    ) -> FlowState:
        """Ask a flow to stop after its running steps; one that waits in a queue is paused at once.

        Args:
            flow_id: The flow.
            reason: Why, for the journal.
            plan: A plan, or its digest; refused when that holds no longer.
            by: Who asks, for the journal.

        Raises:
            FlowConflictError: When it has ended.
        """
        return self._shown(self._verbs.pause(flow_id, reason, plan=plan, by=by))

    def cancel_flow(
        self, flow_id: str, reason: str = "", *, plan: str | FlowPlan | None = None, by: str = PYTHON
    ) -> FlowState:
        """Ask a flow to end; its open groups are cancelled, and no further step begins.

        Args:
            flow_id: The flow.
            reason: Why, for the journal.
            plan: A plan, or its digest; refused when that holds no longer.
            by: Who asks, for the journal.

        Raises:
            FlowConflictError: When it has ended.
        """
        return self._shown(self._verbs.cancel(flow_id, reason, plan=plan, by=by))
