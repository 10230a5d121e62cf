"""Whoever else touches the record: strangers, ghosts, impatient users, and a worker of another make."""

from __future__ import annotations

from contextlib import suppress

import redis

from graflow.core.branches.outcome import BranchOutcome
from graflow.exceptions import GraflowRuntimeError, GroupConflictError, GroupNotFoundError
from graflow.values.blobs import TakenBlobs
from graflow_celery.client.api import attach_to
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.wire.outcomes import pack_failure, pack_outcome
from tests.simulation.broker import Message
from tests.simulation.loop import Process
from tests.simulation.model import InvariantError
from tests.simulation.world import SimulatedDeployment, World


def conflict(world: World, process: Process) -> None:
    """Another submitter uses a run id that is taken for other work."""
    world.loop.pass_time(3.0)
    for run_id in world.witness.runs:
        try:
            world.witness.record.open(GroupSpec(run_id=run_id, group_id="group", n=1, digest="other"), [b""])
        except GroupConflictError:
            continue
        raise InvariantError("another manifest under the same run id was taken")


def cancel(world: World, process: Process, at: float) -> None:
    """A user loses patience."""
    deployment = SimulatedDeployment(world, process)
    world.loop.pass_time(at)
    while not world.is_answered:
        for run_id in list(world.witness.runs):
            with suppress(redis.exceptions.RedisError, GraflowRuntimeError, GroupNotFoundError):
                attach_to(deployment, run_id, world.settings.options).cancel()
                return
        world.loop.pass_time(1.0)


def wipe(world: World, process: Process, at: float) -> None:
    """The server loses everything."""
    world.loop.pass_time(at)
    if not world.is_answered:
        world.witness.wipe()


def haunt(world: World, process: Process) -> None:
    """A ghost: whatever workers have sent arrives once more, and reports of attempts that never were."""
    while not world.is_calm:
        world.loop.pass_time(world.rng.uniform(1, 20))
        if world.witness.sent:
            with suppress(GroupNotFoundError, RetryRefusedError):  # a retry of a run that is elsewhere by now
                world.rng.choice(world.rng.choice(list(world.witness.sent.values())))()
        if world.witness.grants:
            lease = world.rng.choice(world.witness.grants)
            forged = MemberReport(lease.index, lease.attempt + 1000, MemberState.SUCCEEDED, b"forged")
            world.witness.complete(lease.run_id, "forger", [forged])


def work_otherwise(world: World, process: Process) -> None:
    """A worker of another make, which claims few members at once, hands some back, and tells failures late."""
    deployment = SimulatedDeployment(world, process)
    while not world.is_answered:
        message = world.broker.take()
        if message is None or message.indices is None:
            if message is not None:
                world.broker.publish(message)
            world.loop.pass_time(2.0)
            continue
        with suppress(redis.exceptions.RedisError, GraflowRuntimeError):
            _work_off(world, deployment, message)
        world.loop.pass_time(world.rng.choice((1.0, 20.0)))


def _work_off(world: World, deployment: SimulatedDeployment, message: Message) -> None:
    record, owner = deployment.record, f"other:{deployment.runtime.token()}"
    run_id, left = message.run_id, list(message.indices or ())
    while left:
        claim = record.claim(run_id, left, owner, limit=2, envelopes=False)
        left = claim.left
        for granted in claim.granted:
            world.loop.pass_time(world.rng.choice((0.1, 5.0)))
            fails = granted.index in world.plan.failing and not world.is_mended
            if world.rng.random() < 0.5 and not (fails or world.is_calm):
                again = record.retry(run_id, owner, granted.index, granted.attempt, world.rng.choice((0.0, 10.0, 60.0)))
                ready = again.ready
            else:
                done = record.complete(
                    run_id, owner, [_failed(world, granted) if fails else _succeeded(world, granted)]
                )
                ready = done.ready
                if done.continuation and claim.spec is not None:
                    deployment.publisher.publish_continuation(claim.spec)
            if ready and claim.spec is not None:
                deployment.publisher.publish(claim.spec, ready, slots=1)


def _failed(world: World, granted: GrantedMember) -> MemberReport:
    world.loop.pass_time(world.rng.choice((0.0, 1.5, 2.0)) * min(world.settings.lease, 30.0))
    payload = pack_failure(ValueError(f"member {granted.index} fails"), world.loop.now)
    return MemberReport(granted.index, granted.attempt, MemberState.FAILED, payload)


def _succeeded(world: World, granted: GrantedMember) -> MemberReport:
    task_id, value, blobs = f"values[{granted.index}]", world.plan.value(granted.index), TakenBlobs()
    outcome = BranchOutcome(task_id, success=True, value=value, results=[(task_id, value)], completed=[task_id])
    payload = pack_outcome(outcome, None, blobs)
    return MemberReport(granted.index, granted.attempt, MemberState.SUCCEEDED, payload, blobs.contents)
