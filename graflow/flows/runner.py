"""`FlowRunner`: runs flows so that they survive, and lets them be seen and steered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from graflow.configuration.project import project_settings
from graflow.core.flow_context import FlowContext
from graflow.core.handler import TaskHandler, checked_handlers
from graflow.core.nodes.options import CacheOption
from graflow.core.run.ledger import DEFAULT_MAX_STEPS
from graflow.core.workflow import WorkflowContext
from graflow.durations import LONGEST
from graflow.exceptions import ConfigError, StoreConfigError, StoreUnavailableError
from graflow.flows.home import Home, home_of
from graflow.flows.inputs import checked_id
from graflow.flows.queues import flow_queue
from graflow.flows.registry import DEFAULT_MAX_RECOVERIES, FlowRegistry, OnFailure, default_flows, definition_of
from graflow.flows.running.driving import Driver
from graflow.flows.running.execution import Means
from graflow.flows.running.pool import Pool
from graflow.flows.running.program import WorkflowProgram
from graflow.flows.running.unrecorded import run_unrecorded
from graflow.flows.verbs.changing import Verbs
from graflow.flows.verbs.questioning import Questioning
from graflow.flows.verbs.steering import Steering
from graflow.flows.waiting.open_questions import QuestionWatch
from graflow.flows.waiting.outbox import Channel
from graflow.flows.waiting.signals import hand_over_at_end
from graflow.given import checked_count, checked_mapping
from graflow.ids import uuid7
from graflow.metrics import start_counting
from graflow.state.changes import Created
from graflow.state.memory import MemoryStore
from graflow.state.models import FlowState
from graflow.state.opening import open_store
from graflow.state.statuses import MOVES, FlowStatus, Move
from graflow.state.store import StateStore
from graflow.text.shown import get_logger
from graflow.trace.composite import combine

_log = get_logger(__name__)

Durability = Literal["required", "best_effort", "off"]

_DURABILITIES: Final = ("required", "best_effort", "off")
_RESUMABLE: Final = MOVES[Move.RESUME].sources


class FlowRunner(Steering, Questioning):
    """Runs named flows, written down step by step in a store.

    What is None is what the environment and the `config.yaml` of the project say, else the default that is named here.

    Args:
        store: A `StateStore`, or its URL; by default the file `.graflow/flows.db`.
        handlers: Handlers of tasks by type, beside `"direct"`.
        durability: `"required"` refuses to run without the store; `"best_effort"` runs on without it, and says so;
            `"off"` writes nothing. `"best_effort"` by default.
        backend: Where submitted flows run: in this process when None, on workers with `"redis"`.
        backend_config: Settings of that backend; its workers' own store is the runner's when none is given.
        config: Settings for channels and group backends.
        tracer: A listener, or several.
        max_steps: Tasks that may complete in one flow; by default 10,000 beside the first execution of each.
        max_concurrent: Flows that run in the background of this process at once; 8 by default.
        lease: Seconds without a sign of life after which the owner of a flow counts as lost; 6 by default.
        recovery: Whether flows whose owners are gone are gone on with in the background, once this runner runs flows;
            True by default.
        notifiers: Channels that are told of questions, by the names that `notify=` has: functions of the notice
            and the question, or handlers as `WebhookFeedbackHandler`; each is told once, or once more, by the same id,
            where a process dies over it.

    Attributes:
        backend_config: What was said of the workers that groups and submitted flows run on; None for nothing.

    Raises:
        ConfigError: For a setting that cannot be right.
    """

    def __init__(
        self,
        store: StateStore | str | Path | None = None,
        *,
        handlers: Mapping[str, TaskHandler] | None = None,
        durability: Durability | None = None,
        backend: str | None = None,
        backend_config: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        tracer: Any = None,
        max_steps: int | None = None,
        max_concurrent: int | None = None,
        lease: float | None = None,
        recovery: bool | None = None,
        notifiers: Mapping[str, Channel] | None = None,
    ) -> None:
        said = project_settings()
        durability = said.persistence.durability if durability is None else durability
        lease = said.flow_engine.lease if lease is None else lease
        max_concurrent = said.flow_engine.max_concurrent if max_concurrent is None else max_concurrent
        max_steps = said.flow_engine.max_steps if max_steps is None else max_steps
        max_steps = DEFAULT_MAX_STEPS if max_steps is None else max_steps
        if durability not in _DURABILITIES:
            raise ConfigError(f"durability is one of {', '.join(_DURABILITIES)}, not {durability!r}")
        if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease <= LONGEST:
            raise ConfigError(f"lease must be seconds above 0, not {lease!r}")
        checked_count("max_concurrent", max_concurrent, least=1)
        checked_count("max_steps", max_steps, least=1)
        if not isinstance(recovery, bool | None):
            raise ConfigError(f"recovery must be True or False, not {recovery!r}")
        backend_config = checked_mapping("backend_config", backend_config, "{'queue': 'flows'}") or None
        config = checked_mapping("config", config, "{'key_prefix': 'shop'}") or None
        handlers = checked_handlers("handlers", handlers)
        combine(tracer)  # refused here, not in the first run
        start_counting()
        self._queue = None if backend is None else flow_queue(backend, backend_config)
        self.store = self._queue.default_store() if store is None and self._queue is not None else open_store(store)
        self._is_store_own = not isinstance(store, StateStore)
        self._durability: Durability = durability
        if said.monitoring.tracing:
            tracer = _with_spans(tracer)
        self._means = Means(handlers, config, tracer, max_steps, said.flow_engine.keep_logs)
        self._registry = FlowRegistry(default_flows)
        self._home = home_of(self.store, lease)
        self._home.recovery.pause = said.flow_engine.poll_interval
        self._notifiers = checked_mapping("notifiers", notifiers, "{'mail': send_mail}")
        self._driver = self._driver_of(self._home, max_concurrent)
        if self._queue is not None:
            self.send_to(self._queue.publish)
        self._verbs = Verbs(self._driver, self._registry)
        self._recovers = said.flow_engine.recovery if recovery is None else recovery
        self._is_open = False
        self._watch = QuestionWatch(self.store)
        self.backend_config = backend_config or config
        hand_over_at_end(self._home)  # here as well: what begins flows may be a thread, which can handle no signal

    def _driver_of(self, home: Home, size: int) -> Driver:
        return Driver(home, self._registry, self._means, Pool(home, size), notifiers=self._notifiers)

    # -- setting up ------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Connect to the store and check it, and begin to look after flows whose owners are gone.

        Raises:
            StoreError: When it cannot be reached, or must not be used for this.
        """
        self.store.initialize()
        if self._durability == "required" and not self.store.is_persistent:
            raise StoreConfigError(
                f'durability="required" needs a store that survives its server, not {self.store.url}'
            )
        self._is_open = True
        self._watch.begin()
        hand_over_at_end(self._home)
        if self._recovers:
            self._home.recovery.join(self._driver)

    def _open(self) -> None:
        if not self._is_open:
            self.initialize()

    def close(self) -> None:
        """Have flows that run here in the background go on elsewhere, and let go of a store that was opened here."""
        self._home.recovery.leave(self._driver)
        self._driver.close()
        self._is_open = False
        self._watch.end()
        if self._is_store_own and self._home.is_idle:
            self._home.store.close()
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def register(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        *,
        max_recoveries: int = DEFAULT_MAX_RECOVERIES,
        timeout: float | None = None,
        concurrency: int | None = None,
        on_failure: OnFailure | None = None,
        cache: CacheOption | None = None,
        ttl: float | None = None,
    ) -> None:
        """Make a function a flow of this runner alone; `@flow`, with the same options, makes it one of the process.

        Raises:
            ConfigError: When another function has the name, or the signature cannot be that of a flow.
        """
        self._registry.add(
            definition_of(
                function,
                name,
                max_recoveries=max_recoveries,
                timeout=timeout,
                concurrency=concurrency,
                on_failure=on_failure,
                cache=cache,
                ttl=ttl,
            )
        )

    # -- running ---------------------------------------------------------------------------------------------------

    def execute(
        self,
        flow: str | FlowContext,
        inputs: Mapping[str, Any] | None = None,
        flow_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowState:
        """Run a flow here, and return it when it rests; a flow of this id that exists is not run twice.

        One that completed, failed, was cancelled, paused or lost is returned as it is; one that runs elsewhere is
        waited for, and taken over when its process dies.

        Args:
            flow: Its name, or a `FlowContext`, which has the next two as well.
            inputs: By name; validated against the signature of its function.
            flow_id: Makes the call idempotent; a new id when None.
            metadata: Plain JSON that is kept with it.

        Raises:
            FlowNotFoundError: For an unknown name.
            FlowInputError: When inputs do not fit.
            FlowConflictError: When the id exists with other inputs.
            StoreError: When the store is lost and `durability` is `"required"`.
        """
        given = self._given(flow, inputs, flow_id)
        definition = self._registry.get(given.flow_name)
        stored = definition.inputs.stored(given.inputs)
        return self._run(definition, stored, given, metadata)

    def run(
        self,
        workflow: WorkflowContext,
        flow_id: str | None = None,
        *,
        start_node: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowState:
        """Run a workflow under an id; the same call in another process goes on where it was.

        Only this method can go on with it, since nothing else can build its graph again; recovery passes it over.

        Raises:
            FlowConflictError: When the id exists as something else.
            FlowChangedError: When the graph is not what was recorded, where that matters.
        """
        if not isinstance(workflow, WorkflowContext):
            raise ConfigError(f"run() takes a workflow, not {workflow!r}; flows are run by execute(name, inputs)")
        program = WorkflowProgram(workflow, start_node)
        given = FlowContext(workflow.name, {}, uuid7() if flow_id is None else checked_id(flow_id))
        if self._goes_on(given):
            return self._shown(self._verbs.resume(given.flow_id, program=program))
        return self._run(program, {}, given, metadata)

    def _goes_on(self, given: FlowContext) -> bool:
        """Whether this run is on record, and rests before its end."""
        if self._durability == "off":
            return False
        try:
            self._open()
            record = self.store.get_record(given.flow_id)
        except StoreUnavailableError:
            return False  # told by what comes next
        return record is not None and record.flow_name == given.flow_name and record.status in _RESUMABLE

    def _run(
        self, program: Any, stored: Mapping[str, Any], given: FlowContext, metadata: Mapping[str, Any] | None
    ) -> FlowState:
        if self._durability == "off" or not given.redis_enabled:
            return self._shown(run_unrecorded(program, stored, given, self._means, metadata))
        driver = self._driver
        try:
            self._open()
            driver.create(
                *(given.flow_id, given.flow_name, stored),
                status=FlowStatus.PENDING,
                durability=self._durability,
                metadata=metadata,
            )
        except StoreUnavailableError as error:
            if self._durability == "required":
                raise
            _log.error(
                "Flow %s runs DEGRADED, in memory alone, since its store cannot be reached (%s): it does not survive, "
                "and its flow_id protects nothing",
                *(given.flow_id, error),
            )
            return self._shown(self._run_in_memory(program, stored, given, metadata))
        return self._shown(driver.drive(given.flow_id, program))

    def _run_in_memory(
        self, program: Any, stored: Mapping[str, Any], given: FlowContext, metadata: Mapping[str, Any] | None
    ) -> FlowState:
        driver = self._driver_of(Home(MemoryStore(), lease=self._home.lease), 1)
        driver.create(
            *(given.flow_id, given.flow_name, stored),
            status=FlowStatus.PENDING,
            durability=self._durability,
            metadata=metadata,
        )
        state = driver.drive(given.flow_id, program)
        state.degraded = True
        return state

    def submit(
        self,
        flow: str | FlowContext,
        inputs: Mapping[str, Any] | None = None,
        flow_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Have a flow run, and return its id at once: by workers (`backend`), else in the background of this process.

        A process that dies meanwhile leaves it to whoever looks after flows of this store next, such as this program
        when it is started again.

        Raises:
            FlowNotFoundError: For an unknown name.
            FlowInputError: When inputs do not fit.
            FlowConflictError: When the id exists with other inputs.
            StoreConfigError: When workers cannot reach the store.
            StoreError: When it cannot be recorded; then it does not run.
        """
        return self.enqueue(flow, inputs, flow_id, metadata).record.flow_id

    def enqueue(
        self,
        flow: str | FlowContext,
        inputs: Mapping[str, Any] | None = None,
        flow_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Created:
        """What `submit` does; tells whether the flow is a new one, and its record."""
        given = self._given(flow, inputs, flow_id)
        if self._durability == "off" or not given.redis_enabled:
            raise ConfigError('A flow that is not recorded cannot be submitted: durability is "off"; use execute()')
        stored = self._registry.get(given.flow_name).inputs.stored(given.inputs)
        self._open()
        if self._queue is not None:
            self._queue.check(self.store, given.flow_name)
        created = self._driver.create(
            *(given.flow_id, given.flow_name, stored),
            status=FlowStatus.QUEUED,
            durability=self._durability,
            metadata=metadata,
        )
        if created.is_new:
            self._driver.begin(created.record)
        return created

    def serve(self, flow_id: str) -> bool:
        """Run a flow on here, if nobody else does; what a message about it asks of a worker.

        Returns:
            Whether its function is known here; else it is left to others.
        """
        self._open()
        return self._driver.serve(flow_id)

    def send_to(self, publish: Callable[[str], None]) -> None:
        """Have flows that are submitted, and those that nobody runs any more, told to others instead of run here."""
        self._driver.publish = publish

    @property
    def player(self) -> Driver:
        """What looks after flows on behalf of this runner."""
        return self._driver

    def _given(self, flow: str | FlowContext, inputs: Mapping[str, Any] | None, flow_id: str | None) -> FlowContext:
        if isinstance(flow, FlowContext):
            if inputs is not None or flow_id is not None:
                raise ConfigError("A FlowContext has inputs and flow_id itself; give either it or these")
            checked_id(flow.flow_id)
            return flow
        if not isinstance(flow, str):
            raise ConfigError(f"A flow is run by its name, not by {flow!r}")
        return FlowContext(flow, {} if inputs is None else inputs, uuid7() if flow_id is None else checked_id(flow_id))

    def wait(self, flow_id: str, timeout: float | None = None) -> FlowState:
        """The flow, once it has ended or is paused.

        Args:
            flow_id: The flow.
            timeout: Seconds; None for no limit.

        Raises:
            FlowNotFoundError: When there is none of this id.
            TimeoutError: When it goes on for longer.
        """
        self._open()
        return self._shown(self._driver.wait(flow_id, timeout))


def _with_spans(tracer: Any) -> list[Any]:
    """Listeners, with one that makes spans of OpenTelemetry unless there is one."""
    from graflow.trace.otel import OpenTelemetryTracer  # noqa: PLC0415 - an extra, and off by default

    given = list(tracer) if isinstance(tracer, Sequence) else [] if tracer is None else [tracer]
    has_one = any(isinstance(each, OpenTelemetryTracer) for each in given)
    return given if has_one else [*given, OpenTelemetryTracer()]
