"""What a worker holds of a message goes back in linear time, and long values do not gather in a page."""

from __future__ import annotations

from graflow.runtime import this_runtime
from graflow_celery.record import GrantedBlock, GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.wire.pages import PageWriter
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.batches.holding import Holding

SEAL = RunSeal(None, GroupSpec(run_id="run", group_id="group", n=5000, digest="digest"))


class Incomparable(GrantedMember):
    """A member that must not be compared with each of the others."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")


def test_thousands_of_held_members_are_given_back_without_a_comparison_of_pairs() -> None:
    holding = Holding(this_runtime(), SEAL, "w:1")
    holding.add([Incomparable(index, 1, 0, 0, b"") for index in range(5000)])
    holding.release_unstarted()
    sent = holding.releasing()
    assert len(sent) == 5000
    holding.add([Incomparable(5000, 1, 0, 0, b"")])
    holding.release_unstarted()
    holding.has_released(sent)
    assert [work.index for work in holding.releasing() if isinstance(work, GrantedMember)] == [5000]


def test_a_page_lets_go_of_reports_that_were_taken_from_it() -> None:
    page = PageWriter(GrantedBlock(0, 1, range(3), b""), SEAL)
    long = MemberReport(0, 1, MemberState.SUCCEEDED, b"J{}", {"name": b"content"})
    page.add_report(long)
    assert page.reports() == [long]
    assert not any(report is long for report in page._others.values())
    page.add_value(1, 0.1, 1.0)
    page.add_report(None)
    assert [report.index for report in page.reports()] == [1]
    assert page.reports() == []
    assert page.page() is None
