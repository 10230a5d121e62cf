"""Waiting for a group: outcomes as they are recorded, whatever happens to servers and workers meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from kombu.exceptions import KombuError

from graflow.exceptions import GraflowRuntimeError, GroupLostError, GroupNotFoundError
from graflow.redis.refusals import in_a_word
from graflow.runtime import persistently
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.client.helper import Helper
from graflow_celery.client.submission import Submission
from graflow_celery.client.waiting.reading import Reading
from graflow_celery.client.waiting.resubmission import Resubmission
from graflow_celery.client.waiting.seen import Arrived
from graflow_celery.client.waiting.sighting import Sighting
from graflow_celery.client.waiting.silence import Silence
from graflow_celery.client.waiting.worker_watch import WorkerWatch
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING, SILENT
from graflow_celery.record import GroupHeader, GroupSpec, OutcomePage
from graflow_celery.settings import GroupOptions
from graflow_celery.sweeper import sweep_in_turn

_log = get_logger(__name__)

LONGEST_SLICE: Final = 2.0  # seconds of one blocking read, after which the record is looked at again in any case
_NAP_PER_MEMBER: Final = 0.0003  # seconds to let outcomes gather, so that one read takes many of them,
_LONGEST_NAP: Final = 0.02  # and the most for any number of open members
_GATHERED: Final = 25  # outcomes of one read that came together already, as those of a page do


class Waiter:
    """Reads the outcomes of one run, for any number of threads: each keeps its own time, and sees what the others read.

    Attributes:
        reading: How far the run has been read.
        seen: Outcomes that were read, by index.
        sighting: What this process has seen of the run.
        silence: How long its record has not answered.

    Args:
        deployment: Where the record is.
        spec: The group.
        options: How often to look around, and how long to do without workers.
        submission: What was submitted, so that a record that is lost can be written again; None in other processes.
        sighting: What this process has seen of the run; nothing when None.
        is_durable: Whether the caller keeps outcomes of its own and goes on whatever became of the record.
        before_publishing: What must be in place again then, before any member can run.
        helping: Whether this thread holds a worker's slot, and therefore runs members itself while it waits.
        check: Is called while nothing comes, and raises when there is nothing to wait for any more.
        event: What `record.open` gave, where nobody has looked at the run before.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        options: GroupOptions,
        submission: Submission | None = None,
        *,
        sighting: Sighting | None = None,
        is_durable: bool = False,
        before_publishing: Callable[[], None] | None = None,
        helping: bool = False,
        check: Callable[[], None] = lambda: None,
        event: bytes = b"",
    ) -> None:
        self.deployment = deployment
        self.run_id = spec.run_id
        self.reading = Reading(deployment, spec)
        self.seen = self.reading.seen
        self.sighting = sighting or Sighting(deployment, spec.run_id, "", options.result_ttl)
        self.silence = Silence(deployment, spec.run_id)
        self._n = spec.n
        self._options = options
        self._resubmission = Resubmission(
            *(deployment, spec, submission, self.sighting), is_durable=is_durable, before_publishing=before_publishing
        )
        self._helper = Helper(deployment, spec) if helping else None
        self._watch = WorkerWatch(deployment, spec.run_id, options, None if submission is None else submission.spec)
        self._check = check
        self._event = event
        self._runtime = deployment.runtime
        self._header: GroupHeader | None = None

    def until(
        self, deadline: float | None, *, wanted: int | None = None, known: int | None = None, as_whole: bool = False
    ) -> Iterator[Arrived]:
        """Outcomes as they come, by whatever thread they are read, until all are there or the time is over.

        Args:
            deadline: The end of the wait; None for no end.
            wanted: The index of the one outcome that is waited for; None for those of all members.
            known: How many that are there already need not be told, in the order of their coming; None for all.
            as_whole: Whether the caller has no use for some of the outcomes before it has all.

        Raises:
            GroupNotFoundError: When there is no such run, or its record has expired or was evicted.
            GroupLostError: When its record was wiped out and cannot be written again from here.
            NoWorkerError: When no worker consumes the queue and the settings ask to end then.
            RecordUnreachableError: When the record has not answered for five minutes.
        """
        self.sighting.begin()
        self._look_for_a_retry()
        has_more, is_read_anew = True, False  # a wait of no seconds still takes what is there
        told, page = self.seen.arrived if known is None else known, None
        has_waited = as_whole and self._wait_for_end(deadline)
        while True:
            if fresh := self.seen.since(told):
                told += len(fresh)
                yield fresh
                if page is not None:
                    self._let_gather(page, deadline)
            if self.reading.is_complete if wanted is None else wanted in self.seen:
                return
            self.deployment.check_not_gone()
            block = self._slice(deadline)
            if block is None and not has_more:
                return
            page = self._read(0.0 if block is None or has_waited or self._may_help() else block)
            has_waited, has_more = False, page is not None and page.more
            if page is None or self.seen.arrived > told:
                continue
            if page.closed and not page.more:
                if is_read_anew:
                    self.reading.is_closed = True
                    return
                # A server that took over may lack the last writes: what came again may stand before the cursor.
                self.reading.begin_anew()
                has_more = is_read_anew = True
                continue
            if self._help(wanted):
                continue
            self._check()
            self._look_around()

    def _wait_for_end(self, deadline: float | None) -> bool:
        """Wait, once, for the end of a group that nobody has looked at since it was opened; whether that was done."""
        event, self._event = self._event, b""
        block = self._slice(deadline)
        if not event or block is None or self._helper is not None:
            return False
        try:
            self.deployment.record.wait({self.run_id: event}, block)
        except SILENT as error:
            self.silence.wait_out(error)
        return True

    def _slice(self, deadline: float | None) -> float | None:
        """Seconds to block next; None when the time is over."""
        options = self._options
        block = min(LONGEST_SLICE, options.sweep_interval, max(options.worker_wait, 0.1))
        if deadline is None:
            return block
        left = deadline - self._runtime.monotonic()
        return None if left <= 0 else min(block, left)

    def _let_gather(self, page: OutcomePage, deadline: float | None) -> None:
        nap = (page.status.pending + page.status.running) * _NAP_PER_MEMBER
        if nap and len(page.outcomes) < _GATHERED and not page.blocks and not (page.more or self._may_help()):
            self._runtime.sleep(min(nap, _LONGEST_NAP, self._slice(deadline) or 0.0))

    def _read(self, block: float) -> OutcomePage | None:
        reading = self.reading
        cursor, before = reading.cursor, reading.ended
        try:
            server = self.sighting.look()
            page = self.deployment.record.read(self.run_id, cursor, block=block)
            if self._begin_round(page.round):
                cursor, before = reading.cursor, 0
                page = self.deployment.record.read(self.run_id, cursor)
        except SILENT as error:
            self.silence.wait_out(error)
            return None
        except (GroupLostError, GroupNotFoundError) as error:
            self._write_again(error)
            return None
        self.silence.end()
        self.sighting.note(page.cursor.epoch, server)
        reading.take(page, cursor)
        if self._n - page.status.pending - page.status.running < before:
            self._restore()
        return page

    def header(self) -> GroupHeader:
        """What is told of the run beside its outcomes; waited for like these where the record does not answer."""
        if self._header is None:
            read = partial(self.deployment.record.header, self.run_id)
            with self.deployment.errors():
                self._header = persistently(self._runtime, read, patience=self.deployment.patience.waiter)
        return self._header

    def _look_for_a_retry(self) -> None:
        """Whoever waits again for what had failed waits for what was made of it since, by whoever had it run again."""
        if self.reading.may_be_outdated:
            with suppress(*FAILING, GroupNotFoundError, GroupLostError):  # then what was read stands
                self._begin_round(self.deployment.record.read(self.run_id, self.reading.cursor).round)

    def _begin_round(self, number: int) -> bool:
        is_another = self.reading.begin_round(number)
        if is_another and self._helper is not None:
            self._helper.look_again()
        return is_another

    def _restore(self) -> None:
        """Enter what was read before into a record that has forgotten it, and read from the start what else came."""
        _log.warning("The record of run %s has lost outcomes that were read from it; entering them again", self.run_id)
        try:
            self.deployment.record.restore(self.run_id, list(self.seen.values()))
        except FAILING as error:
            self.silence.wait_out(error)
        self.reading.begin_anew()

    def _write_again(self, error: GraflowRuntimeError) -> None:
        try:
            submission = self._resubmission.make_way(error)
        except SILENT as unreachable:
            # The cursor says of which record this was read: another one, opened meanwhile, is not taken for that.
            self.silence.wait_out(unreachable)
            return
        try:
            self._resubmission.submit(submission, self.seen)
        except SILENT as unreachable:
            self.silence.wait_out(unreachable)
        self.reading.begin_anew()

    # -- while nothing comes ---------------------------------------------------------------------------------------

    def _may_help(self) -> bool:
        return self._helper is not None and self._helper.is_useful

    def _help(self, wanted: int | None) -> bool:
        """Run something of this group here; False when there is nothing to run."""
        helper = self._helper
        if helper is None:
            return False
        if helper.is_useful and helper.run_one(self.seen):
            return True
        if wanted == self._n and self.reading.is_complete and helper.run_continuation():
            return True
        helper.rest()
        return False

    def _look_around(self) -> None:
        """Sweep, and see whether anybody works for the queues of the open members."""
        now = self._runtime.monotonic()
        try:
            has_swept = sweep_in_turn(self.deployment, self._options.sweep_interval)
            if self._helper is None:
                self._watch.look(now, self.seen)
            elif has_swept and self.deployment.record.status(self.run_id).pending:
                self._helper.look_again()
        except (*FAILING, KombuError) as error:
            self._watch.excuse(self._runtime.monotonic())
            if is_news(("looking around", in_a_word(error))):
                _log.warning("Run %s: %s", self.run_id, in_a_word(error))
