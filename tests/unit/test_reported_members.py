"""Members that a process has reported already and is granted again, since their record went back."""

from __future__ import annotations

from graflow_celery.record import GrantedBlock, GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.wire.pages import PageWriter
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.batches.reported import ReportedMembers

SPEC = GroupSpec("run", "g", 3, "d", nonce="first")
SEAL = RunSeal(None, SPEC)


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
    assert known.find(SPEC, granted(), SEAL) == report()
    assert known.find(SPEC, granted(attempt=7), SEAL) == report(attempt=7)


def test_what_failed_runs_again_at_a_later_attempt_only() -> None:
    known = noted(report(attempt=2, state=MemberState.FAILED))
    assert known.find(SPEC, granted(attempt=2), SEAL) == report(attempt=2, state=MemberState.FAILED)
    assert known.find(SPEC, granted(attempt=3), SEAL) is None


def test_a_continuation_follows_again_on_what_ran_again() -> None:
    known = noted(report(index=3))
    assert known.find(SPEC, granted(index=3), SEAL) is not None
    assert known.find(SPEC, granted(index=3, attempt=2), SEAL) is None


def test_other_members_and_other_submissions_of_the_same_run_run() -> None:
    known = noted(report())
    assert known.find(SPEC, granted(index=1), SEAL) is None
    assert known.find(GroupSpec("run", "g", 3, "d", nonce="second"), granted(), SEAL) is None


def test_of_unsigned_groups_nothing_is_remembered() -> None:
    known, unsigned = ReportedMembers(), GroupSpec("run", "g", 3, "d")
    known.note(unsigned, [report()], [0])
    assert known.find(unsigned, granted(), SEAL) is None


def test_what_the_record_did_not_take_is_not_remembered() -> None:
    known = ReportedMembers()
    known.note(SPEC, [report(), report(1)], [1])
    assert known.find(SPEC, granted(), SEAL) is None
    assert known.find(SPEC, granted(1), SEAL) is not None


def test_the_oldest_are_forgotten_first_and_what_is_long_or_lies_beside_is_not_kept() -> None:
    known = noted(*(report(index, size=100) for index in range(10)), kept=2_000)
    assert [index for index in range(10) if known.find(SPEC, granted(index), SEAL) is not None] == [6, 7, 8, 9]
    assert noted(report(size=70_000), kept=10**6).find(SPEC, granted(), SEAL) is None
    beside = MemberReport(0, 1, MemberState.SUCCEEDED, b"x", {"blob": b"y"})
    assert noted(beside).find(SPEC, granted(), SEAL) is None


def test_a_report_that_replaces_an_earlier_one_counts_once() -> None:
    known = ReportedMembers(kept=1_000)
    for attempt in range(1, 50):
        known.note(SPEC, [report(attempt=attempt, state=MemberState.FAILED)], [0])
    assert known.find(SPEC, granted(attempt=49), SEAL) is not None


def test_a_block_is_reported_again_as_one_and_its_members_one_by_one() -> None:
    spec = GroupSpec("run", "g", 4, "d", nonce="first", stride=2)
    block = GrantedBlock(1, 1, range(2, 4), b"")
    writer = PageWriter(block, SEAL)
    writer.add_value(7, 0.5, 9.0)
    writer.add_report(MemberReport(3, 1, MemberState.FAILED, b'J{"version":1}'))
    written, known = writer.page(), ReportedMembers()
    assert written is not None
    known.note_blocks(spec, [written], [1])

    assert known.find_block(spec, block) == written
    assert known.find_block(spec, GrantedBlock(0, 1, range(2), b"")) is None
    assert known.find_block(spec, GrantedBlock(1, 2, range(2, 4), b"")) is None  # what failed runs again
    found = known.find(spec, granted(2, attempt=3), SEAL)
    assert found is not None
    assert (found.attempt, found.state) == (3, MemberState.SUCCEEDED)
    assert b'"value":7' in found.payload
    assert known.find(spec, granted(3, attempt=2), SEAL) is None
    assert known.find(spec, granted(1), SEAL) is None
