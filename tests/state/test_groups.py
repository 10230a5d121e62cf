"""Groups: rows of members, counts and strips that are kept up to date and never counted, and pages found by seeking."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from graflow.encoding.member_blocks import times_of
from graflow.exceptions import FlowNotFoundError, InvalidCursorError
from graflow.state import FlowStepState, StateStore, StepStatus
from graflow.state.changes import Change, MemberBlock, MemberRow
from graflow.state.described import SHOWN, described
from graflow.state.groups import blocks
from graflow.state.groups.blocks import KeptMembers, stored_block
from graflow.state.groups.members import MemberQuery, member_facts
from graflow.state.groups.strips import BUCKETS, bucket_of, first_of
from graflow.state.statuses import Move
from tests.state.support import AT, begin, block, completed, group_row, member, move, record_of


def write(store: StateStore, *members: MemberRow | MemberBlock, size: int | None = None) -> None:
    steps = [group_row(size)] if size is not None else []
    epoch = record_of(store).epoch
    alone = [each for each in members if isinstance(each, MemberRow)]
    together = [each for each in members if isinstance(each, MemberBlock)]
    store.append(Change("f1", Move.STEP, epoch, AT + 5, steps=steps, members=alone, blocks=together))


def group(store: StateStore, step: str = "g") -> FlowStepState:
    state = store.get_flow_state("f1")
    assert state is not None
    return next(each for each in state.steps if each.step_name == step)


def pages(store: StateStore, **question: object) -> list[list[FlowStepState]]:
    found: list[list[FlowStepState]] = []
    cursor: str | None = None
    while True:
        page = store.list_members("f1", "g", cursor=cursor, **question)  # type: ignore[arg-type]
        found.append(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_a_group_that_begins_is_all_pending(store: StateStore) -> None:
    begin(store)
    write(store, size=7)
    shown = group(store)
    assert (shown.size, shown.counts, shown.run_key) == (7, {"pending": 7}, "f1.0:g")
    assert shown.strip == [{"p": 1}] * 7
    assert [each.status for each in store.list_members("f1", "g")] == [StepStatus.PENDING] * 7


def test_counts_and_strip_follow_each_batch(store: StateStore) -> None:
    begin(store)
    write(store, size=120)
    write(store, *(member(index, "running") for index in range(10)))
    write(store, *(member(index, "completed", outputs=index) for index in range(6)), member(6, "failed", error="E: no"))
    write(store, member(6, "running", attempts=2))
    shown = group(store)
    assert shown.counts == {"completed": 6, "running": 4, "pending": 110}
    assert shown.strip is not None
    assert len(shown.strip) == BUCKETS
    assert shown.strip[:6] == [{"d": 2}, {"d": 2}, {"d": 2}, {"r": 2}, {"r": 2}, {"p": 2}]


def test_a_member_keeps_what_was_written_before(store: StateStore) -> None:
    begin(store)
    write(store, size=2)
    write(store, member(1, "running", started_at=AT + 6, worker="w1", attempts=1))
    write(store, member(1, "completed", completed_at=AT + 8, outputs={"a": 1}))
    (first, second) = store.list_members("f1", "g")
    assert (first.index, first.status, first.outputs) == (0, StepStatus.PENDING, None)
    assert (second.index, second.step_name, second.visit, second.worker) == (1, "g", 1, "w1")
    assert (second.status, second.outputs, second.attempts, second.execution_time) == ("completed", {"a": 1}, 1, 2.0)


def test_a_member_written_twice_in_one_change_is_counted_once(store: StateStore) -> None:
    begin(store)
    write(store, size=3)
    write(store, member(0, "running"), member(0, "completed"), member(0, "completed"))
    assert group(store).counts == {"completed": 1, "pending": 2}


def test_pages_of_members_follow_each_other(store: StateStore) -> None:
    begin(store)
    write(store, size=25)
    write(store, *(member(index) for index in range(0, 25, 2)))
    found = pages(store, limit=10)
    assert [len(page) for page in found] == [10, 10, 5]
    assert [each.index for page in found for each in page] == list(range(25))
    done = pages(store, limit=4, status=[StepStatus.COMPLETED])
    assert [each.index for page in done for each in page] == list(range(0, 25, 2))
    open_ones = pages(store, limit=5, status=[StepStatus.PENDING])
    assert [each.index for page in open_ones for each in page] == list(range(1, 25, 2))
    assert pages(store, status=[StepStatus.FAILED]) == [[]]


def test_members_of_a_group_of_unknown_size_are_those_that_were_written(store: StateStore) -> None:
    begin(store)
    write(store, member(3), member(1, "failed"))
    assert [(each.index, each.status) for each in store.list_members("f1", "g")] == [(1, "failed"), (3, "completed")]
    assert [each.index for each in store.list_members("f1", "g", status=[StepStatus.FAILED])] == [1]


def test_each_visit_has_members_of_its_own(store: StateStore) -> None:
    begin(store)
    write(store, member(0), size=1)
    epoch = record_of(store).epoch
    again = MemberRow("g", 2, 0, {"status": "failed"})
    store.append(Change("f1", Move.STEP, epoch, AT + 9, members=[again]))
    assert [each.status for each in store.list_members("f1", "g")] == ["failed"]
    assert [each.status for each in store.list_members("f1", "g", visit=1)] == ["completed"]
    assert store.list_members("f1", "g", visit=3) == []
    assert store.list_members("f1", "other") == []


def test_a_step_that_is_cut_loses_its_members(store: StateStore) -> None:
    epoch = begin(store)
    write(store, *(member(index) for index in range(5)), size=5)
    store.append(Change("f1", Move.FAIL, epoch, AT + 9, steps=[completed("g")]))
    move(store, Move.RETRY, cut=[("g", 1)])
    assert store.list_members("f1", "g") == []
    epoch = store.claim("f1", "host:1:1", seen=record_of(store), at=AT + 60).epoch or 0
    store.append(Change("f1", Move.STEP, epoch, AT + 61, steps=[group_row(3)]))
    assert group(store).counts == {"pending": 3}
    assert [each.status for each in store.list_members("f1", "g")] == ["pending"] * 3


def test_a_wrong_cursor_and_a_wrong_flow_are_told(store: StateStore) -> None:
    begin(store)
    write(store, size=2)
    with pytest.raises(InvalidCursorError):
        store.list_members("f1", "g", cursor="next")
    with pytest.raises(FlowNotFoundError):
        store.list_members("nobody", "g")


def test_light_rows_tell_the_same_as_whole_ones(store: StateStore) -> None:
    begin(store)
    write(store, size=7)
    error = {"error": "ValueError: no", "worker": "ada-0", "started_at": AT, "completed_at": AT + 2}
    write(store, member(1, "failed", attempts=3, **error), member(4, worker="bor-1", started_at=AT + 1, attempts=1))
    whole = [
        (
            *(row.index, row.status.value, row.attempts, row.worker),
            *(None if at is None else at.timestamp() for at in (row.started_at, row.completed_at)),
            row.error,
        )
        for row in store.list_members("f1", "g")
    ]

    assert store.member_facts("f1", "g", visit=1) == whole
    assert store.member_facts("f1", "g", visit=1, first=1, end=5) == whole[1:5]
    assert store.member_facts("f1", "g", visit=1, first=6, end=100) == whole[6:]
    assert store.member_facts("f1", "g", visit=1, first=7) == []
    for status in {row[1] for row in whole}:
        like = [row for row in whole if row[1] == status]
        assert store.member_facts("f1", "g", visit=1, status=[StepStatus(status)]) == like
        assert store.member_facts("f1", "g", visit=1, first=2, end=6, status=[StepStatus(status)]) == [
            row for row in like if 2 <= row[0] < 6
        ]
    ended = [StepStatus.COMPLETED, StepStatus.FAILED]
    assert store.member_facts("f1", "g", visit=1, status=ended) == [row for row in whole if row[1] in ended]
    assert store.member_facts("f1", "g", visit=2) == []
    with pytest.raises(FlowNotFoundError):
        store.member_facts("nobody", "g", visit=1)


@pytest.mark.parametrize("size", [1, 59, 60, 61, 1000, 99_999, 100_000])
def test_buckets_share_the_members_of_a_group(size: int) -> None:
    starts = [first_of(bucket, size) for bucket in range(min(BUCKETS, size) + 1)]
    assert starts[0] == 0
    assert starts[-1] == size
    assert all(bucket_of(start, size) == bucket for bucket, start in enumerate(starts[:-1]))
    assert all(bucket_of(start - 1, size) == bucket for bucket, start in enumerate(starts[1:]))


def test_a_group_of_100_000_is_told_without_looking_at_its_members(store: StateStore) -> None:
    begin(store)
    write(store, size=100_000)
    for start in range(0, 3000, 1000):
        write(store, *(member(index, "running") for index in range(start, start + 1000)))
    write(store, member(99_000, "failed"), member(99_999, "failed"))
    begun = time.perf_counter()
    shown = group(store)
    failed = store.list_members("f1", "g", status=[StepStatus.FAILED])
    tail = store.list_members("f1", "g", cursor="99996")
    some = store.list_members("f1", "g", status=[StepStatus.PENDING], limit=10)
    took = time.perf_counter() - begun
    assert shown.counts == {"running": 3000, "pending": 96_998, "failed": 2}
    assert [each.index for each in failed] == [99_000, 99_999]
    assert [(each.index, each.status) for each in tail] == [
        (99_997, "pending"),
        (99_998, "pending"),
        (99_999, "failed"),
    ]
    assert [each.index for each in some] == list(range(3000, 3010))
    assert took < 2, "nothing here looks at all members"


# -- members in blocks -------------------------------------------------------------------------------------------------


def test_a_block_of_members_is_shown_as_its_members_are(store: StateStore) -> None:
    begin(store)
    write(store, size=9)
    write(store, block(2, [{"a": "ż"}, 7, "long" * 1000]))
    (_, _, first, second, third, *_) = shown = list(store.list_members("f1", "g"))
    assert [each.status for each in shown] == ["pending"] * 2 + ["completed"] * 3 + ["pending"] * 4
    assert (first.index, first.outputs, first.worker, first.attempts, first.execution_time) == (
        2,
        {"a": "ż"},
        "w1",
        1,
        2,
    )
    assert second.completed_at is not None
    assert (second.outputs, second.output_size, second.completed_at.timestamp()) == (7, 1, AT + 11)
    assert (third.outputs, third.output_size) == (None, 4002)
    assert len({each.output_digest for each in (first, second, third)}) == 3
    facts = store.member_facts("f1", "g", visit=1, first=1, end=4)
    assert [each.status for each in facts] == ["pending", "completed", "completed"]
    assert facts[1] == (2, "completed", 1, "w1", AT + 8, AT + 10, None)


def test_counts_and_strip_follow_blocks_and_members_of_them_that_go_on(store: StateStore) -> None:
    begin(store)
    write(store, size=600)
    write(store, block(300, [None] * 25), block(0, [None] * 15), member(599, "failed"))
    write(store, member(3, "pending", worker=None), member(310, "failed", error="E: no"))
    shown = group(store)
    assert shown.counts == {"completed": 38, "failed": 2, "pending": 560}
    assert shown.strip is not None
    assert shown.strip[:3] == [{"d": 9, "p": 1}, {"d": 5, "p": 5}, {"p": 10}]
    assert shown.strip[30:33] == [{"d": 10}, {"d": 9, "f": 1}, {"d": 5, "p": 5}]
    (failed, _) = store.list_members("f1", "g", status=[StepStatus.FAILED])
    assert (failed.index, failed.worker, failed.error) == (310, "w1", "E: no")
    assert store.list_members("f1", "g", limit=4)[3].worker is None
    done = [each.index for page in pages(store, status=[StepStatus.COMPLETED], limit=7) for each in page]
    assert done == [*range(3), *range(4, 15), *range(300, 310), *range(311, 325)]
    assert [each.index for page in pages(store, limit=100) for each in page] == list(range(600))
    waiting = [each.number for each in store.member_facts("f1", "g", visit=1, status=[StepStatus.PENDING])]
    assert waiting == [3, *range(15, 300), *range(325, 599)]


def test_blocks_go_with_their_step_and_with_their_flow(store: StateStore) -> None:
    begin(store)
    write(store, block(0, [1, 2]), size=2)
    move(store, Move.FAIL)
    move(store, Move.RETRY, cut=[("g", 1)])
    seen = store.get_record("f1")
    assert seen is not None
    store.claim("f1", "host:2:2", seen=seen, at=AT + 60)
    write(store, block(1, [3]), size=2)
    assert group(store).counts == {"pending": 1, "completed": 1}
    assert [each.outputs for each in store.list_members("f1", "g")] == [None, 3]
    move(store, Move.COMPLETE)
    assert store.delete("f1")
    begin(store)
    write(store, size=2)
    assert [each.status for each in store.list_members("f1", "g")] == ["pending"] * 2


def test_a_block_of_a_group_whose_size_nobody_told_is_listed(store: StateStore) -> None:
    begin(store)
    write(store, block(4, ["a", "b"]), member(9))
    assert [(each.index, each.outputs) for each in store.list_members("f1", "g")] == [(4, "a"), (5, "b"), (9, None)]


def test_a_large_block_is_kept_once_as_any_large_value_is(store: StateStore) -> None:
    begin(store)
    values = [f"{index} " * 250 for index in range(600)]
    write(store, block(0, values), size=600)
    assert [each.outputs for page in pages(store) for each in page] == values


def test_of_a_value_in_a_block_that_no_row_shows_only_size_and_digest_are_kept(store: StateStore) -> None:
    longest, letters = "x" * (SHOWN - 2), "ż" * 400  # as JSON in UTF-8, which measures; escaped, the letters are longer
    values = [1, longest, longest + "x", {"a": letters}, letters * 2, [longest], None]
    begin(store)
    write(store, block(1, values), size=9)
    write(store, member(3, worker="w2"), member(5, "failed"))
    (_, *shown, _) = store.list_members("f1", "g")
    told = [{name: getattr(each, name) for name in described(None)} for each in shown]
    assert told == [described(value) for value in values]
    kept = stored_block(block(1, values).content)
    assert kept["values"] == [1, longest, None, {"a": letters}, None, None, None]
    assert kept["large"] == {at: described(values[int(at)]) for at in "245"}
    assert "large" not in stored_block(block(1, values[:2]).content)


def test_blocks_may_come_in_any_order_with_single_members_in_and_between_them(store: StateStore) -> None:
    begin(store)
    write(store, size=400)
    firsts = [index * 7 % 40 * 10 for index in range(40)]
    for first in firsts:
        write(store, block(first, [first] * 6))
    write(store, *(member(index, "failed") for index in range(0, 400, 5)))
    write(store, *(MemberRow("g", 1, index, {"worker": "w2"}) for index in (4, 6)))
    assert group(store).counts == {"completed": 160, "failed": 80, "pending": 160}
    states = ["failed" if at % 5 == 0 else "completed" if at % 10 < 6 else "pending" for at in range(400)]
    assert [each.status for each in store.list_members("f1", "g", limit=400)] == states
    assert [each.outputs for each in store.list_members("f1", "g", cursor="10", limit=4)] == [10] * 4


def test_a_page_expands_no_more_of_a_block_than_it_shows(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(store)
    write(store, size=2000)
    write(store, block(5, list(range(1900))))
    write(store, *(member(index, "failed") for index in range(100, 120)))
    looked_at: list[int] = []
    monkeypatch.setattr(blocks, "times_of", lambda content, at: (looked_at.append(at), times_of(content, at))[1])
    page = store.list_members("f1", "g", limit=20)
    assert ([each.index for each in page], page.next_cursor) == (list(range(20)), "19")
    assert len(looked_at) <= 21
    done = store.list_members("f1", "g", cursor="95", status=[StepStatus.COMPLETED], limit=6)
    assert [each.index for each in done] == [96, 97, 98, 99, 120, 121]
    assert len(looked_at) <= 21 + 7 * 5


def test_a_block_is_read_once_for_a_question() -> None:
    read: list[int] = []

    def content(first: int) -> Mapping[str, Any]:
        read.append(first)
        return block(first, [None] * 1000).content

    kept = KeptMembers(lambda start, end, _: ([], min(end, start + 100)), [range(1000), range(1000, 2000)], content)
    assert len(member_facts(MemberQuery.of(None, 2000, (), []), kept, None)) == 2000
    assert read == [0, 1000]
