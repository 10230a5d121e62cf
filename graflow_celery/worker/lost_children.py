"""What the main process of a worker does for the members of a pool child that is gone, or is to go."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graflow.exceptions import TaskTimeoutError
from graflow.runtime import persistently
from graflow_celery.broker.messages import member_name
from graflow_celery.deployment import Deployment
from graflow_celery.record import Completion, GroupSpec, MemberReport, MemberState
from graflow_celery.sweeper import sweep
from graflow_celery.wire.outcomes import pack_failure, report_of
from graflow_celery.wire.seal import RunSeal


def how_it_died(error: BaseException) -> str:
    """What the pool says of a child that is gone, in a clause; empty when it does not know."""
    text = str(error)
    if signal := re.search(r"signal \d+ \((\w+)\)", text):
        return f"killed by {signal[1]}"
    exit_code = re.search(r"exitcode (-?\d+)", text)
    return f"ended with exit code {exit_code[1]}" if exit_code else ""


def requeue_lost(
    deployment: Deployment, run_id: str, indices: Sequence[int], owner: str, interval: float, *, how: str = ""
) -> int:
    """The child died with these members: publish them again at once instead of when their lease ends.

    Returns how many it still held.
    """
    held = deployment.record.abandon(run_id, owner, indices, how)
    sweep(deployment, interval)
    return len(held)


def record_timeout(deployment: Deployment, run_id: str, indices: Sequence[int], owner: str, limit: float) -> None:
    """The child was killed when its time was over: that was the first member that it had not reported.

    The others go to other slots.
    """
    record, runtime = deployment.record, deployment.runtime
    held = record.claim(run_id, indices, owner, envelopes=False)
    if held.spec is None or not held.granted:
        return
    first, *others = held.granted
    error = TaskTimeoutError(member_name(held.spec, first.index), limit)
    payload = pack_failure(error, runtime.time(), first.losses)
    result = report_of(RunSeal(deployment.keys, held.spec), first, MemberState.TIMED_OUT, payload)
    done = persistently(runtime, lambda: record.complete(run_id, owner, [result]), patience=deployment.patience.last)
    released = record.release(run_id, owner, [*(m.index for m in others), *held.left]).released
    _follow(deployment, held.spec, [*released, *held.left], done)


def cancel_members(deployment: Deployment, run_id: str, indices: Sequence[int], owner: str) -> None:
    """Record as CANCELLED what this owner holds of these members and what nobody has begun."""
    record, left = deployment.record, list(indices)
    while left:
        held = record.claim(run_id, left, owner, envelopes=False)
        if held.spec is None or not held.granted:
            return
        ended = [MemberReport(member.index, member.attempt, MemberState.CANCELLED, b"") for member in held.granted]
        _follow(deployment, held.spec, [], record.complete(run_id, owner, ended))
        left = held.left


def _follow(deployment: Deployment, spec: GroupSpec, again: Sequence[int], done: Completion) -> None:
    """Publish these members, and what has become possible by what is done."""
    ready = sorted({*again, *done.ready})
    if ready:
        deployment.publisher.publish(spec, ready, slots=deployment.slots())
    if done.continuation:
        deployment.publisher.publish_continuation(spec)
