"""Flows on their way: made, run here or in the background, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from graflow.durations import checked_seconds
from graflow.encoding.shapes import is_writable
from graflow.exceptions import FlowConflictError, FlowNotFoundError, GraflowRuntimeError, VersionConflictError
from graflow.flows.home import Home
from graflow.flows.inputs import checked_metadata, digest_of
from graflow.flows.recording.recorder import FlowRecorder
from graflow.flows.recording.rows import unfinished
from graflow.flows.recording.stopping import Stop, rests
from graflow.flows.registry import FlowRegistry
from graflow.flows.running.execution import FlowExecution, Means, Program, cancel_groups
from graflow.flows.running.pool import Pool
from graflow.flows.waiting.children import Children
from graflow.flows.waiting.outbox import Channel
from graflow.flows.waiting.questions import Questions
from graflow.flows.waiting.signals import wait_for_end
from graflow.foreign import attempt
from graflow.state.changes import Change, Created, Entry, FlowRecord, NewFlow, Request, RequestKind, StepRow
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import MOVES, FlowStatus, Move
from graflow.text.shown import get_logger
from graflow.trace.carrying import trace_context

_log = get_logger(__name__)

_NAPS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # seconds between looks at a flow that runs elsewhere

_TRIES: Final = 5  # to cancel a flow that others change meanwhile
_TELL_AGAIN: Final = 30.0  # seconds
_FULL_FOR: Final = 0.4  # seconds for which a flow that may not run, since others of its name do, is not tried again

Publish = Callable[[str], None]
"""Tells the workers of a flow."""


class Driver:
    """Has flows of one store run.

    Args:
        home: The store, and what runs here.
        registry: The flows that can be run.
        means: Handlers and settings of their executions.
        pool: Runs flows in the background.
        publish: Has workers run them instead.
        notifiers: Channels that are told of questions, by name.

    Attributes:
        registry: The flows that can be run.
    """

    def __init__(
        self,
        home: Home,
        registry: FlowRegistry,
        means: Means,
        pool: Pool,
        publish: Publish | None = None,
        notifiers: Mapping[str, Channel] | None = None,
    ) -> None:
        self.home = home
        self.store = home.store
        self.publish = publish
        self.registry = registry
        self._means = means
        self._pool = pool
        self._told: dict[str, tuple[int, float]] = {}  # epoch, and when to tell workers again
        self._full: dict[str, float] = {}  # names of which as many flows run as may, and until when that is believed
        self.children = Children(self, registry, home)
        self.questions = Questions(home, self.children, notifiers or {})

    # -- making ----------------------------------------------------------------------------------------------------

    def create(
        self,
        flow_id: str,
        flow_name: str,
        stored: Mapping[str, Any],
        *,
        status: FlowStatus,
        durability: str,
        metadata: Mapping[str, Any] | None,
        parent: tuple[str, str] | None = None,
    ) -> Created:
        """Record a flow, or find the one of this id; `parent` is the flow and step that ask for it.

        Raises:
            FlowConflictError: When that has another name, or other inputs.
        """
        made = NewFlow(
            flow_id,
            flow_name,
            status,
            stored,
            digest_of([flow_name, stored]),
            self.home.runtime.time(),
            durability=durability,
            metadata=checked_metadata(metadata),
            parent_flow_id=parent and parent[0],
            parent_step=parent and parent[1],
            flow=trace_context(),
        )
        created = self.store.create(made)
        record = created.record
        if not created.is_new and record.input_digest != made.input_digest:
            what = "with other inputs" if record.flow_name == flow_name else f"as one of '{record.flow_name}'"
            raise FlowConflictError(
                f"Flow '{flow_id}' exists already, {what}; give another flow_id, or the inputs that it has"
            )
        return created

    # -- running ---------------------------------------------------------------------------------------------------

    def knows(self, flow_name: str) -> bool:
        return self.registry.find(flow_name) is not None

    def begin(self, record: FlowRecord) -> None:
        """Have a free flow run in the background: by workers where there are some, else here."""
        if self._full.get(record.flow_name, 0.0) > self.home.runtime.monotonic():
            return  # it is begun later
        if self.publish is not None:
            self._send(record, self.publish)
        elif not self._pool.is_full:
            self._pool.submit(record.flow_id, lambda: self.advance(record.flow_id))

    def _send(self, record: FlowRecord, publish: Publish) -> None:
        """Tell the workers of a flow that is free; one that waits in their queue is told again after a while."""
        program, now = self.registry.get(record.flow_name), self.home.runtime.monotonic()
        told = self._told.get(record.flow_id)
        if told is not None and told[0] == record.epoch and now < told[1]:
            return
        freed = FlowExecution(self.home, program, record, self._means, self.children, self.questions).freed()
        if freed is None:
            return
        if freed.status is FlowStatus.RUNNING:  # to be given up
            self._pool.submit(record.flow_id, lambda: self.advance(record.flow_id))
            return
        self._told = {flow_id: each for flow_id, each in self._told.items() if now < each[1]}
        self._told[record.flow_id] = freed.epoch, now + _TELL_AGAIN
        try:
            publish(record.flow_id)
        except GraflowRuntimeError as error:
            self._told.pop(record.flow_id, None)
            _log.warning("Flow %s is on record, and its message is sent later: %s", record.flow_id, error)

    def sweep(self) -> None:
        self.questions.sweep()

    def serve(self, flow_id: str) -> bool:
        """Run a flow on here, if it is free; False when its function is not known here."""
        record = self.store.get_record(flow_id)
        if record is None:
            _log.error("Flow %s is not in the store %s of this process", flow_id, self.store.url)
            return True
        if not self.knows(record.flow_name):
            return rests(record.status)
        self.advance(flow_id)
        return True

    def _cancel_groups(self, record: FlowRecord, state: FlowState | None) -> None:
        """Cancel the groups of a flow that were open on workers in that state, whoever waits for them."""
        program = self.registry.find(record.flow_name)
        if program is not None:
            reached = cancel_groups(state, program, record, self._means)
            _log.info(
                "Flow %s is cancelled; group runs that this reached: %s", record.flow_id, ", ".join(reached) or "none"
            )

    # -- asking to stop --------------------------------------------------------------------------------------------

    def ask(self, flow_id: str, kind: RequestKind, reason: str, by: str) -> FlowRecord:
        """Ask the owner of a flow for something."""
        request = Request(kind, by, reason, self.home.runtime.time())
        record = self.store.request(flow_id, request)
        recorder = self.home.recorder_of(flow_id)
        if recorder is not None:  # need not wait for its next beat
            recorder.hear([request])
        return record

    def cancel(self, flow_id: str, reason: str, by: str) -> None:
        """Cancel a flow with its open groups and its children; the owner of one that runs is asked to.

        Raises:
            FlowNotFoundError: When there is none.
            VersionConflictError: Somebody else changed it meanwhile.
        """
        record, state = self.record(flow_id), self.store.get_flow_state(flow_id)
        if record.status in MOVES[Move.CANCEL].sources:
            entry = Entry("flow.cancelled", data={"reason": reason, "by": by})
            cut = [StepRow(*visit, {"status": "cancelled"}) for visit in unfinished(state)]
            self.store.append(Change(flow_id, Move.CANCEL, record.version, self.home.runtime.time(), [entry], cut))
            self._cancel_groups(record, state)
            self.children.ended(record)
            self.questions.withdraw_all(flow_id)
        elif record.status is not FlowStatus.CANCELLED:
            asked = self.ask(flow_id, RequestKind.CANCEL, reason, by)
            self._cancel_groups(asked, self.store.get_flow_state(flow_id))
            if self.home.is_free(asked) and self.knows(record.flow_name):
                self.advance(flow_id)
        for child in self.children.running_of(flow_id):
            self.cancel(child.flow_id, f"flow '{flow_id}', which has started it, was cancelled", by)

    def _cancel_awaited(self, parent: FlowRecord) -> None:
        """Cancel the child that a flow has waited for until its time was over; others go on by themselves."""
        child = parent.fields.get("awaits")
        if child is None:
            return
        reason = f"flow '{parent.flow_id}', which waited for it, took longer than its timeout"
        for _ in range(_TRIES):
            try:
                self.cancel(child, reason, "timeout")
            except (VersionConflictError, FlowConflictError, FlowNotFoundError) as error:
                _log.info("Child %s of flow %s is looked at again: %s", child, parent.flow_id, error)
            else:
                return

    def close(self) -> None:
        """Have flows that run in the background go on elsewhere."""
        self._pool.close()

    def advance(self, flow_id: str, program: Program | None = None) -> FlowRecorder | None:
        """Run a flow on, if it is free; None when it is not, or is somebody else's by now."""
        record = self.record(flow_id)
        if rests(record.status) or not self.home.is_free(record):
            return None
        return self._run(record, program)

    def _run(self, record: FlowRecord, program: Program | None) -> FlowRecorder | None:
        if self.children.awaited(record) or self.questions.awaited(record):
            return None
        made = program or self.registry.get(record.flow_name)
        execution = FlowExecution(self.home, made, record, self._means, self.children, self.questions)
        recorder = execution.run()
        if execution.is_put_off:
            self._full[record.flow_name] = self.home.runtime.monotonic() + _FULL_FOR
        elif made.concurrency is not None:
            self._full.pop(record.flow_name, None)
        if recorder is not None and recorder.awaits is not None:
            self.children.awaited(self.record(record.flow_id))  # it may have ended before this one was put away
        elif recorder is not None and recorder.asks:
            self.questions.awaited(self.record(record.flow_id))  # the same of answers
        elif recorder is not None and recorder.ended is not None and recorder.ended.is_terminal:
            self.children.ended(record)
            if recorder.stop is Stop.TIMED_OUT:
                self._cancel_awaited(record)
            if made.on_failure is not None and recorder.ended in {FlowStatus.FAILED, FlowStatus.LOST}:
                self._tell_of_failure(record.flow_id, made.on_failure)
        return recorder

    def _tell_of_failure(self, flow_id: str, on_failure: Callable[[FlowState], object]) -> None:
        attempt(
            lambda: on_failure(self.state(flow_id)),
            lambda error: _log.error(
                "on_failure of flow %s failed; the flow stays what it is", flow_id, exc_info=error
            ),
        )

    def drive(self, flow_id: str, program: Program | None = None) -> FlowState:
        """Run a flow here until it rests; wait while another process runs it, and take over when that is gone."""
        nap = iter(_NAPS)
        while True:
            record = self.record(flow_id)
            if rests(record.status):
                return self.state(flow_id)
            if self.home.is_free(record):
                recorder = self._run(record, program)
                if recorder is not None:
                    nap = iter(_NAPS)
                    if recorder.ended is not None and rests(recorder.ended) and recorder.writer.kept is None:
                        return self.state(flow_id)
                    if recorder.writer.kept is not None:
                        self.home.recovery.catch_up(recorder.writer)
                    if recorder.writer.kept is not None or recorder.stop in {Stop.HAND_OVER, Stop.STORE_LOST}:
                        return self._left(record, recorder)
                    continue
            elif record.fields.get("awaits") is not None:
                self.children.awaited(record)
            elif record.fields.get("asks"):
                self.questions.awaited(record)
            self.home.runtime.sleep(next(nap, _NAPS[-1]))

    def wait(self, flow_id: str, timeout: float | None) -> FlowState:
        """Wait until a flow rests.

        Raises:
            TimeoutError: When it does not in time.
        """
        timeout = checked_seconds("timeout", timeout)
        monotonic, nap = self.home.runtime.monotonic, iter(_NAPS)
        end = None if timeout is None else monotonic() + timeout
        while not rests((record := self.record(flow_id)).status):
            left = _NAPS[-1] if end is None else end - monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"Flow '{flow_id}' is {record.status.value} after {timeout:g} s; it goes on, and wait() can be "
                    "called again"
                )
            self.home.runtime.sleep(min(next(nap, _NAPS[-1]), left))
        return self.state(flow_id)

    # -- looking ---------------------------------------------------------------------------------------------------

    def record(self, flow_id: str) -> FlowRecord:
        """The row of a flow.

        Raises:
            FlowNotFoundError: When there is none.
        """
        found = self.store.get_record(flow_id) if _may_be(flow_id) else None
        if found is None:
            raise FlowNotFoundError(f"Flow {flow_id} not found")
        return found

    def state(self, flow_id: str) -> FlowState:
        """A flow with its steps.

        Raises:
            FlowNotFoundError: When there is none.
        """
        found = self.store.get_flow_state(flow_id) if _may_be(flow_id) else None
        if found is None:
            raise FlowNotFoundError(f"Flow {flow_id} not found")
        return found

    def planned(self, flow_id: str) -> Mapping[str, Any]:
        """What `graph_fingerprint` told of the graph of a flow, or tells of what its function builds now.

        Empty where neither is to be had.

        Raises:
            FlowNotFoundError: When there is none.
        """
        record = self.record(flow_id)
        recorded: Mapping[str, Any] | None = record.fields.get("fingerprint")
        program = self.registry.find(record.flow_name)
        if recorded is not None or program is None:
            return recorded or {}
        return attempt(lambda: program.fingerprint(program.build(record.inputs)[0]), lambda _: {})

    def _left(self, record: FlowRecord, recorder: FlowRecorder) -> FlowState:
        """A flow as this process leaves it, of which the store does not know everything."""
        kept = recorder.writer.kept
        if kept is None:
            status, fields = FlowStatus.PAUSED, {"error": f"StoreError: {recorder.why}"}
            if recorder.stop is Stop.HAND_OVER:
                wait_for_end()
                return self.state(record.flow_id)
            steps: list[FlowStepState] = []
        else:
            status, fields = MOVES[kept.move].target or record.status, dict(kept.flow)
            rows: dict[tuple[str, int], dict[str, Any]] = {}
            for row in kept.steps:
                rows.setdefault((row.step, row.visit), {"step_name": row.step, "visit": row.visit}).update(row.fields)
            steps = [FlowStepState.model_validate(row) for row in rows.values()]
        return FlowState.model_validate(
            {
                **{
                    name: value for name, value in {**record.fields, **fields}.items() if name in FlowState.model_fields
                },
                "flow_id": record.flow_id,
                "flow_name": record.flow_name,
                "status": status,
                "inputs": record.inputs,
                "steps": steps,
                "degraded": recorder.writer.degraded,
            }
        )


def _may_be(flow_id: object) -> bool:
    """Whether a flow can have the id."""
    return isinstance(flow_id, str) and is_writable(flow_id)
