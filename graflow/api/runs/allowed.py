"""What may be asked of a run now, and why the rest may not."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from graflow.api.http.service import Service
from graflow.state.models import FlowState
from graflow.state.statuses import FlowStatus
from graflow.state.transitions import allowed_verbs

ACTIONS: Final = ("resume", "retry", "fork", "pause", "cancel", "purge")
_NEED_CODE: Final = frozenset({"resume", "retry", "fork"})


class Allowed(BaseModel):
    """Whether an action may be asked for.

    Attributes:
        is_allowed: Whether it may, as far as can be told without trying.
        reason: Why not.
    """

    is_allowed: bool
    reason: str | None = None


def allowed_names(status: FlowStatus) -> list[str]:
    """The actions that a run in this state takes."""
    return [*allowed_verbs(status), *(["purge"] if status.is_terminal else [])]


def allowed_actions(service: Service, state: FlowState) -> dict[str, Allowed]:
    """Each action with whether it may be asked for."""
    names, found = allowed_names(state.status), {}
    is_known = service.registry.find(state.flow_name) is not None
    for action in ACTIONS:
        if action not in names:
            found[action] = Allowed(is_allowed=False, reason=f"The run is {state.status.value}")
        elif action in _NEED_CODE and not is_known:
            why = f"The flow '{state.flow_name}' is not registered in this server"
            found[action] = Allowed(is_allowed=False, reason=why)
        else:
            found[action] = Allowed(is_allowed=True)
    return found
