"""Many members as one body on their way out, and their outcomes as one page on their way back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from graflow.codec import encode
from graflow.core.branches.outcome import BranchOutcome
from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow_celery.record import BlockReport, GrantedBlock, GrantedMember, GroupSpec, MemberState, RecordedBlock
from graflow_celery.wire.chunks import CHUNK_MARK, Chunk
from graflow_celery.wire.envelope import Envelope
from graflow_celery.wire.outcomes import opened, pack_failure, pack_outcome, report_of, unpack_outcome
from graflow_celery.wire.pages import Page, PageWriter
from graflow_celery.wire.seal import RunSeal

KEYS = SigningKeys({"k": b"k" * 32})
SPEC = GroupSpec(run_id="run", group_id="g", n=9, digest="d", stride=3)
BLOCK = GrantedBlock(1, 1, range(3, 6), b"")
TASK = {"task_id": "g", "strategy": "reference", "payload": {"ref": "m:f", "task_id": "g", "bound": {"y": 2}}}


def make_chunk(**changes: Any) -> Chunk:
    return replace(Chunk("run", "g", 3, "hash", TASK, "x", [1, "b", None]), **changes)


def unpack(packed: bytes, keys: SigningKeys | None = None, **changes: Any) -> Chunk:
    return Chunk.unpack(packed, **{"run_id": "run", "group_id": "g", "index": 4, "keys": keys, **changes})


# -- chunks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [None, KEYS], ids=["unsigned", "signed"])
def test_a_chunk_gives_the_envelope_of_each_member(keys: SigningKeys | None) -> None:
    chunk = make_chunk()
    packed = chunk.pack(keys)
    assert packed[:1] == CHUNK_MARK
    read = unpack(packed, keys)
    assert read == chunk
    assert read.members == range(3, 6)
    payload = {"ref": "m:f", "task_id": "g[4]", "bound": {"y": 2, "x": "b"}}
    assert read.envelope(4) == Envelope("run", "g", 4, "g[4]", "hash", [{**TASK, "payload": payload}])


def test_members_of_a_chunk_may_have_keys_and_several_arguments() -> None:
    chunk = make_chunk(parameter=None, items=[{"x": 1}, {"x": 2, "y": 3}, {"x": 4}], keys=["a", "b", "c"])
    read = unpack(chunk.pack(None))
    assert [read.task_id(index) for index in read.members] == ["g[a]", "g[b]", "g[c]"]
    assert read.given(4) == {"x": 2, "y": 3}
    assert read.envelope(4).tasks[0]["payload"]["bound"] == {"x": 2, "y": 3}
    assert read.envelope(5).tasks[0]["payload"]["bound"] == {"x": 4, "y": 2}


@pytest.mark.parametrize(
    "forge",
    [
        lambda packed: packed.replace(b"#3,3", b"#2,3", 1),
        lambda packed: packed.replace(b"#3,3", b"#3,4", 1),
        lambda packed: packed.replace(b'"b"', b'"c"'),
        lambda packed: packed.replace(b" k:", b" \xff:", 1),
        lambda packed: CHUNK_MARK + b"3,3 -\n" + packed.partition(b"\n")[2],
    ],
    ids=["another place", "more members", "another item", "no text", "unsigned"],
)
def test_a_chunk_that_was_changed_is_refused(forge: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SignatureError):
        unpack(forge(make_chunk().pack(KEYS)), KEYS)


@pytest.mark.parametrize("changes", [{"run_id": "other"}, {"group_id": "h"}])
def test_a_chunk_of_another_run_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        unpack(make_chunk().pack(KEYS), KEYS, **changes)
    with pytest.raises(PayloadError, match="another run, group or range"):
        unpack(make_chunk().pack(None), **changes)


@pytest.mark.parametrize("changes", [{"keys": ["a"]}, {"keys": 3}, {"items": "abc"}])
def test_a_chunk_holds_as_much_as_it_says(changes: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match=r"does not hold the members|another form"):
        unpack(make_chunk(**changes).pack(None))


@pytest.mark.parametrize("index", [2, 6])
def test_a_chunk_that_does_not_hold_a_member_is_refused(index: int) -> None:
    with pytest.raises(PayloadError, match="does not hold it"):
        unpack(make_chunk().pack(None), index=index)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"#",
        b"#3,3 -",
        b"#a,3 -\nJ{}",
        b"-\nJ{}",
        b"#3,3 -\nJ[]",
        b"#3,3 -\nJ" + b'{"version":1}',
        b"#" + b"9" * 99,
    ],
)
def test_what_is_no_chunk_is_refused(packed: bytes) -> None:
    with pytest.raises(PayloadError):
        unpack(packed)


# -- pages -------------------------------------------------------------------------------------------------------------


def outcome_of(index: int, value: Any, duration: float, ended: float) -> BranchOutcome:
    name = f"g[{index}]"
    return BranchOutcome(name, True, value, None, duration, ended, [(name, value)], [name], 1, {name: 1})


def recorded(report: BlockReport, **changes: Any) -> RecordedBlock:
    found = RecordedBlock(report.number, BLOCK.members, report.attempt, "w:1", 7.5, report.page)
    return replace(found, **changes)


SEALS = pytest.mark.parametrize("seal", [RunSeal(None, SPEC), RunSeal(KEYS, SPEC)], ids=["unsigned", "signed"])
VALUES: list[Any] = [
    *(None, True, 0, -1, 2**70, -(2**63), "", "x" * 5000, 'quotes " and \\ and \n', "ü€😀", "\ud800"),
    *(0.1, -0.0, 1e308, 5e-324, [], {}, [1, [2, {"a": None}]], {"k": 1.5}, (1, 2), {1: 2}, {"$t": "x"}, b"raw"),
    *(math.inf, math.nan, {1, 2}, {"a": (1, b"x")}),
]


@SEALS
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {str(value)[:10]!a}")
def test_a_page_gives_the_very_outcome_that_a_member_would_have_alone(seal: RunSeal, value: Any) -> None:
    writer = PageWriter(BLOCK, seal)
    times = [(0.0000014, 1764280000.123456), (12.25, 1764280001.5), (1 / 3, 1764280002.000001)]
    for index, (duration, ended) in zip(BLOCK.members, times, strict=True):
        if index == 4:
            writer.add_value(index, duration, ended)
        elif type(value) in (str, int, bool, type(None)):
            writer.add_value(value, duration, ended)
        else:
            writer.add_text(encode(value), duration, ended)
    report = writer.page()
    assert report is not None
    page = Page(recorded(report), seal)
    for index, (duration, ended) in zip(BLOCK.members, times, strict=True):
        alone = pack_outcome(outcome_of(index, index if index == 4 else value, duration, ended))
        outcome = page.outcome(index)
        assert opened(seal, outcome) == alone
        assert (outcome.index, outcome.state, outcome.attempts) == (index, MemberState.SUCCEEDED, 1)
        assert (outcome.owner, outcome.finished_at, outcome.late) == ("w:1", 7.5, False)
    assert (repr(page.values[0]), page.values[1]) == (repr(value), 4)
    single = [replace(page.outcome(r.index), payload=r.payload) for r in writer.reports()]
    assert [opened(seal, one) for one in single] == [opened(seal, page.outcome(index)) for index in BLOCK.members]


@SEALS
def test_failures_are_whole_outcomes_in_a_page(seal: RunSeal) -> None:
    writer = PageWriter(BLOCK, seal)
    failed = pack_failure(ValueError("no"), 5.0)
    late = pack_failure(TimeoutError("late"), 6.0)
    writer.add_report(report_of(seal, GrantedMember(3, 1, 0, 0, b""), MemberState.FAILED, failed))
    writer.add_value(1, 0.1, 4.0)
    writer.add_report(report_of(seal, GrantedMember(5, 1, 0, 0, b""), MemberState.TIMED_OUT, late))
    report = writer.page()
    assert report is not None
    assert report.failures == {3: MemberState.FAILED, 5: MemberState.TIMED_OUT}
    page = Page(recorded(report), seal)
    assert page.failures == report.failures
    assert [opened(seal, outcome) for outcome in page.outcomes()][::2] == [failed, late]
    assert page.values == [None, 1, None]
    error = unpack_outcome(opened(seal, page.outcome(3)), "g[3]").error
    assert "no" in str(error)


def test_members_that_run_again_are_not_in_the_page_any_more() -> None:
    seal = RunSeal(None, SPEC)
    writer = PageWriter(BLOCK, seal)
    writer.add_value(0, 0.1, 4.0)
    for index in (4, 5):
        failed = pack_failure(ValueError("no"), 5.0)
        writer.add_report(report_of(seal, GrantedMember(index, 1, 0, 0, b""), MemberState.FAILED, failed))
    report = writer.page()
    assert report is not None
    page = Page(recorded(report, again=frozenset({4})), seal)
    assert (list(page.members), page.failures) == ([3, 5], {5: MemberState.FAILED})
    assert [outcome.index for outcome in page.outcomes()] == [3, 5]


def test_a_block_that_the_record_ended_has_one_outcome_for_all() -> None:
    block = RecordedBlock(1, BLOCK.members, 0, "", 7.5, b"left out", MemberState.CANCELLED)
    page = Page(block, RunSeal(KEYS, SPEC))
    assert {(o.state, o.payload, o.attempts) for o in page.outcomes()} == {(MemberState.CANCELLED, b"left out", 0)}
    assert page.failures == dict.fromkeys(BLOCK.members, MemberState.CANCELLED)
    assert page.values == [None, None, None]


def test_a_block_is_reported_as_one_only_while_it_is_whole() -> None:
    seal = RunSeal(None, SPEC)
    writer = PageWriter(BLOCK, seal)
    writer.add_value(1, 0.1, 4.0)
    assert writer.page() is None, "two members are missing"
    assert [report.index for report in writer.reports()] == [3]
    writer.add_value(2, 0.1, 4.0)
    writer.add_value(3, 0.1, 4.0)
    assert writer.page() is None, "one was reported alone"
    assert [report.index for report in writer.reports()] == [4, 5]
    assert writer.reports() == []


def test_a_member_without_an_outcome_breaks_the_page() -> None:
    writer = PageWriter(BLOCK, RunSeal(None, SPEC))
    writer.add_value(1, 0.1, 4.0)
    writer.add_report(None)
    writer.add_value(3, 0.1, 4.0)
    assert writer.page() is None
    assert [report.index for report in writer.reports()] == [3, 5]


def test_a_page_that_is_too_long_is_reported_one_by_one() -> None:
    writer = PageWriter(BLOCK, RunSeal(None, SPEC))
    for _ in BLOCK.members:
        writer.add_value("x" * 400_000, 0.1, 4.0)
    assert writer.page() is None
    assert [report.index for report in writer.reports()] == [3, 4, 5]


def test_a_page_is_believed_only_in_its_place_and_as_it_was_written() -> None:
    seal = RunSeal(KEYS, SPEC)
    writer = PageWriter(BLOCK, seal)
    for index in BLOCK.members:
        writer.add_value(index, 0.1, 4.0)
    report = writer.page()
    assert report is not None
    good = recorded(report)
    assert Page(good, seal).values == [3, 4, 5]
    for block in (
        replace(good, members=range(3)),
        replace(good, page=good.page.replace(b"[3,4,5]", b"[3,4,6]")),
        replace(good, page=good.page[good.page.index(b"J{") :]),
    ):
        with pytest.raises(SignatureError):
            _ = Page(block, seal).values
    with pytest.raises(SignatureError):
        _ = Page(good, RunSeal(KEYS, replace(SPEC, digest="other"))).values


@pytest.mark.parametrize(
    "page", [b"", b"J[]", b'J{"version":1}', b'J{"version":1,"values":[1],"durations":[],"ended":[]}']
)
def test_what_is_no_page_is_refused(page: bytes) -> None:
    block = RecordedBlock(1, BLOCK.members, 1, "w", 7.5, page)
    with pytest.raises(PayloadError):
        Page(block, RunSeal(None, SPEC)).outcome(3)
