"""What is kept by id belongs to one visit, and to the attempt that succeeded."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections import Counter
from pathlib import Path

import cloudpickle
import pytest

from graflow import exceptions, parallel, task, workflow
from graflow.channels.attempt import AttemptChannel
from graflow.channels.branch import BranchChannel
from graflow.channels.memory_channel import MemoryChannel
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.task import Task, TaskWrapper
from tests.graph_support import context_of
from tests.support import wait_until


def twice(make_group, fails):
    """What follows a best-effort group in two visits, the second of which has failures."""
    seen = []
    with workflow("w") as wf:
        group = make_group(lambda item: fails(item, len(seen)))

        @task(inject_context=True)
        def collect(ctx):
            seen.append([ctx.get_result(group.task_id), *(ctx.get_result(name) for name in ("after", "first", "last"))])
            if len(seen) < 2:
                ctx.next_task(group, goto=True)

        Task("begin") >> group.with_execution(policy="best_effort") >> collect
        wf.execute()
    return seen


def down_at(wanted):
    def fails(item, visit):
        if visit and item == wanted:
            raise ConnectionError("down")
        return (item, visit)

    return fails


def test_an_item_that_fails_in_the_second_visit_leaves_none():
    seen = twice(lambda call: task("probe")(call).map([0, 1], name="probes"), down_at(1))
    assert [values[0] for values in seen] == [[(0, 0), (1, 0)], [(0, 1), None]]


def test_what_a_failed_member_did_not_come_to_has_no_value_of_an_earlier_visit():
    def make(call):
        first = TaskWrapper("first", lambda: call(1))
        first >> TaskWrapper("after", lambda: call(2))
        return parallel(first, TaskWrapper("last", lambda: call(3)))

    (_, *once), (_, after, first, last) = twice(make, down_at(1))
    assert once == [(2, 0), (1, 0), (3, 0)]
    assert (after, type(first), last) == (None, ConnectionError, (3, 1))


def test_an_argument_is_not_filled_with_the_error_of_the_latest_visit():
    context = ExecutionContext.create(workflow("w").graph)
    context.set_result("a", ValueError("returned"))
    context.mark_task_completed("a")
    assert (context.has_completed("a"), context.ledger.returned_errors) == (True, ["a"])
    context.ledger.failed.add("a")
    assert (context.has_completed("a"), context.ledger.returned_errors) == (False, [])


# -- attempts ----------------------------------------------------------------------------------------------------------


def attempts(body, *, retries=1, **options):
    """The channel after a task that fails once after `body`."""
    tries = []

    def flaky(ctx):
        tries.append(1)
        body(ctx, len(tries))
        if len(tries) == 1:
            raise OSError("once")

    wrapper = TaskWrapper("t", flaky, True, register_to_context=False, max_retries=retries, **options)
    context = context_of(wrapper)
    context.ledger.channel.set("old", "kept")
    context.execute()
    return context.ledger.channel


@pytest.mark.parametrize("reach", [lambda ctx: ctx.get_channel(), lambda ctx: ctx.execution_context.channel])
def test_plain_writes_of_a_failed_attempt_are_gone(reach):
    def body(ctx, attempt):
        channel = reach(ctx)
        if attempt == 1:
            channel.set("half", 1)
            channel.delete("old")
            assert (channel.get("half"), channel.exists("old")) == (1, False)
        else:
            assert (channel.get("half"), channel.get("old")) == (None, "kept")
        channel.append("log", attempt)
        with channel.lock("any"):
            channel.set("under lock", attempt)

    channel = attempts(body)
    assert (channel.exists("half"), channel.get("old"), channel.get("log")) == (False, "kept", [1, 2])
    assert channel.get("under lock") == 2


def _half_done(channel, attempt):
    channel.set("half", attempt)
    channel.delete("old")
    channel.append("log", attempt)
    with channel.lock("any"):
        channel.set("under lock", attempt)


def _members(failures):
    """A task and a coroutine that fail so often, each time after they have written."""
    tries = Counter()

    def body(ctx):
        channel = ctx.get_channel()
        seen = [channel.get("half"), channel.get("old")]
        tries[ctx.task_id] += 1
        if tries[ctx.task_id] <= failures:
            _half_done(channel, tries[ctx.task_id])
            raise OSError("so often")
        return seen

    async def coroutine(ctx):
        return body(ctx)

    options = {"inject_context": True, "max_retries": 1}
    return task("plain", **options)(body), task("async", **options)(coroutine)


@pytest.mark.parametrize("backend", ["direct", "threading"])
@pytest.mark.parametrize("failures", [1, 2])
def test_plain_writes_of_an_attempt_of_a_member_that_failed_are_gone(backend, failures):
    with workflow("w") as wf:
        start = task("start", inject_context=True)(lambda ctx: ctx.get_channel().set("old", "kept"))
        start >> parallel(*_members(failures)).with_execution(backend, policy="best_effort")
        _, context = wf.execute(ret_context=True)
    channel = context.channel
    assert (channel.get("half"), channel.get("old")) == (None, "kept")
    assert sorted(channel.get("log")) == sorted([*range(1, failures + 1)] * 2), "what is appended stays"
    assert channel.get("under lock") == failures
    for name in ("plain", "async"):
        assert (
            context.get_result(name) == [None, "kept"]
            if failures == 1
            else context.get_result(name).args == ("so often",)
        )


def test_a_run_that_failed_goes_on_without_what_the_failed_task_wrote():
    seen = []

    def flaky(ctx):
        seen.append(ctx.get_channel().get("half"))
        ctx.get_channel().set("half", len(seen))
        if len(seen) == 1:
            raise OSError("once")

    context = context_of(TaskWrapper("t", flaky, True, register_to_context=False))
    with pytest.raises(OSError, match="once"):
        context.execute()
    context.execute()
    assert (seen, context.channel.get("half")) == ([None, None], 2)


def test_an_abandoned_attempt_can_write_nothing_more():
    release, errors, tries = threading.Event(), [], []

    def late(ctx):
        tries.append(1)
        channel = ctx.get_channel()
        if len(tries) > 1:
            channel.set("winner", 2)
            return
        channel.set("before", 1)
        release.wait(30)
        for write in (
            lambda: channel.set("winner", 1),
            lambda: channel.delete("winner"),
            lambda: channel.append("log", 1),
            lambda: channel.prepend("log", 1),
            lambda: channel.atomic_add("count"),
            lambda: channel.lock("any"),
            lambda: ctx.execution_context.channel.set("winner", 1),
        ):
            try:
                write()
            except exceptions.TaskError as error:
                errors.append(str(error))

    context = context_of(TaskWrapper("t", late, True, register_to_context=False, timeout=0.05, max_retries=1))
    context.execute()
    release.set()
    wait_until(lambda: len(errors) == 7)
    assert all("'t'" in error and "comes too late" in error for error in errors)
    assert sorted(context.channel.keys()) == ["t.__result__", "winner"]
    assert context.channel.get("winner") == 2


def test_what_still_holds_the_channel_of_a_successful_task_writes_at_once():
    kept = []
    context = context_of(TaskWrapper("t", lambda ctx: kept.append(ctx.get_channel()), True, register_to_context=False))
    context.execute()
    kept[0].set("later", 1)
    assert context.channel.get("later") == 1
    assert cloudpickle.loads(cloudpickle.dumps(kept[0])).get("later") == 1


@pytest.mark.parametrize("is_member", [False, True])
@pytest.mark.parametrize("end", ["apply", "close"])
def test_a_lock_that_outlives_its_attempt_opens_nothing_again(is_member, end):
    shared = MemoryChannel("shared")
    parent = BranchChannel(shared) if is_member else shared
    attempt = AttemptChannel(parent, lambda: exceptions.TaskError("t", "comes too late"))
    with attempt.lock("any"):
        attempt.set("under lock", 1)
        getattr(attempt, end)()
    if end == "apply":
        attempt.set("later", 1)
        assert (parent.get("later"), shared.exists("later")) == (1, parent is shared)
    else:
        with pytest.raises(exceptions.TaskError, match="too late"):
            attempt.set("later", 1)
        assert not parent.exists("later")
    assert shared.get("under lock") == 1


def test_what_an_inner_attempt_wrote_under_a_lock_is_there_for_all_once_it_has_succeeded():
    shared = MemoryChannel("shared")
    outer = AttemptChannel(BranchChannel(shared), ValueError)
    with outer.lock("any"):
        inner = AttemptChannel(outer, ValueError)
        inner.set("written", [1])
        assert not shared.exists("written")
        inner.apply()
        assert shared.get("written") == [1]


def test_what_was_seen_of_a_member_s_attempt_is_not_what_its_branch_has_afterwards():
    branch = BranchChannel(MemoryChannel("shared"))
    attempt = AttemptChannel(branch, ValueError)
    attempt.set("items", [1])
    seen = attempt.view("items")
    attempt.apply()
    seen.append(2)
    assert branch.get("items") == [1]


def test_a_task_called_inside_a_task_sees_and_shares_what_the_outer_one_wrote():
    inner = TaskWrapper("inner", lambda ctx, x: ctx.get_channel().set("y", x + 1), True, register_to_context=False)

    def outer(ctx, attempt):
        ctx.get_channel().set("x", attempt)
        inner.set_execution_context(ctx.execution_context)
        inner.run()
        assert ctx.get_channel().get("y") == attempt + 1
        assert not ctx.execution_context.ledger.channel.exists("y") or attempt == 2

    assert attempts(outer).get("y") == 3


def test_a_group_that_a_task_runs_sees_what_the_task_wrote():
    seen = []
    with workflow("members"):
        group = parallel(
            TaskWrapper("m", lambda ctx: seen.append(ctx.get_channel().get("x")), True, register_to_context=False),
            TaskWrapper("n", lambda ctx: ctx.get_channel().set("x", "member"), True, register_to_context=False),
        )

    def body(ctx):
        ctx.get_channel().set("x", "task")
        group.set_execution_context(ctx.execution_context)
        group.run()
        seen.append(ctx.get_channel().get("x"))

    context_of(TaskWrapper("t", body, True, register_to_context=False)).execute()
    assert seen == ["task", "member"]


# -- what is not needed any more ---------------------------------------------------------------------------------------


class State:
    """Something that a weak reference can watch."""


@pytest.mark.usefixtures("only_new_objects")
@pytest.mark.parametrize("in_a_group", [False, True])
def test_states_of_earlier_passes_can_be_collected(in_a_group):
    made, alive = [], []
    with workflow("w") as wf:

        @task(inject_context=True, max_cycles=100)
        def step(ctx, state=None):
            new = State()
            made.append(weakref.ref(new))
            if len(made) < 30:
                ctx.next_iteration(new)
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))
            return new

        if in_a_group:
            step | Task("other")
        _, context = wf.execute(ret_context=True)
    assert len(made) == 30
    assert max(alive) <= 4
    passes = [name for name in context.completed_tasks if name.startswith("step_cycle_")]
    assert len(passes) == 29
    assert [context.get_result(name) for name in passes[:-1]] == [None] * 28
    assert context.get_result(passes[-1]) is context.get_result("step") is made[-1]()
    assert {name for name in wf.graph.nodes if name in passes} <= {passes[-1]}


def test_a_checkpoint_does_not_grow_with_the_passes(tmp_path):
    def size(passes):
        with workflow("w") as wf:

            @task(inject_context=True, max_cycles=1000)
            def step(ctx, numbers=()):
                if ctx.cycle_count < passes:
                    ctx.next_iteration([*range(100)])
                return [*range(100)]

            _, context = wf.execute(ret_context=True)
        path, _ = CheckpointManager.create_checkpoint(context, path=tmp_path / "ck")
        return sum(Path(path.removesuffix(".pkl") + suffix).stat().st_size for suffix in (".pkl", ".state.json"))

    assert size(200) - size(5) < 100


@pytest.mark.parametrize("tolerated", [False, True])
def test_an_error_that_is_not_raised_lets_go_of_the_variables_of_its_frames(tolerated):
    made = []
    with workflow("w") as wf:

        def fails_once():
            held = State()
            made.append(weakref.ref(held))
            if tolerated or len(made) == 1:
                raise OSError("once")

        wrapper = TaskWrapper("t", fails_once, max_retries=0 if tolerated else 1)
        if tolerated:
            (wrapper | Task("other")).with_execution(policy="best_effort")
        _, context = wf.execute(ret_context=True)
    gc.collect()
    assert [ref() for ref in made] == [None] * (1 if tolerated else 2)
    if tolerated:
        error = context.get_result("t")
        assert "fails_once" in "".join(traceback.format_exception(error))


# -- what had succeeded does not run again -----------------------------------------------------------------------------


def failing_once(ran, name):
    def call():
        ran.append(name)
        if ran.count(name) == 1:
            raise OSError("once")
        return name

    return call


def noting(ran, name):
    return lambda: ran.append(name) or name


def fragile_workflow(ran):
    with workflow("w") as wf:
        a = TaskWrapper("a", noting(ran, "a"))
        a >> TaskWrapper("a2", failing_once(ran, "a2"))
        b = TaskWrapper("b", noting(ran, "b"))
        b >> TaskWrapper("b2", noting(ran, "b2"))
        group = TaskWrapper("begin", noting(ran, "begin")) >> (a | b).set_group_name("g").with_execution("direct")
        group >> TaskWrapper("after", noting(ran, "after"))
    return wf


@pytest.mark.parametrize("saved", [False, True])
def test_a_run_that_a_group_ended_goes_on_with_the_members_that_had_not_succeeded(saved, tmp_path):
    ran = []
    wf = fragile_workflow(ran)
    with pytest.raises(exceptions.ParallelGroupError):
        wf.execute()
    context = wf.last_context
    if saved:
        path, _ = CheckpointManager.create_checkpoint(context, path=tmp_path / "ck")
        context, _ = CheckpointManager.resume_from_checkpoint(path)
        state = context.get_checkpoint_state()
        assert list(state["finished_members"].values()) == [["b"]]
        context.execute()
    else:
        context.execute()
        assert ran == ["begin", "a", "a2", "b", "b2", "a2", "after"]
    assert (context.steps, context.get_result("a2"), context.get_result("b2")) == (7, "a2", "b2")
    assert context.cycle_controller.cycle_counts == dict.fromkeys(("begin", "a", "b", "b2", "after"), 1) | {
        "g": 2,
        "a2": 2,
    }


def test_a_group_with_retries_of_its_own_repeats_only_what_failed():
    ran = []
    context = ExecutionContext.create(fragile_workflow(ran).graph)
    context.retry_controller.set_node_max_retries("g", 1)
    context.execute()
    assert ran == ["begin", "a", "a2", "b", "b2", "a2", "after"]
    assert context.steps == 7
