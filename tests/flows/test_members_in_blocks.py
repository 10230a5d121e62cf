"""Members whose outcomes come in blocks are recorded so; they are read, kept, retried and forked as others are."""

import contextlib

import pytest

from graflow import task
from graflow.coordination import executor
from graflow.coordination.coordinator import CoordinationBackend, TaskCoordinator
from graflow.core.branches.given import Given
from graflow.core.branches.outcome import BranchOutcome
from graflow.encoding.member_blocks import told_members
from graflow.flows import FlowRunner
from graflow.state import FlowStatus, StepStatus
from graflow.state.memory import MemoryStore
from graflow.state.opening import open_store
from tests.flows.support import Crash, Line, WatchedStore, crashing

N, BLOCK = 14, 4
BASE = 1_700_000_000.0  # seconds since the epoch


class InBlocks(TaskCoordinator):
    """Gives members in blocks what workers would give; those of a block of which some are known come alone."""

    def __init__(self):
        self.ran = []
        self.factor = 1
        self.alone = set()
        self.failing = set()
        self.before = lambda: None

    def execute_group(self, group_id, tasks, execution_context, policy):
        run = execution_context.open_group(group_id, tasks)
        self.before()
        pending = set(run.pending())
        for first in range(0, len(tasks), BLOCK):
            block = range(first, min(first + BLOCK, len(tasks)))
            left = [index for index in block if index in pending]
            self.ran += left
            row = self._row(run, block)
            comes_whole = len(left) == len(block) and self.failing.isdisjoint(block) and first not in self.alone
            if comes_whole and run.record_row(row, "w1", 1):
                continue
            for index, outcome in row.outcomes():
                if index in left:
                    run.record(index, self._failed(outcome) if index in self.failing else outcome, "w1", 1)
        run.close(policy)

    def _failed(self, outcome):
        task_id = outcome.task_id
        return BranchOutcome(task_id, success=False, value=None, error=ValueError("no"), completed=[task_id])

    def _row(self, run, block):
        values = [{"doubled": [index * 2 * self.factor]} for index in block]
        spent, ended = [1_500 * (index + 1) for index in block], [10 * index + 1 for index in block]
        return Given(block.start, [run.member_ids[index] for index in block], values, BASE, spent, ended)

    def since(self):
        """Which members have run since the last call."""
        ran, self.ran = self.ran, []
        return ran


@pytest.fixture
def members(monkeypatch):
    made = InBlocks()
    monkeypatch.setitem(executor._factories, CoordinationBackend.DIRECT, lambda config: made)
    return made


def build():
    @task
    def doubled(number: int):
        raise AssertionError("the coordinator of this test gives the values")

    @task
    def shown(numbers):
        return len(numbers)

    return doubled.map(range(N), name="numbers").with_execution("direct", policy="best_effort") >> shown


def runner_of(store):
    runner = FlowRunner(store, recovery=False)
    runner.register(build, "doubling")
    return runner


def values(runner, flow_id="f"):
    return [member.outputs["doubled"][0] for member in runner.list_members(flow_id, "numbers", limit=100)]


def told(store, flow_id="f"):
    """Members of each line that tells of some, by how they are told."""
    lines = [line.data for line in store.events(flow_id) if line.kind == "group.members"]
    return [(len(data.get("blocks", ())), len(data["outcomes"]), len(list(told_members(data)))) for data in lines]


def as_shown(rows):
    return [row.model_dump(exclude={"flow_id"}) for row in rows]


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store(request, tmp_path):
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/flows.db"}.get(request.param)
    if url is None:
        request.getfixturevalue("redis_client")  # empties the server
        url = request.getfixturevalue("redis_server").url
    opened = open_store(url)
    yield opened
    opened.close()


def test_a_block_is_shown_as_its_members_are_when_each_comes_alone(members, store):
    runner = runner_of(store)
    assert runner.execute("doubling", {}, flow_id="f").status is FlowStatus.COMPLETED
    members.alone = set(range(N))
    assert runner.execute("doubling", {}, flow_id="alone").status is FlowStatus.COMPLETED
    blocks, alone, whole = (sum(column) for column in zip(*told(store), strict=True))
    assert (blocks, alone, whole) == (4, 0, N)
    assert sum(each[1] for each in told(store, "alone")) == N
    shown, other = (runner.list_members(each, "numbers", limit=100) for each in ("f", "alone"))
    assert as_shown(shown) == as_shown(other)
    assert store.member_facts("f", "numbers", visit=1) == store.member_facts("alone", "numbers", visit=1)
    (group, _), (same, _) = (store.get_flow_state(each).steps for each in ("f", "alone"))
    assert (group.counts, group.strip, group.outputs) == (same.counts, same.strip, same.outputs)
    assert group.counts == {"completed": N}


# The thread that ticks may be the one whose write is struck; the process is gone then, as when any other one's is.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("alone", [(), (0, 8)], ids=["in blocks", "two blocks alone"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
@pytest.mark.parametrize("left", range(1, 7))
def test_members_in_blocks_that_are_on_record_run_once_after_a_crash_at_any_write(members, left, is_lost, alone):
    members.alone = set(alone)
    store = MemoryStore()
    with contextlib.suppress(Crash):
        runner_of(crashing(store, left, is_answer_lost=is_lost)).execute("doubling", {}, flow_id="f")
    lines = [line for line in store.events("f") if line.kind == "group.members"]
    recorded = {each["index"] for line in lines for each in told_members(line.data)}
    members.since()
    runner = runner_of(WatchedStore(store))
    state = runner.execute("doubling", {}, flow_id="f")
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, N)
    assert recorded.isdisjoint(members.since())
    assert values(runner) == [2 * index for index in range(N)]
    assert state.steps[0].counts == {"completed": N}


def test_blocks_that_came_while_the_store_was_lost_are_all_recorded_when_it_is_back(members, store, monkeypatch):
    monkeypatch.setattr("graflow.flows.recording.recorder._GATHERED_BLOCKS", 1)  # so each is a write
    line = Line()
    runner = runner_of(WatchedStore(store, line.check))
    members.before = lambda: setattr(line, "is_cut", True)
    assert runner.execute("doubling", {}, flow_id="f").degraded
    assert [row.step_name for row in runner_of(store).get_flow_state("f").steps] == ["numbers"]
    line.is_cut = False
    runner._home.recovery.look()
    assert values(runner) == [2 * index for index in range(N)]
    assert runner.get_flow_state("f").steps[0].counts == {"completed": N}
    assert [count for count, _, _ in told(store)] == [1] * 4


def test_one_member_of_a_block_runs_again_and_the_others_stay(members, store):
    runner = runner_of(store)
    runner.execute("doubling", {}, flow_id="f")
    members.since()
    members.factor = 10
    state = runner.retry_failed_step("f", "numbers", index=5)
    assert members.since() == [5]
    expected = [2 * index for index in range(N)]
    expected[5] *= 10
    assert values(runner) == expected
    assert state.steps[0].counts == {"completed": N}
    assert [each.index for each in runner.list_members("f", "numbers", status=StepStatus.COMPLETED)] == list(range(N))


@pytest.mark.parametrize("of", ["itself", "a fork", "one with a kept value"])
def test_a_whole_block_that_failed_runs_again_and_the_others_stay(members, store, of):
    members.failing = set(range(4, 8))
    runner = FlowRunner(store, recovery=False)
    runner.register(build, "doubling", cache=of == "one with a kept value")
    flow_id = runner.execute("doubling", {}, flow_id="f").flow_id
    if of == "a fork":
        flow_id = runner.fork_flow("f", "shown").flow_id
    elif of == "one with a kept value":
        flow_id = runner.execute("doubling", {}, flow_id="g").flow_id
    members.since()
    members.failing = set()
    state = runner.retry_failed_step(flow_id, "numbers")
    assert (state.status, members.since()) == (FlowStatus.COMPLETED, [4, 5, 6, 7])
    listed = runner.list_members(flow_id, "numbers", limit=100)
    assert [(each.status, each.outputs) for each in listed[4:8]] == [
        (StepStatus.COMPLETED, {"doubled": [2 * index]}) for index in range(4, 8)
    ]
    assert StepStatus.PENDING not in {each.status for each in listed}
    assert sum(state.steps[0].counts.values()) == N
    assert not state.steps[0].counts.keys() - {"completed", "reused", "cached"}


def test_a_group_whose_members_are_in_blocks_runs_again_whole(members, store):
    runner = runner_of(store)
    runner.execute("doubling", {}, flow_id="f")
    members.since()
    members.factor = 10
    state = runner.retry_failed_step("f", "numbers", downstream="all")
    assert (state.status, members.since()) == (FlowStatus.COMPLETED, list(range(N)))
    assert values(runner) == [20 * index for index in range(N)]
    assert state.steps[0].counts == {"completed": N}


@pytest.mark.parametrize("key", [None, lambda number: f"n{number}"], ids=["by index", "by key"])
def test_a_block_tells_its_members_by_their_ids(members, key):
    def keyed():
        @task
        def doubled(number: int):
            raise AssertionError("the coordinator of this test gives the values")

        return doubled.map(range(N), name="numbers", key=key).with_execution("direct")

    store = MemoryStore()
    runner = FlowRunner(store, recovery=False)
    runner.register(keyed, "keyed")
    assert runner.execute("keyed", {}, flow_id="f").status is FlowStatus.COMPLETED
    lines = [line.data for line in store.events("f") if line.kind == "group.members"]
    ids = [each["task_id"] for data in lines for each in told_members(data)]
    assert ids == [f"numbers[{index if key is None else key(index)}]" for index in range(N)]


def test_members_that_come_alone_leave_the_others_in_blocks(members):
    members.alone = {0, 8}
    store = MemoryStore()
    runner = runner_of(store)
    assert runner.execute("doubling", {}, flow_id="f").status is FlowStatus.COMPLETED
    assert [sum(column) for column in zip(*told(store), strict=True)] == [2, 8, N]
    assert values(runner) == [2 * index for index in range(N)]


def test_a_fork_reuses_members_in_blocks(members):
    store = MemoryStore()
    runner = runner_of(store)
    runner.execute("doubling", {}, flow_id="f")
    members.since()
    forked = runner.fork_flow("f", "shown")
    assert (forked.status, members.since()) == (FlowStatus.COMPLETED, [])
    assert {each.status for each in runner.list_members(forked.flow_id, "numbers")} == {StepStatus.REUSED}
