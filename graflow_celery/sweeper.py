"""Looking for what was lost: any process may do it, and the record sees to it that only one finds each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from kombu.exceptions import KombuError

from graflow.exceptions import GraflowError, SignatureError
from graflow.observing import Happening, observe, observers
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.broker.messages import shown_name
from graflow_celery.deployment import WORKER_TTL, Deployment
from graflow_celery.errors import FAILING, SILENT, RecordDamagedError
from graflow_celery.record import GroupSpec, Republish, WorkerBeat
from graflow_celery.record.data.sweeps import Look, Since
from graflow_celery.wire.outcomes import loss_of

_log = get_logger(__name__)
_NAMED: Final = 5  # members that a line of log names
_KEPT: Final = 3  # findings of one run that wait to be published
_FOREIGN: Final = 1000  # runs of others that are known

AGAIN: Final = 1.0
"""Seconds after which a look that failed half-way is repeated."""


class _Looked(NamedTuple):
    """A look: the time that it answered, and when it was sent and answered on a clock that nobody sets."""

    time: float
    sent: float
    received: float


class _HalfDone:
    """What looks of one process have begun and could not finish: the next one does.

    Attributes:
        unsure: Runs that were swept without an answer, or of which something is to be published that is not known.
        unsent: What was found in runs and could not be published.
        looked: The last look.
        foreign: Runs that are left alone, because others have opened them with keys of their own.
    """

    def __init__(self) -> None:
        self.unsure: set[str] = set()
        self.unsent: dict[str, list[Republish]] = {}
        self.foreign: set[str] = set()
        self.looked: _Looked | None = None

    def __bool__(self) -> bool:
        return bool(self.unsure or self.unsent)

    def keep(self, again: Republish) -> None:
        """Publish this at the next look; what was kept for long is found anew by then."""
        self.unsent[again.run_id] = [*self.unsent.get(again.run_id, ())[-_KEPT:], again]

    def leave_alone(self, run_id: str) -> None:
        if len(self.foreign) >= _FOREIGN:
            self.foreign.clear()
        self.foreign.add(run_id)


_half_done: Final[WeakKeyDictionary[Deployment, _HalfDone]] = WeakKeyDictionary()


def sweep(deployment: Deployment, interval: float) -> int:
    """Look once, at each run on its own, and publish what is due; returns how many groups had something due.

    A run that is damaged is set aside. What could not be done to its end is done first at the next look.

    Args:
        deployment: Whose groups.
        interval: Seconds between two looks of this caller.

    Raises:
        redis.exceptions.RedisError: When the record cannot be reached.
        GraflowRuntimeError: When the broker cannot be reached; what is due is published at the next look.
    """
    half_done = _half_done.setdefault(deployment, _HalfDone())
    _expedite(deployment, half_done, list(half_done.unsure))
    unsent, half_done.unsent = half_done.unsent, {}
    found = [again for kept in unsent.values() for again in kept]
    count, trouble = 0, None
    try:
        for run_id in _due(deployment, half_done, interval):
            again = _swept(deployment, half_done, run_id)
            if again is not None:
                found.append(again)
                count += 1
    finally:
        for again in found:
            if trouble is None:
                trouble = _sent(deployment, half_done, again)
            else:  # what cannot be reached is not asked for each
                half_done.keep(again)
    if trouble is not None:
        raise trouble
    return count


def _due(deployment: Deployment, half_done: _HalfDone, interval: float) -> list[str]:
    """The runs to sweep now, in a time from which steps of the server's clock are taken out."""
    look = _look(deployment, half_done, interval, ahead=None)
    if look.asks and (last := half_done.looked) is not None:
        # Where it was this process that stood still before it asked, the way there and back has taken as long.
        passed = deployment.runtime.monotonic() - last.sent
        look = _look(deployment, half_done, interval, ahead=max(look.time - last.time - passed, 0.0))
    if look.step:
        _log.warning("The clock of the Redis of record was set by %+.1f s; deadlines stay what they were", look.step)
        # What was written in the time that was wrong may be due late; who claims again finds out what is to be done.
        _expedite(deployment, half_done, deployment.record.open_groups())
        deployment.record.settle_step()
    return look.due


def _look(deployment: Deployment, half_done: _HalfDone, interval: float, *, ahead: float | None) -> Look:
    clock, last = deployment.runtime.monotonic, half_done.looked
    sent = clock()
    since = None if last is None else Since(last.time, sent - last.received, sent - last.sent, ahead)
    look = deployment.record.look(interval=interval, since=since)
    if not look.asks:
        half_done.looked = _Looked(look.time, sent, clock())
    return look


def _swept(deployment: Deployment, half_done: _HalfDone, run_id: str) -> Republish | None:
    """What is due in one run; nothing where the run itself stands in the way."""
    if run_id in half_done.foreign:
        return None
    try:
        return deployment.record.sweep(run_id, deployment.runtime.token())
    except SignatureError as error:  # whoever has opened it may sweep it
        half_done.leave_alone(run_id)
        _log.warning("Run %s is left alone: %s", run_id, error)
    except SILENT:
        half_done.unsure.add(run_id)
        raise
    except GraflowError as error:
        _set_aside(deployment, run_id, error)
    return None


def _set_aside(deployment: Deployment, run_id: str, error: GraflowError) -> None:
    """Name a run that nothing can be done for in the log, and look at the others; a newer program may see to it."""
    if is_news(("set aside", run_id)):
        _log.error("Run %s is set aside: %s", run_id, error)
    if isinstance(error, RecordDamagedError):
        deployment.record.set_aside(run_id, error.what)


def _sent(deployment: Deployment, half_done: _HalfDone, again: Republish) -> Exception | None:
    """Publish what was found in one run; what kept this from being done, and is to be told."""
    try:
        requeue(deployment, again)
    except (*FAILING, KombuError) as error:
        half_done.keep(again)
        return error
    except Exception as error:  # noqa: BLE001 - what one run holds keeps no other from being published
        if is_news(("cannot be published", again.run_id)):
            _log.error("Run %s: what is due cannot be published: %s: %s", again.run_id, type(error).__name__, error)
        return None
    if again.lost and not again.ended:
        # A worker that died also held messages that it had not started; they look as if they still waited.
        half_done.unsure.add(again.run_id)
        try:
            _expedite(deployment, half_done, [again.run_id])
        except FAILING as error:
            return error
    return None


def _expedite(deployment: Deployment, half_done: _HalfDone, run_ids: Sequence[str]) -> None:
    """Have what nobody claimed in these runs published again, each until it is done."""
    half_done.unsure.update(run_ids)
    for run_id in run_ids:
        try:
            deployment.record.expedite(run_id)
        except SILENT:
            raise
        except GraflowError as error:
            _set_aside(deployment, run_id, error)
        half_done.unsure.discard(run_id)


def expedite_all(deployment: Deployment) -> None:
    """Have what nobody claimed published again, in every open group."""
    half_done = _half_done.setdefault(deployment, _HalfDone())
    _expedite(deployment, half_done, deployment.record.open_groups())


_turns: Final[WeakKeyDictionary[Deployment, float]] = WeakKeyDictionary()


def sweep_in_turn(deployment: Deployment, interval: float) -> bool:
    """`sweep`, for any number of callers in one process: once in every interval, however many wait; False otherwise."""
    now = deployment.runtime.monotonic()
    pause = min(interval, AGAIN) if _half_done.get(deployment) else interval
    if now - _turns.setdefault(deployment, now) < pause:
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


def requeue(deployment: Deployment, again: Republish) -> None:
    """Publish what a sweep found: lost members one by one, so that one that kills workers takes no other along."""
    publisher, slots = deployment.publisher, deployment.slots()
    if observers:
        observe(Happening.MEMBERS_LOST, len(again.lost), "run again")
        observe(Happening.MEMBERS_LOST, len(again.given_up), "given up")
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
