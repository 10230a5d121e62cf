"""`FlowContext`: one flow as its caller names it, and as the tasks of its run see it, here and on workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from graflow.durations import LONGEST
from graflow.exceptions import ConfigError, FlowInputError
from graflow.ids import uuid7
from graflow.secret import masked

T = TypeVar("T")


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
        given: str | None = self.flow_id
        self.flow_id = uuid7() if given is None else given

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.flow_name!r}, {masked(dict(self.inputs))!r}, flow_id={self.flow_id!r})"


class FlowCalls(Protocol):
    """What tasks of a flow may ask for, by their idempotency key; each call is recorded in its place."""

    def sleep(self, key: str, seconds: float | None, until: float | None) -> None:
        """Go on after `seconds`, or at a time (seconds since the epoch)."""

    def start(self, key: str, flow_name: str, inputs: Mapping[str, Any], *, wait: bool) -> Any:
        """Start a flow."""

    def side_effect(self, key: str, function: Callable[[], T]) -> T:
        """Call a function once."""

    def once(self, key: str, name: str, function: Callable[[], T]) -> T:
        """Call a function once under a name."""

    def wait(self, key: str, waits: Sequence[Any], *, any_of: bool) -> list[Any]:
        """Wait until questions are settled, or one of them; the questions."""

    def wait_anew(self, key: str, wait: Any) -> Any:
        """Ask again what was asked before."""

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Tell how far the step is that runs."""


class FlowPeople(Protocol):
    """Puts what tasks ask by `request_feedback` to people, in the store of the flow."""

    def ask_people(self, key: str, wait: Any, handler: Any, *, in_place: bool) -> Any:
        """The answer to a question; the step waits for it, or, `in_place`, this thread does."""

    def can_await(self, ids: Sequence[str], manager: Callable[[], Any]) -> bool:
        """Whether the store keeps these questions, or can, as the manager knows them that members on workers have."""

    def await_people(self, ids: Sequence[str], manager: Callable[[], Any]) -> None:
        """Have the step that runs wait until these are answered."""

    def hand_over(self, manager: Callable[[], Any]) -> None:
        """Give members on workers the answers that the store has to what they asked by this manager."""


class _NoCalls:
    """Where nothing can be asked for.

    Args:
        why: The reason.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def _refuse(self, what: str) -> ConfigError:
        return ConfigError(f"context.{what}() cannot be called here: {self._why}")

    def sleep(self, key: str, seconds: float | None, until: float | None) -> None:  # noqa: ARG002
        raise self._refuse("flow.sleep")

    def start(self, key: str, flow_name: str, inputs: Mapping[str, Any], *, wait: bool) -> Any:  # noqa: ARG002
        raise self._refuse("flow.start")

    def side_effect(self, key: str, function: Callable[[], T]) -> T:  # noqa: ARG002
        raise self._refuse("flow.side_effect")

    def once(self, key: str, name: str, function: Callable[[], T]) -> T:  # noqa: ARG002
        raise self._refuse("once")

    def wait(self, key: str, waits: Sequence[Any], *, any_of: bool) -> list[Any]:  # noqa: ARG002
        raise self._refuse("ask")

    def wait_anew(self, key: str, wait: Any) -> Any:  # noqa: ARG002
        raise self._refuse("reask")

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Nothing: what has a flow's steps elsewhere tells its progress otherwise."""


_ELSEWHERE = _NoCalls("a member on a worker knows its flow, attempt and idempotency key only; ask in a step before it")
_IN_A_MEMBER = _NoCalls("a member of a group cannot put its flow away; ask in a step of its own, before or behind it")


@dataclass(repr=False)
class TaskFlow(FlowContext):
    """What `context.flow` gives inside a task.

    What a task asks for is recorded in its place: the first call of a step, the second, and so on. When the step runs
    again, after a crash, a failure or a sleep, recorded calls are answered at once; another call in such a place is a
    `FlowChangedError`, so what a task asks for must follow from its arguments and from answers that it had.

    Attributes:
        attempt: Which execution of this step or member it is, from 1; crashes count, and going on after a sleep does
            not.
        idempotency_key: The same for each attempt of this step of this flow, and for nothing else.
    """

    attempt: int = 1
    idempotency_key: str = ""
    calls: FlowCalls = field(default=_ELSEWHERE, compare=False)

    def sleep(self, seconds: float | timedelta | None = None, *, until: datetime | None = None) -> None:
        """Go on later. The flow holds no process meanwhile; the step starts again from its beginning then.

        Args:
            seconds: How long, from now, up to 100 years; or
            until: When, with a time zone.

        Raises:
            ConfigError: For neither or both, or what is no length or moment of time; in a member of a group.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if (seconds is None) == (until is None):
            raise ConfigError("context.flow.sleep() takes either seconds or until=")
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST
        ):
            raise ConfigError(
                f"context.flow.sleep() takes seconds from 0 to {LONGEST}, or a timedelta, not {seconds!r}"
            )
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise ConfigError(f"until= is a datetime with a time zone, not {until!r}")
        if until is not None and until - datetime.now(UTC) > timedelta(seconds=LONGEST):
            raise ConfigError(f"until= is at most 100 years from now, not {until!r}")
        self.calls.sleep(self.idempotency_key, seconds, None if until is None else until.timestamp())

    def start(self, flow_name: str, inputs: Mapping[str, Any] | None = None, *, wait: bool = True) -> Any:
        """Start another flow, once, as a child of this one.

        Args:
            flow_name: Its name.
            inputs: By name.
            wait: Whether to wait for its end, for which this flow holds no process.

        Returns:
            The value of the child; its id when it is not waited for.

        Raises:
            ChildFlowError: The child did not complete. A further attempt of this step goes on with it.
            FlowNotFoundError: No flow has this name.
            FlowInputError: The inputs do not fit.
            ConfigError: In a member of a group.
        """
        if not isinstance(inputs, Mapping | None):
            raise FlowInputError(f"Inputs of flow '{flow_name}' are a mapping of names to values, not {inputs!r}")
        return self.calls.start(self.idempotency_key, flow_name, dict(inputs or {}), wait=wait)

    def side_effect(self, function: Callable[[], T]) -> T:
        """Call a function, and record its value before anything is done with it; further attempts get that value.

        It is called again only when the process dies between its end and the record.

        Raises:
            PayloadError: The value cannot be kept.
        """
        return self.calls.side_effect(self.idempotency_key, function)


class RunningFlow:
    """The flow of a run, as its tasks ask for it.

    Args:
        flow: Which one.
        position: The step that runs, its visit and its attempt.
        outside: Indices of the members that this run is a branch of, where those run elsewhere.
        calls: What its steps may ask for.
        cache: Keeps what its tasks give; None where nothing is kept.
        people: Asks people for its steps; None where nothing is recorded, and on workers.

    Attributes:
        is_elsewhere: Whether this is a branch that was sent away from its run.
    """

    def __init__(
        self,
        flow: FlowContext,
        position: Position,
        outside: Sequence[str] = (),
        calls: FlowCalls = _ELSEWHERE,
        cache: object = None,
        people: FlowPeople | None = None,
    ) -> None:
        self._people = people
        self.cache = cache
        self.is_elsewhere = False
        self._flow = flow
        self._position = position
        self._outside = outside
        self._calls = calls

    @classmethod
    def sent(cls, told: Mapping[str, Any]) -> RunningFlow:
        """The flow of a branch that runs away from its run, as `told` was."""
        step, visit, *outside = told["path"]
        flow = FlowContext(told["flow_name"], told["inputs"], told["flow_id"])
        sent = cls(flow, _Fixed(str(step), int(visit)), [str(index) for index in outside])
        sent.is_elsewhere = True
        return sent

    def told(self, run: Any) -> dict[str, Any]:
        """What branches of this run know of it that run elsewhere: plain JSON."""
        if self._people is not None:
            self._people.hand_over(lambda: run.feedback_manager)
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
        inside = self._inside(run)
        parts = [flow.flow_id, step, str(visit), *inside]
        if frame.task_id != step:
            parts.append(frame.task_id)
        calls = _IN_A_MEMBER if inside and not self._outside else self._calls
        return TaskFlow(flow.flow_name, flow.inputs, flow.flow_id, flow.redis_enabled, attempt, "/".join(parts), calls)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Tell how far the step is that runs."""
        self._calls.progress(done, total, message)

    @property
    def keeps_questions(self) -> bool:
        """Whether its store keeps what tasks ask by `request_feedback`."""
        return self._people is not None

    def ask_people(self, frame: _Frame, wait: Any, handler: Any) -> Any:
        """The answer to what an execution asks people; see `FlowPeople`."""
        step, visit, _ = self._position.position()
        inside = self._inside(frame.execution_context)
        key = "/".join([self._flow.flow_id, step, str(visit), *inside])
        return self._asking().ask_people(key, wait, handler, in_place=bool(inside))

    def can_await(self, ids: Sequence[str], manager: Callable[[], Any]) -> bool:
        """Whether its store keeps these questions, or can; see `FlowPeople`."""
        return self._people is not None and self._people.can_await(ids, manager)

    def await_people(self, ids: Sequence[str], manager: Callable[[], Any]) -> None:
        """Have the step that runs wait until these are answered, for which its execution ends here."""
        self._asking().await_people(ids, manager)

    def _asking(self) -> FlowPeople:
        if self._people is None:
            raise ConfigError(f"Flow '{self._flow.flow_id}' is not recorded here, and keeps no questions")
        return self._people

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
