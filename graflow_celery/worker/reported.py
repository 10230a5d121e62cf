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

from graflow.per_process import PerProcess
from graflow_celery.deployment import Deployment
from graflow_celery.record import GrantedMember, GroupSpec, MemberReport, MemberState

_KEPT: Final = 8 * 1024 * 1024  # bytes of payloads
_LONGEST: Final = 64 * 1024  # bytes of one
_OVERHEAD: Final = 400  # bytes of an entry besides its payload


class ReportedMembers:
    """Recorded reports by submission and index, the oldest forgotten first; for use from several threads.

    A submission is known by the nonce in its signature, so members of unsigned groups are never among them, and a group
    that is submitted again under the same run id runs anew.

    Args:
        kept: Bytes to hold at most.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._size = 0
        self._reports: OrderedDict[tuple[str, int], MemberReport] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, spec: GroupSpec, reports: Iterable[MemberReport], recorded: Iterable[int]) -> None:
        """Keep those reports that the record has taken; long ones are not kept."""
        if not spec.nonce:
            return
        taken = set(recorded)
        with self._lock:
            for report in reports:
                if report.index in taken and not report.blobs and len(report.payload) <= _LONGEST:
                    self._forget(spec.nonce, report.index)
                    self._reports[spec.nonce, report.index] = report
                    self._size += len(report.payload) + _OVERHEAD
            while self._size > self._kept:
                self._forget(*next(iter(self._reports)))

    def _forget(self, nonce: str, index: int) -> None:
        report = self._reports.pop((nonce, index), None)
        if report is not None:
            self._size -= len(report.payload) + _OVERHEAD

    def find(self, spec: GroupSpec, member: GrantedMember) -> MemberReport | None:
        """The report of a member that is granted again, for this attempt; None where it has to run.

        What failed runs again at a later attempt, and so does the continuation, which follows on what ran again.
        """
        if not spec.nonce:
            return None
        with self._lock:
            report = self._reports.get((spec.nonce, member.index))
        if report is None:
            return None
        may_run_again = report.state is not MemberState.SUCCEEDED or member.index >= spec.n
        if may_run_again and member.attempt > report.attempt:
            return None
        return replace(report, attempt=member.attempt)


_reported: Final[PerProcess[Deployment, ReportedMembers]] = PerProcess()


def reported_members(deployment: Deployment) -> ReportedMembers:
    """Those of a deployment in this process."""
    return _reported.get(deployment, ReportedMembers)
