"""A batch of members on a worker: claim, run, release what others could start sooner."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import redis

from graflow.exceptions import TaskTimeoutError
from graflow.runtime import SLICE, TRY_AGAIN, persistently
from graflow.shown import get_logger
from graflow.spells import is_news
from graflow_celery.broker.messages import member_name
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING
from graflow_celery.record import Claim, GrantedMember, GroupSpec, Lease, MemberReport, MemberState
from graflow_celery.wire.outcomes import pack_failure, report_of
from graflow_celery.worker.member import MemberRunner, RetryLater
from graflow_celery.worker.message_limits import limits_of
from graflow_celery.worker.reported import reported_members
from graflow_celery.worker.reports import Reports
from graflow_celery.worker.tally import Listening, MemberListener, Tally

_log = get_logger(__name__)

_BEATS_PER_LEASE: Final = 3
_NEXT: Final = 16  # members that are asked for at once, of those that a claim left for later


listening: ContextVar[Listening | None] = ContextVar("graflow_listening", default=None)
"""What listens to the message that this thread works off, for members of inner groups that run here meanwhile."""


class Batch:
    """The members that one delivery of a message was granted."""

    def __init__(
        self, deployment: Deployment, spec: GroupSpec, owner: str, worker: str, listener: MemberListener | None
    ) -> None:
        self.spec = spec
        self.owner = owner
        self._runtime = deployment.runtime
        self.began = self._runtime.monotonic()
        self.ended = False
        self._deployment = deployment
        self.tally = Tally(self._runtime, spec, listener)
        self._runner = MemberRunner(deployment, spec, worker)
        self._todo: deque[GrantedMember] = deque()
        self._current: tuple[GrantedMember, float] | None = None
        """The member that runs, and since when."""
        self._releasing: list[GrantedMember] = []
        self._reports = Reports(deployment, spec, owner)
        self._reported = reported_members(deployment)
        self._lock = self._runtime.lock()
        self._beaten = self._tried = self.began
        self._timed_out: set[int] = set()

    # -- the thread that runs members ------------------------------------------------------------------------------

    def run(self, granted: Sequence[GrantedMember]) -> None:
        """Run the granted members in order and report them."""
        with self._lock:
            self._todo.extend(granted)
        try:
            while (member := self._next()) is not None:
                self._run_one(member)
        except SystemExit:
            self._abandon()
            raise
        finally:
            self._report(patiently=True)
            if self._releasing:
                with suppress(*TRY_AGAIN):  # then their lease brings them back
                    persistently(self._runtime, self._send_releases, patience=self._deployment.patience.member)

    def _abandon(self) -> None:
        """This process is told to exit: what it holds is run elsewhere at once, without waiting for its lease."""
        with self._lock:
            held = [*([self._current[0]] if self._current is not None else ()), *self._todo]
            self._current = None
            self._todo.clear()
        with suppress(redis.exceptions.RedisError):
            self._deployment.record.abandon(self.spec.run_id, self.owner, [member.index for member in held])

    @contextmanager
    def paced(self) -> Iterator[None]:
        """Have the pacing thread look after this batch while it runs."""
        with self._runtime.pacer.pacing(self):
            try:
                yield
            finally:
                self._runner.close()

    @property
    def name(self) -> str:
        return f"Run {self.spec.run_id}"

    def _next(self) -> GrantedMember | None:
        if self._todo and self._runtime.monotonic() - self._beaten >= self.spec.lease:
            # After a pause: what was lost meanwhile runs elsewhere.
            with suppress(*TRY_AGAIN):
                persistently(self._runtime, self._beat, patience=self._deployment.patience.member)
        with self._lock:
            if self.ended:
                self._todo.clear()
            member = self._todo.popleft() if self._todo else None
            self._current = None if member is None else (member, self._runtime.monotonic())
            return member

    def _run_one(self, member: GrantedMember) -> None:
        self.tally.started(member)
        result = self._known(member) or self._execute(member)
        self._reports.add(result, self.tally.ended(result))
        with self._lock:
            self._current = None

    def _known(self, member: GrantedMember) -> MemberReport | None:
        """What a member came to here before, in a record that has gone back since."""
        known = self._reported.find(self.spec, member)
        if known is not None:
            _log.warning(
                "Run %s: %s is granted again after it was recorded as %s; it is reported again and does not run",
                *(self.spec.run_id, member_name(self.spec, member.index), known.state),
            )
        return known

    def _execute(self, member: GrantedMember) -> MemberReport | RetryLater:
        return self._runner.run(member, self.owner, self._cancellation(member))

    def _cancellation(self, member: GrantedMember) -> Callable[[], bool]:
        """Whether this member is cancelled; the record is asked at most every slice."""
        lease = Lease(self.spec.run_id, member.index, member.attempt, self.owner)
        asked = 0.0
        cancelled = False

        def is_cancelled() -> bool:
            nonlocal asked, cancelled
            if self.ended or cancelled:
                return True
            if self._runtime.monotonic() - asked >= SLICE:
                asked = self._runtime.monotonic()
                try:
                    cancelled = bool(self._deployment.record.beat([lease]).lost)
                except FAILING:
                    if is_news(("cancelled", self.spec.run_id)):
                        _log.warning("Cannot ask whether member %s of %s is cancelled", member.index, self.spec.run_id)
            return cancelled

        return is_cancelled

    # -- the pacing thread -----------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Report, beat and release, as far as each is due."""
        self._runner.soft_limit.expire(now)
        self._stop_waiting_for_current(now)
        self._report()
        if now - self._tried >= self.spec.lease / _BEATS_PER_LEASE:
            self._tried = now
            self._beat()
        if self._todo and (self._runtime.is_stopping() or now - self.began >= SLICE):
            self._release_unstarted()
        self._send_releases()

    def _report(self, *, patiently: bool = False) -> None:
        self._reports.send(patiently=patiently)
        self.tally.flush()

    def _stop_waiting_for_current(self, now: float) -> None:
        """Record that the running member's time is over.

        A prefork pool kills the process then. In other pools nothing can stop it: its own outcome comes too late.
        """
        with self._lock:
            current = self._current
        if current is None:
            return
        member, since = current
        limit = limits_of(self._deployment, self.spec, member.index)[0]
        if limit is None or now - since < limit or member.index in self._timed_out:
            return
        error = TaskTimeoutError(member_name(self.spec, member.index), float(limit))
        payload = pack_failure(error, self._runtime.time(), member.losses)
        self._reports.complete([report_of(self._runner.seal, member, MemberState.TIMED_OUT, payload)])
        self._timed_out.add(member.index)

    def _held(self) -> list[Lease]:
        with self._lock:
            held: list[Any] = [*([self._current[0]] if self._current else ()), *self._todo, *self._releasing]
        held += self._reports.unsent()
        return [Lease(self.spec.run_id, member.index, member.attempt, self.owner) for member in held]

    def _beat(self) -> None:
        held, sent = self._held(), self._runtime.monotonic()
        if held:
            answer = self._deployment.record.beat(held)
            if self.spec.run_id in answer.ended:
                self.ended = True
                self._deployment.shared_payloads.forget(self.spec.run_id)
            if answer.lost:
                gone = {lease.index for lease in answer.lost}
                with self._lock:
                    self._todo = deque(member for member in self._todo if member.index not in gone)
        self._beaten = sent

    def _release_unstarted(self) -> None:
        """Let other slots start what this one has not, once nothing else of the group waits to be claimed."""
        record, spec = self._deployment.record, self.spec
        if not self._runtime.is_stopping():
            if self._deployment.slots() < 2:
                return
            status = record.status(spec.run_id)
            if status.pending > status.retrying:
                return
        with self._lock:
            self._releasing += self._todo
            self._todo.clear()

    def _send_releases(self) -> None:
        """Release in the record. Where it is not known whether that was done, it is done again, and none runs."""
        with self._lock:
            releasing = list(self._releasing)
        if not releasing:
            return
        indices = [member.index for member in releasing]
        released = self._deployment.record.release(self.spec.run_id, self.owner, indices)
        with self._lock:
            sent = {id(member) for member in releasing}
            self._releasing = [member for member in self._releasing if id(member) not in sent]
        self._reports.follow(sorted({*released.released, *released.ready}))


def claiming(deployment: Deployment, call: Callable[[], Claim]) -> Claim:
    """A claim, repeated for a while when the record cannot be reached; then its message is left to the sweeper."""
    return persistently(deployment.runtime, call, patience=deployment.patience.member)


def refuse_unsigned(deployment: Deployment, run_id: str, owner: str, claim: Claim) -> None:
    """Let members fail whose group is not signed, so that a submitter who lacks the key does not wait in vain.

    What they came to is not signed either: a submitter who has the key does not believe it.
    """
    if claim.distrust is None or not claim.granted:
        return
    _log.error("Members of run %s are refused: %s", run_id, claim.distrust)
    packed = pack_failure(claim.distrust, deployment.runtime.time())
    refused = [MemberReport(member.index, member.attempt, MemberState.FAILED, packed) for member in claim.granted]
    record, patience = deployment.record, deployment.patience
    with suppress(*TRY_AGAIN):  # then their lease brings them back
        persistently(deployment.runtime, lambda: record.complete(run_id, owner, refused), patience=patience.member)


def run_members(
    deployment: Deployment,
    run_id: str,
    indices: Sequence[int],
    *,
    owner: str,
    worker: str,
    limit: int | None = None,
    listener: Listening | None = None,
) -> Tally | None:
    """Claim members, run those that are granted, in order, and report them.

    Args:
        deployment: Where the record is.
        run_id: Their run.
        indices: The members that a message named.
        owner: Unique per delivery of the message.
        worker: The name of this worker.
        limit: Members to claim at most.
        listener: Makes what is told about each member.

    Returns:
        What came of the members that ran here; None when none was granted.
    """
    record = deployment.record
    claim = claiming(deployment, lambda: record.claim(run_id, indices, owner, limit=limit))
    if claim.spec is None or not claim.granted:
        refuse_unsigned(deployment, run_id, owner, claim)
        return None
    batch = Batch(deployment, claim.spec, owner, worker, listener(claim.spec) if listener is not None else None)
    with batch.paced():
        batch.run(claim.granted)
        left = [] if limit is not None else claim.left
        while left and not batch.ended:
            part, left = left[:_NEXT], left[_NEXT:]
            claim = claiming(deployment, lambda part=part: record.claim(run_id, part, owner))  # type: ignore[misc]
            batch.run(claim.granted)
            left = [*claim.left, *left]
            if claim.state is None or claim.state.is_final:
                break
    return batch.tally
