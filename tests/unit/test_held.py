"""What a run holds until its execution ends."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import pairwise

import pytest

from graflow.coordination import executor
from graflow.coordination.coordinator import CoordinationBackend, TaskCoordinator
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.nodes.executable import Executable
from graflow.core.retry import RetryPolicy
from graflow.core.serialization import dumps, loads
from graflow.core.task import ParallelGroup, TaskWrapper
from graflow.core.workflow import workflow
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError, RunOwnedError
from tests.support import at_once


class Lease:
    """Lets the run go on until it is lost."""

    def __init__(self):
        self.error = None
        self.checks = self.releases = 0

    def lose(self):
        self.error = RunOwnedError("session", "elsewhere:1", 0.0)

    def check(self):
        self.checks += 1
        if self.error is not None:
            raise self.error

    def release(self):
        self.releases += 1


def steps_of(*bodies, **options):
    """A run of tasks `t0 >> t1 >> …` that holds a lease from its first one on, and the ids of those that ran."""
    lease, ran = Lease(), []

    def step(index, body):
        def run(ctx):
            ran.append(f"t{index}")
            ctx.execution_context.holdings.hold("lease", lambda: lease)
            return body(lease)

        return TaskWrapper(f"t{index}", run, inject_context=True, **options)

    with workflow("held") as flow:
        tasks: list[Executable] = [step(index, body) for index, body in enumerate(bodies)]
        for before, after in pairwise(tasks):
            before >> after
    return ExecutionContext.create(flow.graph, "t0"), lease, ran


def nothing(_):
    return "done"


def raising(error):
    def body(_):
        raise error

    return body


def test_it_is_held_over_all_steps_and_released_once():
    seen = []
    context, lease, ran = steps_of(nothing, lambda lease: seen.append(lease.releases), nothing)

    assert context.execute() == "done"

    assert ran == ["t0", "t1", "t2"]
    assert (seen, lease.releases, lease.checks) == ([0], 1, 3)
    assert context.holdings.held == {}


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__
)
def test_it_is_released_whatever_ends_the_run(error):
    context, lease, _ = steps_of(nothing, raising(error))
    with pytest.raises((GraflowRuntimeError, type(error))):
        context.execute()
    assert lease.releases == 1
    assert not context.holdings.held


def test_a_run_that_lost_it_stops_before_the_next_step_and_can_be_saved_there():
    context, lease, ran = steps_of(nothing, lambda lease: lease.lose(), nothing)
    with pytest.raises(RunOwnedError) as caught:
        context.execute()
    assert caught.value is lease.error
    assert ran == ["t0", "t1"]
    assert context.queue.to_list() == ["t2"]
    assert lease.releases == 1


def test_a_run_that_lost_it_in_its_last_step_is_told():
    context, _, ran = steps_of(nothing, lambda lease: lease.lose())
    with pytest.raises(RunOwnedError):
        context.execute()
    assert ran == ["t0", "t1"]


def test_the_loss_is_told_instead_of_an_error_that_follows_from_it():
    def body(lease):
        lease.lose()
        raise ValueError("no")

    context, lease, _ = steps_of(body)
    with pytest.raises(RunOwnedError) as caught:
        context.execute()
    assert caught.value is lease.error
    assert isinstance(caught.value.__cause__, GraflowRuntimeError)


def test_ctrl_c_stays_what_it_is():
    def body(lease):
        lease.lose()
        raise KeyboardInterrupt

    context, lease, _ = steps_of(body)
    with pytest.raises(KeyboardInterrupt):
        context.execute()
    assert lease.releases == 1


def test_a_task_is_not_tried_again_once_it_is_lost():
    def body(lease):
        lease.lose()
        raise ValueError("no")

    context, _, ran = steps_of(body, retry_policy=RetryPolicy(max_retries=3))
    with pytest.raises(RunOwnedError):
        context.execute()
    assert ran == ["t0"]


def test_the_loss_itself_is_not_tried_again():
    context, _, ran = steps_of(raising(RunOwnedError("session", "elsewhere:1", 0.0)), max_retries=3)
    with pytest.raises(RunOwnedError):
        context.execute()
    assert ran == ["t0"]


def test_it_is_asked_before_a_retry_that_was_put_off_and_after_it():
    failures = [ValueError("once")]
    lease_checks = []

    def body(lease):
        lease_checks.append(lease.checks)
        if failures:
            raise failures.pop()

    context, lease, ran = steps_of(body, nothing, retry_policy=RetryPolicy(max_retries=1, initial_interval=0.01))
    context.execute()
    assert ran == ["t0", "t0", "t1"]
    before, after = lease_checks
    assert before == 0
    assert lease.checks > after > 0, "how often depends on how late the wait is over"
    assert not context.agenda.delays.entries


@pytest.mark.parametrize("policy", ["strict", "best_effort"])
def test_members_of_this_process_stop_too(policy):
    lease, ran = Lease(), []

    def noting(name):
        return TaskWrapper(name, lambda: ran.append(name))

    with workflow("held") as flow:
        begin = TaskWrapper(
            "begin", lambda ctx: ctx.execution_context.holdings.hold("lease", lambda: lease), inject_context=True
        )
        loses = TaskWrapper("loses", lease.lose)
        group = ParallelGroup([loses, noting("other")], name="group").with_execution("direct", policy=policy)
        begin >> group >> noting("after")
        loses >> noting("inside")
    context = ExecutionContext.create(flow.graph, "begin")

    with pytest.raises(RunOwnedError) as caught:
        context.execute()
    assert ran == []
    assert caught.value is lease.error
    if policy == "strict":
        assert isinstance(caught.value.__cause__, ParallelGroupError)


def test_an_execution_inside_another_one_does_not_let_go():
    seen = []

    def inner(lease):
        WorkflowEngine().execute(contexts[0])
        seen.append(lease.releases)

    contexts = []
    context, lease, ran = steps_of(nothing, inner, nothing)
    contexts.append(context)
    context.add_to_queue(context.graph.get_node("t2"))

    context.execute()

    assert ran == ["t0", "t2", "t1", "t2"]
    assert seen == [0]
    assert lease.releases == 1


def test_one_name_is_made_once_by_however_many_threads():
    context, _, _ = steps_of(nothing)
    made = []

    def make():
        made.append(Lease())
        return made[-1]

    held = at_once(lambda _: context.holdings.hold("lease", make), range(8))
    assert len(made) == 1
    assert held == made * 8


def test_all_are_released_when_one_cannot_be():
    context, lease, _ = steps_of(nothing)

    class Broken(Lease):
        def release(self):
            raise OSError("gone")

    context.holdings.hold("first", lambda: lease)
    context.holdings.hold("broken", Broken)
    with suppress(OSError):
        context.holdings.release_all(None)
    assert lease.releases == 1
    assert not context.holdings.held


def test_it_is_no_part_of_what_is_saved():
    context, _, _ = steps_of(nothing, nothing)
    context.holdings.hold("lock", threading.Lock)
    loaded = loads(dumps(context))
    assert loaded.holdings.held == {}
    assert loaded.queue.to_list() == ["t0"]


class Backend(TaskCoordinator):
    """Stands for a backend that wants to know of runs that go on."""

    def __init__(self, config):
        self.config = config

    def resume(self, context):
        TAKEN_UP.append((self.config.get("queue"), context.steps))

    def execute_group(self, group_id, tasks, context, policy):
        run = context.open_group(group_id, tasks)
        for index in run.pending():
            run.run(index)
        run.close(policy)


TAKEN_UP: list[tuple[str, int]] = []


def test_backends_of_the_groups_that_run_from_here_are_told_when_a_run_goes_on(monkeypatch):
    monkeypatch.setitem(executor._factories, CoordinationBackend.REDIS, Backend)
    TAKEN_UP.clear()
    with workflow("told") as flow:
        inner = ParallelGroup([TaskWrapper("a", int), TaskWrapper("b", int)], name="inner")
        after_a = ParallelGroup([TaskWrapper("c", int), TaskWrapper("d", int)], name="after_a")
        outer = ParallelGroup([inner, TaskWrapper("e", int)], name="outer")
        local = ParallelGroup([TaskWrapper("f", int), TaskWrapper("g", int)], name="local")
        below = ParallelGroup([TaskWrapper("h", int), TaskWrapper("i", int)], name="below")
        flow.graph.get_node("a") >> after_a
        flow.graph.get_node("f") >> below
        TaskWrapper("begin", int) >> outer >> local
        for group in (inner, after_a, outer, below):
            group.with_execution("redis", {"queue": group.task_id})
    context = ExecutionContext.create(flow.graph, "begin")

    context.execute()
    assert TAKEN_UP == [], "a run that begins is no business of theirs"

    context = ExecutionContext.create(flow.graph, "begin", max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps"):
        context.execute()
    context.max_steps = 100
    context.execute()
    assert sorted(TAKEN_UP) == [("below", 1), ("outer", 1)]
