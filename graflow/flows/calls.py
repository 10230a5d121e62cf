"""What a step asks its flow for: to sleep, to start a flow, to do something once; each call recorded in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar

from graflow.codec import from_jsonable
from graflow.core.branches.outcome_data import kept
from graflow.exceptions import ChildFlowError, FlowChangedError
from graflow.flows.inputs import digest_of
from graflow.flows.stopping import FlowStopped, FlowSuspended, Stop
from graflow.state.changes import Journaled
from graflow.state.models import FlowState
from graflow.state.statuses import FlowStatus

T = TypeVar("T")

AWAIT_AGAIN: Final = 60.0
"""Seconds after which a flow looks whether the one that it waits for has ended, should nobody have told it."""

_ENDED: Final = frozenset({FlowStatus.FAILED, FlowStatus.LOST, FlowStatus.CANCELLED})

Data = Mapping[str, Any]


class Recorder(Protocol):
    """Who writes the flow down."""

    session_id: str
    attempt: int

    def called(self, data: Data) -> None:
        """Write what the step that runs has asked for."""

    def suspend(self, suspended: FlowSuspended) -> None:
        """Have it on record that the step that runs waits."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Children(Protocol):
    """Starts flows, and looks at them."""

    def start(self, flow_id: str, flow_name: str, inputs: Data, parent: tuple[str, str]) -> None:
        """Have a flow run, unless there is one of this id."""

    def state(self, flow_id: str) -> FlowState:
        """How far it is."""

    def resume(self, flow_id: str) -> None:
        """Have it go on."""


class Calls:
    """The calls of one execution of a flow.

    Args:
        flow_id: The flow.
        recorder: Writes them down.
        children: Starts flows.
        past: Lines of calls that were recorded, in order.
    """

    def __init__(self, flow_id: str, recorder: Recorder, children: Children, past: Iterable[Journaled]) -> None:
        self._flow_id = flow_id
        self._recorder = recorder
        self._children = children
        self._next: Counter[str] = Counter()
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        for line in past:
            self._note(line.data)

    def begin(self) -> None:
        """A step begins: its calls are counted from the first."""
        self._next.clear()

    # -- calls -----------------------------------------------------------------------------------------------------

    def sleep(self, key: str, seconds: float | None, until: float | None) -> None:
        now = self._recorder.now()
        place, known = self._call(key, {"call": "sleep"})
        if known is None:
            due = until if until is not None else now + (seconds or 0.0)
            known = self._record(key, place, {"call": "sleep", "until": due})
        if known["until"] > now:
            self._suspend(FlowSuspended("sleeps", known["until"]))

    def side_effect(self, key: str, function: Callable[[], T]) -> T:
        place, known = self._call(key, {"call": "side_effect"})
        if known is None:
            value = kept(function(), "the value of a side effect")
            known = self._record(key, place, {"call": "side_effect", "value": value})
        value_again: T = from_jsonable(known["value"])
        return value_again

    def start(self, key: str, flow_name: str, inputs: Data, *, wait: bool) -> Any:
        told = {"call": "start", "flow": flow_name, "inputs": digest_of(kept(dict(inputs), "the inputs of a flow"))}
        place, known = self._call(key, told)
        if known is None:
            _, step, *inside = key.rsplit("/", key.count("/") - self._flow_id.count("/"))
            child = ".".join([self._recorder.session_id, step, *inside, str(place)])
            self._children.start(child, flow_name, inputs, (self._flow_id, step))
            known = self._record(key, place, {**told, "child": child, "attempt": self._recorder.attempt})
        return self._awaited(key, place, known) if wait else known["child"]

    def _awaited(self, key: str, place: int, known: dict[str, Any]) -> Any:
        """The value of a child that has completed; while it has not, the step waits."""
        if "value" in known:
            return from_jsonable(known["value"])
        child, attempt = known["child"], self._recorder.attempt
        state = self._children.state(child)
        if state.status is FlowStatus.COMPLETED:
            return from_jsonable(self._record(key, place, {**known, "value": state.outputs})["value"])
        if state.status in _ENDED:
            if state.status is FlowStatus.CANCELLED or known["attempt"] == attempt:
                raise ChildFlowError(child, state.status.value, state.error)
            self._children.resume(child)
            self._record(key, place, {**known, "attempt": attempt})
        return self._suspend(FlowSuspended(f"waits for flow '{child}'", self._recorder.now() + AWAIT_AGAIN, child))

    # -- places ----------------------------------------------------------------------------------------------------

    def _call(self, key: str, told: Data) -> tuple[int, dict[str, Any] | None]:
        """The place of the next call of a step, and what is recorded there."""
        self._next[key] += 1
        place = self._next[key]
        known = self._known.get((key, place))
        if known is not None and any(known.get(name) != value for name, value in told.items()):
            error = FlowChangedError(
                f"Call {place} of '{key}' is {_shown(told)} now, and was {_shown(known)} when it was recorded: what a "
                "step asks its flow for must follow from its arguments and from answers that it had. Bring the code "
                "back, or retry the step, which forgets what it asked for"
            )
            raise FlowStopped(Stop.BROKEN, str(error)) from error
        return place, known

    def _record(self, key: str, place: int, told: Data) -> dict[str, Any]:
        data = {**told, "key": key, "place": place}
        self._recorder.called(data)
        return self._note(data)

    def _note(self, data: Data) -> dict[str, Any]:
        known = self._known[data["key"], data["place"]] = dict(data)
        return known

    def _suspend(self, suspended: FlowSuspended) -> NoReturn:
        self._recorder.suspend(suspended)
        raise suspended


def _shown(told: Data) -> str:
    return f"start('{told['flow']}')" if told["call"] == "start" else f"{told['call']}()"
