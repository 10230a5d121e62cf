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
from graflow_celery.client.submission import Submission, open_and_publish
from graflow_celery.client.waiting.seen import Arrived, Seen
from graflow_celery.client.waiting.sighting import Sighting
from graflow_celery.client.waiting.worker_watch import WorkerWatch
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING, SILENT
from graflow_celery.record import Cursor, GroupHeader, GroupSpec, OutcomePage
from graflow_celery.settings import GroupOptions
from graflow_celery.sweeper import sweep_in_turn
from graflow_celery.wire.seal import RunSeal

_log = get_logger(__name__)

LONGEST_SLICE: Final = 2.0  # seconds of one blocking read, after which the record is looked at again in any case
_NAP_PER_MEMBER: Final = 0.0003  # seconds to let outcomes gather, so that one read takes many of them,
_LONGEST_NAP: Final = 0.02  # and the most for any number of open members
_GATHERED: Final = 25  # outcomes of one read that came together already, as those of a page do


class Waiter:
    """Reads the outcomes of one run, for any number of threads: each keeps its own time, and sees what the others read.

    Attributes:
        seen: Outcomes that were read, by index.
        last_event: After it comes what wakes a reader.
        sighting: What this process has seen of the run.
        is_closed: Whether the record has nothing more to tell, though not all outcomes are there.
        is_overdue: Whether the time of the whole group was over, since what failed ran again where it did.

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
        self.seen = Seen(RunSeal(deployment.keys, spec), spec.stride)
        self.last_event = b"0-0"
        self.is_closed = self.is_overdue = False
        self.sighting = sighting or Sighting(deployment, spec.run_id, "", options.result_ttl)
        self._is_durable = is_durable
        self._n = spec.n
        self._options = options
        self._submission = submission
        self._before_publishing = before_publishing
        self._helper = Helper(deployment, spec) if helping else None
        self._watch = WorkerWatch(deployment, spec.run_id, options, None if submission is None else submission.spec)
        self._check = check
        self._event = event
        self._runtime = deployment.runtime
        self._lock = self._runtime.lock()  # never held while anything is waited for
        self._cursor = Cursor()
        self._header: GroupHeader | None = None
        self._round: int | None = None
        self._answered = self._tried = self._runtime.monotonic()

    @property
    def is_complete(self) -> bool:
        """Whether every member's outcome has been read."""
        return len(self.seen) - (self._n in self.seen) >= self._n

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
            if self.is_complete if wanted is None else wanted in self.seen:
                return
            self.deployment.check_not_gone()
            block = self._slice(deadline)
            if block is None and not has_more:
                return
            page = self._read(0.0 if block is None or has_waited or self._may_help() else block)
            has_waited = False
            has_more = page is not None and page.more
            if page is None or self.seen.arrived > told:
                continue
            if page.closed and not page.more:
                if is_read_anew:
                    self.is_closed = True
                    return
                # A server that took over may lack the last writes: what came again may stand before the cursor.
                has_more, is_read_anew, self._cursor = True, True, Cursor()
                continue
            if self._helper is not None:
                if self._help(self._helper, wanted):
                    continue
                self._helper.rest()
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
            self.wait_out(error)
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
        cursor, before = self._cursor, len(self.seen) - (self._n in self.seen)
        try:
            server = self.sighting.look()
            page = self.deployment.record.read(self.run_id, cursor, block=block)
            if self._begin_round(page.round):
                cursor, before = self._cursor, 0
                page = self.deployment.record.read(self.run_id, cursor)
        except SILENT as error:
            self.wait_out(error)
            return None
        except (GroupLostError, GroupNotFoundError) as error:
            self._write_again(error)
            return None
        self._answered = self._tried = self._runtime.monotonic()
        self.sighting.note(page.cursor.epoch, server)
        self.last_event = page.last_event
        self._take(page, cursor)
        if self._n - page.status.pending - page.status.running < before:
            self._restore()
        return page

    def _take(self, page: OutcomePage, since: Cursor) -> None:
        with self._lock:
            self.seen.add(page.outcomes, page.blocks)
            if page.round == self._round:
                self.is_overdue = page.overdue
            if self._cursor is since:  # else another thread has read on, or begun anew
                self._cursor = page.cursor

    def header(self) -> GroupHeader:
        """What is told of the run beside its outcomes; waited for like these where the record does not answer."""
        if self._header is None:
            read = partial(self.deployment.record.header, self.run_id)
            with self.deployment.errors():
                self._header = persistently(self._runtime, read, patience=self.deployment.patience.waiter)
        return self._header

    def forget_failures(self) -> None:
        """What failed runs again: whoever waits from here on waits for that, also while the server does not answer."""
        with self._lock:
            self._round = None
            self._let_go_of_failures()

    def _look_for_a_retry(self) -> None:
        """Whoever waits again for what had failed waits for what was made of it since, by whoever had it run again."""
        if self._round is None or self.seen.have_succeeded:
            return
        with suppress(*FAILING, GroupNotFoundError, GroupLostError):  # then what was read stands
            self._begin_round(self.deployment.record.read(self.run_id, self._cursor).round)

    def _begin_round(self, number: int) -> bool:
        """Forget what may have run again since this was read, when the run is in another round; whether it is."""
        with self._lock:
            known, self._round = self._round, number
            if known in {None, number}:
                return False
            self._let_go_of_failures()
        if self._helper is not None:
            self._helper.look_again()
        return True

    def _let_go_of_failures(self) -> None:
        self.seen.forget_failures(self._n)
        self._cursor, self.is_closed, self.is_overdue = Cursor(), False, False

    def _restore(self) -> None:
        """Enter what was read before into a record that has forgotten it, and read from the start what else came."""
        _log.warning("The record of run %s has lost outcomes that were read from it; entering them again", self.run_id)
        try:
            self.deployment.record.restore(self.run_id, list(self.seen.values()))
        except FAILING as error:
            self.wait_out(error)
        self._cursor = Cursor()

    def wait_out(self, error: BaseException) -> None:
        """Wait a little for a record that does not answer, within bounds."""
        self.deployment.check_not_gone()
        now = self._runtime.monotonic()
        # Nobody asked while this process stood still: of such a time half of what there is to wait counts.
        self._answered += max(now - self._tried - self.deployment.patience.waiter / 2, 0.0)
        self._tried = now
        self.deployment.wait_out(
            error,
            now - self._answered,
            run_id=self.run_id,
            why="to tell what came of its members",
            over=f"the run may go on: attach('{self.run_id}') continues waiting for it",
        )

    def _write_again(self, error: GraflowRuntimeError) -> None:
        """Submit the group once more when its record was wiped out, with the outcomes that were read before it.

        Raises:
            GroupNotFoundError: When it is absent for another reason, such as that its time was over.
            GroupLostError: When it was wiped out and somebody else submitted it.
        """
        try:
            told = self.sighting.explain(error)
            is_wiped = isinstance(told, GroupLostError)
            if self._submission is None or not (is_wiped or self._is_durable):
                raise told from None
            if not is_wiped:
                self.deployment.record.delete(self.run_id)  # whatever is left of it
        except SILENT as unreachable:
            self.wait_out(unreachable)
            return
        _log.warning("The record of run %s is gone; submitting it again", self.run_id)
        missing = [index for index in range(self._n) if index not in self.seen]
        try:
            open_and_publish(
                self.deployment,
                self._submission,
                missing,
                known=list(self.seen.values()),
                before_publishing=self._before_publishing,
            )
        except SILENT as unreachable:
            self.wait_out(unreachable)
        self._cursor = Cursor()

    # -- while nothing comes ---------------------------------------------------------------------------------------

    def _may_help(self) -> bool:
        return self._helper is not None and self._helper.is_useful

    def _help(self, helper: Helper, wanted: int | None) -> bool:
        """Run something of this group here; False when there is nothing to run."""
        if helper.is_useful and helper.run_one(self.seen):
            return True
        return wanted == self._n and self.is_complete and helper.run_continuation()

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
