"""Durable flows in virtual time: processes that crash and freeze, a store that is away or whose answers get lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest.mock import patch

from graflow import chain, parallel, task, workflow
from graflow.core.context import TaskExecutionContext
from graflow.core.durable.graph_fingerprint import graph_fingerprint
from graflow.core.graph import TaskGraph
from graflow.core.memberships import is_group
from graflow.exceptions import StoreUnavailableError
from graflow.flows.home import Home
from graflow.flows.inputs import digest_of
from graflow.flows.registry import FlowRegistry
from graflow.flows.running.driving import Driver
from graflow.flows.running.execution import Means
from graflow.flows.running.pool import Pool
from graflow.state.changes import NewFlow
from graflow.state.memory import MemoryStore
from graflow.state.models import FlowState
from graflow.state.statuses import FlowStatus, StepStatus
from tests.simulation.loop import Loop, Process
from tests.simulation.runtime import SimulatedRuntime
from tests.simulation.simulate import InvariantError

_WAYS = (0.001, 0.001, 0.02, 0.1)  # seconds to the store, and back
LONGEST = 20_000.0  # virtual seconds
WRITES = ("create", "claim", "append", "beat", "request")
READS = ("get_record", "get_flow_state", "events", "open_flows")
KINDS = ("plain", "writes", "loops", "adds", "fails", "waits")


@dataclass
class Report:
    """How rough one simulation was."""

    crashes: int = 0
    freezes: int = 0
    lost_answers: int = 0
    refused: int = 0
    outages: int = 0
    takeovers: int = 0
    degraded: int = 0
    steps: int = 0


def shape(rng: Random, depth: int = 0) -> Any:
    """A random workflow: a kind of leaf, or a chain or group of workflows."""
    if depth == 3 or rng.random() < 0.35:
        return rng.choice(KINDS)
    parts = [shape(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return ("chain", parts) if rng.random() < 0.6 or len(parts) < 2 else ("group", parts)


@dataclass
class RandomFlow:
    """Builds one random workflow again and again, and counts what its tasks do."""

    expression: Any
    rounds: int
    nap: Callable[[], None] = lambda: None
    name: str = "random"
    max_recoveries: int = 1_000_000
    timeout: float | None = None
    concurrency: int | None = None
    on_failure: Any = None
    keeping: Any = None
    handlers: Mapping[str, Any] = field(default_factory=dict)
    ran: Counter[str] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)

    def build(self, _stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        self._names = itertools.count()
        with workflow(self.name) as made:
            steps = chain(self._leaf("plain"), self._built(self.expression), self._leaf("writes"))
            steps >> self._turn()
        for node in made.graph.nodes:
            if is_group(group := made.graph.task_at(node)):
                group.with_execution("direct")  # operators make some themselves, and virtual time has no threads
        return made.graph.copy(), "t0"

    def fingerprint(self, graph: TaskGraph) -> Mapping[str, Any]:
        return graph_fingerprint(graph)

    def _built(self, expression: Any) -> Any:
        if isinstance(expression, str):
            return self._leaf(expression)
        kind, parts = expression
        built = [self._built(part) for part in parts]
        return chain(*built) if kind == "chain" else parallel(*built)

    def _turn(self) -> Any:
        @task(id="turn", inject_context=True)
        def turn(context: TaskExecutionContext) -> Any:
            self._note("turn")
            channel = context.get_channel()
            if channel.atomic_add("round") < self.rounds:
                context.next_task("t0", goto=True)
            return {key: channel.get(key) for key in sorted(channel.keys()) if not key.endswith("__result__")}

        return turn

    def _leaf(self, kind: str) -> Any:
        name = f"t{next(self._names)}"

        def body(context: TaskExecutionContext, data: int = 0) -> Any:
            self._note(name)
            channel = context.get_channel()
            if kind == "writes":
                channel.append("log", name)
                channel.set(name, len(channel.get("log")))
            elif kind == "loops" and data < 2:
                channel.atomic_add("passes")
                context.next_iteration(data + 1)
            elif kind == "adds":
                born = f"{name}_born_{channel.get('round', 0)}"
                context.next_task(added(task_id=born, adding=name))
            elif kind == "fails" and name not in self.failed:
                self.failed.add(name)
                raise ValueError(name)
            elif kind == "waits":
                self.nap()
            return [name, data]

        return task(name, inject_context=True, max_retries=1)(body)

    def _note(self, name: str) -> str:
        self.ran[name] += 1
        self.nap()
        return name


_running: list[RandomFlow] = []


@task
def added(adding: str) -> str:
    """A task that another one adds while it runs; it goes by reference."""
    return _running[-1]._note(f"{adding}_born")


class UnreliableStore:
    """A store on the other end of a line, seen by processes that may die at each call."""

    def __init__(self, store: MemoryStore, world: FlowWorld) -> None:
        self._store = store
        self._world = world
        self.url = "simulated://"
        self.is_shared = self.is_persistent = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES and name not in READS:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._world.answer(name, lambda: method(*args, **kwargs))

        return call


class FlowWorld:
    """One flow, run by several processes, until it has ended.

    Args:
        seed: Decides everything.
        is_fair: Nothing goes wrong.
    """

    def __init__(self, seed: int, *, is_fair: bool = False) -> None:
        self.rng = rng = Random(f"flows {seed}")
        self.loop = Loop(rng)
        self.report = Report()
        self._fair = is_fair
        self._rate = 0.0 if is_fair else rng.choice((0.0, 0.01, 0.05))
        self._outages = [] if is_fair or rng.random() < 0.6 else self._drawn_outages()
        if not is_fair:
            self.loop.crash_rate = rng.choice((0.0, 0.01, 0.04))
            self.loop.freeze_rate = rng.choice((0.0, 0.01, 0.03))
        expression, rounds = shape(rng), rng.randint(1, 2)
        self.flow = RandomFlow(expression, rounds, self._nap)
        self.expected = _alone(expression, rounds)
        _running[:] = [self.flow]
        self.inner = MemoryStore()
        self.store: Any = UnreliableStore(self.inner, self)
        self._tokens = itertools.count()
        self._processes = itertools.count()
        self._calm_at = self.loop.now + 600.0

    def _drawn_outages(self) -> list[tuple[float, float]]:
        begun = [self.rng.uniform(0, 30) for _ in range(self.rng.randint(1, 3))]
        return [(start, start + self.rng.choice((0.5, 4.0, 12.0))) for start in begun]

    # -- what processes meet ---------------------------------------------------------------------------------------

    def _nap(self) -> None:
        self.loop.pass_time(self.rng.choice((0.0, 0.001, 0.2, 3.0)))

    def answer(self, name: str, call: Callable[[], Any]) -> Any:
        """What the store says, if it says something."""
        loop, rng = self.loop, self.rng
        loop.reach_out(rng.choice(_WAYS))
        if any(start <= loop.now < end for start, end in self._outages):
            self.report.outages += 1
            raise StoreUnavailableError("the store is away")
        if rng.random() < self._rate:
            self.report.refused += 1
            raise StoreUnavailableError("no connection")
        result = call()
        loop.reach_out(rng.choice(_WAYS))
        if name in WRITES and rng.random() < self._rate:
            self.report.lost_answers += 1
            raise StoreUnavailableError("no answer")
        return result

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        with _owned_by(self.loop):
            self.inner.create(NewFlow("f", "random", FlowStatus.PENDING, {}, digest_of(["random", {}]), 0.0))
            for _ in range(self.rng.randint(2, 4)):
                self._start_process(self.rng.choice((0.0, 1.0, 5.0)))
            self._run()
        self._check()
        return self.report

    def _start_process(self, delay: float) -> None:
        process = Process(f"p{next(self._processes)}")
        runtime = SimulatedRuntime(self.loop, process, self._tokens)
        home = Home(self.store, lease=6.0, runtime=runtime)
        driver = Driver(home, FlowRegistry(), Means(), Pool(home, 1))

        def work() -> None:
            while True:
                try:
                    driver.drive("f", self.flow)
                except StoreUnavailableError:
                    runtime.sleep(1.0)
                else:
                    return

        self.loop.start(process, work, delay)

    def _run(self) -> None:
        loop = self.loop
        while not self._has_ended():
            if loop.now > self._calm_at:
                loop.crash_rate = loop.freeze_rate = self._rate = 0.0
                self._outages = []
            if loop.now > LONGEST:
                raise InvariantError("the flow does not come to its end")
            loop.step()
            for _ in range(len(loop.died)):
                loop.died.pop()
                self._start_process(self.rng.choice((0.0, 1.0, 10.0)))
        self.report.crashes, self.report.freezes = loop.crashes, loop.freezes
        self._end_all()

    def _has_ended(self) -> bool:
        record = self.inner.get_record("f")
        return record is not None and record.status.is_terminal

    def _end_all(self) -> None:
        for step in list(self.loop._heap):
            Loop.unwind(step.actor.process)

    # -- what has to hold ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        state = self.inner.get_flow_state("f")
        assert state is not None
        journal = self.inner.events("f")
        self.report.steps = len(state.steps)
        self.report.takeovers = sum(line.kind == "flow.taken_over" for line in journal)
        self.report.degraded = int(state.degraded)
        _require([line.seq for line in journal] == [*range(1, len(journal) + 1)], "lines are missing")
        epochs = [line.epoch for line in journal if line.kind != "refused"]
        _require(epochs == sorted(epochs), "a line of an earlier owner stands behind one of a later owner")
        ends = Counter((line.step, line.visit) for line in journal if line.kind == "step.completed")
        _require(all(count == 1 for count in ends.values()), f"steps have ended twice: {ends.most_common(2)}")
        self._check_end(state)
        self._check_executions()

    def _check_end(self, state: FlowState) -> None:
        _require(state.status is FlowStatus.COMPLETED, f"it is {state.status}: {state.error}")
        _require(_sorted(state.outputs) == _sorted(self.expected.outputs), f"it gave {state.outputs}")
        open_steps = [step.step_name for step in state.steps if step.status is not StepStatus.COMPLETED]
        _require(not open_steps, f"steps are left as they were: {open_steps}")
        seen = Counter((step.step_name, step.visit) for step in state.steps)
        _require(all(count == 1 for count in seen.values()), "a visit has two rows")

    def _check_executions(self) -> None:
        """Whatever is cut short costs what was running; without faults nothing runs twice."""
        missing, more = self.expected.ran - self.flow.ran, self.flow.ran - self.expected.ran
        _require(not missing, f"not run: {missing}")
        cuts = self.report.crashes + self.report.freezes
        cuts += self.report.takeovers + self.report.refused + self.report.lost_answers + self.report.outages
        _require(bool(cuts) or not more, f"run twice for no reason: {more}")
        most = max(more.values(), default=0)
        _require(most <= cuts, f"{most} executions too many, and {cuts} reasons")


@dataclass
class Expected:
    outputs: Any
    ran: Counter[str]


def _alone(expression: Any, rounds: int) -> Expected:
    """What the workflow gives when nothing happens to it."""
    flow = RandomFlow(expression, rounds)
    _running[:] = [flow]
    store = MemoryStore()
    home = Home(store)
    store.create(NewFlow("f", "random", FlowStatus.PENDING, {}, "", 0.0))
    state = Driver(home, FlowRegistry(), Means(), Pool(home, 1)).drive("f", flow)
    return Expected(state.outputs, flow.ran)


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise InvariantError(text)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    return sorted(value, key=str) if isinstance(value, list) else value


@contextmanager
def _owned_by(loop: Loop) -> Iterator[None]:
    """Have each simulated process be an owner of its own."""

    def owner() -> str:
        return f"simulated:{loop.here().name}:0"

    with (
        patch("graflow.flows.recording.writing.this_owner", owner),
        patch("graflow.flows.recording.identity.this_owner", owner),
    ):
        yield
