"""The processes of one simulation: users, workers and bystanders around the code that is put to the test.

Everything that opens, publishes, claims, runs, reports, sweeps, waits and attaches here is the product's own:
`RedisCoordinator`, `submit_to`, `attach_to`, `run_members`, `run_continuation`, `sweep`, `requeue_lost`,
`record_timeout`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, TypeVar

import redis

from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup
from graflow.core.task_registry import TaskResolverRegistry
from graflow.core.workflow import workflow
from graflow.exceptions import (
    GraflowRuntimeError,
    GroupLostError,
    GroupNotFoundError,
    GroupTimeoutError,
    ParallelGroupError,
    PayloadError,
    RunOwnedError,
)
from graflow.redis.refusals import REFUSALS, refused
from graflow_celery.broker.messages import FEW
from graflow_celery.broker.paces import Paces
from graflow_celery.client.api import attach_to, submit_to
from graflow_celery.client.coordinator import RedisCoordinator
from graflow_celery.client.handle import GroupHandle
from graflow_celery.deployment import Deployment, Patience
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import Completion, Cursor, MemberReport, OutcomePage, Republish, WorkerInfo
from graflow_celery.settings import Settings
from graflow_celery.sweeper import beat, sweep
from graflow_celery.wire.shared_payloads import SharedPayloads
from graflow_celery.worker.batches.batch import run_members
from graflow_celery.worker.continuation import run_continuation
from graflow_celery.worker.lost_children import record_timeout, requeue_lost
from graflow_celery.worker.running import running_member
from tests.simulation.broker import Broker, Message, SimulatedPublisher
from tests.simulation.loop import Loop, Process
from tests.simulation.members import TIME_LIMIT, limited, member, persistent, report, report_nested, total
from tests.simulation.model import Witness, require
from tests.simulation.runtime import SimulatedRuntime

T = TypeVar("T")
_REPEATED = frozenset({"beat", "complete", "complete_blocks", "abandon", "release", "retry", "reopen"})
_REPAIRS = 3
_CODES = sorted(REFUSALS)
TOLD_TO_EXIT = 15 - 256
"""The exit code with which billiard leaves a pool child that was sent SIGTERM."""


@dataclass(frozen=True)
class Plan:
    """What a seed makes of a group."""

    n: int
    failing: frozenset[int]
    poisonous: frozenset[int]
    policy: str | dict[str, Any]
    is_workflow: bool
    continues: bool
    is_limited: bool
    has_prefork: bool
    slots: int
    exit_rate: float
    beats: bool
    is_fair: bool
    is_nested: bool
    is_persistent: bool

    has_long_values: bool = False
    is_brief: bool = False

    def value(self, index: int) -> int | bytes:
        """What a member comes to."""
        return b"%016d" % (index * 10) if self.has_long_values else index * 10

    @property
    def enough(self) -> int:
        """Members that have to succeed."""
        if isinstance(self.policy, dict):
            return int(self.policy.get("min_success", self.n))
        return 0 if self.policy == "best_effort" else self.n

    def inner(self) -> dict[str, range]:
        """The members of the two groups in a nested group, by name."""
        return {"first": range(self.n // 2), "second": range(self.n // 2, self.n)}


def weighed(values: Sequence[int | bytes | None]) -> int:
    """A sum that shows whether the values are in order."""
    return sum(place * int(value) for place, value in enumerate(values, start=1) if value is not None)


class SimulatedRecord:
    """The record as one process sees it, over a line on which requests and answers get lost."""

    def __init__(self, world: World, runtime: SimulatedRuntime) -> None:
        self._world = world
        self._runtime = runtime
        self._last: tuple[Any, ...] = ()
        self.owed: dict[tuple[str, int], bool] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._world.witness, name)

        def call(*args: Any, **named: Any) -> Any:
            def arrive() -> Any:
                answer = method(*args, **named)
                if name in _REPEATED:
                    self._world.witness.sent[name].append(lambda: method(*args, **named))
                return answer

            return self._reaching(arrive)

        return call

    def _reaching(self, call: Callable[[], T]) -> T:
        world, loop = self._world, self._runtime.loop
        loop.reach_out(0.005)
        if world.refusals and world.rng.random() < world.refusals:
            raise refused(world.rng.choice(_CODES))
        fate = world.rng.random() if world.lost_replies else 1.0
        if fate < world.lost_replies / 2:
            raise redis.exceptions.ConnectionError("a simulated request was lost")
        answer = call()
        if fate < world.lost_replies:
            if world.rng.random() < 0.5:
                raise redis.exceptions.TimeoutError("a simulated answer was lost")
            answer = call()  # as a client does that tries again by itself
        loop.reach_out(0.005)
        return answer

    def complete(self, run_id: str, owner: str, results: Sequence[MemberReport]) -> Completion:
        """Long values go first, each by itself: between them and the report everything may happen."""
        witness = self._world.witness
        for one in results:
            if one.blobs:
                place = (one.index, one.attempt, owner)
                self._reaching(lambda place=place, one=one: witness.blobs.take(run_id, place, one.payload, one.blobs))
        completion: Completion = self.__getattr__("complete")(run_id, owner, results)
        return completion

    def sweep(self, run_id: str, token: str) -> Republish | None:
        """Whoever sweeps owes it to the members found to publish them, each lost one alone."""
        again: Republish | None = self._reaching(lambda: self._world.witness.sweep(run_id, token))
        if again is not None:
            self.owed.update({(run_id, index): True for index in again.lost})
            self.owed.update({(run_id, index): False for index in again.waiting})
        return again

    def paid(self, run_id: str, part: Sequence[int]) -> None:
        """These members were published in one message; one of several, of an earlier finding, pays for no lost one."""
        for index in part:
            if len(part) == 1 or not self.owed.get((run_id, index)):
                self.owed.pop((run_id, index), None)

    @property
    def owners(self) -> SimulatedPart:
        return SimulatedPart(self._world.witness.record.owners, self._reaching)

    @property
    def workers(self) -> SimulatedPart:
        return SimulatedPart(self._world.witness.record.workers, self._reaching)

    @property
    def manifests(self) -> SimulatedPart:
        return SimulatedPart(self._world.witness.record.manifests, self._reaching)

    def read(self, run_id: str, cursor: Cursor, *, block: float = 0.0) -> OutcomePage:
        """A blocking read: it answers early when an event wakes it, or late."""
        size = self._world.rng.choice((2, 1000))
        batch = self._read(run_id, cursor, size)
        if batch.outcomes or batch.blocks or batch.closed or block <= 0:
            return batch
        self._world.loop.pass_time(self._world.rng.choice((block, block / 4)))
        return self._read(run_id, batch.cursor, size)

    def wait(self, after: Mapping[str, bytes], block: float) -> set[str]:
        """Waits as `read` does, in the time of the simulation; whoever waits looks then, whatever woke it."""
        self._reaching(lambda: None)
        self._world.loop.pass_time(self._world.rng.choice((block, block / 4)))
        return set(after)

    def _read(self, run_id: str, cursor: Cursor, size: int) -> OutcomePage:
        asked = (run_id, cursor, self._world.witness.readable(run_id))
        if not self._last or self._last[0] != asked:
            witness = self._world.witness
            self._last = (asked, self._reaching(lambda: witness.record.read(run_id, cursor, count=size)))
        batch: OutcomePage = self._last[1]
        return batch


class SimulatedPart:
    """A part of the record, over the same line."""

    def __init__(self, part: Any, reaching: Callable[[Callable[[], Any]], Any]) -> None:
        self._part = part
        self._reaching = reaching

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._part, name)
        return lambda *args, **named: self._reaching(lambda: method(*args, **named))


class SimulatedPaces(Paces):
    """Some small groups are thought to be brief, and are not: their members wait for one another in one message."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng

    def is_brief(self, kind: str, n: int) -> bool:
        return bool(kind) and n <= FEW and self._rng.random() < 0.2


_NO_SERVER = redis.Redis()  # which nobody connects


class SimulatedDeployment(Deployment):
    """The deployment of one simulated process."""

    def __init__(self, world: World, process: Process) -> None:
        runtime = SimulatedRuntime(world.loop, process, world.tokens)
        self.settings = world.settings
        self.registry = world.registry
        self.runtime = runtime
        self.patience = Patience()
        self.keys = None
        self.connection = {}
        self.client = _NO_SERVER
        self.line = SimulatedRecord(world, runtime)
        self.record = self.line
        self.shared_payloads = SharedPayloads(self.line, runtime)
        self.publisher = SimulatedPublisher(world.settings, runtime, world.broker, world.rng, self._published)
        self.paces = SimulatedPaces(Random(world.plan.n))
        self._world = world

    def _published(self, run_id: str, part: Sequence[int]) -> None:
        witness = self._world.witness
        require(witness.was_reset or run_id in witness.runs, "published before there is a record")
        self.line.paid(run_id, part)

    def check(self) -> None:
        """There is nothing to find out about a server that is not real."""

    def check_not_gone(self) -> None:
        """A server that is not real is never gone for good."""

    def workers(self, queue: str | None = None) -> list[WorkerInfo]:
        return [WorkerInfo("worker", "worker 1", 0.0, 0.0, {"slots": self._world.plan.slots})]


@dataclass
class World:
    """Everything that the processes of one simulation share."""

    rng: Random
    loop: Loop
    broker: Broker
    witness: Witness
    settings: Settings
    registry: TaskResolverRegistry
    plan: Plan
    lost_replies: float = 0.0
    refusals: float = 0.0
    is_calm: bool = False
    tokens: Iterator[int] = field(default_factory=count)
    in_hand: dict[Process, tuple[Message, str]] = field(default_factory=dict)
    over_time: set[Process] = field(default_factory=set)
    deployments: dict[Process, SimulatedDeployment] = field(default_factory=dict)
    told: int = 0
    busy: float = 0.0
    tries: Counter[int] = field(default_factory=Counter)
    answer: Any = None
    is_answered: bool = False
    repairs: int = 0
    is_mended: bool = False

    def coordinator(self) -> RedisCoordinator:
        """What runs the groups of the process that asks."""
        return RedisCoordinator(self.settings, deployment=self.deployments[self.loop.here()])

    # -- what members do -------------------------------------------------------------------------------------------

    def member(self, index: int) -> int | bytes:
        """A member's own work, in the process that runs it."""
        around, process = running_member.get(), self.loop.here()
        assert around is not None
        self.witness.started(around.run_id, around.index)
        self.busy += (duration := self._duration())
        if self.plan.is_limited and self.plan.has_prefork and duration > TIME_LIMIT:
            self.loop.pass_time(TIME_LIMIT)
            self.over_time.add(process)
            self.loop.end()
        self.loop.pass_time(duration)
        if index in self.plan.poisonous:
            self.loop.end()
        if not self.is_calm and self.rng.random() < self.plan.exit_rate:
            raise SystemExit(TOLD_TO_EXIT)
        self.tries[index] += 1
        if self.plan.is_persistent and self.tries[index] <= 2:
            raise OSError(f"member {index} does not succeed yet")
        if index in self.plan.failing and not self.is_mended:
            raise ValueError(f"member {index} fails")
        return self.plan.value(index)

    def _duration(self) -> float:
        if self.plan.is_brief and self.rng.random() < 0.98:
            return self.rng.choice((0.0, 0.001, 0.01))
        return self.rng.choice((0.05, 0.05, 0.3, 1.0, 12.0, 40.0))

    def total(self, values: list[Any]) -> int:
        """The continuation's own work."""
        self.loop.here()
        self.witness.started("run", self.plan.n)
        self.busy += (duration := self.rng.choice((0.05, 1.0, 40.0)))
        self.loop.pass_time(duration)
        if self.plan.n in self.plan.failing and not self.is_mended:
            raise ValueError("the sum fails")
        return weighed(values)

    def report(self, values: list[Any]) -> list[Any]:
        """The step after the group, in the user's own process: only the owner of the run comes here."""
        owner = self.witness.record.client.hget(self.witness.record.keys.owner("session"), "name")
        require(owner == self.loop.here().name.encode(), self.loop.here().name, "goes on with what belongs to", owner)
        return values

    # -- users -----------------------------------------------------------------------------------------------------

    def use(self, process: Process) -> None:
        """A user's process: starts the work or goes on with it, and tries again when a server is away."""
        deployment = self.deployments[process] = SimulatedDeployment(self, process)
        while True:
            try:
                self.answer = self._run_workflow(deployment) if self.plan.is_workflow else self._submit(deployment)
            except (GroupNotFoundError, GroupLostError):
                require(self.witness.was_reset, "the record is gone")
            except PayloadError as error:
                require(False, "what was recorded cannot be read:", error)
            except RunOwnedError:
                self.told += 1
                return
            except (ParallelGroupError, GroupTimeoutError) as error:
                self.answer = error
                break
            except (redis.exceptions.RedisError, GraflowRuntimeError):
                self.loop.pass_time(3.0)
            else:
                break
        self.is_answered = True

    def _group(self) -> ParallelGroup:
        kind = limited if self.plan.is_limited else persistent if self.plan.is_persistent else member
        return kind.map(range(self.plan.n), name="values")

    def _run_workflow(self, deployment: Deployment) -> Any:
        with workflow("simulated") as flow:
            if self.plan.is_nested:
                inner = [member.map(places, name=name) for name, places in self.plan.inner().items()]
                members = [group.with_execution(CoordinationBackend.REDIS) for group in inner]
                group, last = ParallelGroup(members, name="values"), report_nested(task_id="report")
            else:
                group, last = self._group(), report(task_id="report")
            _ = group.with_execution(CoordinationBackend.REDIS, policy=self.plan.policy) >> last
        context = ExecutionContext(flow.graph, "values", session_id="session")
        return context.execute()

    def _submit(self, deployment: Deployment) -> Any:
        then = total(task_id="total") if self.plan.continues else None
        handle = None
        if self.rng.random() < 0.5:
            with suppress(GroupNotFoundError):
                handle = attach_to(deployment, "run", self.settings.options)
        if handle is None:
            handle = submit_to(
                *(deployment, self._group(), self.settings.options), policy=self.plan.policy, run_id="run", then=then
            )
        if self.rng.random() < 0.2:
            self._repairs(handle)  # before anybody knows how it ended
        while True:
            answer = self._answer_of(handle)
            if not self._repairs(handle):
                break
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer_of(self, handle: GroupHandle) -> Any:
        """What the user is told in the end; an error is told only when it is not repaired."""
        try:
            if not self.plan.continues:
                return handle.results()
            handle.outcomes()
            return handle.continuation().results()[0]
        except (ParallelGroupError, GroupTimeoutError) as error:
            return error

    def _repairs(self, handle: GroupHandle) -> bool:
        """Whether the user has what failed run again, as a user may do whose own mistake it was."""
        if self.repairs >= _REPAIRS or self.rng.random() < 0.3:
            return False
        self.repairs += 1
        try:
            handle.retry(self.rng.choice((None, None, self.rng.randrange(self.plan.n))))
        except RetryRefusedError:
            return False
        self.is_mended = self.rng.random() < 0.7
        return True

    # -- workers ---------------------------------------------------------------------------------------------------

    def work(self, process: Process) -> None:
        """A pool child: one message after the other."""
        deployment = self.deployments[process] = SimulatedDeployment(self, process)
        while not process.is_told_to_stop:
            message = self.broker.take()
            if message is None:
                self.loop.pass_time(1.0)
                continue
            owner = f"{process.name}:{deployment.runtime.token()}"
            self.in_hand[process] = (message, owner)
            try:
                self._work_off(deployment, message, owner)
            except SystemExit:
                break
            except (redis.exceptions.RedisError, GraflowRuntimeError):
                continue  # Celery logs the failure of a message; the record repairs what it left
            finally:
                if process.alive:
                    del self.in_hand[process]
            self.broker.worked_off(message)
        self.loop.end()

    def _work_off(self, deployment: Deployment, message: Message, owner: str) -> None:
        if message.indices is None:
            run_continuation(deployment, message.run_id, deployment.runtime.name)
        else:
            worker, in_blocks = deployment.runtime.name, message.in_blocks
            run_members(deployment, message.run_id, message.indices, owner=owner, worker=worker, in_blocks=in_blocks)

    def bury(self, process: Process, message: Message, owner: str, *, is_over_time: bool) -> None:
        """The main process of a worker finds its child dead."""
        deployment = SimulatedDeployment(self, process)
        self.loop.pass_time(0.2)
        assert message.indices is not None
        with suppress(redis.exceptions.RedisError, GraflowRuntimeError):
            if is_over_time:
                record_timeout(deployment, message.run_id, message.indices, owner, TIME_LIMIT)
            else:
                requeue_lost(
                    *(deployment, message.run_id, message.indices, owner),
                    self.settings.sweep_interval,
                    how="killed by SIGKILL",
                )

    def sweep(self, process: Process) -> None:
        deployment = SimulatedDeployment(self, process)
        while True:
            self.loop.pass_time(self.settings.sweep_interval)
            deployment.line.owed.clear()
            with suppress(redis.exceptions.RedisError, GraflowRuntimeError):
                sweep(deployment, self.settings.sweep_interval)
                require(not deployment.line.owed, "not published:", deployment.line.owed)

    def beat(self, process: Process) -> None:
        """The main process of a worker tells that it lives."""
        deployment = SimulatedDeployment(self, process)
        while True:
            with suppress(redis.exceptions.RedisError, GraflowRuntimeError):
                beat(deployment, process.name, {"slots": 1, "queues": [self.settings.queue_name]})
            self.loop.pass_time(3.0)
