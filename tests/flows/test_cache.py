"""What tasks and flows with a cache gave is given again, for the same code and inputs alone."""

import asyncio
import dataclasses
import logging
import threading
from collections import Counter, OrderedDict
from datetime import UTC, datetime

import pytest

from graflow import parallel, task, workflow
from graflow.channels.branch import ChannelWrite
from graflow.coordination import executor
from graflow.coordination.coordinator import TaskCoordinator
from graflow.core.branches.given import given_outcome
from graflow.core.remote.late import plain_function
from graflow.exceptions import ConfigError, FlowNotFoundError, StoreUnavailableError
from graflow.flows import FlowRunner
from graflow.flows.cache.keys import NotKeptError, canonical_digest
from graflow.state import FlowStatus, MemoryStore, StepStatus
from tests.flows.support import WatchedStore
from tests.support import wait_until


class Clock:
    """A store's home with a time that is told."""

    def __init__(self, runner):
        self.now = runner.player.home.runtime.time()
        self._runtime = runner.player.home.runtime

    def __enter__(self):
        self._before, self._runtime.time = self._runtime.time, lambda: self.now
        return self

    def __exit__(self, *_):
        del self._runtime.time


@pytest.fixture
def runner(tmp_path):
    with FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False) as made:
        yield made


def of_one_step(runner, body, name="made", **options):
    """A flow of one step with a cache, whose input goes to the step; returns its task."""
    step = task(body.__name__, **{"cache": True, **options})(body)

    def build(value):
        step(task_id="step", **{next(iter(body.__code__.co_varnames)): value})

    runner.register(build, name)
    return step


def step_of(state):
    return state.steps[0]


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_with_a_cache_runs_once_for_the_same_inputs(runner):
    ran = []

    def square(x):
        ran.append(x)
        return x * x

    of_one_step(runner, square)
    first, again, other = [runner.execute("made", {"value": value}) for value in (3, 3, 4)]
    assert ran == [3, 4]
    assert [state.outputs for state in (first, again, other)] == [9, 9, 16]
    assert [step_of(state).status for state in (first, again, other)] == ["completed", "cached", "completed"]
    source = step_of(again).source
    assert {name: source[name] for name in ("flow_id", "step", "visit")} == {
        "flow_id": first.flow_id,
        "step": "step",
        "visit": 1,
    }
    assert step_of(first).input_digest == step_of(again).input_digest != step_of(other).input_digest


def test_what_follows_uses_the_kept_value(runner):
    @task(cache=True)
    def load():
        return {"pages": (1, 2)}

    @task
    def report(load):
        return load["pages"]

    def build():
        load >> report

    runner.register(build, "made")
    assert [runner.result(runner.execute("made").flow_id) for _ in range(2)] == [(1, 2), (1, 2)]


def test_the_reason_of_each_hit_and_miss_is_recorded(runner):
    def square(x):
        return x * x

    of_one_step(runner, square)
    first, again, other = [runner.execute("made", {"value": value}) for value in (3, 3, 4)]
    assert step_of(first).cache["why"] == "nothing is kept of 'square'"
    assert step_of(again).cache["hit"]
    assert step_of(again).cache["source"]["flow_id"] == first.flow_id
    assert step_of(other).cache["differs"] == ["input 'x'"]
    assert step_of(other).cache["nearest"]["flow_id"] == first.flow_id
    assert "input 'x' differs" in runner.explain_step(other.flow_id, "step").text
    assert first.flow_id in runner.explain_step(again.flow_id, "step").text


def test_other_code_is_another_key(runner):
    def first(x):
        return x + 1

    def second(x):
        return x + 2

    for number, body in enumerate((first, second)):
        body.__name__ = "same"
        of_one_step(runner, body, f"flow{number}")
    state = [runner.execute(f"flow{number}", {"value": 1}) for number in (0, 1)][1]
    assert state.outputs == 3
    assert "code" in step_of(state).cache["differs"]


def test_another_version_is_another_key(runner):
    def work(x):
        return x

    for version in ("1", 1, None):
        of_one_step(runner, work, f"of {version!r}", version=version)
    states = [runner.execute(f"of {version!r}", {"value": 1}) for version in ("1", 1, None)]
    assert [step_of(state).cache["hit"] for state in states] == [False, False, False]
    assert step_of(states[1]).cache["differs"] == ["version"]


def test_what_a_function_closes_over_is_a_part_of_its_key(runner):
    def made(factor):
        def scaled(x):
            return x * factor

        return scaled

    for factor in (2, 3):
        of_one_step(runner, made(factor), f"by {factor}")
    assert [runner.execute(f"by {factor}", {"value": 5}).outputs for factor in (2, 3)] == [10, 15]


def test_defaults_are_inputs(runner):
    def of_default(default):
        def work(x, add=default):
            return x + add

        return work

    for default in (1, 2):
        of_one_step(runner, of_default(default), f"plus {default}")
    assert [runner.execute(f"plus {default}", {"value": 5}).outputs for default in (1, 2)] == [6, 7]


def test_a_function_may_say_what_counts_of_the_arguments(runner, tmp_path):
    ran, file = [], tmp_path / "page.txt"

    def count(path):
        ran.append(path)
        return len(file.read_text())

    of_one_step(runner, count, cache=lambda path: file.read_text() or None)
    for text in ("abc", "abc", "abcd", "", ""):
        file.write_text(text)
        assert runner.execute("made", {"value": str(file)}).outputs == len(text)
    assert len(ran) == 4, "one for each text, and each time that the function gave None"


def test_members_of_a_group_are_kept_each(runner):
    ran = Counter()

    @task(cache=True)
    def square(x):
        ran[x] += 1
        return x * x

    @task
    def collect(squares):
        return squares

    def build(numbers: list[int]):
        square.map(numbers, name="squares") >> collect

    runner.register(build, "made")
    runner.execute("made", {"numbers": [1, 2]})
    state = runner.execute("made", {"numbers": [1, 2, 3, 3]})
    assert runner.result(state.flow_id) == [1, 4, 9, 9]
    assert ran == {1: 1, 2: 1, 3: 1}
    group = step_of(state)
    assert (group.status, group.counts) == (StepStatus.COMPLETED, {"cached": 3, "completed": 1})
    members = runner.list_members(state.flow_id, "squares")
    assert members[0].source["index"] == 0
    assert "A kept value was given" in runner.explain_step(state.flow_id, "squares", index=0).text


@pytest.mark.parametrize("kind", ["direct", "threading"])
def test_members_that_ask_for_the_same_at_once_share_one_computation(runner, kind):
    ran, begun = [], threading.Event()

    @task(cache=True)
    def slow(x):
        ran.append(x)
        begun.wait(0.2)
        return x

    def build():
        slow.map([7] * 4, name="slow").with_execution(kind)

    runner.register(build, "made")
    state = runner.execute("made")
    assert state.status is FlowStatus.COMPLETED
    assert ran == [7]
    assert step_of(state).counts == {"completed": 1, "cached": 3}


def test_an_async_task_may_have_a_cache(runner):
    ran = []

    async def double(x):
        ran.append(x)
        await asyncio.sleep(0)
        return 2 * x

    step = of_one_step(runner, double)
    assert [runner.execute("made", {"value": 4}).outputs for _ in range(2)] == [8, 8]

    def group():
        step.map([4, 5, 5], name="all")

    runner.register(group, "group")
    assert runner.execute("group").outputs == [8, 10, 10]
    assert ran == [4, 5]


def test_a_task_that_fails_keeps_nothing(runner):
    tries = []

    def flaky(x):
        tries.append(x)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    of_one_step(runner, flaky, max_retries=1)
    assert runner.execute("made", {"value": 1}).status is FlowStatus.FAILED
    state = runner.execute("made", {"value": 1})
    assert (state.outputs, step_of(state).status, len(tries)) == ("done", "completed", 3)
    assert runner.execute("made", {"value": 1}).outputs == "done"
    assert len(tries) == 3


def test_a_step_that_is_retried_runs_and_goes_over_what_was_kept(runner):
    ran = []

    def count(x):
        ran.append(x)
        return len(ran)

    of_one_step(runner, count)
    state = runner.execute("made", {"value": 1})
    retried = runner.retry_failed_step(state.flow_id, "step")
    assert (retried.outputs, len(ran)) == (2, 2)
    assert step_of(retried).cache["why"] == "somebody asked that it runs again"
    assert runner.execute("made", {"value": 1}).outputs == 2


def test_a_cached_step_is_reused_when_its_flow_goes_on(runner):
    ran, fails = Counter(), [True]

    @task(cache=True)
    def load(x):
        ran["load"] += 1
        return x

    @task
    def report(load):
        ran["report"] += 1
        if fails.pop() if fails else False:
            raise ValueError("no paper")
        return load

    def build():
        load(task_id="load", x=1) >> report

    runner.register(build, "made")
    fails.append(False)
    runner.execute("made")
    fails[:] = [True]
    state = runner.execute("made")
    assert (state.status, step_of(state).status) == (FlowStatus.FAILED, StepStatus.CACHED)
    state = runner.resume_flow(state.flow_id)
    assert (state.outputs, ran) == (1, {"load": 1, "report": 3})


# -- what is not kept --------------------------------------------------------------------------------------------------


class Handle:
    """Nothing that a flow can record."""


def test_an_argument_without_a_canonical_form_is_named_once(runner, caplog):
    ran = []

    @task
    def load():
        return "path"

    @task(cache=lambda load: Handle())
    def read(load):
        ran.append(load)
        return load

    def build():
        load >> read

    runner.register(build, "made")
    with caplog.at_level(logging.WARNING, "graflow"):
        states = [runner.execute("made") for _ in range(2)]
    assert len(ran) == 2
    told = [record.getMessage() for record in caplog.records if "not kept" in record.getMessage()]
    assert len(told) == 1
    assert "Task 'read'" in told[0]
    assert "Handle" in told[0]
    assert "Handle" in states[0].steps[1].cache["why"]


def test_the_argument_itself_is_named(runner, caplog):
    def work(handle):
        return 1

    step = task("work", cache=True)(work)

    def build():
        step(task_id="step", handle=Handle())

    runner.register(build, "made")
    with caplog.at_level(logging.WARNING, "graflow"):
        state = runner.execute("made")
    assert "argument 'handle', of type tests.flows.test_cache.Handle, has no canonical form" in caplog.text
    assert (state.status, step_of(state).status) == (FlowStatus.COMPLETED, StepStatus.COMPLETED)


def test_a_task_that_takes_the_context_is_not_kept(runner, caplog):
    ran = []

    @task(cache=True, inject_context=True)
    def work(context):
        ran.append(1)
        return 1

    def build():
        parallel(work, task("other")(lambda: 1)).set_group_name("g")

    runner.register(build, "made")
    with caplog.at_level(logging.WARNING, "graflow"):
        for _ in range(2):
            runner.execute("made")
    assert len(ran) == 2
    assert "Task 'work' has a cache, and what it gives is not kept: it takes the context of its run" in caplog.text


def test_a_task_that_uses_the_channel_of_its_run_is_not_kept(runner, caplog):
    ran = []

    @task(cache=True)
    def sneaky():
        ran.append(1)
        sneaky.get_execution_context().channel.set("seen", True)
        return 1

    def build():
        sneaky >> task("after")(lambda: 2)

    runner.register(build, "made")
    with caplog.at_level(logging.WARNING, "graflow"):
        for _ in range(2):
            runner.execute("made")
    assert len(ran) == 2
    assert "it uses the channel of its run" in caplog.text


def test_outside_of_a_flow_a_cache_does_nothing_and_says_so(caplog):
    ran = []
    with workflow("plain") as wf:

        @task(cache=True)
        def lonely():
            ran.append(1)
            return 1

        lonely >> task("after")(lambda: 2)
    with caplog.at_level(logging.WARNING, "graflow"):
        wf.execute()
        wf.execute()
    assert len(ran) == 2
    told = [record.getMessage() for record in caplog.records if "cache does nothing here" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Task 'lonely'")


def test_a_store_that_does_not_answer_costs_what_was_kept_and_fails_nothing(caplog):
    store = MemoryStore()

    class Away:
        def __getattr__(self, name):
            raise StoreUnavailableError("gone fishing")

    store.cache = Away()
    ran = []

    def work(x):
        ran.append(x)
        return x

    with FlowRunner(WatchedStore(store), recovery=False) as runner:
        of_one_step(runner, work)
        with caplog.at_level(logging.WARNING, "graflow"):
            states = [runner.execute("made", {"value": 1}) for _ in range(2)]
    assert [state.status for state in states] == [FlowStatus.COMPLETED] * 2
    assert len(ran) == 2
    assert "gone fishing" in caplog.text
    assert step_of(states[0]).status is StepStatus.COMPLETED


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_kept_value_expires(runner):
    ran = []

    def work(x):
        ran.append(x)
        return x

    of_one_step(runner, work, ttl=60)
    with Clock(runner) as clock:
        runner.execute("made", {"value": 1})
        clock.now += 59
        runner.execute("made", {"value": 1})
        clock.now += 2
        late = runner.execute("made", {"value": 1})
    assert len(ran) == 2
    assert "expired 1.0 s ago" in step_of(late).cache["why"]


def test_a_shorter_ttl_holds_for_what_was_kept_before(runner):
    ran = []

    def work(x):
        ran.append(x)
        return x

    of_one_step(runner, work)
    of_one_step(runner, work, "shorter", ttl=60)
    with Clock(runner) as clock:
        runner.execute("made", {"value": 1})
        clock.now += 61
        late = runner.execute("shorter", {"value": 1})
    assert len(ran) == 2
    assert "is older than 60 s" in step_of(late).cache["why"]


def test_settings_turn_the_cache_off_or_give_it_an_end(tmp_path, monkeypatch):
    def work(x):
        return x

    def states(folder):
        with FlowRunner(f"sqlite:///{tmp_path}/{folder}.db", recovery=False) as made:
            of_one_step(made, work)
            with Clock(made) as clock:
                found = []
                for seconds in (0, 5, 10):
                    clock.now += seconds
                    found.append(step_of(made.execute("made", {"value": 1})).status.value)
        return found

    assert states("usual") == ["completed", "cached", "cached"]
    monkeypatch.setenv("GRAFLOW_CACHE_TTL", "12")
    assert states("with an end") == ["completed", "cached", "completed"]
    monkeypatch.setenv("GRAFLOW_CACHE_ENABLED", "false")
    assert states("off") == ["completed"] * 3


def test_clearing_forgets(runner):
    ran = []

    def work(x):
        ran.append(x)
        return x

    of_one_step(runner, work)
    runner.execute("made", {"value": 1})
    assert runner.clear_cache("another") == 0
    assert runner.clear_cache("work") == 1
    runner.execute("made", {"value": 1})
    assert len(ran) == 2
    assert runner.clear_cache() == 1


# -- flows -------------------------------------------------------------------------------------------------------------


def analysis(runner, **options):
    """A flow of three steps with a cache; returns what its steps have run."""
    ran = Counter()

    @task
    def load(top):
        ran["load"] += 1
        return list(range(top))

    @task
    def page(x):
        ran["page"] += 1
        return x * x

    @task
    def report(pages):
        ran["report"] += 1
        return sum(pages)

    def build(top: int, title: str = "t"):
        load(task_id="load", top=top) >> page.map(range(top), name="pages") >> report

    runner.register(build, "analysis", **{"cache": True, **options})
    return ran


def test_a_flow_with_a_cache_runs_once_for_the_same_inputs(runner):
    ran = analysis(runner)
    first, again = [runner.execute("analysis", {"top": 3}) for _ in range(2)]
    assert ran == {"load": 1, "page": 3, "report": 1}
    assert (again.status, again.outputs) == (FlowStatus.COMPLETED, first.outputs)
    assert [(row.step_name, row.status) for row in again.steps] == [
        (name, StepStatus.CACHED) for name in ("load", "pages", "report")
    ]
    assert {row.source["flow_id"] for row in again.steps} == {first.flow_id}
    assert again.steps[1].counts == {"cached": 3}
    assert again.cache["hit"]
    assert again.cache["source"] == {"flow_id": first.flow_id}
    assert again.flow_id != first.flow_id
    assert runner.execute("analysis", {"top": 4}).cache["differs"][0] == "input 'top'"


def test_a_function_says_what_counts_of_the_inputs_of_a_flow(runner):
    ran = analysis(runner, cache=lambda top, title: top)
    for title in ("a", "b"):
        runner.execute("analysis", {"top": 1, "title": title})
    assert ran["report"] == 1


def test_a_flow_whose_outcome_was_kept_can_be_retried_and_forked(runner):
    ran = analysis(runner)
    kept = [runner.execute("analysis", {"top": 2}) for _ in range(2)][1]
    assert runner.retry_failed_step(kept.flow_id, "report").outputs == 1
    assert ran == {"load": 1, "page": 2, "report": 2}
    fork = runner.fork_flow(kept.flow_id, "load")
    assert (fork.status, ran["load"], ran["page"]) == (FlowStatus.COMPLETED, 2, 4)


def test_a_member_that_is_run_again_has_no_source_any_more(runner):
    ran = analysis(runner)
    kept = [runner.execute("analysis", {"top": 2}) for _ in range(2)][1]
    assert [member.status for member in runner.list_members(kept.flow_id, "pages")] == [StepStatus.CACHED] * 2
    runner.retry_failed_step(kept.flow_id, "pages", index=1, downstream="all")
    first, second = runner.list_members(kept.flow_id, "pages")
    assert (first.status, first.source is not None) == (StepStatus.CACHED, True)
    assert (second.status, second.source, ran["page"]) == (StepStatus.COMPLETED, None, 3)
    assert runner.get_flow_state(kept.flow_id).steps[1].source is None


def test_the_source_of_a_kept_outcome_may_be_gone(runner):
    ran = analysis(runner)
    first = runner.execute("analysis", {"top": 2})
    runner.store.delete(first.flow_id)
    again = runner.execute("analysis", {"top": 2})
    assert (again.outputs, again.steps, ran["report"]) == (1, [], 1)


def test_a_flow_that_failed_is_not_kept_and_one_that_goes_on_is(runner):
    fails, ran = [True], []

    @task
    def work():
        ran.append(1)
        if fails.pop() if fails else False:
            raise ValueError("no")
        return "done"

    def build():
        work >> task("after")(lambda work: work)

    runner.register(build, "made", cache=True)
    failed = runner.execute("made")
    assert failed.status is FlowStatus.FAILED
    assert runner.resume_flow(failed.flow_id).outputs == "done"
    assert runner.execute("made").cache["source"] == {"flow_id": failed.flow_id}
    assert len(ran) == 2


def test_the_outcome_of_a_flow_expires_and_is_cleared(runner):
    ran = analysis(runner, ttl=60)
    with Clock(runner) as clock:
        for seconds in (0, 59, 2):
            clock.now += seconds
            runner.execute("analysis", {"top": 1})
    assert ran["report"] == 2
    assert runner.clear_cache("analysis") == 1


def test_flows_of_the_same_inputs_at_once_run_once(runner):
    ran, go = [], threading.Event()

    @task
    def slow():
        ran.append(1)
        go.wait(60)
        return "done"

    def build():
        slow >> task("after")(lambda slow: slow)

    runner.register(build, "made", cache=True)
    ids = [runner.submit("made") for _ in range(3)]
    wait_until(lambda: all(runner.get_flow_state(flow_id).status is FlowStatus.RUNNING for flow_id in ids))
    go.set()
    states = [runner.wait(flow_id, 30) for flow_id in ids]
    assert [state.outputs for state in states] == ["done"] * 3
    assert len(ran) == 1
    assert sum(state.cache["hit"] for state in states) == 2


def test_a_flow_that_waits_for_another_one_can_be_cancelled(runner):
    begun, go = threading.Event(), threading.Event()

    @task
    def slow():
        begun.set()
        go.wait(60)
        return "done"

    def build():
        slow >> task("after")(lambda slow: slow)

    runner.register(build, "made", cache=True)
    first = runner.submit("made")
    assert begun.wait(60)
    second = runner.submit("made")
    wait_until(lambda: runner.get_flow_state(second).status is FlowStatus.RUNNING)
    runner.cancel_flow(second)
    assert runner.wait(second, 30).status is FlowStatus.CANCELLED
    go.set()
    assert runner.wait(first, 30).outputs == "done"


def test_options_that_cannot_be_right_are_refused(runner):
    def build(): ...

    with pytest.raises(ConfigError, match="Flow 'made': ttl does nothing without a cache"):
        runner.register(build, "made", ttl=3)
    with pytest.raises(ConfigError, match="Flow 'made': cache must be True"):
        runner.register(build, "made", cache="yes")


# -- figures -----------------------------------------------------------------------------------------------------------


def test_stats_count_kept_values_that_were_given(runner):
    analysis(runner)
    for _ in range(3):
        runner.execute("analysis", {"top": 2})

    def work(x):
        return x

    of_one_step(runner, work)
    for value in (1, 1, 2):
        runner.execute("made", {"value": value})
    whole, steps = runner.stats("analysis"), runner.stats("made").steps
    assert (whole.cached, whole.seconds.population) == (2, 1)
    assert [(step.cached, step.missed, step.completed) for step in steps] == [(1, 2, 2)]


def test_what_is_not_there_cannot_be_explained(runner):
    def work(x):
        return x

    of_one_step(runner, work)
    state = runner.execute("made", {"value": 1})
    with pytest.raises(FlowNotFoundError, match="has begun no step 'stap'; near names: step"):
        runner.explain_step(state.flow_id, "stap")
    with pytest.raises(FlowNotFoundError, match="has no member 0; it is no group"):
        runner.explain_step(state.flow_id, "step", index=0)


# -- keys --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Page:
    number: int
    text: str


SAME = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1: "a", (2, 3): "b"}, {(2, 3): "b", 1: "a"}),
    ({"x", "y", "z"}, {"z", "y", "x"}),
    ([{"deep": {2: {"b", "a"}, 1: 0}}], [{"deep": {1: 0, 2: {"a", "b"}}}]),
    (Page(1, "t"), Page(1, "t")),
]
OTHER = [
    (1, 1.0),
    (1, True),
    (0, False),
    (1, "1"),
    (None, "None"),
    ([1, 2], (1, 2)),
    ([1, 2], [2, 1]),
    ({1}, frozenset({1})),
    ({"1": 0}, {1: 0}),
    (b"a", "a"),
    ({}, []),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC).timestamp()),
    (Page(1, "t"), {"number": 1, "text": "t"}),
    ({"$t": "set", "v": [1]}, {1}),
]


@pytest.mark.parametrize(("one", "another"), SAME, ids=range(len(SAME)))
def test_what_is_equal_has_one_digest(one, another):
    assert canonical_digest(one, "it") == canonical_digest(another, "it")


@pytest.mark.parametrize(("one", "another"), OTHER, ids=range(len(OTHER)))
def test_what_differs_in_kind_or_value_has_another_digest(one, another):
    assert canonical_digest(one, "it") != canonical_digest(another, "it")


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(NotKeptError, match=r"it, of type tests\.flows\.test_cache\.Handle, has no canonical form"):
        canonical_digest([Handle()][0], "it")


def test_a_task_with_a_cache_is_not_called_past_it_on_a_worker():
    def work(x):
        return x

    given = {"x": 1}
    assert plain_function(task(work), given, empty_channel=True) is not None
    assert plain_function(task(cache=True)(work), given, empty_channel=True) is None


# -- members on workers ------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """What was sent to workers, which answer at once with what the function of the member gives."""
    sent = []

    class Workers(TaskCoordinator):
        def execute_group(self, group_id, tasks, execution_context, policy):
            run = execution_context.open_group(group_id, tasks)
            run.recall()
            for index in run.pending():
                member = run.members[index]
                sent.append(member.task_id)
                given = dict(member.bound_arguments)
                outcome = given_outcome(member.task_id, member.template.func(**given), 0.1, 1e9)
                if given.get("x") == "writes":
                    outcome.writes = [ChannelWrite("key", 1)]
                run.record(index, outcome, worker="w1")
            run.close(policy)

    monkeypatch.setitem(executor._factories, executor.CoordinationBackend.REDIS, lambda _: Workers())
    return sent


def away(runner, body, name="away", **options):
    """A flow with one group on workers, a member for each value."""
    step = task(body.__name__, **{"cache": True, **options})(body)

    def build(values):
        step.map(values, name="members").with_execution("redis")

    runner.register(build, name)


def test_a_member_that_is_kept_is_not_sent_to_workers(runner, sent):
    def square(x):
        return x * x

    away(runner, square)
    first, again = runner.execute("away", {"values": [1, 2]}), runner.execute("away", {"values": [2, 3, 1]})
    assert sent == ["members[0]", "members[1]", "members[1]"]
    assert (first.outputs, again.outputs) == ([1, 4], [4, 9, 1])
    rows = runner.list_members(again.flow_id, "members")
    assert [row.status for row in rows] == ["cached", "completed", "cached"]
    assert {name: rows[0].source[name] for name in ("flow_id", "step", "index")} == {
        "flow_id": first.flow_id,
        "step": "members",
        "index": 1,
    }
    assert rows[1].cache["differs"] == ["input 'x'"]
    assert "input 'x' differs" in runner.explain_step(again.flow_id, "members", index=1).text


def test_members_of_a_task_with_given_arguments_are_kept_under_its_name(runner):
    @task(cache=True)
    def scaled(factor, x):
        return factor * x

    def build():
        scaled(factor=3).map([1, 2], name="members")

    runner.register(build, "scaling")
    rows = [runner.list_members(runner.execute("scaling").flow_id, "members") for _ in range(2)]
    assert [[row.status for row in each] for each in rows] == [["completed"] * 2, ["cached"] * 2]
    assert runner.clear_cache("scaled") == 2


def test_what_members_on_workers_gave_is_given_to_steps_here(runner, sent):
    def square(x):
        return x * x

    away(runner, square)
    of_one_step(runner, square, "here")
    runner.execute("away", {"values": [5]})
    assert step_of(runner.execute("here", {"value": 5})).status is StepStatus.CACHED


def test_members_on_workers_that_are_not_kept_say_why(runner, sent, caplog):
    def write(x):
        return x

    away(runner, write, "writes")
    away(runner, square_of_context, "context", inject_context=True)
    with caplog.at_level(logging.WARNING, "graflow"):
        states = [runner.execute("writes", {"values": ["writes"]}) for _ in range(2)]
        runner.execute("context", {"values": [1]})
    assert sent == ["members[0]"] * 3
    why = runner.list_members(states[1].flow_id, "members")[0].cache["why"]
    assert why == "it uses the channel of its run"
    assert "Task 'square_of_context' has a cache, and what it gives is not kept: it takes the context" in caplog.text


def square_of_context(context=None, x=0):
    return x * x


def test_members_on_workers_with_steps_behind_them_are_sent_and_it_is_told(runner, sent, caplog):
    @task(cache=True)
    def behind_workers(x=1):
        return x

    @task
    def last():
        return 2

    def build():
        members = [behind_workers(task_id="a"), behind_workers(task_id="b")]
        members[0] >> last(task_id="last")
        parallel(*members).set_group_name("group").with_execution("redis")

    runner.register(build, "branches")
    with caplog.at_level(logging.WARNING, "graflow"):
        for _ in range(2):
            runner.execute("branches")
    assert sent == ["a", "b", "a"]
    assert "Task 'behind_workers' has a cache, and what it gives is not kept: on workers, only" in caplog.text


def test_without_a_store_members_on_workers_say_before_they_are_sent_that_nothing_is_kept(sent, caplog):
    @task(cache=True)
    def sent_away(x):
        return x

    with workflow("plain") as wf:
        sent_away.map([1, 2], name="members").with_execution("redis")
    with caplog.at_level(logging.WARNING, "graflow"):
        wf.execute()
    told = [record.getMessage() for record in caplog.records if "cache does nothing here" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Task 'sent_away'")
