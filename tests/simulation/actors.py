"""Submitters, workers and sweepers, as they use the record, with every await point spelled out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TypeVar

from graflow_celery.record import Cursor, GrantedMember, Lease, MemberResult, MemberState, StoredOutcome
from tests.simulation.broker import Broker
from tests.simulation.loop import Actor, CrashedError, Loop, Process
from tests.simulation.model import InvariantError, Watched, require

T = TypeVar("T")
Step = Generator[float, None, T]


@dataclass
class World:
    """Everything that the processes of one simulation share, and how badly they are treated."""

    rng: Random
    loop: Loop
    broker: Broker
    group: Watched
    batch_size: int
    manifest: list[bytes]
    poisonous: frozenset[int]
    lost_replies: float
    retry_rate: float
    release_rate: float
    forgery_rate: float
    is_calm: bool = False
    names: Generator[int, None, None] = field(default_factory=lambda: (i for i in count()))
    grants: list[Lease] = field(default_factory=list)
    outcomes: list[StoredOutcome] = field(default_factory=list)
    reader_is_done: bool = False


@dataclass
class Worker:
    """A worker process: one slot that runs batches, one thread that beats."""

    world: World
    process: Process
    leases: list[Lease] = field(default_factory=list)


def reliably(world: World, call: Callable[[], T]) -> Step[T]:
    """Repeat a call whose request or answer gets lost."""
    while True:
        fate = world.rng.random()
        if fate < world.lost_replies / 2:
            yield 0.5
            continue
        answer = call()
        if fate < world.lost_replies:
            yield 0.5
            continue
        return answer


def publish(world: World, indices: Sequence[int], *, size: int) -> Actor:
    for first in range(0, len(indices), size):
        world.broker.publish(world.group.spec.run_id, indices[first : first + size])
        yield 0.01


# the submitter


def submit(world: World, *, attach: bool) -> Actor:
    """Open, publish, read to the end; started again after a crash, it attaches."""
    group = world.group
    is_published = yield from reliably(world, lambda: group.open(world.manifest))
    if not attach:
        yield from publish(world, range(group.n), size=world.batch_size)
    elif not is_published:
        yield from reliably(world, group.hurry)
    yield from reliably(world, lambda: group.record.mark_published(group.spec.run_id))
    cursor = Cursor()
    seen: list[StoredOutcome] = []
    while True:
        batch = group.record.read(group.spec.run_id, cursor, count=world.rng.choice((2, 1000)))
        cursor = batch.cursor
        seen += batch.outcomes
        if batch.closed:
            world.outcomes = seen
            world.reader_is_done = True
            return
        yield 0.1 if batch.more else 7.0


def conflict(world: World, attempt: Callable[[], bool]) -> Actor:
    """Another submitter uses the same run id for other work."""
    yield 3.0
    require(attempt(), "another manifest under the same run id was taken")


def cancel(world: World, at: float) -> Actor:
    yield at
    while world.group.opened_at is None:
        yield 1.0
    yield from reliably(world, world.group.cancel)


def haunt(world: World) -> Actor:
    """A ghost: repeats what any worker might have sent at any time and what comes very late."""
    while not world.is_calm:
        yield world.rng.uniform(1, 20)
        if not world.grants:
            continue
        lease = world.rng.choice(world.grants)
        match world.rng.randrange(5):
            case 0:
                world.group.beat([lease])
            case 1:
                world.group.release(lease.owner, [lease.index])
            case 2:
                world.group.retry(lease.owner, lease.index, lease.attempt, 5.0)
            case 3:
                world.group.lose(lease.owner, [lease.index])
            case _:
                world.group.complete(
                    lease.owner, [MemberResult(lease.index, lease.attempt, MemberState.SUCCEEDED, b"ghost")]
                )


def give_up(world: World, leases: Sequence[Lease]) -> Actor:
    """What the main process of a worker does when it finds its child dead."""
    yield 0.2
    for lease in leases:
        world.group.lose(lease.owner, [lease.index])
        yield 0.01


# the sweeper


def sweep(world: World) -> Actor:
    """Published one by one: a sweeper that dies in between leaves the others to the next one."""
    while True:
        yield world.group.interval
        for republish in world.group.sweep():
            yield 0.01
            yield from publish(world, republish.lost, size=1)
            yield from publish(world, republish.waiting, size=world.batch_size)
            if republish.continuation:
                yield from publish(world, [world.group.n], size=1)


# the worker


def beat(worker: Worker) -> Actor:
    while True:
        yield worker.world.group.spec.lease / 3
        if worker.leases:
            answer = worker.world.group.beat(list(worker.leases))
            worker.leases = [lease for lease in worker.leases if lease not in answer.lost]


def work(worker: Worker) -> Actor:
    world = worker.world
    while True:
        message = world.broker.take()
        if message is None:
            yield 1.0
            continue
        yield 0.01
        owner = f"{worker.process.name}/{next(world.names)}"
        todo = list(message.indices)
        while todo:
            limit = world.rng.choice((None, None, 2))
            indices = todo
            claim = yield from reliably(world, lambda: world.group.claim(indices, owner, limit))
            yield from _run_batch(worker, owner, claim.granted)
            todo = claim.left


def _run_batch(worker: Worker, owner: str, granted: Sequence[GrantedMember]) -> Actor:
    world = worker.world
    run_id = world.group.spec.run_id
    leases = [Lease(run_id, member.index, member.attempt, owner) for member in granted]
    worker.leases += leases
    world.grants += leases
    results: list[MemberResult] = []
    for position, member in enumerate(granted):
        rest = [later.index for later in granted[position:]]
        if position and world.rng.random() < world.release_rate:
            yield from _release(worker, owner, rest)
            break
        yield world.rng.choice((0.1, 1.0, 12.0, 50.0))
        if member.index in world.poisonous:
            raise CrashedError
        if world.rng.random() < world.retry_rate:
            yield from _retry(worker, owner, member)
            continue
        state = MemberState.SUCCEEDED if member.index % 5 else MemberState.FAILED
        payload = f"{member.index} {member.attempt} {owner}".encode()
        results.append(MemberResult(member.index, member.attempt, state, payload))
        if world.rng.random() < 0.4:
            yield from _report(worker, owner, results)
            results = []
    yield from _report(worker, owner, results)


def _report(worker: Worker, owner: str, results: list[MemberResult]) -> Actor:
    world = worker.world
    yield 0.01
    if results:
        if world.rng.random() < world.forgery_rate:
            first = results[0]
            forged = MemberResult(first.index, first.attempt + 5, first.state, b"forged")
            world.group.complete("forger", [forged])
        completion = yield from reliably(world, lambda: world.group.complete(owner, results))
        _drop(worker, owner, [result.index for result in results])
        yield from publish(world, completion.ready, size=1)
        if completion.continuation:
            yield from publish(world, [world.group.n], size=1)


def _release(worker: Worker, owner: str, rest: list[int]) -> Actor:
    world = worker.world
    released = yield from reliably(world, lambda: world.group.release(owner, rest))
    _drop(worker, owner, rest)
    yield from publish(world, released.released, size=world.batch_size)
    yield from publish(world, released.ready, size=1)


def _retry(worker: Worker, owner: str, member: GrantedMember) -> Actor:
    world = worker.world
    delay = world.rng.choice((0.0, 10.0))
    answer = yield from reliably(world, lambda: world.group.retry(owner, member.index, member.attempt, delay))
    _drop(worker, owner, [member.index])
    yield from publish(world, answer.ready, size=1)


def _drop(worker: Worker, owner: str, indices: list[int]) -> None:
    worker.leases = [lease for lease in worker.leases if lease.owner != owner or lease.index not in indices]


__all__ = [
    "InvariantError",
    "Worker",
    "World",
    "beat",
    "cancel",
    "conflict",
    "give_up",
    "haunt",
    "submit",
    "sweep",
    "work",
]
