"""Members of a group whose followers have completed are run again alone: the others, and what follows, stay."""

import contextlib

import pytest

from graflow import task
from graflow.flows import FlowRunner
from graflow.state import FlowStatus
from graflow.state.memory import MemoryStore
from tests.flows.support import Crash, WatchedStore, crashing


class Scaled:
    """A flow of a group that multiplies by a factor, fails for some members, and a step that shows what it is given."""

    def __init__(self):
        self.factor, self.broken, self.ran = 1, (), []

    def build(self):
        @task
        def scaled(number: int):
            self.ran.append(number)
            if number in self.broken:
                raise RuntimeError("not yet")
            return number * self.factor

        @task
        def shown(numbers):
            self.ran.append("shown")
            return numbers

        return scaled.map([1, 2, 3], name="numbers") >> shown

    def runner(self, store):
        runner = FlowRunner(store, recovery=False)
        runner.register(self.build, "scaled")
        return runner

    def since(self):
        """What has run since the last call."""
        ran, self.ran = self.ran, []
        return sorted(ran, key=str)


@pytest.fixture
def scaled():
    return Scaled()


def row_of(state, step):
    return next(row for row in state.steps if row.step_name == step)


def test_one_member_runs_again_alone_and_the_others_and_what_follows_stay(scaled):
    runner = scaled.runner(MemoryStore())
    runner.execute("scaled", {}, flow_id="f")
    scaled.since()
    scaled.factor = 10
    state = runner.retry_failed_step("f", "numbers", index=1)
    assert scaled.since() == [2]
    assert (row_of(state, "numbers").outputs, row_of(state, "shown").outputs) == ([1, 20, 3], [1, 2, 3])
    assert [member.outputs for member in runner.list_members("f", "numbers")] == [1, 20, 3]


@pytest.mark.parametrize("options", [{}, {"index": 1}], ids=["all members", "one member"])
def test_what_runs_again_behind_it_is_given_what_the_members_returned_last(scaled, options):
    runner = scaled.runner(MemoryStore())
    runner.execute("scaled", {}, flow_id="f")
    expected = [1, 20, 3] if options else [10, 20, 30]
    scaled.factor = 10
    runner.retry_failed_step("f", "numbers", downstream="none", **options)
    assert runner.retry_failed_step("f", "shown").outputs == expected
    assert runner.fork_flow("f", "shown").outputs == expected


def test_members_that_ended_before_a_crash_or_a_failure_of_the_retry_are_not_run_a_third_time(scaled):
    store = MemoryStore()
    runner = scaled.runner(store)
    runner.execute("scaled", {}, flow_id="f")
    scaled.factor, scaled.broken = 10, (3,)
    scaled.since()
    assert runner.retry_failed_step("f", "numbers").status is FlowStatus.FAILED
    assert scaled.since() == [1, 2, 3]
    scaled.broken = ()
    state = scaled.runner(WatchedStore(store)).resume_flow("f")
    assert scaled.since() == [3]
    assert state.status is FlowStatus.COMPLETED, state.error
    assert row_of(state, "numbers").outputs == [10, 20, 30]
    assert runner.retry_failed_step("f", "shown").outputs == [10, 20, 30]


def test_the_row_of_what_ran_again_says_how_often_and_how_long_it_took(scaled):
    runner = scaled.runner(MemoryStore())
    before = runner.execute("scaled", {}, flow_id="f")
    for step, options in (("numbers", {"index": 0}), ("shown", {})):
        row = row_of(runner.retry_failed_step("f", step, **options), step)
        assert (row.attempts, len(row.attempt_history)) == (2, 2)
        assert row.started_at > row_of(before, step).completed_at
        assert row.execution_time == pytest.approx((row.completed_at - row.started_at).total_seconds(), abs=1e-3)


@pytest.mark.parametrize("left", range(6))
def test_a_retry_that_is_cut_short_at_any_write_goes_on_with_the_members_that_are_left(scaled, left):
    store = MemoryStore()
    scaled.runner(store).execute("scaled", {}, flow_id="f")
    scaled.factor = 10
    with contextlib.suppress(Crash):
        scaled.runner(crashing(store, left)).retry_failed_step("f", "numbers", index=1)
    runner = scaled.runner(WatchedStore(store))
    state = runner.execute("scaled", {}, flow_id="f")
    if row_of(state, "numbers").attempts == 1:  # the retry itself was not written
        runner.retry_failed_step("f", "numbers", index=1)
    assert {1, 3} & set(scaled.ran[4:]) == set()
    assert runner.retry_failed_step("f", "shown").outputs == [1, 20, 3]
