"""Waiting for a group: outcomes as they are recorded, whatever happens to servers and workers meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

import redis
from kombu.exceptions import KombuError

from graflow.exceptions import GraflowRuntimeError, GroupLostError, GroupNotFoundError, NoWorkerError
from graflow_celery.broker.messages import queues_of
from graflow_celery.broker.task_queue import queue_length
from graflow_celery.client.submission import Submission, open_and_publish
from graflow_celery.deployment import Deployment
from graflow_celery.errors import RecordUnreachableError
from graflow_celery.record import Cursor, GroupSpec, OutcomePage, RecordedOutcome
from graflow_celery.sweeper import sweep
from graflow_celery.worker.batch import listening, run_members
from graflow_celery.worker.continuation import run_continuation

_log = logging.getLogger(__name__)

LONGEST_SLICE: Final = 2.0  # seconds of one blocking read, after which the record is looked at again in any case
_PATIENCE: Final = 300.0  # seconds without an answer of the record after which waiting ends
_HELPED_AT_ONCE: Final = 50  # members that a helping waiter offers to claim from
_NAP_PER_MEMBER: Final = 0.0003  # seconds to let outcomes gather, so that one read takes many of them,
_LONGEST_NAP: Final = 0.02  # and the most for any number of open members
_GATHERED: Final = 25  # outcomes of one read that came together already, as those of a batch do
_WORKERS_SHOWN: Final = 5
_UNREACHABLE: Final = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, RecordUnreachableError, OSError)


class Waiter:
    """Reads the outcomes of one run.

    Args:
        deployment: Where the record is.
        run_id: The run.
        n: Members of the group; the continuation, when there is one, has this index.
        submission: What was submitted, so that a record that is lost can be written again; None in other processes.
        before_publishing: What must be in place again then, before any member can run.
        helping: Whether this thread holds a worker's slot, and therefore runs members itself while it waits.
        check: Is called while nothing comes, and raises when there is nothing to wait for any more.
    """

    def __init__(
        self,
        deployment: Deployment,
        run_id: str,
        n: int,
        submission: Submission | None = None,
        *,
        before_publishing: Callable[[], None] | None = None,
        helping: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.deployment = deployment
        self.run_id = run_id
        self.seen: dict[int, RecordedOutcome] = {}
        self._n = n
        self._submission = submission
        self._before_publishing = before_publishing
        self._helping = helping
        self._check = check
        self._runtime = deployment.runtime
        self._cursor = Cursor()
        self._unclaimed: list[int] | None = None
        now = self._runtime.monotonic()
        self._answered = self._swept = self._began = now
        self._worker_seen: dict[str, float] = {}
        self._spec: GroupSpec | None = None if submission is None else submission.spec

    @property
    def is_complete(self) -> bool:
        """Whether every member's outcome has been read."""
        return len(self.seen) - (self._n in self.seen) >= self._n

    def until(self, deadline: float | None, *, wanted: int | None = None) -> Iterator[list[RecordedOutcome]]:
        """Outcomes as they come, until all members' are there, or that of `wanted`, or the deadline is over.

        Raises:
            GroupNotFoundError: When there is no such run.
            GroupLostError: When its record is gone and cannot be written again from here.
            NoWorkerError: When no worker consumes the queue and the settings ask to end then.
            RecordUnreachableError: When the record has not answered for five minutes.
        """
        has_more, is_read_anew = True, False  # a wait of no seconds still takes what is there
        while not (self.is_complete if wanted is None else wanted in self.seen):
            block = self._slice(deadline)
            if block is None and not has_more:
                return
            batch = self._read(0.0 if block is None or self._may_help() else block)
            has_more = batch is not None and batch.more
            if batch is None:
                continue
            fresh = [outcome for outcome in batch.outcomes if outcome.index not in self.seen]
            self.seen.update((outcome.index, outcome) for outcome in fresh)
            if fresh:
                yield fresh
                self._let_gather(batch, deadline)
                continue
            if batch.closed and not batch.more:
                if is_read_anew:
                    return
                # A server that took over may lack the last writes: what came again may stand before the cursor.
                has_more, is_read_anew, self._cursor = True, True, Cursor()
                continue
            if (self._may_help() and self._help()) or (wanted == self._n and self._continue()):
                continue
            self._unclaimed = []
            self._check()
            self._look_around()

    def _slice(self, deadline: float | None) -> float | None:
        """Seconds to block next; None when the time is over."""
        settings = self.deployment.settings
        block = min(LONGEST_SLICE, settings.sweep_interval, max(settings.worker_wait, 0.1))
        if deadline is None:
            return block
        left = deadline - self._runtime.monotonic()
        return None if left <= 0 else min(block, left)

    def _let_gather(self, batch: OutcomePage, deadline: float | None) -> None:
        nap = (batch.status.pending + batch.status.running) * _NAP_PER_MEMBER
        if nap and len(batch.outcomes) < _GATHERED and not (batch.more or self._may_help()):
            self._runtime.sleep(min(nap, _LONGEST_NAP, self._slice(deadline) or 0.0))

    def _read(self, block: float) -> OutcomePage | None:
        try:
            batch = self.deployment.record.read(self.run_id, self._cursor, block=block)
        except _UNREACHABLE as error:
            self._bear(error)
            return None
        except (GroupLostError, GroupNotFoundError) as error:
            self._write_again(error)
            return None
        self._answered = self._runtime.monotonic()
        self._cursor = batch.cursor
        if self._n - batch.status.pending - batch.status.running < len(self.seen) - (self._n in self.seen):
            self._restore()
        return batch

    def _restore(self) -> None:
        """Enter what was read before into a record that has forgotten it, and read from the start what else came."""
        _log.warning("The record of run %s has lost outcomes that were read from it; entering them again", self.run_id)
        try:
            self.deployment.record.restore(self.run_id, list(self.seen.values()))
        except (*_UNREACHABLE, redis.exceptions.RedisError) as error:
            self._bear(error)
        self._cursor = Cursor()

    def _bear(self, error: BaseException) -> None:
        """Wait a little for a record that does not answer, within bounds."""
        silent = self._runtime.monotonic() - self._answered
        server = self.deployment.settings.server
        if silent > _PATIENCE:
            raise RecordUnreachableError(
                f"The Redis of record at {server} has not answered for {silent:.0f} s; the run may go on: "
                f"attach('{self.run_id}') continues waiting for it"
            ) from None
        _log.warning("The Redis of record at %s does not answer (%s); waiting", server, type(error).__name__)
        self._runtime.sleep(0.2)

    def _write_again(self, error: GraflowRuntimeError) -> None:
        """Submit the group once more when its record was wiped out, with the outcomes that were read before it."""
        if self._submission is None:
            raise error
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
        except _UNREACHABLE as unreachable:
            self._bear(unreachable)
        self._cursor = Cursor()

    # -- while nothing comes ---------------------------------------------------------------------------------------

    def _may_help(self) -> bool:
        return self._helping and self._unclaimed != []

    def _help(self) -> bool:
        """Run the next unclaimed member here, so that this slot is not held for nothing; False when there is none."""
        if self._unclaimed is None:
            self._unclaimed = [index for index in range(self._n) if index not in self.seen]
        worker = self._runtime.name
        while self._unclaimed:
            offered = self._unclaimed[:_HELPED_AT_ONCE]
            owner = f"{worker}:{self._runtime.token()}"
            ran = run_members(
                self.deployment, self.run_id, offered, owner=owner, worker=worker, limit=1, listener=listening.get()
            )
            if ran is not None:
                return True
            del self._unclaimed[: len(offered)]
        return False

    def _continue(self) -> bool:
        """Run the continuation here when it is due, for the same reason; False when it is not, or runs elsewhere."""
        if not self._helping or not self.is_complete:
            return False
        return run_continuation(self.deployment, self.run_id, self._runtime.name) is not None

    def _look_around(self) -> None:
        """Sweep, and see whether anybody works for the queues of the open members."""
        now = self._runtime.monotonic()
        settings = self.deployment.settings
        try:
            if now - self._swept >= settings.sweep_interval:
                self._swept = now
                sweep(self.deployment)
                if self._helping and self.deployment.record.status(self.run_id).pending:
                    self._unclaimed = None
            if not self._helping:
                self._look_for_workers(now)
        except (*_UNREACHABLE, redis.exceptions.RedisError, KombuError) as error:
            _log.warning("Run %s: %s", self.run_id, type(error).__name__)

    def _look_for_workers(self, now: float) -> None:
        """See to it that every queue in which members of this run may wait has a worker."""
        if self._spec is None:
            self._spec = self.deployment.record.header(self.run_id).spec
        for queue in sorted(queues_of(self._spec, self.seen)):
            if self.deployment.workers(queue):
                self._worker_seen[queue] = now
            elif now - self._worker_seen.setdefault(queue, self._began) >= self.deployment.settings.worker_wait:
                self._worker_seen[queue] = now
                self._tell_no_worker(queue)

    def _tell_no_worker(self, queue: str) -> None:
        settings = self.deployment.settings
        length = queue_length(self.deployment.queue.app, queue)
        option = "" if queue == settings.queue_name else f" -Q {queue}"
        message = (
            f"No worker consumes queue '{queue}' at {settings.server}, where {length} messages wait (run "
            f"'{self.run_id}'); {_workers_seen(self.deployment)}. Start one: celery -A graflow_celery worker{option} "
            "--graflow-import <your modules>"
        )
        if settings.queue_name != "graflow":
            message += f" with GRAFLOW_KEY_PREFIX={settings.key_prefix} GRAFLOW_QUEUE={settings.queue_name}"
        if settings.on_no_worker == "error":
            raise NoWorkerError(message, queue, length)
        _log.warning("%s", message)


def _workers_seen(deployment: Deployment) -> str:
    """The live workers of other queues, in words."""
    seen = sorted(deployment.live_workers(), key=lambda worker: worker.worker_id)
    if not seen:
        return "no worker is seen here"
    shown = [f"{worker.worker_id} of {', '.join(worker.info.get('queues', ()))}" for worker in seen[:_WORKERS_SHOWN]]
    more = f" and {len(seen) - len(shown)} more" if len(seen) > len(shown) else ""
    return f"workers seen: {'; '.join(shown)}{more}"
