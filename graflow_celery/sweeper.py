"""Looking for what was lost: any process may do it, and the record sees to it that only one finds each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from graflow.shown import get_logger
from graflow_celery.broker.messages import shown_name
from graflow_celery.deployment import WORKER_TTL, Deployment
from graflow_celery.errors import FAILING
from graflow_celery.record import GroupSpec, Republish, WorkerBeat
from graflow_celery.wire.outcomes import loss_of

_log = get_logger(__name__)
_NAMED: Final = 5  # members that a line of log names


def sweep(deployment: Deployment, interval: float) -> int:
    """Look once and publish what is due; returns how many groups had something due.

    Args:
        deployment: Whose groups.
        interval: Seconds between two looks of this caller.

    Raises:
        redis.exceptions.RedisError: When the record cannot be reached.
        GraflowRuntimeError: When the broker cannot be reached; the members come up again at a later look.
    """
    found = deployment.record.sweep(interval=interval)
    for again in found:
        requeue(deployment, again)
        if again.lost and not again.ended:
            # A worker that died also held messages that it had not started; they look as if they still waited.
            deployment.record.expedite(again.run_id)
    return len(found)


_turns: Final[WeakKeyDictionary[Deployment, float]] = WeakKeyDictionary()


def sweep_in_turn(deployment: Deployment, interval: float) -> bool:
    """`sweep`, for any number of callers in one process: once in every interval, however many wait; False otherwise."""
    now = deployment.runtime.monotonic()
    if now - _turns.setdefault(deployment, now) < interval:
        return False
    _turns[deployment] = now
    sweep(deployment, interval)
    return True


def beat(deployment: Deployment, name: str, info: Mapping[str, Any], *, rest: float = 0.0) -> WorkerBeat:
    """Tell that this worker lives, and look after what silent ones took along.

    What a dead worker took off the queue and never claimed looks as if it still waited.

    Args:
        deployment: Where the worker belongs.
        name: Its entry.
        info: What others may know of it.
        rest: Seconds for which the beat counts longer while no group is open.
    """
    came = deployment.record.workers.beat(name, info, ttl=WORKER_TTL, rest=rest)
    if came.dropped:
        expedite_all(deployment)
    return came


def expedite_all(deployment: Deployment) -> None:
    """Have what nobody claimed published again, in every open group."""
    for run_id in deployment.record.open_groups():
        deployment.record.expedite(run_id)


def requeue(deployment: Deployment, again: Republish) -> None:
    """Publish what a sweep found: lost members one by one, so that one that kills workers takes no other along."""
    publisher, slots = deployment.publisher, deployment.slots()
    if again.given_up:
        _tell_lost(deployment, again)
    if again.lost:
        _log.warning("Run %s: workers were lost; run again: %s", again.run_id, _named(again.spec, again.lost))
        publisher.publish(again.spec, sorted(again.lost), slots=slots, singly=True)
    if again.waiting:
        publisher.publish(again.spec, sorted(again.waiting), slots=slots)
    if again.continuation:
        publisher.publish_continuation(again.spec)


def _tell_lost(deployment: Deployment, again: Republish) -> None:
    """Log who is LOST; that it is does not depend on it, so what cannot be read is left out."""
    names = _named(again.spec, again.given_up)
    try:
        deaths = {
            loss_of(outcome)[1]
            for index in again.given_up[:_NAMED]
            for outcome in deployment.record.outcomes(again.run_id, index, 1)
        }
    except FAILING:
        deaths = set()
    known = ", ".join(sorted(filter(None, deaths)))
    _log.error(
        "Run %s: LOST %s, whose workers were lost each time%s", again.run_id, names, f" ({known})" if known else ""
    )


def _named(spec: GroupSpec, indices: Sequence[int]) -> str:
    """Members in words: some of them by name."""
    shown = ", ".join(shown_name(spec, index) for index in indices[:_NAMED])
    more = len(indices) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
