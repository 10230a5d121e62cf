"""One simulation: a group, its processes and its misfortunes, all from one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from graflow.exceptions import GroupConflictError
from graflow_celery.record import GroupRecord, GroupSpec, GroupState, MemberState
from graflow_celery.record.keys import GLOBAL_KEYS
from graflow_celery.record.scripts import Scripts, source
from tests.simulation.actors import Worker, World, beat, cancel, conflict, give_up, haunt, submit, sweep, work
from tests.simulation.broker import Broker
from tests.simulation.loop import Loop, Process
from tests.simulation.model import InvariantError, Watched, require

REAL_TIME = "  local time = redis.call('TIME')\n  return time[1] * 1000 + math.floor(time[2] / 1000)\n"
START = 1_000_000_000_000
CHAOS_SECONDS = 240.0
"""Messages get lost, processes crash for so long; after that the group has to come to its end."""
BOUND_SECONDS = 2500.0
SWEEP_INTERVAL = 5.0


def virtual(name: str) -> str:
    """A script that takes its time from its last argument instead of the server's clock."""
    text = source(name)
    require(REAL_TIME in text, "the clock of the scripts has changed its text")
    text = text.replace(REAL_TIME, "  return NOW\n")
    return f"local NOW = tonumber(table.remove(ARGV))\n{text}"


class VirtualScripts(Scripts):
    """Scripts that are told the time."""

    def __init__(self, client: redis.Redis, load: Callable[[str], str], clock: Callable[[], int]) -> None:
        super().__init__(client, load)
        self._clock = clock

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return super().run(name, keys, [*args, self._clock()])


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


class Simulation:
    """Builds the world of a seed, runs it to the end of the group, and looks at what is left."""

    def __init__(self, seed: int, client: redis.Redis, load: Callable[[str], str] = virtual) -> None:
        self.rng = rng = Random(seed)
        self.client = client
        self.prefix = f"s{seed}"
        self.loop = Loop(rng)
        n = rng.randint(1, 20)
        own = {str(index): rng.choice((1, 2, 40)) for index in range(n) if rng.random() < 0.3}
        self.spec = GroupSpec(
            run_id="run",
            group_id="group",
            n=n,
            digest="digest",
            min_success=rng.choice((0, n)),
            lease=30.0,
            queue_wait=rng.choice((10.0, 20.0, 60.0)),
            max_attempts=rng.choice((1, 2, 4, 40, 40, 40)),
            attempts=own if rng.random() < 0.3 else {},
            max_in_flight=rng.choice((None, None, None, 1, 3)),
            timeout=150.0 if rng.random() < 0.1 else None,
            continuation=rng.random() < 0.4,
        )
        record = GroupRecord(client, self.prefix, scripts=VirtualScripts(client, load, self.milliseconds))
        self.group = Watched(record, self.spec, self.milliseconds, SWEEP_INTERVAL)
        self.world = World(
            rng=rng,
            loop=self.loop,
            broker=Broker(self.loop, rng, loss=rng.choice((0.0, 0.1, 0.3)), double=rng.choice((0.0, 0.2))),
            group=self.group,
            batch_size=rng.choice((1, 3, 6)),
            manifest=[b"%d" % index for index in range(n + int(self.spec.continuation))],
            poisonous=frozenset([0] if rng.random() < 0.1 and self.spec.attempts_of(0) <= 4 else []),
            lost_replies=rng.choice((0.0, 0.1, 0.3)),
            retry_rate=rng.choice((0.0, 0.1, 0.3)),
            release_rate=rng.choice((0.0, 0.1, 0.3)),
            forgery_rate=rng.choice((0.0, 0.1)),
        )
        self.loop.crash_rate = rng.choice((0.0, 0.02, 0.05))
        self.loop.freeze_rate = rng.choice((0.0, 0.01, 0.04))
        self.processes = 0

    def milliseconds(self) -> int:
        return START + round(self.loop.now * 1000)

    def run(self) -> Report:
        self._start_submitter(attach=False)
        self.loop.start(Process("stranger"), conflict(self.world, self._conflicts))
        for _ in range(self.rng.randint(1, 3)):
            self._start_worker()
        if self.rng.random() < 0.1:
            self.loop.start(Process("user"), cancel(self.world, self.rng.uniform(1, 100)))
        if self.rng.random() < 0.3:
            self.loop.start(Process("ghost"), haunt(self.world))
        standstill = self.rng.uniform(5, 60) if self.rng.random() < 0.2 else BOUND_SECONDS
        while not (self.world.reader_is_done and self.group.is_closed):
            died = self.loop.step()
            if died is not None:
                self._replace(died)
            if self.loop.now > standstill:
                self.loop.stand_still(40)
                standstill = BOUND_SECONDS
            if self.loop.now > CHAOS_SECONDS and not self.world.is_calm:
                self._calm_down()
            require(self.loop.now < BOUND_SECONDS, "not finished:", self.group.members)
        self._look_at_what_is_left()
        return self._report()

    def _calm_down(self) -> None:
        self.world.is_calm = True
        self.loop.crash_rate = self.loop.freeze_rate = 0.0
        self.world.broker.loss = self.world.broker.double = self.world.lost_replies = 0.0

    def _conflicts(self) -> bool:
        other = GroupSpec(run_id="run", group_id="group", n=1, digest="other")
        if self.group.opened_at is None:
            return True
        try:
            self.group.record.open(other, [b""])
        except GroupConflictError:
            return True
        return False

    def _start_submitter(self, *, attach: bool, delay: float = 0.0) -> None:
        process = Process("submitter")
        self.loop.start(process, submit(self.world, attach=attach), delay)
        self.loop.start(process, sweep(self.world), delay + self.rng.uniform(0, SWEEP_INTERVAL))

    def _start_worker(self, delay: float = 0.0) -> None:
        self.processes += 1
        process = Process(f"worker{self.processes}")
        worker = Worker(self.world, process)
        self.loop.start(process, work(worker), delay)
        self.loop.start(process, beat(worker), delay)
        if self.rng.random() < 0.5:
            self.loop.start(process, sweep(self.world), delay)

    def _replace(self, died: Process) -> None:
        delay = self.rng.choice((0.5, 10.0))
        if died.name == "submitter":
            self._start_submitter(attach=self.group.opened_at is not None, delay=delay)
        elif died.name.startswith("worker"):
            if self.rng.random() < 0.3:
                orphans = [lease for lease in self.world.grants if lease.owner.startswith(f"{died.name}/")]
                self.loop.start(Process("parent"), give_up(self.world, orphans))
            self._start_worker(delay)

    def _look_at_what_is_left(self) -> None:
        group, record = self.group, self.group.record
        stored = record.outcomes("run")
        require([o.index for o in stored] == sorted(group.members), "members lost:", stored)
        for outcome in stored:
            state, attempt, owner, payload = group.members[outcome.index].outcome or (None, 0, "", b"")
            require(
                (outcome.state, outcome.attempts, outcome.owner, outcome.payload) == (state, attempt, owner, payload),
                *("stored", outcome, "instead of", group.members[outcome.index]),
            )
        require(sorted(o.index for o in self.world.outcomes) == sorted(group.members), "read", self.world.outcomes)
        status, totals, counts = record.status("run"), group.totals, Counter(o.state for o in stored[: self.spec.n])
        found = (status.executions, status.losses, status.retries, status.late, status.refused, status.running)
        expected = (totals.executions, totals.losses, totals.retries, totals.late, totals.refused, 0)
        require(found == expected, "counted", found, "instead of", expected)
        failed = counts[MemberState.FAILED] + counts[MemberState.TIMED_OUT]
        by_state = (counts[MemberState.SUCCEEDED], failed, counts[MemberState.CANCELLED], counts[MemberState.LOST])
        found_states = (status.succeeded, status.failed, status.cancelled, status.lost)
        require(found_states == by_state, "counted", found_states, "instead of", by_state)
        require(status.state is self._expected_state(counts), "the group is", status.state)
        ends = sum(data["kind"] == b"end" for _, data in record.events("run"))
        require(ends == 1, "the end was told", ends, "times")
        require(record.open_groups() == [], "still looked after:", record.open_groups())
        self._look_at_keys()

    def _expected_state(self, counts: Counter[MemberState]) -> GroupState:
        if self.group.cancelled:
            return GroupState.CANCELLED
        accepted = counts[MemberState.SUCCEEDED] >= self.spec.min_success and not self.group.timed_out
        return GroupState.DONE if accepted else GroupState.FAILED

    def _look_at_keys(self) -> None:
        allowed = {f"{self.prefix}:{name}".encode() for name in GLOBAL_KEYS}
        keys: Any = self.client.keys(f"{self.prefix}:*")
        pipeline = self.client.pipeline(transaction=False)
        checked = [key for key in keys if key not in allowed]
        for key in checked:
            pipeline.pttl(key)
        for key, ttl in zip(checked, pipeline.execute(), strict=True):
            require(ttl > 0, "no expiry:", key)
        self.client.unlink(*keys)

    def _report(self) -> Report:
        broker, totals = self.world.broker, self.group.totals
        return Report(
            members=self.spec.n,
            seconds=self.loop.now,
            published=broker.published,
            messages_lost=broker.lost,
            messages_doubled=broker.doubled,
            crashes=self.loop.crashes,
            freezes=self.loop.freezes,
            executions=totals.executions,
            losses=totals.losses,
            late=totals.late,
            refused=totals.refused,
        )


__all__ = ["InvariantError", "Report", "Simulation", "virtual"]
