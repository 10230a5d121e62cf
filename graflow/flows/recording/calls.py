"""What a step asks its flow for: to sleep, start a flow, do something once, wait for people; each in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from time import monotonic, sleep
from typing import Any, Final, NoReturn, Protocol, TypeVar

from graflow.codec import from_jsonable
from graflow.core.branches.outcome_data import kept
from graflow.exceptions import ChildFlowError, ConfigError, FlowChangedError
from graflow.flows.inputs import digest_of
from graflow.flows.recording.journal import CALLED, PROGRESS, Past
from graflow.flows.recording.stopping import FlowStopped, FlowSuspended, Stop
from graflow.questions.asks import Place, Wait
from graflow.questions.models import Question, wake_time
from graflow.state.changes import StepRow
from graflow.state.models import FlowState
from graflow.state.statuses import FlowStatus
from graflow.text.told import progress_data

T = TypeVar("T")

AWAIT_AGAIN: Final = 60.0
"""Seconds after which a flow looks whether the one that it waits for has ended, should nobody have told it."""

NAP: Final = 0.02
"""Seconds between looks at a question that is waited for in place; each twice as long as the one before, up to:"""
LONGEST_NAP: Final = 0.25

TOLD_EVERY: Final = 1.0
"""Seconds between two times that the progress of a step is recorded."""

_ENDED: Final = frozenset({FlowStatus.FAILED, FlowStatus.LOST, FlowStatus.CANCELLED})

Data = Mapping[str, Any]


class Recorder(Protocol):
    """Who writes the flow down."""

    session_id: str
    flow_name: str
    generation: int

    @property
    def attempt(self) -> int:
        """Which execution of the step that runs this one is."""

    def position(self) -> tuple[str, int, int]:
        """The step that runs, its visit and its attempt."""

    def check(self) -> None:
        """Return while the execution may go on."""

    def called(self, data: Data, *rows: StepRow, kind: str = CALLED) -> None:
        """Write what the step that runs has asked for, or tells of itself."""

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


class Questions(Protocol):
    """Puts questions to people."""

    def ask(self, waits: Sequence[Wait], places: Sequence[Place], *, any_of: bool) -> list[Question]:
        """The questions in these places, asked if they have not been yet."""

    def next_number(self, place: Place) -> int:
        """Under which something is asked anew in a place."""

    def read(self, ids: Sequence[str]) -> list[Question]:
        """Questions by id."""

    def take(self, questions: Sequence[Question], attempt: int) -> None:
        """Note that a step has its answers."""

    def await_for_ever(self, ids: Sequence[str]) -> list[Question]:
        """Questions whose step ends only with their answers from now on; fewer where they are not kept here."""


class Calls:
    """The calls of one execution of a flow.

    Args:
        flow_id: The flow.
        recorder: Writes them down.
        children: Starts flows.
        questions: Puts questions to people.
        past: What has been recorded of the flow.

    Attributes:
        flow_id: The flow.
    """

    def __init__(self, flow_id: str, recorder: Recorder, children: Children, questions: Questions, past: Past) -> None:
        self.flow_id = flow_id
        self._recorder = recorder
        self._children = children
        self._questions = questions
        self._next: Counter[str] = Counter()
        self._unnamed: Counter[str] = Counter()
        self._known: dict[tuple[str, int | str], dict[str, Any]] = {}
        self._asked_since = past.asked_since
        self._told_at = -inf
        for line in past.calls:
            self._note(line.data)

    def begin(self) -> None:
        """A step begins: its calls are counted from the first."""
        if self._next:
            self._next.clear()
        if self._unnamed:
            self._unnamed.clear()
        self._told_at = -inf

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

    def once(self, key: str, name: str, function: Callable[[], T]) -> T:
        place = f"once {name}"
        known = self._known.get((key, place))
        if known is None:
            value = kept(function(), f"the value of once({name!r})")
            known = self._record(key, place, {"call": "once", "value": value})
        value_again: T = from_jsonable(known["value"])
        return value_again

    def wait(self, key: str, waits: Sequence[Wait], *, any_of: bool) -> list[Question]:
        places = [self._place_of(key, wait) for wait in waits]
        return self._settled(waits, places, any_of=any_of)

    def wait_anew(self, key: str, wait: Wait) -> Question:
        asked = self._place_of(key, wait)
        place, known = self._call(key, {"call": "reask", "name": asked.name})
        if known is None:
            number = self._questions.next_number(asked)
            known = self._record(key, place, {"call": "reask", "name": asked.name, "number": number})
        (question,) = self._settled([wait], [replace(asked, first=known["number"])], any_of=False)
        return question

    def _place_of(self, key: str, wait: Wait) -> Place:
        name = wait.key
        if name is None:
            self._unnamed[key] += 1
            name = f"#{self._unnamed[key]}"
        return self.place(key, name)

    def place(self, key: str, name: str) -> Place:
        """Where the step that runs, or a member of it, waits for something of this name."""
        step, visit, _ = self._recorder.position()
        since = self._asked_since.get((step, visit), 0)
        recorder = self._recorder
        return Place(
            self.flow_id, recorder.generation, step, visit, key, name, since=since, flow_name=recorder.flow_name
        )

    def _settled(self, waits: Sequence[Wait], places: Sequence[Place], *, any_of: bool) -> list[Question]:
        """Questions that are settled; while one is not, the step waits."""
        questions = self._questions.ask(waits, places, any_of=any_of)
        ids = [question.id for question in questions]
        if len(set(ids)) < len(ids):
            raise ConfigError("Two waits of one call have the same key=; give each its own")
        hold, nap = monotonic() + max(wait.hold for wait in waits), NAP
        while any(question.is_open for question in questions):
            if monotonic() >= hold:
                still = [question for question in questions if question.is_open]
                text = f"waits for {', '.join(question.id for question in still)}"
                self._suspend(FlowSuspended(text, wake_time(still), asks=ids))
            sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
            self._recorder.check()
            questions = self._questions.read(ids)
        self._questions.take(questions, self._recorder.attempt)
        return questions

    def start(self, key: str, flow_name: str, inputs: Data, *, wait: bool) -> Any:
        told = {"call": "start", "flow": flow_name, "inputs": digest_of(kept(dict(inputs), "the inputs of a flow"))}
        place, known = self._call(key, told)
        if known is None:
            _, step, *inside = key.rsplit("/", key.count("/") - self.flow_id.count("/"))
            child = ".".join([self._recorder.session_id, step, *inside, str(place)])
            self._children.start(child, flow_name, inputs, (self.flow_id, step))
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

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Record how far the step is, unless that was done just now: what comes too soon is left out, but the end."""
        now, told = monotonic(), progress_data(done, total, message)
        is_end = told["done"] is not None and told["total"] is not None and told["done"] >= told["total"]
        if now - self._told_at < TOLD_EVERY and not is_end:
            return
        self._told_at, (step, visit, _) = now, self._recorder.position()
        self._recorder.called(told, StepRow(step, visit, {"progress": told}), kind=PROGRESS)

    # -- what others note of a step ----------------------------------------------------------------------------------

    def noted(self, key: str, name: str) -> Data | None:
        """What was noted last under a name of a step or member; None for nothing."""
        return self._known.get((key, name))

    def noted_as(self, call: str) -> list[Data]:
        """All that was noted of such calls."""
        return [known for known in self._known.values() if known["call"] == call]

    def note(self, key: str, name: str, told: Data) -> None:
        """Record something under a name."""
        self._record(key, name, told)

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

    def _record(self, key: str, place: int | str, told: Data) -> dict[str, Any]:
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
