"""Light rows of the members of a group: read once, then followed; and when they ran, asked about as a whole."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")


from graflow.api.runs.member_table import MemberTable, MemberTables, Place
from graflow.api.runs.spans import Spans
from graflow.flows import FlowRunner
from graflow.state import MemoryStore
from graflow.state.changes import Change, Entry, StepRow
from graflow.state.groups.members import MemberFacts
from graflow.state.statuses import Move
from tests.api.conftest import Clients
from tests.state.support import AT, begin, group_row, member, move, record_of

SIZE = 1_000
GROUP = Place("f1", AT, "g", 1)


class Counting(MemoryStore):
    """Notes how many members were read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def member_facts(self, *where: Any, **which: Any) -> list[MemberFacts]:
        found = super().member_facts(*where, **which)
        self.read.append(len(found))
        return found


class Running:
    """A group of 1,000 members, and the table of it that is kept."""

    def __init__(self) -> None:
        self.store = Counting()
        self.tables = MemberTables()
        self.epoch = begin(self.store)
        self.append([Entry("step.started", "g", 1)], steps=[group_row(SIZE)])

    def append(self, entries: list[Entry], **rows: Any) -> None:
        self.store.append(Change("f1", Move.STEP, self.epoch, AT + 2, entries, **rows))

    def end(self, *indices: int, status: str = "completed") -> None:
        told = Entry("group.members", "g", 1, data={"outcomes": [{"index": index} for index in indices]})
        self.append([told], members=[member(index, status, worker="ada-0") for index in indices])

    def table(self) -> MemberTable:
        return self.tables.of(self.store, GROUP, record_of(self.store).seq)

    def reads(self) -> list[int]:
        """How many members were read for the table that is right."""
        before = len(self.store.read)
        rows = self.table().rows
        read = self.store.read[before:]
        assert rows == self.store.member_facts("f1", "g", visit=1)
        return read


def test_a_table_is_read_once_and_then_followed() -> None:
    running = Running()
    assert running.reads() == [SIZE]
    assert running.reads() == []

    running.end(3, 9)
    running.end(12, status="failed")
    assert running.reads() == [10], "from the first that has changed to the last"

    running.append([Entry("step.started", "other", 1)], steps=[StepRow("other", 1, {"status": "running"})])
    assert running.reads() == []


def test_orders_hold_until_the_table_changes() -> None:
    running = Running()
    running.end(1)
    first = running.table().ordered("started", AT)
    assert running.table().ordered("started", AT) is first

    running.end(2)
    assert running.table().ordered("started", AT) is not first


@pytest.mark.parametrize("count", [41, 60])
def test_a_table_that_is_far_behind_is_read_anew(count: int) -> None:
    running = Running()
    running.table()
    for index in range(count):
        running.end(index)
    assert running.reads() == [SIZE]


def test_a_table_most_of_which_may_have_changed_is_read_anew() -> None:
    running = Running()
    running.table()
    running.end(0, SIZE - 1)
    assert running.reads() == [SIZE]


def test_a_table_is_read_anew_after_a_retry() -> None:
    running = Running()
    running.end(4, status="failed")
    running.table()
    running.append([Entry("flow.retried", "g", 1, data={})], members=[member(4, "pending", error=None)])
    assert running.reads() == [SIZE]


def test_a_flow_that_has_the_id_of_one_that_was_removed_has_a_table_of_its_own() -> None:
    running = Running()
    running.end(1)
    running.table()
    move(running.store, Move.COMPLETE)
    assert running.store.delete("f1")

    epoch = begin(running.store, at=AT + 100)
    running.store.append(Change("f1", Move.STEP, epoch, AT, [Entry("step.started", "g", 1)], [group_row(2)]))
    place = GROUP._replace(created_at=AT + 100)
    assert [row.status for row in running.tables.of(running.store, place, 1).rows] == ["pending"] * 2


# -- spans -------------------------------------------------------------------------------------------------------------

NOW = AT + 100


def ran(count: int, seed: int) -> list[tuple[float, float | None, bool]]:
    chosen, found = random.Random(seed), []
    for _ in range(count):
        start = AT + chosen.uniform(0, 100)
        end = None if chosen.random() < 0.1 else min(NOW, start + chosen.expovariate(0.2))
        found.append((start, end, end is not None and chosen.random() < 0.3))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [(0, 100), (40, 41), (90, 130)], ids=str)
def test_spans_tell_what_looking_at_each_tells(seed: int, window: tuple[int, int]) -> None:
    told = ran(200, seed)
    spans, (begin_, end) = Spans(told), (AT + window[0], AT + window[1])
    edges = [begin_ + (end - begin_) * place / 10 for place in range(11)]
    ended = [(start, NOW if stop is None else stop, failed) for start, stop, failed in told]

    busy = [
        sum(max(0.0, min(stop, b) - max(start, a)) for start, stop, _ in ended) / (b - a) for a, b in pairwise(edges)
    ]
    assert spans.busy(edges, NOW) == pytest.approx(busy, abs=1e-4)
    assert sum(spans.failed(edges)) == sum(failed and begin_ <= stop <= end for _, stop, failed in ended)
    open_or_later = [(start, float("inf") if stop is None else stop) for start, stop, _ in told]
    assert spans.count(begin_, end) == sum(start <= end and stop >= begin_ for start, stop in open_or_later)


def test_a_table_that_was_asked_for_before_its_group_began_has_the_members_that_wait() -> None:
    store, tables = MemoryStore(), MemberTables()
    begin(store)
    assert tables.of(store, GROUP, record_of(store).seq).rows == []
    move(store, Move.STEP, entries=[Entry("step.started", "g", 1)], steps=[group_row(3)])
    assert [row.status for row in tables.of(store, GROUP, record_of(store).seq).rows] == ["pending"] * 3


@pytest.mark.parametrize("status", ["failed", "pending", "completed,failed", "completed,pending,failed", "running"])
def test_pages_of_members_in_some_states_read_no_more_than_the_strip_says(clients: Clients, status: str) -> None:
    found, states = Running(), {}
    chosen = random.Random(7)
    for index in chosen.sample(range(SIZE), 700):
        states[index] = "failed" if chosen.random() < 0.03 else "completed"
    for ending in ("failed", "completed"):
        found.end(*(index for index, state in states.items() if state == ending), status=ending)
    wanted = status.split(",")
    like = [index for index in range(SIZE) if states.get(index, "pending") in wanted]
    client = clients(FlowRunner(found.store, recovery=False))
    for offset in (0, 1, len(like) // 2, max(0, len(like) - 3), len(like), len(like) + 50):
        found.store.read.clear()
        query = {"status": status, "offset": offset, "limit": 5}
        told = client.get("/api/v1/analysis/flows/f1/steps/g/members", params=query).json()
        assert [row[0] for row in told["rows"]] == like[offset : offset + 5]
        assert told["total"] == len(like)
        assert sum(found.store.read) <= 3 * SIZE // 60 + 5
