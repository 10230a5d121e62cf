"""`FlowContext`: one flow as its caller names it, and as the tasks of its run see it, here and on workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graflow.ids import uuid7
from graflow.secret import masked


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
        outside: Indices of the members that this run is a branch of, where those run elsewhere.
    """

    def __init__(self, flow: FlowContext, position: Position, outside: Sequence[str] = ()) -> None:
        self._flow = flow
        self._position = position
        self._outside = outside

    @classmethod
    def sent(cls, told: Mapping[str, Any]) -> RunningFlow:
        """The flow of a branch that runs away from its run, as `told` was."""
        step, visit, *outside = told["path"]
        flow = FlowContext(told["flow_name"], told["inputs"], told["flow_id"])
        return cls(flow, _Fixed(str(step), int(visit)), [str(index) for index in outside])

    def told(self, run: Any) -> dict[str, Any]:
        """What branches of this run know of it that run elsewhere: plain JSON."""
        step, visit, _ = self._position.position()
        path = [step, visit, *self._inside(run)]
        flow = self._flow
        return {"flow_id": flow.flow_id, "flow_name": flow.flow_name, "inputs": dict(flow.inputs), "path": path}

    def seen_by(self, frame: _Frame) -> TaskFlow:
        """What an execution of a task sees of it."""
        flow, (step, visit, attempt) = self._flow, self._position.position()
        run = frame.execution_context
        if run.member is not None:
            attempt = run.member.attempt
        parts = [flow.flow_id, step, str(visit), *self._inside(run)]
        if frame.task_id != step:
            parts.append(frame.task_id)
        return TaskFlow(flow.flow_name, flow.inputs, flow.flow_id, flow.redis_enabled, attempt, "/".join(parts))

    def _inside(self, run: Any) -> list[str]:
        """Indices of the members that a run is inside of, the outermost first."""
        found: list[str] = []
        while run is not None:
            if run.member is not None:
                found.append(str(run.member.index))
            run = run.parent_context
        return [*self._outside, *reversed(found)]


@dataclass(frozen=True)
class _Fixed:
    step: str
    visit: int

    def position(self) -> tuple[str, int, int]:
        return self.step, self.visit, 1


class Position(Protocol):
    """Knows which step of a run is executed."""

    def position(self) -> tuple[str, int, int]:
        """The step, its visit and its attempt."""
