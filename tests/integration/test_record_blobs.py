"""Long values beside the scripts of the record: taken over once, never without an expiry, never lost or shown twice."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import redis

from graflow.exceptions import GroupConflictError
from graflow.redis.refusals import RefusedForNowError
from graflow.values.blobs import name_of
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import GroupRecord, GroupState, MemberReport, MemberState, RecordedOutcome
from graflow_celery.record.blobs import INLINE, UNCLAIMED
from tests.record_support import Clock, make_manifest, make_spec, swept

pytestmark = pytest.mark.redis

LONG = random.Random(1).randbytes(INLINE + 1)
OTHER = random.Random(2).randbytes(INLINE + 2)
SHORT = random.Random(3).randbytes(INLINE // 2)


def report(index: int, *contents: bytes, attempt: int = 1, state: MemberState = MemberState.SUCCEEDED) -> MemberReport:
    return MemberReport(index, attempt, state, b"J%d" % index, {name_of(content): content for content in contents})


def blob_keys(record: GroupRecord, run_id: str = "run") -> dict[str, int]:
    """What is left of a run's long values, with the time to live in milliseconds: -1 for those that stay."""
    stem = record.keys.run(run_id, "blob:")
    found = record.client.scan_iter(f"{stem}*", count=1000)
    return {key.decode().removeprefix(stem): record.client.pttl(key) for key in found}


def opened(record: GroupRecord, *, n: int = 3, **changes: Any) -> None:
    spec = make_spec(n=n, **changes)
    record.open(spec, make_manifest(spec))
    record.claim("run", range(n), "w:1")


def values_of(record: GroupRecord) -> list[tuple[bytes, list[bytes]]]:
    return [(outcome.payload, list(outcome.blobs.values())) for outcome in record.outcomes("run")]


def test_long_values_of_an_outcome_come_back_by_both_ways_of_reading(record: GroupRecord) -> None:
    opened(record)
    done = record.complete("run", "w:1", [report(0, LONG, OTHER), report(1, SHORT), report(2)])
    assert (done.recorded, done.missing, done.state) == ([0, 1, 2], [], GroupState.DONE)
    wanted = [(b"J0", [LONG, OTHER]), (b"J1", [SHORT]), (b"J2", [])]
    assert values_of(record) == wanted
    pages = []
    cursor = None
    while not pages or not pages[-1].closed:
        pages.append(record.read("run", cursor))
        cursor = pages[-1].cursor
    assert [(one.payload, list(one.blobs.values())) for page in pages for one in page.outcomes] == wanted
    assert len(pages[0].outcomes) == 1  # an answer does not grow by what is beside it
    assert record.header("run").outcome_bytes > len(LONG) + len(OTHER) + len(SHORT)


def test_they_stay_while_the_run_is_open_and_expire_with_it(record: GroupRecord) -> None:
    opened(record, n=2, result_ttl=50)
    record.complete("run", "w:1", [report(0, LONG)])
    assert list(blob_keys(record).values()) == [-1]
    record.complete("run", "w:1", [report(1, OTHER)])
    assert len(blob_keys(record)) == 2
    assert all(0 < left <= 50_000 for left in blob_keys(record).values())
    assert 0 < record.client.pttl(record.keys.run("run", "blobs")) <= 50_000
    record.delete("run")
    assert blob_keys(record) == {}


def test_what_nobody_reports_after_all_expires(record: GroupRecord) -> None:
    opened(record)
    record.blobs.take("run", (0, 1, "w:1"), b"J", {name_of(LONG): LONG})  # and then the worker died
    (left,) = blob_keys(record).values()
    assert 0 < left <= UNCLAIMED * 1000


def test_a_report_that_is_repeated_keeps_what_it_wrote_and_is_recorded_once(record: GroupRecord) -> None:
    opened(record)
    for _ in range(3):
        assert record.complete("run", "w:1", [report(0, LONG)]).recorded == [0]
        assert list(blob_keys(record).values()) == [-1]
    assert values_of(record) == [(b"J0", [LONG])]


def test_what_a_refused_report_wrote_is_gone_at_once(record: GroupRecord, clock: Clock) -> None:
    opened(record, n=2, lease=1.0)
    clock.advance(2.0)
    swept(record)
    record.claim("run", [0], "w:2")
    assert record.complete("run", "w:2", [report(0, LONG, attempt=2)]).recorded == [0]
    assert record.complete("run", "w:1", [report(0, OTHER)]).refused == [0]
    assert record.complete("run", "w:1", [report(1, OTHER, attempt=5)]).refused == [1]
    assert list(blob_keys(record).values()) == [-1]
    assert values_of(record) == [(b"J0", [LONG])]


def test_a_late_report_is_taken_with_its_long_values(record: GroupRecord, clock: Clock) -> None:
    opened(record, n=2, lease=1.0)
    clock.advance(2.0)
    swept(record)
    assert record.complete("run", "w:1", [report(0, LONG)]).late == [0]
    assert values_of(record) == [(b"J0", [LONG])]


def test_a_member_whose_time_was_over_keeps_that_outcome(record: GroupRecord) -> None:
    opened(record)
    record.complete("run", "w:1", [report(0, state=MemberState.TIMED_OUT)])
    record.complete("run", "w:1", [report(0, LONG)])  # what came of the same execution in the end
    assert blob_keys(record) == {}
    assert values_of(record) == [(b"J0", [])]


def test_what_expired_before_it_was_reported_is_written_again(
    record: GroupRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(record)
    lost = []
    write = record.blobs.write

    def write_and_lose(run_id: str, name: str, content: bytes) -> None:
        write(run_id, name, content)
        if len(lost) < 2:
            lost.append(record.client.delete(record.keys.run(run_id, f"blob:{name}")))

    monkeypatch.setattr(record.blobs, "write", write_and_lose)
    assert record.complete("run", "w:1", [report(0, LONG), report(1)]).recorded == [0, 1]
    assert lost == [1, 1]
    assert values_of(record) == [(b"J0", [LONG]), (b"J1", [])]
    monkeypatch.setattr(record.blobs, "write", lambda *_: None)
    with pytest.raises(RefusedForNowError, match="let go of long values"):  # which workers keep, and report again
        record.complete("run", "w:1", [report(2, LONG)])
    assert record.status("run").recorded == 2


def test_a_full_server_records_nothing_and_keeps_nothing_without_expiry(record: GroupRecord) -> None:
    opened(record)
    record.blobs.take("run", (0, 1, "w:1"), b"J", {name_of(LONG): LONG})
    record.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.complete("run", "w:1", [report(0, LONG)])
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.complete("run", "w:1", [report(1, OTHER)])
    finally:
        record.client.config_set("maxmemory", 0)
    assert all(left > 0 for left in blob_keys(record).values())
    assert record.status("run").recorded == 0


def test_members_that_run_again_leave_no_long_values_of_their_first_outcome(record: GroupRecord) -> None:
    opened(record, n=2)
    record.complete("run", "w:1", [report(0, LONG), report(1, OTHER, state=MemberState.FAILED)])
    assert record.reopen("run", "token").members == [1]
    assert list(blob_keys(record).values()) == [-1]
    record.claim("run", [1], "w:2")
    record.complete("run", "w:2", [report(1, SHORT, LONG, attempt=2)])
    assert values_of(record) == [(b"J0", [LONG]), (b"J1", [SHORT, LONG])]
    assert all(left > 0 for left in blob_keys(record).values())
    assert record.header("run").outcome_bytes < 2 * len(LONG) + len(SHORT) + 1000


def test_outcomes_known_from_elsewhere_are_entered_with_their_long_values(record: GroupRecord) -> None:
    opened(record, n=2)
    known = RecordedOutcome(
        0, MemberState.SUCCEEDED, 1, "w:1", 1.0, late=False, payload=b"J", blobs={name_of(LONG): LONG}
    )
    assert record.restore("run", [known]) == [0]
    assert record.restore("run", [known]) == []
    assert values_of(record) == [(b"J", [LONG])]
    assert list(blob_keys(record).values()) == [-1]


def test_a_content_that_is_gone_is_absent_from_its_outcome(record: GroupRecord) -> None:
    opened(record)
    record.complete("run", "w:1", [report(0, LONG, OTHER)])
    first = next(name for name in blob_keys(record) if name.endswith(name_of(LONG)))
    record.client.delete(record.keys.run("run", f"blob:{first}"))
    assert values_of(record) == [(b"J0", [OTHER])]


def test_long_arguments_are_taken_over_by_the_group_that_opens(record: GroupRecord) -> None:
    spec = make_spec(n=1, result_ttl=50)
    blobs = {name_of(content): content for content in (LONG, SHORT)}
    assert record.open(spec, make_manifest(spec), None, blobs).created
    assert not record.open(spec, make_manifest(spec), None, blobs).created
    assert record.blobs.read("run", name_of(LONG)) == LONG
    assert sorted(blob_keys(record).values()) == [-1, -1]
    other = replace(spec, digest="other")
    with pytest.raises(GroupConflictError):
        record.open(other, make_manifest(other), None, {name_of(OTHER): OTHER})
    assert sorted(blob_keys(record).values())[:2] == [-1, -1]
    assert sorted(blob_keys(record).values())[2] > 0
    record.cancel("run")
    assert all(left > 0 for left in blob_keys(record).values())


def test_long_arguments_that_are_gone_before_the_group_opens_are_written_again(
    record: GroupRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lost = record.manifests.blobs.write, []

    def write_and_lose(run_id: str, name: str, content: bytes) -> None:
        write(run_id, name, content)
        if not lost:
            lost.append(record.client.delete(record.keys.run(run_id, f"blob:{name}")))

    monkeypatch.setattr(record.manifests.blobs, "write", write_and_lose)
    spec = make_spec(n=1)
    assert record.open(spec, make_manifest(spec), None, {name_of(LONG): LONG}).created
    assert lost == [1]
    assert record.blobs.read("run", name_of(LONG)) == LONG


def test_a_content_longer_than_one_part_is_read_whole(record: GroupRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graflow_celery.record.blobs._PART", 1000)
    for size in (999, 1000, 1001, 2000, 5500):
        record.blobs.write("run", str(size), LONG[:size])
        assert record.blobs.read("run", str(size)) == LONG[:size]
    assert record.blobs.read("run", "absent") is None


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("last", [MemberState.SUCCEEDED, MemberState.FAILED])
def test_what_members_were_sent_goes_with_the_end_of_a_run_of_which_nothing_can_run_again(
    record: GroupRecord, last: MemberState, regular: bool
) -> None:
    spec = make_spec(n=1, continuation=True, meta={"regular": regular})
    record.open(spec, make_manifest(spec), {"hash": b"shared"}, {name_of(LONG): LONG})
    record.claim("run", [0], "w:1")
    record.complete("run", "w:1", [report(0, OTHER)])
    assert record.manifests.envelopes("run", [0, 1]) == make_manifest(spec)
    record.claim_continuation("run", "w:2")
    record.complete("run", "w:2", [report(1, state=last)])
    is_spent = regular and last is MemberState.SUCCEEDED
    assert (record.manifests.envelopes("run", [0]) == [None]) == is_spent
    assert (record.manifests.payloads("run", ["hash"]) == {}) == is_spent
    assert (record.blobs.read("run", name_of(LONG)) is None) == is_spent
    assert values_of(record) == [(b"J0", [OTHER]), (b"J1", [])]
    if last is MemberState.SUCCEEDED:
        with pytest.raises(RetryRefusedError, match="nothing of group run 'run' failed"):
            record.reopen("run", "token")
    else:
        assert record.reopen("run", "token").continuation


def test_the_events_of_an_ended_run_take_what_they_hold(record: GroupRecord) -> None:
    opened(record, n=1)
    last = record.events("run")[-1][0]
    record.complete("run", "w:1", [report(0)])
    assert [data["kind"] for _, data in record.events("run", last)] == [b"end"]
    assert record.client.memory_usage(record.keys.run("run", "events")) < 1500
    assert record.client.pttl(record.keys.run("run", "events")) > 0
