"""Errors of durable flows and of their stores."""

from __future__ import annotations

from graflow.exceptions.base import GraflowError, GraflowRuntimeError
from graflow.exceptions.refused import ConfigError


class FlowNotFoundError(GraflowError, ValueError):
    """No flow of this name is registered, or none of this id is in the store."""


class FlowConflictError(GraflowError, ValueError):
    """The flow exists with other inputs, or it is in a state in which what was asked for cannot be done."""


class PlanOutdatedError(FlowConflictError):
    """A plan was given to a verb, and the flow or its code has changed since it was made."""


class FlowInputError(GraflowError, ValueError):
    """Inputs do not fit the flow's signature; each field is named."""


class FlowChangedError(GraflowRuntimeError):
    """The code or graph of a flow is not what was recorded, where that matters; the text has the difference."""


class ChildFlowError(GraflowRuntimeError):
    """A flow that a step started and waited for did not complete.

    Attributes:
        flow_id: The child's id.
        status: Its state, such as `"failed"`.
    """

    def __init__(self, flow_id: str, status: str, error: str | None) -> None:
        super().__init__(f"Flow '{flow_id}', which this step waits for, is {status}{f': {error}' if error else ''}")
        self.flow_id = flow_id
        self.status = status
        self.error = error


class FlowTimeoutError(GraflowRuntimeError, TimeoutError):
    """A flow took longer than its `timeout`."""


class StoreError(GraflowRuntimeError):
    """The store of flows cannot be reached, refuses, or holds what this version cannot read."""


class StoreUnavailableError(StoreError):
    """The store does not answer at present; the same may succeed later."""


class StoreConfigError(ConfigError):
    """A store's address or settings cannot be right."""


class InvalidCursorError(GraflowError, ValueError):
    """A cursor of a list is not one that a page of this list has given."""


class StaleEpochError(GraflowRuntimeError):
    """Another owner has the flow by now; what this one did meanwhile is refused, and noted in the journal."""

    def __init__(self, flow_id: str, epoch: int, present: int) -> None:
        super().__init__(f"Flow '{flow_id}' belongs to a later owner: epoch {present}, not {epoch}")
        self.flow_id, self.epoch, self.present = flow_id, epoch, present


class VersionConflictError(GraflowRuntimeError):
    """The flow has changed since it was read; read it again and decide anew."""

    def __init__(self, flow_id: str, version: int, present: int) -> None:
        super().__init__(f"Flow '{flow_id}' is at version {present}, not {version}: somebody changed it meanwhile")
        self.flow_id, self.version, self.present = flow_id, version, present


class MoveRefusedError(FlowConflictError):
    """The state of the flow does not allow this; the text names the state and what may be done."""


class TakeOverError(GraflowRuntimeError):
    """A recorded step has no place in the run: the graph is not what it was."""
