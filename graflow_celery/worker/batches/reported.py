"""What members of signed groups came to in this process, for a record that has gone back.

A server that took over without the last writes, or somebody who writes back a record of before, has members granted
again that were reported already. They are reported again, from here, and do not run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from graflow.processes.per_process import PerProcess
from graflow_celery.deployment import Deployment
from graflow_celery.record import (
    BlockReport,
    GrantedBlock,
    GrantedMember,
    GroupSpec,
    MemberReport,
    MemberState,
    RecordedBlock,
)
from graflow_celery.wire.pages import Page
from graflow_celery.wire.seal import RunSeal

_KEPT: Final = 4 * 1024 * 1024  # bytes of payloads
_LONGEST: Final = 64 * 1024  # bytes of one
_OVERHEAD: Final = 400  # bytes of an entry besides its payload

_Place = int | str
_Report = MemberReport | BlockReport


class ReportedMembers:
    """Recorded reports by submission and index, or block, the oldest forgotten first; for use from several threads.

    A submission is known by the nonce in its signature, so members of unsigned groups are never among them, and a group
    that is submitted again under the same run id runs anew.

    Args:
        kept: Bytes to hold at most.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._size = 0
        self._reports: OrderedDict[tuple[str, _Place], _Report] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, spec: GroupSpec, reports: Iterable[MemberReport], recorded: Iterable[int]) -> None:
        """Keep those reports that the record has taken; long ones are not kept."""
        taken = set(recorded)
        self._keep(spec, ((x.index, x) for x in reports if x.index in taken and not x.blobs))

    def note_blocks(self, spec: GroupSpec, reports: Iterable[BlockReport], recorded: Iterable[int]) -> None:
        """As `note`, of whole blocks."""
        taken = set(recorded)
        self._keep(spec, ((f"b{x.number}", x) for x in reports if x.number in taken))

    def _keep(self, spec: GroupSpec, reports: Iterable[tuple[_Place, _Report]]) -> None:
        if not spec.nonce:
            return
        with self._lock:
            for place, report in reports:
                if _size_of(report) <= _LONGEST + _OVERHEAD:
                    self._forget(spec.nonce, place)
                    self._reports[spec.nonce, place] = report
                    self._size += _size_of(report)
            while self._size > self._kept:
                self._forget(*next(iter(self._reports)))

    def _forget(self, nonce: str, place: _Place) -> None:
        report = self._reports.pop((nonce, place), None)
        if report is not None:
            self._size -= _size_of(report)

    def find(self, spec: GroupSpec, member: GrantedMember, seal: RunSeal) -> MemberReport | None:
        """The report of a member that is granted again, for this attempt; None where it has to run.

        What failed runs again at a later attempt, and so does the continuation, which follows on what ran again.
        """
        if not spec.nonce:
            return None
        with self._lock:
            report = self._reports.get((spec.nonce, member.index))
            page = self._reports.get((spec.nonce, f"b{member.index // spec.stride}")) if spec.stride else None
        if report is None and isinstance(page, BlockReport) and member.index < spec.n:
            report = _in_page(spec, page, seal, member.index)
        if not isinstance(report, MemberReport):
            return None
        may_run_again = report.state is not MemberState.SUCCEEDED or member.index >= spec.n
        if may_run_again and member.attempt > report.attempt:
            return None
        return replace(report, attempt=member.attempt)

    def find_block(self, spec: GroupSpec, block: GrantedBlock) -> BlockReport | None:
        """The report of a block that is granted again, for this attempt; None where some of it has to run."""
        if not spec.nonce:
            return None
        with self._lock:
            report = self._reports.get((spec.nonce, f"b{block.number}"))
        if not isinstance(report, BlockReport) or (report.failures and block.attempt > report.attempt):
            return None
        return replace(report, attempt=block.attempt)


def _size_of(report: _Report) -> int:
    return len(report.page if isinstance(report, BlockReport) else report.payload) + _OVERHEAD


def _in_page(spec: GroupSpec, report: BlockReport, seal: RunSeal, index: int) -> MemberReport:
    block = RecordedBlock(report.number, spec.block(report.number), report.attempt, "", 0.0, report.page)
    outcome = Page(block, seal).outcome(index)
    return MemberReport(index, report.attempt, outcome.state, outcome.payload)


_reported: Final[PerProcess[Deployment, ReportedMembers]] = PerProcess()


def reported_members(deployment: Deployment) -> ReportedMembers:
    """Those of a deployment in this process."""
    return _reported.get(deployment, ReportedMembers)
