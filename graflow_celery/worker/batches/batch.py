"""A batch of members on a worker: claim, run, release what others could start sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from math import inf
from typing import Final, TypeVar

import redis

from graflow.exceptions import TaskTimeoutError
from graflow.observing import Happening, observe, observers
from graflow.runtime import SLICE, persistently
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow.trace.carrying import continued
from graflow_celery.broker.messages import member_name, ranges_of
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING, TRY_AGAIN
from graflow_celery.record import BlockClaim, Claim, GrantedBlock, GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.wire.outcomes import pack_failure, report_of
from graflow_celery.worker.batches.blocks import BlockLoop
from graflow_celery.worker.batches.holding import Holding, Work, indices_of_work, lease_of
from graflow_celery.worker.batches.reported import reported_members
from graflow_celery.worker.batches.reports import Reports
from graflow_celery.worker.batches.tally import Listening, MemberListener, Tally
from graflow_celery.worker.member import MemberRunner, RetryLater
from graflow_celery.worker.message_limits import limits_of

_log = get_logger(__name__)
_Claim = TypeVar("_Claim")

_BEATS_PER_LEASE: Final = 3
_NEXT: Final = 16  # members that are asked for at once, of those that a claim left for later


listening: ContextVar[Listening | None] = ContextVar("graflow_listening", default=None)
"""What listens to the message that this thread works off, for members of inner groups that run here meanwhile."""


class Batch:
    """What one delivery of a message was granted: members and blocks, run in order and reported."""

    def __init__(
        self, deployment: Deployment, spec: GroupSpec, owner: str, worker: str, listener: MemberListener | None
    ) -> None:
        self.spec = spec
        self.owner = owner
        self._runtime = deployment.runtime
        self.began = self._runtime.monotonic()
        self._deployment = deployment
        self.tally = Tally(self._runtime, spec, listener)
        self._runner = MemberRunner(deployment, spec, worker)
        self._holding = Holding(self._runtime, self._runner.seal, owner)
        self._reports = Reports(deployment, spec, owner)
        self._reported = reported_members(deployment)
        self._blocks = BlockLoop(
            *(deployment, spec, self._runner, self._holding, self.tally),
            execute=self._execute,
            cancellation=self._cancellation,
            retry=self._reports.add,
            unburden=self._unburden,
        )
        self._beaten = self._tried = self.began
        self._timed_out: set[int] = set()

    @property
    def ended(self) -> bool:
        """Whether the group has ended, so that nothing more of it begins."""
        return self._holding.ended

    # -- the thread that runs members ------------------------------------------------------------------------------

    def run(self, granted: Sequence[Work]) -> None:
        """Run what was granted in order and report it."""
        self._holding.add(granted)
        try:
            while (work := self._next()) is not None:
                if isinstance(work, GrantedBlock):
                    self._run_block()
                else:
                    self._run_one(work)
        except SystemExit:
            self._abandon()
            raise
        finally:
            self._report(patiently=True)
            if self._holding.releasing():
                with suppress(*TRY_AGAIN):  # then their lease brings them back
                    persistently(self._runtime, self._send_releases, patience=self._deployment.patience.member)

    def _abandon(self) -> None:
        """This process is told to exit: what it holds is run elsewhere at once, without waiting for its lease."""
        held = self._holding.give_up()
        with suppress(redis.exceptions.RedisError):
            self._deployment.record.abandon(self.spec.run_id, self.owner, held)
        self._flush_block()

    @contextmanager
    def paced(self) -> Iterator[None]:
        """Have the pacing thread look after this batch while it runs."""
        with self._runtime.pacer.pacing(self), continued(self.spec.meta):
            try:
                yield
            finally:
                self._runner.close()

    @property
    def name(self) -> str:
        return f"Run {self.spec.run_id}"

    def _next(self) -> Work | None:
        if self._holding.has_todo and self._runtime.monotonic() - self._beaten >= self.spec.lease:
            # After a pause: what was lost meanwhile runs elsewhere.
            with suppress(*TRY_AGAIN):
                persistently(self._runtime, self._beat, patience=self._deployment.patience.member)
        return self._holding.next()

    def _run_one(self, member: GrantedMember) -> None:
        self.tally.started(member)
        result = self._known(member) or self._execute(member)
        self._reports.add(result, self.tally.ended(result))
        self._holding.has_done()
        if isinstance(result, MemberReport) and result.blobs:
            self._unburden()

    def _unburden(self) -> None:
        """Have what has ended recorded at once, so that long values do not gather here."""
        self._flush_block()
        self._reports.send()

    def _run_block(self) -> None:
        running = self._holding.block
        if running is None:
            return
        known = self._reported.find_block(self.spec, running.block)
        if known is None:
            self._blocks.run(running)
            self._holding.has_done()
            self._reports.add_page(running.page)
        else:
            _log.warning("Run %s: block %s is granted again after it was recorded", self.spec.run_id, known.number)
            self._holding.has_done()
            self._reports.add_known(known)
        self._reports.send_gathered()

    def _known(self, member: GrantedMember) -> MemberReport | None:
        """What a member came to here before, in a record that has gone back since."""
        known = self._reported.find(self.spec, member, self._runner.seal)
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
        run_id = self.spec.run_id
        lease = lease_of(run_id, self._holding.block.block if self._holding.block else member, self.owner)
        asked = 0.0
        cancelled = False

        def is_cancelled() -> bool:
            nonlocal asked, cancelled
            if self.ended or cancelled:
                return True
            if self._runtime.monotonic() - asked >= SLICE:
                asked = self._runtime.monotonic()
                try:
                    answer = self._deployment.record.beat([lease])
                    cancelled = bool(answer.lost) or member.index in answer.gone.get(run_id, ())
                except FAILING:
                    if is_news(("cancelled", run_id)):
                        _log.warning("Cannot ask whether member %s of %s is cancelled", member.index, run_id)
            return cancelled

        return is_cancelled

    # -- the pacing thread -----------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Report, beat and release, as far as each is due."""
        self._runner.soft_limit.expire(now)
        self._stop_waiting_for_current(now)
        self._flush_block(now)
        self._report()
        if now - self._tried >= self.spec.lease / _BEATS_PER_LEASE:
            self._tried = now
            self._beat()
        if self._holding.has_unstarted and (self._runtime.is_stopping() or now - self.began >= SLICE):
            self._release_unstarted()
        self._send_releases()

    def _report(self, *, patiently: bool = False) -> None:
        self._reports.send(patiently=patiently)
        self.tally.flush()

    def _flush_block(self, now: float = inf) -> None:
        """Have what has ended of a block that takes long reported without waiting for the rest."""
        with self._holding.lock:
            running = self._holding.block
            if running is not None and now - running.since >= SLICE:
                self._reports.add_finished(running.page)

    def _stop_waiting_for_current(self, now: float) -> None:
        """Record that the running member's time is over.

        A prefork pool kills the process then. In other pools nothing can stop it: its own outcome comes too late.
        """
        begun = self._holding.begun
        if begun is None:
            return
        member, since = begun
        limit = limits_of(self._deployment, self.spec, member.index)[0]
        if limit is None or now - since < limit or member.index in self._timed_out:
            return
        error = TaskTimeoutError(member_name(self.spec, member.index), float(limit))
        payload = pack_failure(error, self._runtime.time(), member.losses)
        self._reports.complete([report_of(self._runner.seal, member, MemberState.TIMED_OUT, payload)])
        self._timed_out.add(member.index)

    def _beat(self) -> None:
        held, sent = [*self._holding.leases(), *self._reports.leases()], self._runtime.monotonic()
        if held:
            answer = self._deployment.record.beat(held)
            if self.spec.run_id in answer.ended:
                self._holding.ended = True
                self._deployment.shared_payloads.forget(self.spec.run_id)
            gone = {*(lease.index for lease in answer.lost), *answer.gone.get(self.spec.run_id, ())}
            if gone:
                self._holding.forget(gone)
            if observers and answer.lost:
                observe(Happening.LEASE_LOST, len(answer.lost), "member")
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
        self._holding.release_unstarted()

    def _send_releases(self) -> None:
        """Release in the record. Where it is not known whether that was done, it is done again, and none runs."""
        releasing = self._holding.releasing()
        if not releasing:
            return
        indices = [index for work in releasing for index in indices_of_work(work)]
        released = self._deployment.record.release(self.spec.run_id, self.owner, indices)
        self._holding.has_released(releasing)
        self._reports.follow(sorted({*released.released, *released.ready}))


def claiming(deployment: Deployment, call: Callable[[], _Claim]) -> _Claim:
    """A claim, repeated for a while when the record cannot be reached; then its message is left to the sweeper."""
    return persistently(deployment.runtime, call, patience=deployment.patience.member)


def refuse_unsigned(deployment: Deployment, run_id: str, owner: str, claim: Claim | BlockClaim) -> None:
    """Let members fail whose group is not signed, so that a submitter who lacks the key does not wait in vain.

    What they came to is not signed either: a submitter who has the key does not believe it.
    """
    if claim.distrust is None or not claim.granted:
        return
    _log.error("Members of run %s are refused: %s", run_id, claim.distrust)
    packed = pack_failure(claim.distrust, deployment.runtime.time())
    refused = [
        MemberReport(index, work.attempt, MemberState.FAILED, packed)
        for work in claim.granted
        for index in indices_of_work(work)
    ]
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
    in_blocks: bool = False,
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
        in_blocks: Whether members of the group stand in blocks, whole ones of which are claimed as such.
        limit: Members to claim at most, one block aside.
        listener: Makes what is told about each member.

    Returns:
        What came of the members that ran here; None when none was granted.
    """
    with ExitStack() as pacing:
        delivery = _Delivery(deployment, run_id, owner, worker, listener, pacing)
        left: Sequence[int] = delivery.run_blocks(indices) if in_blocks else indices
        if delivery.batch is None or limit is None:
            delivery.run_members(left, limit)
    if delivery.batch is None:
        return None
    delivery.batch.tally.tell()
    return delivery.batch.tally


class _Delivery:
    """Claims what a message names, and has it run in one batch, which the first claim that grants something begins."""

    def __init__(
        self,
        deployment: Deployment,
        run_id: str,
        owner: str,
        worker: str,
        listener: Listening | None,
        pacing: ExitStack,
    ) -> None:
        self.batch: Batch | None = None
        self._deployment = deployment
        self._run_id = run_id
        self._owner = owner
        self._worker = worker
        self._listener = listener
        self._pacing = pacing

    def run_blocks(self, indices: Sequence[int]) -> list[int]:
        """Run the blocks that are there as a whole; returns the members that have to be claimed one by one."""
        record, ranges = self._deployment.record, ranges_of(indices)
        claim = claiming(self._deployment, lambda: record.claim_blocks(self._run_id, ranges, self._owner))
        self._run(claim.spec, claim.granted, claim)
        return claim.left

    def run_members(self, indices: Sequence[int], limit: int | None) -> None:
        """Run the members that are granted, then those that a claim left for later, as long as the group goes on."""
        record, run_id, left, size = self._deployment.record, self._run_id, list(indices), len(indices)
        while left and not (self.batch is not None and self.batch.ended):
            part, left = left[:size], left[size:]
            claim = claiming(
                self._deployment,
                lambda part=part: record.claim(run_id, part, self._owner, limit=limit),  # type: ignore[misc]
            )
            self._run(claim.spec, claim.granted, claim)
            if limit is not None or self.batch is None or claim.state is None or claim.state.is_final:
                return
            left, size = [*claim.left, *left], _NEXT

    def _run(self, spec: GroupSpec | None, granted: Sequence[Work], claim: Claim | BlockClaim) -> None:
        if spec is None or not granted:
            refuse_unsigned(self._deployment, self._run_id, self._owner, claim)
            return
        if self.batch is None:
            listener = None if self._listener is None else self._listener(spec)
            self.batch = Batch(self._deployment, spec, self._owner, self._worker, listener)
            self._pacing.enter_context(self.batch.paced())
        self.batch.run(granted)
