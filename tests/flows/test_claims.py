"""Members that workers run are laid over what the store has, which is right about those that have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from graflow.flows import FlowRunner
from graflow.flows.claims import claims_of, laid_over, members_with_claims
from graflow.state import FlowState
from graflow.state.memory import MemoryStore
from graflow.state.statuses import Move
from tests.state.support import AT, begin, group_row, member, move

SIZE = 30


class Workers:
    """What runs members of a group of a flow in a store, and tells which."""

    def __init__(self, *runs: int) -> None:
        self.store = MemoryStore()
        self.runner = FlowRunner(self.store, recovery=False)
        self.runs = set(runs)
        self.asked = 0
        self.afterwards: Callable[[], None] = lambda: None
        begin(self.store)
        move(self.store, Move.STEP, steps=(group_row(SIZE),))

    def running(self, run_key: str, *, with_progress: bool = False) -> list[dict[str, Any]]:
        self.asked += 1
        found = [
            {"index": index, "status": "running", "attempts": 1, "worker": "w1", "started_at": AT}
            for index in self.runs
        ]
        self.afterwards()
        return found

    def end(self, *members: int) -> None:
        self.runs -= set(members)
        move(self.store, Move.STEP, members=[member(index) for index in members])

    def flow(self) -> FlowState:
        return self.runner.get_flow_state("f1")

    def pages(self, status: Sequence[str] = (), limit: int = 100) -> list[list[tuple[int | None, str]]]:
        found: list[list[tuple[int | None, str]]] = []
        cursor: str | None = None
        while cursor is not None or not found:
            flow = self.flow()
            page = members_with_claims(self.runner, flow, flow.steps[0], status, cursor, limit)
            found.append([(each.index, each.status.value) for each in page])
            cursor = page.next_cursor
        return found


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers(*range(2, 12))
    plug_in = SimpleNamespace(load=lambda: lambda _: made)
    monkeypatch.setattr("graflow.flows.plugged.entry_points", lambda group: [plug_in])
    return made


def test_each_member_is_in_the_pages_of_its_state_alone(workers: Workers) -> None:
    workers.end(4, 5)
    runs, ended = workers.runs, {4, 5}
    waits = set(range(SIZE)) - runs - ended
    for status, members in (("running", runs), ("completed", ended), ("pending", waits)):
        for limit in (1, 3, 100):
            found = workers.pages([status], limit)
            assert list(chain(*found)) == [(index, status) for index in sorted(members)]
            assert all(len(page) == limit for page in found[:-1]), "no page is short while there are more"
    assert [index for index, _ in chain(*workers.pages(["pending", "running"], 4))] == sorted(waits | runs)
    assert [index for index, _ in chain(*workers.pages([], 4))] == list(range(SIZE))


def test_a_member_that_ends_between_two_looks_is_never_missing_and_never_runs_again(workers: Workers) -> None:
    ends = iter(range(2, 12))
    workers.afterwards = lambda: workers.end(next(ends))
    shown = dict(workers.pages()[0])
    assert shown[2] == "running", "as it was when the workers were asked"
    shown = dict(workers.pages()[0])
    assert (shown[2], shown[3]) == ("completed", "running")
    assert workers.pages(["completed"]) == [[(2, "completed"), (3, "completed")]]
    assert workers.asked == 2, "who asks for what has ended asks no worker"


def test_what_the_store_has_as_ended_is_not_shown_as_running(workers: Workers) -> None:
    flow = workers.flow()
    claims = claims_of(workers.runner, flow.steps[0])
    workers.end(3)
    rows = laid_over(workers.store.member_facts("f1", "g", visit=1, first=1, end=5), claims)
    assert [row.status for row in rows] == ["pending", "running", "completed", "running"]
    workers.runs.add(3)  # one that was given twice
    assert workers.pages()[0][2:5] == [(2, "running"), (3, "completed"), (4, "running")]
