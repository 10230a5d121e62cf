"""What is asked of runs: go on, run a step again, fork, pause, cancel, remove; first as a plan, then as the act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import Response

from graflow.api.http.auth import Asker, Identity
from graflow.api.http.bodies import DryRun, Fork, IfMatch, ManyActions, Reason, Resume, Retry
from graflow.api.http.etags import digest_in
from graflow.api.http.problems import ProblemError, described, problem_of
from graflow.api.http.service import Served, Service
from graflow.api.runs.allowed import allowed_names
from graflow.api.runs.listing import record_of
from graflow.exceptions import FlowNotFoundError, GraflowError, MoveRefusedError, PlanOutdatedError
from graflow.flows.runner import FlowRunner
from graflow.flows.verbs.plans import FlowPlan
from graflow.state.changes import FlowRecord
from graflow.state.models import FlowState, json_of
from graflow.state.statuses import MOVES, FlowStatus, Move
from graflow.state.transitions import refusal

router = APIRouter(tags=["actions"])

_DONE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": FlowPlan, "description": "The plan, with `dry_run=true`; nothing has been done"},
    202: {"model": FlowState, "description": "It is done, or asked for; `Location` tells where the state is"},
    **described(404, 409, 412),
}

T = TypeVar("T")


@dataclass(frozen=True)
class Act:
    """What is asked of one run.

    Attributes:
        service: Where.
        flow: The flow in the address.
        flow_id: The run in the address.
        dry_run: Whether the plan is asked for.
        digest: That of the plan which is agreed to; None for any.
        asker: Who asks.
    """

    service: Service
    flow: str
    flow_id: str
    dry_run: bool
    digest: str | None
    asker: Identity

    @property
    def runner(self) -> FlowRunner:
        return self.service.runner

    def require(self, move: Move) -> None:
        """Refuse a move that the state of the run does not allow, with what it does."""
        _require(record_of(self.service, self.flow, self.flow_id), move)

    def answered(self, plan: Callable[[], FlowPlan], act: Callable[[], FlowState]) -> Response:
        """The plan, or what the act makes of the run."""
        record_of(self.service, self.flow, self.flow_id)
        if self.dry_run:
            made = _tried(self.service, self.flow_id, plan)
            return Response(json_of(made), headers=_tag(made), media_type="application/json")
        try:
            state = _tried(self.service, self.flow_id, act)
        except PlanOutdatedError as error:
            newer = _tried(self.service, self.flow_id, plan)
            raise ProblemError(
                *(412, "plan-outdated", str(error)), headers=_tag(newer), plan=newer.model_dump(mode="json")
            ) from None
        place = self.service.address(f"{quote(state.flow_name, safe='')}/status/{quote(state.flow_id, safe='')}")
        return Response(json_of(state), 202, headers={"Location": place}, media_type="application/json")


def act_of(
    flow: str, flow_id: str, service: Served, asker: Asker, dry_run: DryRun = False, if_match: IfMatch = None
) -> Act:
    """What a request asks of the run in its address."""
    return Act(service, flow, flow_id, dry_run, digest_in(if_match), asker)


Asked = Annotated[Act, Depends(act_of)]


@router.post("/{flow}/resume/{flow_id}", status_code=202, response_model=FlowState, responses=_DONE)
def resume(asked: Asked, how: Resume | None = None) -> Response:
    """Go on with a run that failed, was paused or lost: with its unfinished steps alone."""
    change, runner, flow_id = (how or Resume()).on_change, asked.runner, asked.flow_id
    if not asked.dry_run:
        asked.require(Move.RESUME)
    return asked.answered(
        lambda: runner.plan_resume(flow_id, on_change=change),
        lambda: runner.resume_flow(flow_id, on_change=change, plan=asked.digest, wait=False),
    )


@router.post("/{flow}/retry/{flow_id}/{step}", status_code=202, response_model=FlowState, responses=_DONE)
def retry(asked: Asked, step: str, which: Retry | None = None) -> Response:
    """Run one step of a run again, or members of a group."""
    given, runner, flow_id = (which or Retry()).model_dump(), asked.runner, asked.flow_id
    return asked.answered(
        lambda: runner.plan_retry(flow_id, step, **given),
        lambda: runner.retry_failed_step(flow_id, step, **given, plan=asked.digest, wait=False),
    )


@router.post("/{flow}/fork/{flow_id}", status_code=202, response_model=FlowState, responses=_DONE)
def fork(asked: Asked, where: Fork) -> Response:
    """Run a flow anew from a step on, as another run, which is the one that is answered."""
    given, runner, flow_id = where.model_dump(exclude={"new_flow_id"}), asked.runner, asked.flow_id
    new = where.new_flow_id
    return asked.answered(
        lambda: runner.plan_fork(flow_id, **given),
        lambda: runner.fork_flow(flow_id, **given, new_flow_id=new, plan=asked.digest, wait=False),
    )


@router.post("/{flow}/pause/{flow_id}", status_code=202, response_model=FlowState, responses=_DONE)
def pause(asked: Asked, why: Reason | None = None) -> Response:
    """Ask a run to stop after its running steps; one that waits in a queue is paused at once."""
    reason, runner, flow_id = (why or Reason()).reason, asked.runner, asked.flow_id
    return asked.answered(
        lambda: runner.plan_pause(flow_id),
        lambda: runner.pause_flow(flow_id, reason, plan=asked.digest, by=asked.asker.name),
    )


@router.post("/{flow}/cancel/{flow_id}", status_code=202, response_model=FlowState, responses=_DONE)
def cancel(asked: Asked, why: Reason | None = None) -> Response:
    """Ask a run to end; its open groups are cancelled, and no further step begins."""
    reason, runner, flow_id = (why or Reason()).reason, asked.runner, asked.flow_id
    return asked.answered(
        lambda: runner.plan_cancel(flow_id),
        lambda: runner.cancel_flow(flow_id, reason, plan=asked.digest, by=asked.asker.name),
    )


@router.delete(
    "/{flow}/flows/{flow_id}",
    status_code=202,
    response_model=FlowState,
    responses={**_DONE, 204: {"description": "It is removed, with `purge=true`"}},
)
def delete(
    asked: Asked, purge: Annotated[bool, Query(description="Remove it; only one that has ended can be.")] = False
) -> Response:
    """Ask a run to end, or, with `purge=true`, remove one that has ended with all that belongs to it."""
    if not purge:
        return cancel(asked)
    if asked.dry_run:
        raise ProblemError(422, "request-invalid", "There is no plan for purge=true: all of the run is removed")
    record_of(asked.service, asked.flow, asked.flow_id)
    _tried(asked.service, asked.flow_id, lambda: _purged(asked.service, asked.flow_id))
    return Response(status_code=204)


# -- several -----------------------------------------------------------------------------------------------------------


class Outcome(BaseModel):
    """What came of an action for one run.

    Attributes:
        flow_id: The run.
        is_accepted: Whether it is done, or asked for.
        status: Where the run is now; None for one that is not there any more.
        problem: Why not, in words.
        code: The stable code of that.
        allowed_actions: What the run takes instead.
    """

    flow_id: str
    is_accepted: bool
    status: FlowStatus | None = None
    problem: str | None = None
    code: str | None = None
    allowed_actions: list[str] | None = None


class Outcomes(BaseModel):
    """What came of an action for several runs, in the order in which they were named."""

    action: Literal["resume", "pause", "cancel", "purge"]
    items: list[Outcome]


@router.post("/runs/actions")
def many(asked: ManyActions, service: Served, asker: Asker) -> Outcomes:
    """Ask the same of several runs; each is answered by itself."""
    runner, store = service.runner, service.store
    acts: dict[str, Callable[[str], FlowState | None]] = {
        "resume": lambda flow_id: _resumed(service, flow_id),
        "pause": lambda flow_id: runner.pause_flow(flow_id, asked.reason, by=asker.name),
        "cancel": lambda flow_id: runner.cancel_flow(flow_id, asked.reason, by=asker.name),
        "purge": lambda flow_id: _purged(service, flow_id),
    }
    act = acts[asked.action]

    def outcome(flow_id: str) -> Outcome:
        try:
            state = _tried(service, flow_id, lambda: act(flow_id))
        except ProblemError as problem:
            record = store.get_record(flow_id)
            return Outcome(
                flow_id=flow_id,
                is_accepted=False,
                status=None if record is None else record.status,
                problem=problem.detail,
                code=problem.code,
                allowed_actions=problem.more.get("allowed_actions"),
            )
        return Outcome(flow_id=flow_id, is_accepted=True, status=None if state is None else state.status)

    return Outcomes(action=asked.action, items=[outcome(flow_id) for flow_id in dict.fromkeys(asked.ids)])


def _resumed(service: Service, flow_id: str) -> FlowState:
    record = service.store.get_record(flow_id)
    if record is not None:
        _require(record, Move.RESUME)
    return service.runner.resume_flow(flow_id, wait=False)


def _purged(service: Service, flow_id: str) -> None:
    if not service.store.delete(flow_id):
        raise FlowNotFoundError(f"Flow {flow_id} not found")


# -- parts -------------------------------------------------------------------------------------------------------------


def _require(record: FlowRecord, move: Move) -> None:
    if record.status not in MOVES[move].sources:
        raise _refused(record.status, refusal(record.flow_id, move, record.status))


def _tag(plan: FlowPlan) -> dict[str, str]:
    return {"ETag": f'"{plan.digest}"'}


def _tried(service: Service, flow_id: str, call: Callable[[], T]) -> T:
    """What a call gives; a refusal by the state of the run has what that allows."""
    try:
        return call()
    except PlanOutdatedError:
        raise
    except MoveRefusedError as error:
        record = service.store.get_record(flow_id)
        if record is None:
            raise
        raise _refused(record.status, error) from None
    except GraflowError as error:
        raise problem_of(error) from error


def _refused(status: FlowStatus, error: MoveRefusedError) -> ProblemError:
    problem = problem_of(error)
    problem.more["allowed_actions"] = allowed_names(status)
    return problem
