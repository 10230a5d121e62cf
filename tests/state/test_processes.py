"""Several threads and processes at once: of claims exactly one wins, nothing is lost, and a fork breaks nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from graflow.exceptions import VersionConflictError
from graflow.state import SqliteStore, StateStore
from graflow.state.changes import Change
from graflow.state.statuses import Move
from tests.state.children import in_children
from tests.state.support import AT, begin, move, new_flow, record_of, step_change
from tests.support import at_once, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def test_of_eight_threads_exactly_one_claims(store: StateStore) -> None:
    for number in range(10):
        flow_id = f"f{number}"
        seen = store.create(new_flow(flow_id)).record
        answers = at_once(
            lambda owner, flow_id=flow_id, seen=seen: store.claim(flow_id, f"t:{owner}:1", seen=seen, at=AT + 1),  # type: ignore[misc]
            range(8),
        )
        winners = [owner for owner, claimed in enumerate(answers) if claimed.epoch is not None]
        assert len(winners) == 1
        assert record_of(store, flow_id).owner == f"t:{winners[0]}:1"
        assert {claimed.record.owner for claimed in answers} == {f"t:{winners[0]}:1"}


def test_of_eight_processes_exactly_one_claims(common_store: StateStore) -> None:
    store, rounds = common_store, 20
    for number in range(rounds):
        store.create(new_flow(f"f{number}"))

    def race(owner: int) -> list[int]:
        won = []
        for number in range(rounds):
            seen = record_of(store, f"f{number}")
            if seen.owner is None and store.claim(f"f{number}", f"p:{owner}:1", seen=seen, at=AT + 1).epoch == 1:
                won.append(number)
        return won

    answers = in_children(8, race)
    assert sorted(number for won in answers for number in won) == list(range(rounds))
    for owner, won in enumerate(answers):
        assert {record_of(store, f"f{number}").owner for number in won} <= {f"p:{owner}:1"}
    assert {record_of(store, f"f{number}").epoch for number in range(rounds)} == {1}


def test_two_processes_write_at_once_and_nothing_is_lost(common_store: StateStore) -> None:
    store, steps = common_store, 150

    def work(number: int) -> int:
        flow_id = f"f{number}"
        created = store.create(new_flow("common")).is_new
        epoch = begin(store, flow_id)
        for step in range(1, steps + 1):
            store.append(step_change(epoch, step, flow_id))
            store.beat(flow_id, epoch)
        store.append(Change(flow_id, Move.COMPLETE, epoch, AT + 1000))
        return int(created)

    assert sum(in_children(2, work)) == 1, "both create the same flow, and one finds it"
    for flow_id in ("f0", "f1"):
        assert [line.seq for line in store.events(flow_id)] == list(range(1, 2 * steps + 1))
        state = store.get_flow_state(flow_id)
        assert state is not None
        assert state.counts == {"completed": steps, "running": 1}
        assert record_of(store, flow_id).beats == 2 * steps + 2


def test_of_two_verbs_that_have_seen_the_same_one_is_told(common_store: StateStore) -> None:
    store = common_store
    for number in range(20):
        begin(store, f"f{number}")
        move(store, Move.FAIL, f"f{number}")
    seen = [record_of(store, f"f{number}").version for number in range(20)]

    def resume(_: int) -> list[bool]:
        done = []
        for number, version in enumerate(seen):
            try:
                store.append(Change(f"f{number}", Move.RESUME, version, AT + 60))
                done.append(True)
            except VersionConflictError:
                done.append(False)
        return done

    first, second = in_children(2, resume)
    assert [one + other for one, other in zip(first, second, strict=True)] == [1] * 20


def test_threads_share_what_a_store_has(store: StateStore) -> None:
    def work(number: int) -> None:
        epoch = begin(store, f"f{number}")
        for step in range(1, 41):
            store.append(step_change(epoch, step, f"f{number}"))
            assert store.get_record(f"f{number}") is not None

    at_once(work, range(8))
    for number in range(8):
        assert [line.seq for line in store.events(f"f{number}")] == list(range(1, 81))
    assert {flow.counts["completed"] for flow in store.list_flows()} == {40}


def test_children_that_are_forked_meanwhile_write_too(common_store: StateStore) -> None:
    """Threads of the parent are in the middle of writes and reads when each child is forked."""
    store, enough = common_store, threading.Event()
    written = [0, 0]

    def write(number: int) -> None:
        epoch = begin(store, f"parent{number}")
        while not enough.is_set():
            written[number] += 1
            store.append(step_change(epoch, written[number], f"parent{number}"))
            store.get_flow_state(f"parent{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for generation in range(5):
            wait_until(lambda: min(written) > generation)

            def live(number: int, generation: int = generation) -> int:
                epoch = begin(store, f"child{generation}-{number}")
                store.append(step_change(epoch, 1, f"child{generation}-{number}"))
                return len(store.events(f"child{generation}-{number}"))

            assert in_children(2, live) == [2, 2]
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    for number in range(2):
        assert [line.seq for line in store.events(f"parent{number}")] == list(range(1, 2 * written[number] + 1))
    assert len(store.list_flows()) == 12


@pytest.mark.parametrize("number_of_file", range(3))
def test_of_eight_processes_each_finds_the_file_that_one_makes(tmp_path: Path, number_of_file: int) -> None:
    def live(number: int) -> bool:
        store = SqliteStore(tmp_path / "made" / "flows.db")
        begin(store, f"f{number}")
        return store.create(new_flow("common")).is_new

    assert sum(in_children(8, live)) == 1
    store = SqliteStore(tmp_path / "made" / "flows.db")
    assert len(store.list_flows()) == 9
    store.close()
