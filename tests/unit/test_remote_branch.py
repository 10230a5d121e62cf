"""The branch of a member run away from its workflow, from plain parts."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, fields

import pytest

from graflow import RetryPolicy, exceptions
from graflow.channels.memory_channel import MemoryChannel
from graflow.core.branches.surroundings import Surroundings
from graflow.core.building.scopes import GraphScope, recording_into
from graflow.core.graph import TaskGraph
from graflow.core.remote.branch import RemoteBranch
from graflow.core.task import ParallelGroup, Task
from tests.graph_support import node
from tests.support import give_way


@dataclass
class Info:
    run_id: str = "run"
    index: int = 3
    attempt: int = 2

    def is_cancelled(self):
        return True

    def progress(self, done, total=None, message=None):
        """Nobody watches."""


def run(member, tasks=None, edges=(), **options):
    channel = options.pop("channel", None) or MemoryChannel("shared")
    around = {part.name: options.pop(part.name) for part in fields(Surroundings) if part.name in options}
    around = Surroundings("g", "s", "t", **around)
    return RemoteBranch(member, tasks or {}, edges, around, channel=channel, **options).run()


def test_a_member_with_its_successors():
    a, a2 = node("a", lambda: 1), node("a2", lambda a: a + 1)
    outcome = run(a, {"a": a, "a2": a2}, [("a", "a2")])
    assert outcome.success
    assert (outcome.task_id, outcome.value, outcome.steps) == ("a", 1, 2)
    assert outcome.results == [("a", 1), ("a2", 2)]
    assert outcome.completed == ["a", "a2"]
    assert outcome.cycle_counts == {"a": 1, "a2": 1}


def test_edges_that_leave_the_branch_come_back_as_exits():
    a = node("a")
    outcome = run(a, edges=[("a", "outside")])
    assert outcome.completed == ["a"]
    assert outcome.requests.exits == [("a", "outside")]


def test_writes_stay_private_and_come_back():
    channel = MemoryChannel("shared")

    def write(ctx):
        ctx.get_channel().set("own", 1)
        ctx.get_channel().atomic_add("shared", 2)

    outcome = run(node("a", write, True), channel=channel)
    assert [(write.key, write.value) for write in outcome.writes] == [("own", 1)]
    assert not channel.exists("own")
    assert channel.get("shared") == 2


def test_a_jump_to_a_node_of_the_workflow_ends_the_branch():
    elsewhere = Task("elsewhere", register_to_context=False)
    a, a2 = node("a", lambda ctx: ctx.next_task(elsewhere), True), node("a2")
    outcome = run(a, {"a2": a2}, [("a", "a2")], outside=["elsewhere"])
    assert outcome.completed == ["a"]
    assert outcome.requests.jumps == ["elsewhere"]


def test_new_tasks_run_in_the_branch_and_are_named():
    outcome = run(node("a", lambda ctx: ctx.next_task(node("new", lambda: "new")), True))
    assert outcome.completed == ["a", "new"]
    assert outcome.requests.nodes == [("new", ["a"])]


def test_a_failure_is_the_tasks_own_error():
    original = KeyError("x")

    def fail():
        raise original

    outcome = run(node("a", fail))
    assert not outcome.success
    assert outcome.error is original
    assert outcome.results == [("a", original)]


def test_cancel_and_terminate_are_told():
    cancelled = run(node("a", lambda ctx: ctx.cancel_workflow("no"), True))
    assert (cancelled.canceled, cancelled.cancel_message, cancelled.cancel_task_id) == (True, "no", "a")
    terminated = run(node("a", lambda ctx: ctx.terminate_workflow("enough"), True))
    assert (terminated.success, terminated.requests.terminated) == (True, "enough")


def test_a_deferred_checkpoint_goes_back_with_the_outcome(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run(node("a", lambda ctx: ctx.checkpoint({"n": 1}), True))
    assert outcome.requests.checkpoint["path"] is None
    assert outcome.requests.checkpoint["metadata"]["n"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_at_once_is_refused_where_the_run_is_not(tmp_path):
    outcome = run(node("a", lambda ctx: ctx.checkpoint(path=tmp_path / "x", deferred=False), True))
    assert isinstance(outcome.error, exceptions.GraflowRuntimeError)
    assert "deferred=True" in str(outcome.error)
    assert list(tmp_path.iterdir()) == []


def test_limits_and_counts_are_those_of_the_run():
    seen = []

    def loop(ctx, data=0):
        seen.append((ctx.cycle_count, ctx.max_cycles, ctx.max_retries))
        ctx.next_iteration(data + 1)

    outcome = run(node("a", loop, True), cycle_counts={"a": 3}, max_cycles=5, max_retries=1)
    assert seen == [(4, 5, 1), (5, 5, 1)]
    assert isinstance(outcome.error, exceptions.CycleLimitExceededError)
    assert outcome.cycle_counts == {"a": 5}


def test_a_branch_that_uses_up_the_steps_says_so():
    outcome = run(node("a", lambda ctx: ctx.next_task(node("b"))), {"a2": node("a2")}, [("a", "a2")], max_steps=0)
    assert isinstance(outcome.error, exceptions.MaxStepsExceededError)


def test_tasks_see_their_member():
    def look(ctx):
        return ctx.run_id, ctx.index, ctx.attempt, ctx.is_cancelled(), ctx.session_id, ctx.trace_id

    outcome = run(node("a", look, True), info=Info())
    assert outcome.value == ("run", 3, 2, True, "s_a", "t")


@pytest.mark.parametrize("run_id", ["s:g:1.0", "nightly"])
def test_groups_inside_a_member_have_a_key_of_the_members_run(run_id):
    with recording_into(GraphScope(TaskGraph(), registers_on_creation=False)):
        inner = ParallelGroup([node("x", lambda ctx: ctx.run_id, True), node("y")], name="inner")
    inner.with_execution("direct")
    outcome = run(inner, info=Info(run_id=run_id))
    assert dict(outcome.results)["x"] == f"s_inner:inner:{run_id.rpartition(':')[2]}.0"


def test_async_tasks_run_and_leave_no_loop():
    async def body():
        await give_way()
        return "async"

    assert run(node("a", body)).value == "async"


def flaky(failures, seen):
    def call(ctx):
        seen.append((ctx.retry_count, ctx.cycle_count))
        if len(seen) <= failures:
            raise OSError(f"attempt {len(seen)}")
        return len(seen)

    return call


def patient(task_id, func, seconds, max_retries=3):
    return node(task_id, func, True, retry_policy=RetryPolicy(max_retries, seconds, 1.0))


def test_a_long_wait_for_a_retry_is_left_to_whoever_runs_the_branch():
    seen = []
    outcome = run(patient("a", flaky(1, seen), 5.0), longest_wait=1.0)
    assert (outcome.success, outcome.retry_in, outcome.retry_counts) == (False, 5.0, {"a": 1})
    assert str(outcome.error) == "attempt 1"

    outcome = run(patient("a", flaky(1, seen), 5.0), longest_wait=1.0, retries=1)
    assert (outcome.success, outcome.retry_in, outcome.value) == (True, None, 2)
    assert (outcome.retry_counts, outcome.cycle_counts) == ({"a": 1}, {"a": 1})
    assert seen == [(0, 1), (1, 1)]


def test_the_budget_and_the_waits_go_on_from_the_retries_that_were_made():
    policy = RetryPolicy(2, 2.0, 3.0)
    fails = node("a", flaky(9, []), True, retry_policy=policy)
    waits = [run(fails, longest_wait=1.0, retries=retries).retry_in for retries in range(3)]
    assert waits == [2.0, 6.0, None]
    error = run(fails, longest_wait=1.0, retries=2).error
    assert isinstance(error, exceptions.RetryLimitExceededError)
    assert (error.retry_count, error.max_retries) == (3, 2)


def test_a_short_wait_for_a_retry_is_waited_for_in_place():
    seen = []
    outcome = run(patient("a", flaky(2, seen), 0.001), longest_wait=1.0)
    assert (outcome.value, outcome.retry_in, outcome.retry_counts) == (3, None, {"a": 2})


@pytest.mark.parametrize(
    "leave",
    [
        lambda ctx: ctx.checkpoint(),
        lambda ctx: ctx.next_task(Task("elsewhere", register_to_context=False)),
        lambda ctx: ctx.execution_context.open_group("inner", [node("x")]),
    ],
    ids=["a checkpoint", "a jump", "a group"],
)
def test_a_member_that_has_left_something_behind_waits_where_it_is(leave, monkeypatch):
    slept = []
    monkeypatch.setattr("graflow.core.engine.time.sleep", slept.append)
    call = flaky(1, [])

    def member(ctx):
        leave(ctx)
        return call(ctx)

    outcome = run(patient("a", member, 5.0), longest_wait=1.0, outside=["elsewhere"])
    assert (outcome.value, outcome.retry_in, slept) == (2, None, [5.0])


def test_a_later_task_of_the_branch_waits_where_it_is(monkeypatch):
    slept = []
    monkeypatch.setattr("graflow.core.engine.time.sleep", slept.append)
    a, a2 = node("a"), patient("a2", flaky(1, []), 5.0)
    outcome = run(a, {"a": a, "a2": a2}, [("a", "a2")], longest_wait=1.0)
    assert (outcome.completed, slept) == (["a", "a2"], [5.0])


def test_a_group_inside_a_member_opens_anew_when_it_is_tried_again(monkeypatch):
    slept, seen = [], []
    monkeypatch.setattr("graflow.core.engine.time.sleep", slept.append)
    group = ParallelGroup([node("x", flaky(1, seen), True), node("y")], name="inner")
    group.retry_policy = RetryPolicy(1, 5.0)
    outcome = run(group, longest_wait=1.0)
    assert (outcome.success, outcome.retry_in, slept) == (True, None, [5.0])


def test_a_member_away_from_its_run_cannot_say_where_that_is_saved():
    refused = run(node("a", lambda ctx: ctx.checkpoint(path="somewhere"), True))
    assert isinstance(refused.error, exceptions.GraflowRuntimeError)
    assert "leave out path=" in str(refused.error)
    assert refused.requests.checkpoint is None


class Large:
    """A value that tells when it is freed."""


def test_what_a_branch_ran_with_is_freed_without_the_garbage_collector():
    channel, freed = MemoryChannel("shared"), []
    for key in ("taken", "left"):
        value = Large()
        weakref.finalize(value, freed.append, key)
        channel.set(key, value)
    gc.disable()
    try:
        outcome = run(node("a", lambda taken: taken), channel=channel, longest_wait=1.0)
        assert (outcome.success, freed) == (True, [])
        del value, channel
        assert freed == ["left"]
        del outcome
        assert freed == ["left", "taken"]
    finally:
        gc.enable()
