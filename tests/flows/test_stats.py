"""What came of many flows."""

from datetime import UTC, datetime, timedelta

import pytest

from graflow import RetryPolicy, task
from graflow.exceptions import ConfigError
from graflow.flows import FlowRunner
from graflow.flows.verbs.series import BINS, DISTRIBUTION, Axis, distribution
from graflow.flows.verbs.stats import Spread


@pytest.fixture
def runner():
    failures = []

    @task(retry_policy=RetryPolicy(max_retries=1, initial_interval=0.0))
    def flaky(fails):
        failures.append(fails)
        if fails and failures.count(True) == 1:
            raise ValueError("not now")
        return fails

    @task
    def square(x):
        if x < 0:
            raise ValueError("negative")
        return x * x

    def build(size: int, fails: bool = False):
        first = flaky(task_id="first", fails=fails)
        first >> square.map([size, 2], name="squares").with_execution("direct", policy="best_effort")

    def broken():
        return square(task_id="only", x=-1)

    with FlowRunner("memory://", recovery=False) as made:
        made.register(build, "counted")
        made.register(broken, "broken")
        yield made


def test_flows_are_counted_by_their_ends_with_their_steps(runner):
    runner.execute("counted", {"size": 3})
    runner.execute("counted", {"size": -3, "fails": True})
    runner.execute("broken")

    stats = runner.stats()
    assert (stats.population, stats.flows, stats.looked_into) == (3, {"completed": 2, "failed": 1}, 3)
    assert stats.success_rate == pytest.approx(2 / 3)
    assert (stats.seconds.population, stats.queue_wait.population, stats.takeovers) == (3, 3, 0)
    steps = {(step.flow_name, step.step_name): step for step in stats.steps}
    assert set(steps) == {("counted", "first"), ("counted", "squares"), ("broken", "only")}
    only, squares = steps["broken", "only"], steps["counted", "squares"]
    assert (only.population, only.completed, only.failed) == (1, 0, 1)
    assert steps["counted", "first"].retries == 1
    assert squares.members == {"completed": 3, "failed": 1}
    assert squares.seconds.population == 2


def test_a_reused_step_is_none_that_ran(runner):
    flow_id = runner.execute("counted", {"size": 3}).flow_id
    runner.fork_flow(flow_id, "squares")
    first = next(step for step in runner.stats("counted").steps if step.step_name == "first")
    assert (first.population, first.completed, first.reused) == (1, 1, 1)


def test_only_flows_of_a_name_and_time_count(runner):
    runner.execute("broken")
    assert runner.stats("counted").population == 0
    assert runner.stats("counted").success_rate is None
    assert runner.stats("broken", timedelta(hours=1)).population == 1
    assert runner.stats("broken", datetime.now(UTC) + timedelta(hours=1)).population == 0
    with pytest.raises(ConfigError, match="since is a datetime with a time zone"):
        runner.stats(since=5)


def test_what_happened_is_told_over_the_time_and_adds_up(runner):
    runner.execute("counted", {"size": 3})
    runner.execute("counted", {"size": -3, "fails": True})
    runner.execute("broken")

    for since in (timedelta(hours=1), None):
        stats = runner.stats(since=since)
        series = stats.series
        assert {
            len(getattr(series, name)) for name in type(series).model_fields if name not in {"begin", "bin_seconds"}
        } == {BINS}
        assert (sum(series.made), sum(series.completed), sum(series.failed)) == (3, 2, 1)
        assert (sum(series.members), stats.members) == (4, 4)
        assert (sum(series.retries), sum(series.takeovers), sum(series.missed)) == (1, 0, 0)
        assert sum(wait is not None for wait in series.queue_wait) >= 1
    assert runner.stats(since=timedelta(hours=1)).series.bin_seconds == pytest.approx(3600 / BINS)
    assert stats.members_a_second > 0
    assert all(sum(step.distribution) == step.seconds.population for step in stats.steps)


def test_members_of_a_long_group_are_spread_over_its_time():
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    axis = Axis(begin, begin + timedelta(seconds=BINS))  # a second each
    at = [begin + timedelta(seconds=seconds) for seconds in (2, 6, -5, 5, BINS)]
    found = axis.spread([(at[0], at[1], 10)])
    assert (sum(found), found[1:7], max(found)) == (10, [0, *found[2:6], 0], 3)
    assert sum(axis.spread([(at[2], at[3], 10)])) == 5, "what came before the first bin is in none"
    assert sum(axis.spread([(at[0], at[0], 7), (at[4], at[4], 1)])) == 8
    assert axis.counted([(at[2], 1), (at[4], 1), (None, 1)]) == [*[0] * (BINS - 1), 1]


def test_times_are_distributed_on_one_scale():
    assert distribution([]) == []
    found = distribution([0.0, 0.001, 0.0015, 0.011, 1e9])
    assert {place: number for place, number in enumerate(found) if number} == {0: 2, 1: 1, 4: 1, DISTRIBUTION - 1: 1}


def test_times_are_spread_over_all_of_them():
    assert Spread.of([]) == Spread(population=0)
    assert Spread.of([2.0]) == Spread(population=1, p50=2.0, p95=2.0, longest=2.0)
    hundred = Spread.of([float(number) for number in range(101)])
    assert (hundred.p50, hundred.p95, hundred.longest) == (50.0, 95.0, 100.0)
