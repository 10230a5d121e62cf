"""Reports of a worker: what members came to, kept until the record has taken it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from graflow.exceptions import GraflowRuntimeError
from graflow.runtime import persistently
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.deployment import Deployment
from graflow_celery.errors import TRY_AGAIN
from graflow_celery.record import BlockLease, BlockReport, GroupSpec, Lease, MemberReport, Released
from graflow_celery.wire.pages import PageWriter
from graflow_celery.worker.batches.reported import reported_members
from graflow_celery.worker.member import RetryLater

_log = get_logger(__name__)
_GATHER: Final = 0.02  # seconds for which blocks that have ended wait for others
_Answer = TypeVar("_Answer")
_Written = tuple[BlockReport, PageWriter | None]


class Reports:
    """What one owner's members came to and the record does not know yet; for use from several threads.

    Args:
        deployment: Where the record is.
        spec: Their group.
        owner: As it claimed them.
    """

    def __init__(self, deployment: Deployment, spec: GroupSpec, owner: str) -> None:
        self._deployment = deployment
        self._runtime = deployment.runtime
        self._spec = spec
        self._owner = owner
        self._pages: list[_Written] = []
        self._results: list[MemberReport] = []
        self._retries: list[tuple[RetryLater, float]] = []  # each with the time at which it is due
        self._lock = self._runtime.lock()
        self._sending = self._runtime.lock()
        self._sent = self._runtime.monotonic()

    def add(self, result: MemberReport | RetryLater, now: float) -> None:
        """Keep what a member came to at this monotonic time."""
        with self._lock:
            if isinstance(result, RetryLater):
                self._retries.append((result, now + result.delay))
            else:
                self._results.append(result)

    def add_page(self, page: PageWriter) -> None:
        """Keep what the members of a block came to, as one where that can be."""
        report = page.page()
        with self._lock:
            if report is None:
                self._results += page.reports()
            else:
                self._pages.append((report, page))

    def add_known(self, report: BlockReport) -> None:
        """Keep what a block came to before; where it is not taken as one, its members come up one by one."""
        with self._lock:
            self._pages.append((report, None))

    def add_finished(self, page: PageWriter) -> None:
        """Keep what members of a block came to that goes on, one by one."""
        with self._lock:
            self._results += page.reports()

    def leases(self) -> list[Lease | BlockLease]:
        """Of what is kept here."""
        run_id, owner = self._spec.run_id, self._owner
        with self._lock:
            single: list[MemberReport | RetryLater] = [*self._results, *(member for member, _ in self._retries)]
            return [
                *(BlockLease(run_id, report.number, report.attempt, owner) for report, _ in self._pages),
                *(Lease(run_id, member.index, member.attempt, owner) for member in single),
            ]

    def send(self, *, patiently: bool = False) -> None:
        """Record what has been added.

        Args:
            patiently: Whether to wait for a record that cannot be reached; otherwise all is kept for the next time.
        """
        with self._sending:
            self._sent = self._runtime.monotonic()
            with self._lock:
                pages, self._pages = self._pages, []
                results, self._results = self._results, []
                retries, self._retries = self._retries, []
            try:
                if pages:
                    results += self._complete_blocks(pages, patiently=patiently)
                    pages = []
                if results:
                    self.complete(results, patiently=patiently)
                    results = []
                while retries:
                    self._leave(*retries[-1], patiently=patiently)
                    retries.pop()
            except TRY_AGAIN as error:
                kept = len(results) + len(retries) + len(pages)
                if is_news(("kept", self._spec.run_id)):
                    _log.warning("%s outcomes of run %s are kept: %s", kept, self._spec.run_id, type(error).__name__)
                with self._lock:
                    self._pages = [*pages, *self._pages]
                    self._results = [*results, *self._results]
                    self._retries = [*retries, *self._retries]

    def send_gathered(self) -> None:
        """`send`, unless that was a moment ago: then blocks are reported together."""
        if self._runtime.monotonic() - self._sent >= _GATHER:
            self.send()

    def _complete_blocks(self, pages: Sequence[_Written], *, patiently: bool) -> list[MemberReport]:
        """Record whole blocks; returns what members of the others came to, to which something has happened."""
        record, run_id, reports = self._deployment.record, self._spec.run_id, [report for report, _ in pages]
        done = self._call(lambda: record.complete_blocks(run_id, self._owner, reports), patiently=patiently)
        if done.state is None:
            _log.warning("The record of run %s is gone: the outcomes of %s blocks are dropped", run_id, len(pages))
            return []
        reported_members(self._deployment).note_blocks(self._spec, reports, done.recorded)
        self.follow([], continuation=done.continuation)
        split = {*done.split}
        return [each for report, page in pages if page and report.number in split for each in page.reports()]

    def complete(self, results: list[MemberReport], *, patiently: bool = False) -> None:
        """Record these outcomes now, and publish what they make possible."""
        record, run_id = self._deployment.record, self._spec.run_id
        done = self._call(lambda: record.complete(run_id, self._owner, results), patiently=patiently)
        reported_members(self._deployment).note(self._spec, results, done.recorded)
        if done.refused:
            _log.info("Members %s of run %s were recorded by another execution", done.refused, run_id)
        if done.state is None:
            _log.warning("The record of run %s is gone: %s outcomes are dropped", run_id, len(results))
        if done.state is None or done.state.is_final:
            self._deployment.shared_payloads.forget(run_id)
        self.follow(done.ready, continuation=done.continuation)

    def _leave(self, member: RetryLater, due: float, *, patiently: bool) -> None:
        """Note in the record that a member is to be tried again; the sweeper publishes it when it is due."""
        run_id, record = self._spec.run_id, self._deployment.record

        def call() -> Released:
            delay = due - self._runtime.monotonic()
            return record.retry(
                run_id, self._owner, member.index, member.attempt, delay, made=member.made, unrun=member.is_unrun
            )

        answer = self._call(call, patiently=patiently)
        if not answer.released:
            _log.info("Member %s of run %s is no longer held here: its retry is dropped", member.index, run_id)
        self.follow(answer.ready)

    def _call(self, call: Callable[[], _Answer], *, patiently: bool) -> _Answer:
        return persistently(self._runtime, call, when_stopping=self._deployment.patience.last) if patiently else call()

    def follow(self, ready: Sequence[int], *, continuation: bool = False) -> None:
        """Publish what has become possible; when the broker is away the sweeper does it later."""
        try:
            if ready:
                self._deployment.publisher.publish(self._spec, sorted(ready), slots=self._deployment.slots())
            if continuation:
                self._deployment.publisher.publish_continuation(self._spec)
        except GraflowRuntimeError as error:
            _log.warning("Left to the sweeper: %s", error)
