"""What is new across flows: each that changed once, in the order of its last change, behind a number."""

from __future__ import annotations

import pytest

from graflow.exceptions import StaleEpochError
from graflow.state import FlowStatus, StateStore
from graflow.state.changes import Request, RequestKind
from graflow.state.statuses import Move
from tests.state.support import AT, begin, move, new_flow, step_change


def ids(store: StateStore, after: int) -> list[str]:
    return [change.flow_id for change in store.changed_flows(after).flows]


def test_flows_that_changed_are_told_once_with_what_they_are_now(store: StateStore) -> None:
    assert store.changed_flows() == store.changed_flows(0) == (0, ())
    store.create(new_flow("a"))
    epoch = begin(store, "b", flow_name="other")
    before = store.changed_flows()
    assert before.flows == ()
    assert ids(store, 0) == ["a", "b"]
    store.append(step_change(epoch, 1, "b"))
    store.append(step_change(epoch, 2, "b"))
    store.create(new_flow("c"))
    last, (b, c) = store.changed_flows(before.last)
    assert (b.flow_id, b.flow_name, b.status, c.flow_id, c.status) == (
        *("b", "other", FlowStatus.RUNNING),
        *("c", FlowStatus.PENDING),
    )
    assert (b.seq, b.version) == (len(store.events("b")), store.get_flow_state("b").version)  # type: ignore[union-attr]
    assert before.last < b.number < c.number == last
    assert ids(store, b.number) == ["c"]
    assert ids(store, last) == []


def test_every_kind_of_change_is_told_and_signs_of_life_are_none(store: StateStore) -> None:
    epoch = begin(store, "a")

    def last() -> int:
        return store.changed_flows().last

    numbers = [last()]
    store.request("a", Request(RequestKind.PAUSE, "cli", at=AT))
    numbers.append(last())
    with pytest.raises(StaleEpochError):
        store.append(step_change(epoch - 1, 1, "a"))
    numbers.append(last())
    move(store, Move.STOP, "a")
    numbers.append(last())
    assert numbers == sorted(set(numbers))
    store.create(new_flow("a"))  # is there already
    assert last() == numbers[-1]
    epoch = begin(store, "b")
    number = last()
    store.beat("b", epoch)
    assert last() == number


def test_so_many_are_told_those_that_changed_first(store: StateStore) -> None:
    for number in range(5):
        store.create(new_flow(f"f{number}"))
    first = store.changed_flows(0, limit=2)
    assert [change.flow_id for change in first.flows] == ["f0", "f1"]
    assert ids(store, first.flows[-1].number) == ["f2", "f3", "f4"]


def test_a_number_is_never_given_again_after_its_flow_is_gone(store: StateStore) -> None:
    begin(store, "a")
    move(store, Move.COMPLETE, "a")
    number = store.changed_flows().last
    assert store.delete("a")
    assert ids(store, 0) == []
    store.create(new_flow("b"))
    assert ids(store, number) == ["b"]
