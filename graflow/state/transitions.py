"""What one transition does to the row of a flow; the same for every store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graflow.exceptions import FlowNotFoundError, MoveRefusedError, StaleEpochError, VersionConflictError
from graflow.state.changes import Change, Entry, NewFlow, Request, RequestKind
from graflow.state.statuses import MOVES, FlowStatus, Move, MoveRule

RUNNING: Final = frozenset({FlowStatus.RUNNING, FlowStatus.CANCELLING})
OPEN: Final = (FlowStatus.PENDING, FlowStatus.QUEUED, FlowStatus.RUNNING, FlowStatus.CANCELLING)
REFUSED: Final = "refused"
FOREVER: Final = 1.9e10
"""When a flow is looked at that goes on by itself at no time, seconds since the epoch; it is shown as None."""

_REOPENED: Final = dict.fromkeys(
    ("completed_at", "error", "error_data", "outputs", "wake_at", "awaits", "asks", "deadline"), None
)
_VERBS: Final = {
    Move.PAUSE: "paused",
    Move.CANCEL: "cancelled",
    Move.RESUME: "resumed",
    Move.RETRY: "retried",
}
ASKED: Final = {RequestKind.PAUSE: (FlowStatus.RUNNING,), RequestKind.CANCEL: tuple(RUNNING)}


def not_found(flow_id: str) -> FlowNotFoundError:
    return FlowNotFoundError(f"Flow {flow_id} not found")


def refuse(change: Change, rule: MoveRule, status: FlowStatus, version: int, epoch: int) -> None:
    """Raise what forbids the change; with `StaleEpochError` the caller notes `refused_line`."""
    if rule.by_owner:
        if change.guard != epoch:
            raise StaleEpochError(change.flow_id, change.guard, epoch)
    elif change.guard != version:
        raise VersionConflictError(change.flow_id, change.guard, version)
    if status not in rule.sources:
        raise refusal(change.flow_id, change.move, status)


def allowed_verbs(status: FlowStatus) -> list[str]:
    """What may be asked of a flow in this state."""
    if status in RUNNING:
        return [*(["pause"] if status is FlowStatus.RUNNING else []), "cancel", "fork"]
    return [*(verb.value for verb in _VERBS if status in MOVES[verb].sources), "fork"]


def refusal(flow_id: str, move: Move, status: FlowStatus) -> MoveRefusedError:
    """The error for a move that the state of a flow does not allow."""
    what = f"cannot be {_VERBS[move]}" if move in _VERBS else f"takes no transition '{move.value}'"
    return MoveRefusedError(
        f"Flow '{flow_id}' is {status.value} and {what}; what it takes now: {', '.join(allowed_verbs(status))}"
    )


def refuse_request(flow_id: str, request: Request, status: FlowStatus) -> None:
    """Raise what forbids asking the owner for something."""
    if status not in ASKED[request.kind]:
        raise refusal(flow_id, Move(request.kind.value), status)


def refuse_delete(flow_id: str, status: FlowStatus) -> None:
    """Raise when a flow has not ended."""
    if not status.is_terminal:
        raise MoveRefusedError(
            f"Flow '{flow_id}' is {status.value} and cannot be removed: only one that has ended can; cancel it first"
        )


def refused_line(change: Change) -> Entry:
    """What the journal says of a transition whose owner is no longer the flow's."""
    kinds = [entry.kind for entry in change.entries]
    return Entry(REFUSED, data={"move": change.move.value, "epoch": change.guard, "kinds": kinds})


def request_line(request: Request) -> Entry:
    """What the journal says of a request."""
    return Entry(f"request.{request.kind.value}", data={"by": request.by, "reason": request.reason})


def first_fields(flow: NewFlow) -> Mapping[str, Any]:
    """The fields that a flow begins with; its inputs are not among them."""
    return {
        "created_at": flow.at,
        "durability": flow.durability,
        "metadata": flow.metadata,
        "parent_flow_id": flow.parent_flow_id,
        "parent_step": flow.parent_step,
        **flow.flow,
    }


def fields_of(change: Change, status: FlowStatus, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flow's fields that a change sets.

    Args:
        change: The change.
        status: The flow's state afterwards.
        fields: Those of the change itself, in the form of the store.
    """
    if status.is_terminal:
        return {"completed_at": change.at, "wake_at": None, **fields}
    if change.move is Move.RESUME or change.move is Move.RETRY:
        return {**_REOPENED, **fields}
    return fields


def answers_requests(move: Move, status: FlowStatus) -> bool:
    """Whether nothing that the owner was asked for is open afterwards."""
    return status.is_terminal or status is FlowStatus.PAUSED or move is Move.RESUME or move is Move.RETRY
