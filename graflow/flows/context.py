"""`FlowContext`: one flow as its caller names it, and as its tasks see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from graflow.flows.identity import uuid7
from graflow.flows.inputs import masked


class _Frame(Protocol):
    @property
    def task_id(self) -> str: ...

    @property
    def execution_context(self) -> Any: ...


@dataclass
class FlowContext:
    """One run of a flow: what `FlowRunner.execute` accepts instead of a name and inputs.

    Args:
        flow_name: The flow.
        inputs: By name.
        flow_id: Its id; a new one when None.
        redis_enabled: Whether the run is recorded; False is `durability="off"` for this run.
    """

    flow_name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    flow_id: str = None  # type: ignore[assignment]  # filled below
    redis_enabled: bool = True

    def __post_init__(self) -> None:
        self.flow_id = self.flow_id or uuid7()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.flow_name!r}, {masked(dict(self.inputs))!r}, flow_id={self.flow_id!r})"


@dataclass(repr=False)
class TaskFlow(FlowContext):
    """What `context.flow` gives inside a task.

    Attributes:
        attempt: Which execution of this step or member it is, from 1; crashes count.
        idempotency_key: The same for each attempt of this step of this flow, and for nothing else.
    """

    attempt: int = 1
    idempotency_key: str = ""


class RunningFlow:
    """The flow of a run, as its tasks ask for it.

    Args:
        flow: Which one.
        position: The step that runs, its visit and its attempt.
    """

    def __init__(self, flow: FlowContext, position: Position) -> None:
        self._flow = flow
        self._position = position

    def seen_by(self, frame: _Frame) -> TaskFlow:
        """What an execution of a task sees of it."""
        flow, (step, visit, attempt) = self._flow, self._position.position()
        run, inside = frame.execution_context, []
        if run.member is not None:
            attempt = run.member.attempt
        while run is not None:
            if run.member is not None:
                inside.append(str(run.member.index))
            run = run.parent_context
        parts = [flow.flow_id, step, str(visit), *reversed(inside)]
        if frame.task_id != step:
            parts.append(frame.task_id)
        return TaskFlow(flow.flow_name, flow.inputs, flow.flow_id, flow.redis_enabled, attempt, "/".join(parts))


class Position(Protocol):
    """Knows which step of a run is executed."""

    def position(self) -> tuple[str, int, int]:
        """The step, its visit and its attempt."""
