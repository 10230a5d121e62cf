"""One simulation: a group, its processes and its misfortunes, all from one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import patch

import redis

from graflow.coordination import executor
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import GroupTimeoutError, ParallelGroupError
from graflow.values import blobs as values_blobs
from graflow_celery.record import GroupRecord, GroupState, MemberState
from graflow_celery.record import blobs as record_blobs
from graflow_celery.record.keys import GLOBAL_KEYS
from graflow_celery.record.scripts import Scripts, source
from graflow_celery.settings import Settings
from tests.simulation import bystanders, members
from tests.simulation.broker import Broker
from tests.simulation.loop import Loop, Process
from tests.simulation.model import InvariantError, Run, Witness, require
from tests.simulation.world import Plan, World, weighed

SLICE = "local CUT = 250"
REAL_TIME = "  local time = redis.call('TIME')\n  return time[1] * 1000 + math.floor(time[2] / 1000)\n"
START = 1_000_000_000_000
CHAOS_SECONDS = 150.0
"""Messages get lost, processes crash for so long; after that the group has to come to its end."""
BOUND_SECONDS = 6000.0


def virtual(name: str) -> str:
    """A script that takes its time from its last argument instead of the server's clock, and ends few members."""
    text = source(name)
    require(REAL_TIME in text, "the clock of the scripts has changed its text")
    require(SLICE in text or "CUT" not in text, "the slice of the scripts has changed its text")
    text = text.replace(REAL_TIME, "  return NOW\n").replace(SLICE, "local CUT = 3")
    return f"local NOW = tonumber(table.remove(ARGV))\n{text}"


class VirtualScripts(Scripts):
    """Scripts that are told the time; now and then the time of long values is over just before they are reported."""

    def __init__(self, client: redis.Redis, load: Callable[[str], str], clock: Callable[[], int], seed: int) -> None:
        super().__init__(client, load)
        self._clock = clock
        self._client: Any = client
        self._rng = Random(seed)
        self.offset = 0
        """What the time is corrected by."""
        self.looked = 0
        """The last look: it is never earlier."""

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        has_blobs = any(isinstance(arg, bytes) and arg.startswith(record_blobs.BESIDE) for arg in args)
        if name == "complete" and has_blobs and self._rng.random() < 0.1:
            taken_over = self._client.smembers(f"{keys[0]}blobs")
            blobs = self._client.scan_iter(f"{keys[0]}blob:*", count=1000)
            self._client.unlink("-", *(key for key in blobs if key.rpartition(b":blob:")[2] not in taken_over))
        try:
            return super().run(name, keys, [*args, self._clock()])
        finally:
            if name in {"look", "open", "reopen"}:
                clock = keys[-1] if name == "look" else keys[1].removesuffix("runs") + "clock"
                offset, looked = self._client.hmget(clock, "offset", "looked")
                self.offset, self.looked = int(float(offset or 0)), int(float(looked or 0))

    def tell(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.run(name, keys, args)  # what is not waited for would come at a time of its own


@dataclass(frozen=True)
class Report:
    """What happened in one simulation."""

    members: int
    seconds: float
    published: int
    messages_lost: int
    messages_doubled: int
    crashes: int
    freezes: int
    executions: int
    losses: int
    late: int
    refused: int
    rounds: int
    steps: int


class Simulation:
    """Builds the world of a seed, runs it to the end of the group, and looks at what is left."""

    def __init__(self, seed: int, client: redis.Redis, load: Callable[[str], str] = virtual) -> None:
        self.rng = rng = Random(seed)
        self.client = client
        self.loop = Loop(rng)
        is_fair = rng.random() < 0.1
        self.settings = _settings(rng, f"s{seed}", is_fair=is_fair)
        self.scripts = VirtualScripts(client, load, self.server_clock, seed)
        record = GroupRecord(client, self.settings.key_prefix, scripts=self.scripts)
        self.witness = Witness(record, self.milliseconds, lambda: self.loop.now)
        more = Random(~seed)
        plan = replace(_plan(rng, self.settings, is_fair=is_fair), has_long_values=more.random() < 0.3)
        if (
            not plan.is_nested and more.random() < 0.4
        ):  # members in blocks, whose pages come before anybody looks after them
            policy = plan.policy if isinstance(plan.policy, str) else "strict"
            plan = replace(plan, is_brief=True, slots=1, policy=policy)
            update = {"max_in_flight": None, "batch_size": more.choice(("auto", "auto", 2, 3, 6))}
            self.settings = self.settings.model_copy(update=update)
        self.plan = plan
        registry = TaskResolverRegistry()
        registry.register("default", TaskResolver())
        registry.get("default").register_module(members)
        self.world = World(
            rng=rng,
            loop=self.loop,
            broker=Broker(self.loop, rng),
            witness=self.witness,
            settings=self.settings,
            registry=registry,
            plan=self.plan,
        )
        self.processes = 0
        self.clock_set = 0.0
        self.steps = 0
        if not plan.is_fair:
            self._stir_up()

    def _stir_up(self) -> None:
        world, rng = self.world, self.rng
        world.broker.loss, world.broker.double = rng.choice((0.0, 0.1, 0.3)), rng.choice((0.0, 0.2))
        world.broker.refusal, world.broker.delays = rng.choice((0.0, 0.0, 0.05)), (0.0, 0.0, 0.1, 5.0, 40.0)
        world.lost_replies = rng.choice((0.0, 0.02, 0.1))
        world.refusals = rng.choice((0.0, 0.0, 0.02, 0.1))
        self.loop.crash_rate = rng.choice((0.0, 0.01, 0.03))
        self.loop.freeze_rate = rng.choice((0.0, 0.005, 0.02))

    def server_clock(self) -> int:
        """Milliseconds of the server's clock, which somebody may set."""
        return START + round((self.loop.now + self.clock_set) * 1000)

    def milliseconds(self) -> int:
        """The time of the record."""
        return max(self.server_clock() + self.scripts.offset, self.scripts.looked)

    def run(self) -> Report:
        members.set_work(self.world)
        InvariantError.first = None
        redis_coordinator = {CoordinationBackend.REDIS: lambda _config: self.world.coordinator()}
        try:
            short, none = patch.object(values_blobs, "LONG", 16), patch.object(record_blobs, "INLINE", 0)
            with patch.dict(executor._factories, redis_coordinator), short, none:
                self._start()
                self._run()
        finally:
            for process in self._all:
                self.loop.unwind(process)
            members.set_work(None)
        self._look_at_what_is_left()
        return self._report()

    # -- the processes ---------------------------------------------------------------------------------------------

    def _process(self, name: str) -> Process:
        process = Process(name)
        self._all.append(process)
        return process

    def _spawn(self, name: str, actor: Callable[..., object], *args: float, delay: float = 0.0) -> Process:
        process = self._process(name)
        self.loop.start(process, lambda: actor(self.world, process, *args), delay)
        return process

    def _start(self) -> None:
        rng = self.rng
        self._all: list[Process] = []
        self._start_user()
        for _ in range(rng.randint(1, 3)):
            self._start_worker()
        if not self.plan.is_fair:
            self._start_bystanders()

    def _start_bystanders(self) -> None:
        rng = self.rng
        if self.plan.is_workflow and rng.random() < 0.3:
            self._start_user(rng.uniform(0, 60))
        self._spawn("stranger", bystanders.conflict)
        if rng.random() < 0.1:
            self._spawn("impatient", bystanders.cancel, rng.uniform(1, 100))
        if rng.random() < 0.1:
            self._spawn("wiper", bystanders.wipe, rng.uniform(1, 100))
        if rng.random() < 0.3:
            self._spawn("ghost", bystanders.haunt)
        if not (self.plan.is_nested or self.plan.is_persistent) and rng.random() < 0.25:
            self._spawn("other", bystanders.work_otherwise)

    def _start_user(self, delay: float = 0.0) -> None:
        process = self._process("user")
        self.loop.start(process, lambda: self.world.use(process), delay)

    def _start_worker(self) -> None:
        """A pool child, and its main process, which outlives it."""
        self._start_child()
        self._start_main(sweeps=self.processes == 1 or self.rng.random() < 0.5)

    def _start_child(self, delay: float = 0.0) -> None:
        self.processes += 1
        child = self._process(f"worker{self.processes}")
        self.loop.start(child, lambda: self.world.work(child), delay)
        if not self.plan.is_fair and self.rng.random() < 0.25:
            self._spawn("operator", lambda *_: self._stop(child), delay=self.rng.uniform(1, 60))

    def _start_main(self, *, sweeps: bool, delay: float = 0.0) -> None:
        main = self._process("main")
        if sweeps:
            self.loop.start(main, lambda: self.world.sweep(main), delay)
        if self.plan.beats:
            self.loop.start(main, lambda: self.world.beat(main), delay)

    def _stop(self, child: Process) -> None:
        child.is_told_to_stop = True

    def _run(self) -> None:
        stands_still = not self.plan.is_fair and self.rng.random() < 0.2
        standstill = self.rng.uniform(5, 60) if stands_still else BOUND_SECONDS
        is_set = not self.plan.is_fair and self.rng.random() < 0.2
        setting = self.rng.uniform(1, 100) if is_set else BOUND_SECONDS
        while not (self.world.is_answered and all(run.is_closed for run in self.witness.runs.values())):
            self.loop.step()
            if InvariantError.first is not None:
                raise InvariantError.first
            while self.loop.died:
                self._replace(self.loop.died.pop())
            if self.loop.now > standstill:
                self.loop.stand_still(40)
                standstill = BOUND_SECONDS
            if self.loop.now > setting:
                self.clock_set += self.rng.choice((-3600, -60, -60, 60, 3600))
                self.steps += 1
                self.witness.set_clock()
                setting = self.loop.now + self.rng.uniform(1, 100) if self.rng.random() < 0.5 else BOUND_SECONDS
            if self.loop.now > CHAOS_SECONDS and not self.world.is_calm:
                self._calm_down()
            require(self.loop.now < BOUND_SECONDS, "not finished:", self.witness.runs)

    def _calm_down(self) -> None:
        world = self.world
        world.is_calm = True
        self.loop.crash_rate = self.loop.freeze_rate = world.lost_replies = world.refusals = 0.0
        world.broker.loss = world.broker.double = world.broker.refusal = 0.0

    def _replace(self, died: Process) -> None:
        delay = self.rng.choice((0.5, 10.0))
        if died.name == "user":
            self._start_user(delay)
        elif died.name == "main":
            self._start_main(sweeps=True, delay=delay)
        elif died.name.startswith("worker"):
            held = self.world.in_hand.pop(died, None)
            is_over_time = died in self.world.over_time
            if held is not None and held[0].indices is not None and (is_over_time or self.rng.random() < 0.5):
                parent = self._process("parent")
                message, owner = held
                bury = self.world.bury
                self.loop.start(parent, lambda: bury(parent, message, owner, is_over_time=is_over_time))
            self._start_child(delay)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _look_at_what_is_left(self) -> None:
        for run_id, run in self.witness.runs.items():
            self._look_at(run_id, run)
            self._look_at_failures(run)
        self._look_at_the_answer()
        if self.plan.is_fair:
            self._look_at_fair_weather()
        require(self.witness.record.open_groups() == [], "still looked after:", self.witness.record.open_groups())
        self._look_at_keys()

    def _look_at(self, run_id: str, run: Run) -> None:
        record = self.witness.record
        stored = run.stored()
        require([o.index for o in stored] == sorted(run.members), "members lost:", stored)
        for outcome in stored:
            state, attempt, owner, payload = run.members[outcome.index].outcome or (None, 0, "", b"")
            blobs = run.members[outcome.index].blobs
            require(outcome.blobs == blobs, "of", outcome.index, "long values are left:", outcome.blobs, "of", blobs)
            require(
                (outcome.state, outcome.attempts, outcome.owner, outcome.payload) == (state, attempt, owner, payload),
                *("stored", outcome, "instead of", run.members[outcome.index]),
            )
        kept: Any = self.client.scard(record.keys.run(run_id, "blobs"))
        require(kept == sum(len(outcome.blobs) for outcome in stored), "long values that nobody names:", kept)
        status, totals, counts = record.status(run_id), run.totals, Counter(o.state for o in stored[: run.n])
        found = (status.executions, status.losses, status.retries, status.late, status.refused, status.running)
        expected = (totals.executions, totals.losses, totals.retries, totals.late, totals.refused, 0)
        require(found == expected, "counted", found, "instead of", expected)
        failed = counts[MemberState.FAILED] + counts[MemberState.TIMED_OUT]
        by_state = (counts[MemberState.SUCCEEDED], failed, counts[MemberState.CANCELLED], counts[MemberState.LOST])
        found_states = (status.succeeded, status.failed, status.cancelled, status.lost)
        require(found_states == by_state, "counted", found_states, "instead of", by_state)
        require(status.state is _expected_state(run, counts), "the group is", status.state)
        ends = sum(data["kind"] == b"end" for _, data in record.events(run_id))
        require(ends == 1 + run.rounds, "the end was told", ends, "times in", 1 + run.rounds, "rounds")

    def _look_at_failures(self, run: Run) -> None:
        """Members fail by themselves, or because the group in them did not succeed; never because a server was away."""
        failed = [i for i in range(run.n) if (run.members[i].outcome or (None,))[0] is MemberState.FAILED]
        if self.plan.is_nested and run.spec.parent_run is None:
            inner = [one for one in self.witness.runs.values() if one.spec.parent_run == run.spec.run_id]
            is_strange = bool(failed) and all(one.is_good for one in inner) and not self.witness.was_reset
        else:
            first = self.plan.inner()["second"].start if run.spec.group_id == "second" else 0
            is_strange = any(first + index not in self.plan.failing for index in failed)
        require(not is_strange, "failed without a reason:", failed, "in", run.spec.run_id)

    def _look_at_the_answer(self) -> None:
        """What the user got fits to what the record of the last run says."""
        world, plan = self.world, self.plan
        outer = [run for run in self.witness.runs.values() if run.spec.parent_run is None]
        run = outer[-1]
        states = [(run.members[index].outcome or (None,))[0] for index in range(run.n)]
        good = [index for index, state in enumerate(states) if state is MemberState.SUCCEEDED]
        is_good = len(good) == run.n or (len(good) >= plan.enough and not run.timed_out)
        if is_good and plan.continues:
            is_good = (run.members[plan.n].outcome or (None,))[0] is MemberState.SUCCEEDED
        if isinstance(world.answer, ParallelGroupError | GroupTimeoutError):
            require(not is_good or run.cancelled or len(outer) > 1, "refused:", world.answer)
        elif plan.continues:
            require(is_good, "the continuation ran on", states)
            sum_of_good = weighed([10 * index if index in good else None for index in range(plan.n)])
            require(world.answer == sum_of_good, "the sum is", world.answer, "of", good)
        else:
            require(is_good, "taken:", states)
            expected: list[Any] = [10 * index for index in range(plan.n)]
            if plan.is_nested:
                expected = [[10 * index for index in places] for places in plan.inner().values()]
            wrong = [index for index in good if _numbers(world.answer[index]) != expected[index]]
            require(not wrong, "wrong or out of order:", world.answer)

    def _look_at_fair_weather(self) -> None:
        """Where nothing goes wrong, everything runs once, and nobody waits for a sweeper."""
        for run in self.witness.runs.values():
            require(run.totals.losses == 0, "lost in fair weather:", run.totals)
            wanted = len(run.members) + run.ran_again
            ends_early = run.spec.enough or run.spec.fail_fast
            is_right = run.totals.executions <= wanted if ends_early else run.totals.executions == wanted
            require(is_right, "executed", run.totals.executions, "times")
        slack = self.settings.queue_wait / 2
        require(self.loop.now < self.world.busy + slack, "took", self.loop.now, "s for", self.world.busy, "s of work")

    def _look_at_keys(self) -> None:
        prefix = self.settings.key_prefix
        allowed = {f"{prefix}:{name}".encode() for name in GLOBAL_KEYS}
        keys: Any = self.client.keys(f"{prefix}:*")
        pipeline = self.client.pipeline(transaction=False)
        checked = [key for key in keys if key not in allowed]
        for key in checked:
            pipeline.pttl(key)
        for key, ttl in zip(checked, pipeline.execute(), strict=True):
            require(ttl > 0, "no expiry:", key)
        self.client.unlink(*keys)

    def _report(self) -> Report:
        broker = self.world.broker
        runs = self.witness.runs.values()
        return Report(
            members=self.plan.n,
            seconds=self.loop.now,
            published=broker.published,
            messages_lost=broker.lost,
            messages_doubled=broker.doubled,
            crashes=self.loop.crashes,
            freezes=self.loop.freezes,
            executions=sum(run.totals.executions for run in runs),
            losses=sum(run.totals.losses for run in runs),
            late=sum(run.totals.late for run in runs),
            refused=sum(run.totals.refused for run in runs),
            rounds=sum(run.rounds for run in runs),
            steps=self.steps,
        )


def _numbers(value: Any) -> Any:
    """Values of members as numbers, long ones and those of groups in members too."""
    return [int(one) for one in value] if isinstance(value, list) else int(value)


def _settings(rng: Random, prefix: str, *, is_fair: bool) -> Settings:
    found = Settings.load(
        {
            "key_prefix": prefix,
            "lease": rng.choice((10.0, 30.0, 300.0)),
            "sweep_interval": rng.choice((5.0, 10.0)),
            "max_attempts": rng.choice((1, 2, 4, 40, 40, 40)),
            "max_in_flight": rng.choice((None, None, None, 1, 3)),
            "timeout": rng.choice((20.0, 60.0, 150.0)) if not is_fair and rng.random() < 0.15 else None,
            "batch_size": rng.choice(("auto", 1, 6, 20)),
            "worker_wait": 1e9,
        }
    )
    assert isinstance(found, Settings)
    return found


def _plan(rng: Random, settings: Settings, *, is_fair: bool) -> Plan:
    n = rng.randint(1, 20)
    is_workflow = rng.random() < 0.5
    is_nested = is_workflow and n > 1 and rng.random() < 0.3
    is_persistent = not (is_fair or is_nested) and rng.random() < 0.15
    return Plan(
        n=n,
        is_persistent=is_persistent,
        is_nested=is_nested,
        failing=frozenset(
            rng.sample(range(n + 1), min(n, rng.choice((2, 2, n)))) if not is_persistent and rng.random() < 0.3 else ()
        ),
        poisonous=frozenset([0] if not is_fair and rng.random() < 0.1 and settings.max_attempts <= 4 else []),
        policy="strict" if is_nested else _policy(rng, n),
        is_workflow=is_workflow,
        continues=not is_workflow and rng.random() < 0.6,
        is_limited=not (is_fair or is_nested or is_persistent) and rng.random() < 0.15,
        has_prefork=rng.random() < 0.5,
        slots=rng.choice((1, 8)),
        exit_rate=0.0 if is_fair else rng.choice((0.0, 0.0, 0.05)),
        beats=rng.random() < 0.2,
        is_fair=is_fair,
    )


def _policy(rng: Random, n: int) -> str | dict[str, Any]:
    fail_fast = {"type": "strict", "fail_fast": True}
    enough = {"type": "at_least_n", "min_success": rng.randint(1, n), "cancel_rest": True}
    return rng.choice(("strict", "best_effort", fail_fast, enough))


def _expected_state(run: Run, counts: Counter[MemberState]) -> GroupState:
    if run.cancelled:
        return GroupState.CANCELLED
    accepted = counts[MemberState.SUCCEEDED] >= run.spec.min_success and not run.timed_out
    return GroupState.DONE if accepted else GroupState.FAILED


__all__ = ["InvariantError", "Report", "Simulation", "virtual"]
