"""The recorder of a durable flow: what its run tells becomes transitions in the store, one write for each step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from graflow.core.run.recorded.recorder import StepVisit
from graflow.encoding.errors_as_data import describe_error
from graflow.exceptions import StoreError, named
from graflow.flows.recording.attempts import Attempts
from graflow.flows.recording.calls import Calls, Children, Questions
from graflow.flows.recording.draft import Draft
from graflow.flows.recording.flow_graph import added_by
from graflow.flows.recording.journal import CALLED, Past, session_of
from graflow.flows.recording.owner import Owner
from graflow.flows.recording.people import People
from graflow.flows.recording.rows import arguments_fields, member_fields, unfinished, value_of_outcome
from graflow.flows.recording.stopping import FlowStopped, FlowSuspended, Stop
from graflow.flows.recording.writing import Writer
from graflow.observing import Happening, observe, observers
from graflow.runtime import Runtime
from graflow.state.changes import Entry, FlowRecord, MemberBlock, MemberRow, StepRow
from graflow.state.described import described
from graflow.state.statuses import MOVES, FlowStatus, Move
from graflow.state.store import StateStore
from graflow.values.plain import SCALARS

_LONG_WAIT: Final = 60.0  # seconds to a retry for which the flow holds no process
_GATHERED: Final = 256  # members that are written together at most,
_GATHERED_BLOCKS: Final = 32  # or blocks of them,
_GATHERING: Final = 0.05  # and seconds since the last write for which those from workers gather: their record has them;
_GATHERING_HERE: Final = 0.005  # those that ran here do while they come so fast that each write would hold up others


class FlowRecorder(Owner):
    """Writes one execution of a flow down, beats for it, and hears what its owner is asked for.

    It is also what the run holds while it waits: `check` ends the wait of a flow that goes no further here.

    Args:
        store: Where to.
        record: The flow as it was seen.
        writer: Claims the flow, with the first step, and appends the transitions.
        runtime: Whose time passes.
        past: What was recorded before.
        children: Starts the flows that steps ask for.
        questions: Puts the questions of steps.
        beat_every: Seconds between signs of life.

    Attributes:
        error: Always None: a flow is ended by `FlowStopped`, which fails no step.
        flow_name: Its name.
        session_id: The run's, which the keys of group runs begin with.
        current: The step whose body runs.
        run: The context of the run.
        open_groups: The key of the group run that runs, or failed last.
        only: The one step after which the execution ends, where there is one.
        ended: The state in which this execution has left the flow.
        calls: What steps ask the flow for.
        awaits: The flow that this one was put away to wait for.
        asks: The questions whose answers it was put away to wait for.
        generation: Of the flow.
        deadline: When the flow has taken too long, seconds since the epoch.
    """

    error: Exception | None = None

    def __init__(
        self,
        store: StateStore,
        record: FlowRecord,
        writer: Writer,
        runtime: Runtime,
        *,
        past: Past,
        children: Children,
        questions: Questions,
        beat_every: float,
    ) -> None:
        super().__init__(store, record.flow_id, writer, runtime, beat_every)
        self.flow_name = record.flow_name
        self.session_id = session_of(record.flow_id, record.generation)
        self.current: StepVisit | None = None
        self.run: Any = None
        self.open_groups: list[str] = []
        self.only: str | None = None
        self.ended: FlowStatus | None = None
        self.generation = record.generation
        self.calls = Calls(record.flow_id, self, children, questions, past)
        self.people = People(self, questions, self.calls)
        self.awaits: str | None = None
        self.asks: list[str] = []
        self.deadline: float | None = None
        self._attempts = Attempts(past, runtime.name)
        self._lock = threading.RLock()
        self._ended: deque[Mapping[str, Any]] = deque()  # members that are yet to be written
        self._written = 0.0
        self._refused: StepRow | None = None  # of what no store can hold
        self._was_taken_over = bool(record.fields.get("takeovers"))
        self._draft = Draft()

    def note(self, fields: Mapping[str, Any]) -> None:
        """Fields of the flow that the next transition sets."""
        self._draft.flow.update(fields)

    def take_along(self, entries: Sequence[Entry], steps: Sequence[StepRow], members: Sequence[MemberRow]) -> None:
        """What the next transition writes of steps that another flow has run."""
        with self._lock:
            self._draft.entries += entries
            self._draft.steps += steps
            self._draft.members += members

    def claim(self) -> None:
        """Become the flow's owner now, unless that is done; the first transition does it otherwise.

        Raises:
            FlowStopped: The flow is not as it was seen.
        """
        self.hear(self.writer.claim(self._runtime.time()))

    @property
    def attempt(self) -> int:
        """Which execution of the step that runs this one is."""
        return self._attempts.number

    def position(self) -> tuple[str, int, int]:
        """The step that runs, its visit and its attempt."""
        step = self.current
        return ("", 1, 1) if step is None else (step.step, step.visit, self.attempt)

    @property
    def is_retried(self) -> bool:
        """Whether somebody asked that the step that runs is run again."""
        step = self.current
        return step is not None and self._attempts.is_retried(step)

    # -- what the engine tells -------------------------------------------------------------------------------------

    def step_started(self, step: StepVisit) -> None:
        with self._lock:
            now, attempts = self._runtime.time(), self._attempts
            if self.deadline is not None:
                self._watch_deadline(now)
            if self.stop is not None:
                raise FlowStopped(self.stop, self.why)
            self.current = step
            self.calls.begin()
            if attempts.begin(step, now):
                self.run.holdings.held.pop(self.name, None)
            name, visit, node, _, members = step
            number = attempts.number
            fields: dict[str, Any] = {"status": "running", "attempts": number, "worker": attempts.worker}
            if attempts.is_first(step):
                fields["started_at"] = now
                if self.generation:
                    fields["generation"] = self.generation
            if number > 1:
                fields |= {"attempt_history": list(attempts.over), "progress": None}
            if members is not None:
                self._begin_group(step, fields)
            self._draft.entries.append(Entry("step.started", name, visit, None, number, {"node": node}))
            self._draft.steps.append(StepRow(name, visit, fields))
            self._draft.own += number == 1
            stop = self._write(now)
            if stop is not None:  # its owner was asked for that, as the write has told; the body has not begun
                self._take_back(step)
                raise FlowStopped(stop, self.why)

    def _begin_group(self, step: StepVisit, fields: dict[str, Any]) -> None:
        fields["size"] = len(step.members or ())
        fields["run_key"] = self.run.groups.key_of(self.session_id, step.node)
        self.open_groups = [fields["run_key"]]
        self.run.holdings.held[self.name] = self

    def _take_back(self, step: StepVisit) -> None:
        """The body of the step that was just begun will not run."""
        self.current, begun = None, bool(self._attempts.over)
        fields = {"status": "ready", "attempts": self.attempt - 1, **({} if begun else {"started_at": None})}
        self._draft.entries.append(
            Entry("step.withdrawn", step.step, step.visit, None, self.attempt, {"node": step.node})
        )
        self._draft.steps.append(StepRow(step.step, step.visit, fields))

    def step_completed(self, step: StepVisit, outcome: Mapping[str, Any], _: object) -> None:
        with self._lock:
            now = self._runtime.time()
            operations, value = outcome.get("channel", ()), value_of_outcome(outcome, step.node)
            fields = described(value)
            fields["status"], fields["completed_at"] = "completed", now
            recording = self.run.recording
            if recording.given:
                fields.update(arguments_fields(recording.given))
            if len(outcome) == 1 and len(operations) < 2 and type(value) in SCALARS:
                self._draft.own += self.attempt == 1 and not recording.facts
            elif "queued" in outcome or "nodes" in outcome or "edges" in outcome:
                fields["added"] = added_by(step.step, outcome)
            if self.attempt > 1:
                fields["attempt_history"] = self._attempts.end(now, None)
                fields["error"] = None
            if recording.facts:
                fields.update(recording.facts)
            self._end(step, "step.completed", fields, {"node": step.node, "outcome": outcome})
            if observers:
                observe(Happening.STEP_ENDED, now - self._attempts.begun, self.flow_name, fields["status"])
            if self.only is not None:
                self.end(Stop.ALONE)
            if self._was_taken_over:
                self._was_taken_over, self._draft.flow["takeovers"] = False, 0

    def step_failed(
        self, step: StepVisit, error: BaseException, outcome: Mapping[str, Any], retry_in: float | None
    ) -> None:
        with self._lock:
            now, text = self._runtime.time(), named(error)
            told = describe_error(error).to_dict()
            due = None if retry_in is None else now + retry_in
            fields: dict[str, Any] = {
                "status": "failed" if due is None else "waiting",
                "error": text,
                "error_data": told,
                "attempt_history": self._attempts.end(now, text),
            }
            if self.run.recording.given:
                fields.update(arguments_fields(self.run.recording.given))
            self._attempts.fail(step, due)
            if due is None:
                fields["completed_at"] = now
            data = {"node": step.node, "outcome": outcome, "retry_at": due, "error": told}
            self._end(step, "step.failed", fields, data)
            if observers:
                observe(Happening.STEP_ENDED, now - self._attempts.begun, self.flow_name, "failed")
            if due is not None:
                self._write(now)

    def members_ended(self, step: StepVisit, outcomes: Sequence[Mapping[str, Any]]) -> None:
        self._ended.extend(outcomes)
        self._gather(step, _GATHERED, _GATHERING_HERE if outcomes[-1].get("worker") is None else _GATHERING)

    @property
    def takes_blocks(self) -> bool:
        # A store keeps as blocks what nothing was written about before; a fork begins with the rows of another flow.
        return self.attempt == 1 and not self.is_retried

    def block_ended(self, step: StepVisit, block: Mapping[str, Any]) -> None:
        self._ended.append(block)
        self._gather(step, _GATHERED_BLOCKS, _GATHERING)

    def _gather(self, step: StepVisit, most: int, seconds: float) -> None:
        """Write members that have ended, unless what comes next, or the next tick, may write them together."""
        if len(self._ended) < most and self._runtime.monotonic() - self._written < seconds:
            return
        with self._lock:
            if self._ended:  # else another thread has written them together with its own
                self._take_ended(step)
                self._write(self._runtime.time())

    def _take_ended(self, step: StepVisit) -> None:
        told = []
        while self._ended:  # others add to it meanwhile
            told.append(self._ended.popleft())
        blocks = [each for each in told if "ids" in each]
        data: dict[str, Any] = {"node": step.node, "outcomes": [each for each in told if "ids" not in each]}
        if blocks:
            data["blocks"] = blocks
        self._draft.entries.append(Entry("group.members", step.step, step.visit, None, self.attempt, data))
        self._draft.blocks += [MemberBlock(step.step, step.visit, block) for block in blocks]
        alone = data["outcomes"]
        self._draft.members += [MemberRow(step.step, step.visit, each["index"], member_fields(each)) for each in alone]

    def flush(self) -> None:
        with self._lock:
            if self._draft.entries:
                self._write(self._runtime.time())
            self.run.holdings.held[self.name] = self
            self.check()
            due = self._attempts.next_due()
            if due - self._runtime.time() > _LONG_WAIT:
                raise FlowStopped(Stop.PUT_AWAY, "waits long for its next attempt at a step", due)

    def _end(self, step: StepVisit, kind: str, fields: dict[str, Any], data: dict[str, Any]) -> None:
        self.current = None
        name, visit, _, _, members = step
        if members is not None:
            if self._ended:
                self._take_ended(step)
            self.run.holdings.held.pop(self.name, None)
            if kind == "step.completed":
                self.open_groups = []
        self._draft.entries.append(Entry(kind, name, visit, None, self.attempt, data))
        self._draft.steps.append(StepRow(name, visit, fields))

    # -- what a step asks for --------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._runtime.time()

    def called(self, data: Mapping[str, Any], *rows: StepRow, kind: str = CALLED) -> None:
        """Write what the step that runs has asked for, what came of it, or what it tells of itself.

        Raises:
            FlowStopped: The execution goes no further.
        """
        with self._lock:
            self._draft.entries.append(self._entry(kind, data))
            self._draft.steps.extend(rows)
            self._write(self._runtime.time())
            if self.stop is not None and self.stop.interrupts:
                raise FlowStopped(self.stop, self.why)

    def suspend(self, suspended: FlowSuspended) -> None:
        """Have it on record, with the end of this execution, that the step that runs waits.

        Raises:
            FlowStopped: The flow was asked to stop.
        """
        with self._lock:
            step = self.current
            if step is None:
                raise RuntimeError(f"{self.name} has no step that could wait")
            if self._ended:
                self._take_ended(step)
            why = {"asks": list(suspended.asks)} if suspended.asks else {"why": suspended.text}
            data: dict[str, Any] = {"node": step.node, **why}
            if said := self.run.recording.said():
                data["outcome"] = {"said": said}
            self._draft.entries.append(self._entry("step.suspended", data))
            self._draft.steps.append(StepRow(step.step, step.visit, {"status": "waiting"}))
            self.current, self.awaits, self.asks = None, suspended.awaits, suspended.asks
            if self.deadline is not None:
                suspended.wake_at = min(suspended.wake_at or self.deadline, self.deadline)
            if self.stop is not None:
                raise FlowStopped(self.stop, self.why)

    def _entry(self, kind: str, data: Mapping[str, Any]) -> Entry:
        step, visit, attempt = self.position()
        return Entry(kind, step, visit, None, attempt, data)

    def _watch_deadline(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.end(Stop.TIMED_OUT, "took longer than its timeout")

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, now: float, move: Move = Move.STEP) -> Stop | None:
        """Write what is there to write; why the execution is to end afterwards, if it is."""
        change = self._draft.taken(self.flow_id, move, now)
        if self.current is not None and self.current.members is not None:
            self._written = self._runtime.monotonic()
        try:
            appended = self.writer.append(change)
        except FlowStopped as stopped:
            if stopped.why is Stop.BROKEN and change.steps:
                self._refused = change.steps[0]
            raise
        if appended is not None and appended.requests and move is Move.STEP:
            self.hear(appended.requests)
        return self.stop

    def finish(self, move: Move, entry: Entry, fields: Mapping[str, Any]) -> None:
        """Write the end of this execution together with what is kept back.

        Raises:
            FlowStopped: When the flow is not this owner's any more, or its store is lost.
        """
        with self._lock:
            if self._ended and self.current is not None:
                self._take_ended(self.current)
            self._draft.entries.append(entry)
            self._draft.flow.update(fields)
            self._write(self._runtime.time(), move)
            self.ended = MOVES[move].target

    def mark_current(self, status: str) -> None:
        """Set the state of the step that was cut short."""
        with self._lock:
            if self.current is not None:
                self._draft.steps.append(StepRow(self.current.step, self.current.visit, {"status": status}))

    def mark_cancelled(self) -> None:
        """Have cancelled what has not ended, as far as the store says what that is."""
        with self._lock:
            cut = [] if self.current is None else [(self.current.step, self.current.visit)]
            with suppress(StoreError):
                cut += unfinished(self._store.get_flow_state(self.flow_id))
            ended = {(row.step, row.visit) for row in self._draft.steps}  # and yet to be written
            self._draft.steps += [
                StepRow(*visit, {"status": "cancelled"}) for visit in dict.fromkeys(cut) if visit not in ended
            ]

    def mark_refused(self, error: str) -> None:
        """Have the step failed of which the store cannot hold something; what was to begin behind it has not begun."""
        with self._lock:
            step = self._refused or self.current
            if step is not None:
                fields = {"status": "failed", "completed_at": self._runtime.time(), "error": error}
                self._draft.steps.append(StepRow(step.step, step.visit, fields))

    # -- while the run waits ---------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """As its owner's, and write members that gathered."""
        super().tick(now)
        self._watch_deadline(self._runtime.time())
        if self._ended:
            self._write_ended()

    def _write_ended(self) -> None:
        """Write members that gathered, unless somebody writes just now."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._ended and self.current is not None and self.stop is None:
                self._take_ended(self.current)
                self._write(self._runtime.time())
        except FlowStopped as stopped:
            self.end(stopped.why, stopped.text)
        finally:
            self._lock.release()

    def check(self) -> None:
        """Return while the run may go on with what it waits for: a pause lets a group end, and no wait for a retry.

        Raises:
            FlowStopped: When it may not.
        """
        if self._ended:
            with self._lock:
                if self._ended and self.current is not None:
                    self._take_ended(self.current)
                    self._write(self._runtime.time())
        if self.stop is not None and (self.stop.interrupts or self.current is None):
            raise FlowStopped(self.stop, self.why)

    def release(self) -> None:
        """Nothing: the claim ends with the last transition."""
