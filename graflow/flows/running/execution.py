"""One execution of one flow in this process: claimed, built, brought to where it was, and run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from graflow.coordination.executor import GroupExecutor
from graflow.core.durable.graph_fingerprint import Difference, graph_differences
from graflow.core.durable.runs import durable_run, value_of
from graflow.core.engine import WorkflowEngine
from graflow.core.flow_context import FlowContext, RunningFlow
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.run.ledger import DEFAULT_MAX_STEPS
from graflow.core.run.steps.speaking import words_of_step
from graflow.encoding.errors_as_data import describe_error
from graflow.encoding.typed_json import to_jsonable
from graflow.exceptions import (
    FlowChangedError,
    FlowTimeoutError,
    GraflowError,
    GraflowWorkflowCanceledError,
    TaskFailedError,
    VersionConflictError,
    named,
)
from graflow.flows.cache.tasks import TasksOfFlow
from graflow.flows.cache.whole import Keeping, kept_outcome
from graflow.flows.home import Home
from graflow.flows.recording.calls import Children, Questions
from graflow.flows.recording.journal import Past, past_of
from graflow.flows.recording.recorder import FlowRecorder
from graflow.flows.recording.stopping import FlowStopped, FlowSuspended, Stop
from graflow.flows.recording.tracing import listeners
from graflow.flows.recording.writing import REQUIRED_PATIENCE, Writer
from graflow.hearing.streams import hear
from graflow.observing import Happening, observe, observers
from graflow.state.changes import Change, Entry, FlowRecord
from graflow.state.models import FlowState
from graflow.state.statuses import FlowStatus, Move, StepStatus
from graflow.text.shown import get_logger
from graflow.trace.carrying import continued

_log = get_logger(__name__)

_BEATS_PER_LEASE: Final = 4


class Program(Protocol):
    """What builds the graph of a flow."""

    @property
    def name(self) -> str: ...

    @property
    def max_recoveries(self) -> int: ...

    @property
    def timeout(self) -> float | None: ...

    @property
    def concurrency(self) -> int | None: ...

    @property
    def on_failure(self) -> Callable[[FlowState], object] | None: ...

    @property
    def keeping(self) -> Keeping | None: ...

    @property
    def handlers(self) -> Mapping[str, TaskHandler]: ...

    def build(self, stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        """The graph for inputs in their stored form, and where a run of it starts."""

    def fingerprint(self, graph: TaskGraph) -> Mapping[str, Any]:
        """What the graph is compared by; called before a run changes it."""


@dataclass(frozen=True)
class Means:
    """What the executions of a runner have in common.

    Attributes:
        handlers: Handlers by type, beside `"direct"`.
        config: Settings for channels and group backends.
        tracer: A listener, or several.
        max_steps: Tasks that may complete.
        keeps_logs: Whether what steps print and log is kept with what comes of them.
    """

    handlers: Mapping[str, TaskHandler] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    tracer: Any = None
    max_steps: int = DEFAULT_MAX_STEPS
    keeps_logs: bool = False


def changed_text(flow_id: str, differences: Sequence[Difference]) -> str:
    """The error for a graph that is not what was recorded."""
    lines = "".join(f"\n  - {each.text}" for each in differences if each.matters)
    return (
        f"The code of flow '{flow_id}' has changed where steps have completed:{lines}\n"
        'Bring the code back, fork the flow, or resume it with on_change="reuse", which runs again what changed'
    )


def cancel_groups(state: FlowState | None, program: Program, record: FlowRecord, means: Means) -> list[str]:
    """Cancel the groups that are open elsewhere in a state of a flow; the keys of those that this ended."""
    open_rows = [row for row in state.steps if row.status is StepStatus.RUNNING and row.run_key] if state else []
    if not open_rows:
        return []
    graph, _ = program.build(record.inputs)
    return [
        row.run_key
        for row in open_rows
        if row.run_key is not None
        and graph.has_node(row.step_name)
        and GroupExecutor.cancel(graph.get_node(row.step_name), row.run_key, means, "its flow was cancelled")
    ]


class FlowExecution:
    """Runs one flow as its owner, as far as it goes in this process.

    Args:
        home: Where.
        program: Builds the graph.
        record: The flow as it was seen, with an owner that is gone or none.
        means: Handlers and settings.
        children: Starts the flows that steps ask for.
        questions: Puts the questions of steps.

    Attributes:
        is_put_off: Whether it has not begun because as many flows of its name run as may.
    """

    def __init__(
        self, home: Home, program: Program, record: FlowRecord, means: Means, children: Children, questions: Questions
    ) -> None:
        self._home = home
        self._store = home.store
        self._program = program
        self._record = record
        self._means = means
        self._children = children
        self._questions = questions
        self.is_put_off = False

    def run(self) -> FlowRecorder | None:
        """Run the flow; None when it is somebody else's.

        Returns:
            What wrote it down.

        Raises:
            StoreError: When the store is lost before anything ran.
        """
        record = self.freed()
        if record is None:
            return None
        begun = self._home.runtime.monotonic()
        has_past = record.epoch or record.fields.get("parent_flow_id")
        past = past_of(self._store.events(record.flow_id)) if has_past else Past()
        recorder = self._recorder(record, past)
        try:
            with self._home.running(recorder), continued(record.fields):
                self._run(record, recorder, past)
        except FlowStopped as stopped:
            _log.info("Flow %s goes no further in this process: %s", record.flow_id, stopped.text or stopped.why)
            if recorder.writer.epoch is None:
                self.is_put_off = stopped.why is Stop.FULL
                return None
            if stopped.why is Stop.BROKEN and recorder.ended is None:  # the end of the run was to be written with it
                self._stopped(recorder, stopped)
            recorder.stop, recorder.why = stopped.why, stopped.text
        if observers:
            end = "left" if recorder.ended is None else recorder.ended.value
            observe(Happening.FLOW_ENDED, self._home.runtime.monotonic() - begun, record.flow_name, end)
        return recorder

    def freed(self) -> FlowRecord | None:
        """The flow made ready by compare-and-set where its owner is gone, which is counted."""
        record = self._record
        if record.status is not FlowStatus.RUNNING:
            return record
        takeovers = record.fields.get("takeovers", 0) + 1
        if takeovers > self._program.max_recoveries:
            return record  # to be given up, by an owner
        now = self._home.runtime.time()
        entry = Entry("flow.taken_over", data={"from": record.owner, "takeovers": takeovers})
        change = Change(record.flow_id, Move.RECOVER, record.version, now, [entry], flow={"takeovers": takeovers})
        try:
            self._store.append(change)
        except (VersionConflictError, GraflowError):
            return None
        if observers:
            observe(Happening.FLOW_TAKEN_OVER, 1.0, record.flow_name)
        _log.warning("Flow %s is taken over from %s, which is gone", record.flow_id, record.owner)
        freed = self._store.get_record(record.flow_id)
        return freed if freed is not None and freed.status is FlowStatus.QUEUED else None  # else somebody was faster

    def _recorder(self, record: FlowRecord, past: Past) -> FlowRecorder:
        is_required = record.fields.get("durability") == "required"
        writer = Writer(
            *(self._store, record, self._home.runtime),
            patience=REQUIRED_PATIENCE if is_required else self._home.lease,
            is_required=is_required,
            limit=self._program.concurrency,
        )
        beat_every = min(1.0, self._home.lease / _BEATS_PER_LEASE)
        return FlowRecorder(
            *(self._store, record, writer, self._home.runtime),
            past=past,
            children=self._children,
            questions=self._questions,
            beat_every=beat_every,
        )

    def _run(self, record: FlowRecord, recorder: FlowRecorder, past: Past) -> None:
        if record.epoch or record.status is FlowStatus.CANCELLING:
            recorder.claim()
        if record.status is FlowStatus.CANCELLING:
            stopped = FlowStopped(Stop.CANCEL, "asked for before its owner was gone")
            stopped.reached += cancel_groups(
                self._store.get_flow_state(record.flow_id), self._program, record, self._means
            )
            raise self._stopped(recorder, stopped)
        if record.status is FlowStatus.RUNNING:
            self._give_up(record, recorder)
            return
        try:
            value = self._executed(record, recorder, past)
        except FlowStopped as stopped:
            if stopped.why is Stop.ALONE:
                self._alone(record, recorder)
                return
            raise self._stopped(recorder, stopped) from None
        except (KeyboardInterrupt, SystemExit) as error:  # the program ends: no failure of the step
            recorder.mark_current("paused")
            recorder.finish(Move.STOP, Entry("flow.paused"), {"error": _end_of_program(error)})
            raise
        except GraflowWorkflowCanceledError as error:
            recorder.finish(Move.FINISH_CANCEL, Entry("flow.cancelled"), {"error": named(error)})
        except FlowChangedError as error:
            recorder.finish(Move.STOP, Entry("flow.paused"), _error_fields(error))
        except Exception as error:
            recorder.listen()
            if recorder.stop is Stop.CANCEL:  # what failed was cancelled
                raise self._stopped(recorder, FlowStopped(Stop.CANCEL, recorder.why)) from error
            recorder.finish(Move.FAIL, Entry("flow.failed"), _error_fields(error))
        else:
            recorder.finish(
                Move.COMPLETE, Entry("flow.completed"), {"outputs": value, "retry_from": None, **_degraded(recorder)}
            )

    def _executed(self, record: FlowRecord, recorder: FlowRecorder, past: Past) -> Any:
        """The value of the flow as plain JSON."""
        graph, start = self._program.build(record.inputs)
        fingerprint = self._compare(record, recorder, graph, past)
        self._set_deadline(record, recorder)

        def run() -> Any:
            return self._value_of_run(record, recorder, past, graph, start)

        cache, keeping = self._home.cache, self._program.keeping
        if cache is None or keeping is None:
            return run()
        is_fresh = not (record.epoch or past.lines or record.fields.get("is_fork"))
        return kept_outcome(cache, self._store, keeping, record, recorder, fingerprint, run, is_fresh=is_fresh)

    def _value_of_run(
        self, record: FlowRecord, recorder: FlowRecorder, past: Past, graph: TaskGraph, start: str
    ) -> Any:
        """The value of the flow as its tasks make it."""
        means, alone, cache = self._means, record.fields.get("retry_from"), self._home.cache
        if means.keeps_logs:
            hear(words_of_step)
        lines = past.lines
        if alone is not None:
            lines = past.before((alone["step"], alone["visit"]), alone.get("members", ()))
        engine = WorkflowEngine({**means.handlers, **self._program.handlers})
        context = durable_run(
            graph,
            session_id=recorder.session_id,
            recorder=recorder,
            engine=engine,
            recorded=lines,
            start_node=start,
            max_steps=means.max_steps,
            config=means.config,
            tracer=listeners(means.tracer, record.fields, recorder.note),
            name=record.flow_name,
            keeps_words=means.keeps_logs,
            flow=RunningFlow(
                FlowContext(record.flow_name, record.inputs, record.flow_id),
                recorder,
                calls=recorder.calls,
                people=recorder.people,
                cache=None if cache is None else TasksOfFlow(cache, recorder),
            ),
        )
        recorder.run = context
        if alone is not None:
            recorder.only = alone["step"]
            context.agenda.clear()
            context.agenda.joins.waiting.clear()
            context.agenda.queue_node(alone["step"])
        value = value_of(context, engine.execute(context))
        return to_jsonable(value, where=f"the value of flow '{record.flow_id}'")

    def _set_deadline(self, record: FlowRecord, recorder: FlowRecorder) -> None:
        """Have a flow with a timeout end in time; the time runs from its first claim, or from that after a verb."""
        recorder.deadline = record.fields.get("deadline")
        if recorder.deadline is None and self._program.timeout is not None:
            recorder.deadline = self._home.runtime.time() + self._program.timeout
            recorder.note({"deadline": recorder.deadline})
        if record.fields.get("awaits") is not None or record.fields.get("asks"):
            recorder.note({"awaits": None, "asks": None})

    def _compare(self, record: FlowRecord, recorder: FlowRecorder, graph: TaskGraph, past: Past) -> Mapping[str, Any]:
        """Refuse a graph that is another one where that matters; returns what it is compared by.

        Raises:
            FlowChangedError: With the difference.
        """
        present, recorded = self._program.fingerprint(graph), record.fields.get("fingerprint")
        if recorded is not None and recorded != present:
            differences = graph_differences(recorded, present, past.completed_nodes())
            if any(each.matters for each in differences):
                raise FlowChangedError(changed_text(record.flow_id, differences))
        if recorded != present:
            recorder.note({"fingerprint": present})
        return present

    def _alone(self, record: FlowRecord, recorder: FlowRecorder) -> None:
        """The one step has run again that was to run alone; the rest stays what it was."""
        alone = record.fields["retry_from"]
        if alone["was"] == FlowStatus.COMPLETED:
            recorder.finish(Move.COMPLETE, Entry("flow.completed"), {"outputs": alone["outputs"], "retry_from": None})
        else:
            data = {"reason": f"step '{alone['step']}' has run alone; resume goes on behind it"}
            recorder.finish(Move.STOP, Entry("flow.paused", data=data), {"retry_from": None})

    # -- ends ------------------------------------------------------------------------------------------------------

    def _stopped(self, recorder: FlowRecorder, stopped: FlowStopped) -> FlowStopped:
        """Write how an execution ended before the flow did; returns why, for whoever waits."""
        if recorder.writer.epoch is None:
            return stopped
        match stopped.why:
            case Stop.PAUSE:
                recorder.finish(Move.STOP, Entry("flow.paused", data={"reason": stopped.text}), {})
            case Stop.CANCEL:
                recorder.mark_cancelled()
                reached = stopped.reached or recorder.open_groups
                entry = Entry("flow.cancelled", data={"reason": stopped.text, "reached": reached})
                recorder.finish(Move.FINISH_CANCEL, entry, {})
            case Stop.HAND_OVER | Stop.PUT_AWAY:
                is_said = isinstance(stopped, FlowSuspended)  # by the line of its step
                said = {} if is_said else {"reason": stopped.text}
                entry = Entry("flow.handed_over", data=said)
                fields = {"wake_at": stopped.wake_at, "awaits": recorder.awaits, "asks": recorder.asks or None}
                recorder.finish(Move.HAND_OVER, entry, fields)
            case Stop.TIMED_OUT:
                recorder.mark_cancelled()
                text = f"Flow '{recorder.flow_id}' {stopped.text} of {self._program.timeout:g} s"
                recorder.finish(Move.FAIL, Entry("flow.failed"), _error_fields(FlowTimeoutError(text)))
            case Stop.BROKEN:
                error = stopped.__cause__ or stopped
                recorder.mark_refused(named(error))
                recorder.finish(Move.FAIL, Entry("flow.failed"), _error_fields(error))
            case Stop.STORE_LOST:  # what is kept is written when the store is back
                fields = {"error": f"StoreUnavailableError: {stopped.text}"}
                recorder.finish(Move.STOP, Entry("flow.paused", data={"reason": stopped.text}), fields)
            case Stop.NOT_OURS | Stop.FULL:
                pass
        return stopped

    def _give_up(self, record: FlowRecord, recorder: FlowRecorder) -> None:
        """A flow whose processes die at the same step again and again is LOST."""
        takeovers = record.fields.get("takeovers", 0)
        state = self._store.get_flow_state(record.flow_id)
        step = None if state is None else state.current_step
        recorder.writer.claim(self._home.runtime.time())
        text = (
            f"Taken over {takeovers} times in a row at step '{step}', last from {record.owner}: its processes die there"
        )
        _log.error("Flow %s is LOST. %s", record.flow_id, text)
        recorder.finish(Move.GIVE_UP, Entry("flow.lost", step=step, data={"owner": record.owner}), {"error": text})


def _degraded(recorder: FlowRecorder) -> dict[str, Any]:
    return {"degraded": True} if recorder.writer.degraded else {}


def _end_of_program(error: KeyboardInterrupt | SystemExit) -> str:
    return "KeyboardInterrupt: interrupted" if isinstance(error, KeyboardInterrupt) else f"SystemExit: {error.code}"


def _error_fields(error: BaseException) -> dict[str, Any]:
    """How an error is kept with its flow: that of the task without the wrapper which names the task."""
    cause = error.cause if isinstance(error, TaskFailedError) and error.cause is not None else error
    return {"error": named(cause), "error_data": describe_error(cause).to_dict()}
