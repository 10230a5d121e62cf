"""Members that a process has reported already and is granted again, since their record went back."""

from __future__ import annotations

from graflow_celery.record import GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.worker.reported import ReportedMembers

SPEC = GroupSpec("run", "g", 3, "d", nonce="first")


def report(
    index: int = 0, attempt: int = 1, state: MemberState = MemberState.SUCCEEDED, size: int = 10
) -> MemberReport:
    return MemberReport(index, attempt, state, b"x" * size)


def granted(index: int = 0, attempt: int = 1) -> GrantedMember:
    return GrantedMember(index, attempt, 0, 0, b"")


def noted(*reports: MemberReport, kept: int = 10_000) -> ReportedMembers:
    known = ReportedMembers(kept)
    known.note(SPEC, reports, [each.index for each in reports])
    return known


def test_what_succeeded_is_reported_again_at_whatever_attempt() -> None:
    known = noted(report())
    assert known.find(SPEC, granted()) == report()
    assert known.find(SPEC, granted(attempt=7)) == report(attempt=7)


def test_what_failed_runs_again_at_a_later_attempt_only() -> None:
    known = noted(report(attempt=2, state=MemberState.FAILED))
    assert known.find(SPEC, granted(attempt=2)) == report(attempt=2, state=MemberState.FAILED)
    assert known.find(SPEC, granted(attempt=3)) is None


def test_a_continuation_follows_again_on_what_ran_again() -> None:
    known = noted(report(index=3))
    assert known.find(SPEC, granted(index=3)) is not None
    assert known.find(SPEC, granted(index=3, attempt=2)) is None


def test_other_members_and_other_submissions_of_the_same_run_run() -> None:
    known = noted(report())
    assert known.find(SPEC, granted(index=1)) is None
    assert known.find(GroupSpec("run", "g", 3, "d", nonce="second"), granted()) is None


def test_of_unsigned_groups_nothing_is_remembered() -> None:
    known, unsigned = ReportedMembers(), GroupSpec("run", "g", 3, "d")
    known.note(unsigned, [report()], [0])
    assert known.find(unsigned, granted()) is None


def test_what_the_record_did_not_take_is_not_remembered() -> None:
    known = ReportedMembers()
    known.note(SPEC, [report(), report(1)], [1])
    assert known.find(SPEC, granted()) is None
    assert known.find(SPEC, granted(1)) is not None


def test_the_oldest_are_forgotten_first_and_what_is_long_or_lies_beside_is_not_kept() -> None:
    known = noted(*(report(index, size=100) for index in range(10)), kept=2_000)
    assert [index for index in range(10) if known.find(SPEC, granted(index)) is not None] == [6, 7, 8, 9]
    assert noted(report(size=70_000), kept=10**6).find(SPEC, granted()) is None
    beside = MemberReport(0, 1, MemberState.SUCCEEDED, b"x", {"blob": b"y"})
    assert noted(beside).find(SPEC, granted()) is None


def test_a_report_that_replaces_an_earlier_one_counts_once() -> None:
    known = ReportedMembers(kept=1_000)
    for attempt in range(1, 50):
        known.note(SPEC, [report(attempt=attempt, state=MemberState.FAILED)], [0])
    assert known.find(SPEC, granted(attempt=49)) is not None
