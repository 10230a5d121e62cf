"""Async tasks: one event loop for all of an engine's, as steps and as members, mixed with sync ones."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading

import pytest

from graflow import exceptions, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.nodes.aio import end_event_loop, keep_event_loop
from graflow.core.retry import RetryPolicy
from graflow.core.task import ParallelGroup, Task, TaskWrapper, parallel
from tests.support import forever, give_way


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name == "graflow-async"]


def test_an_async_task_is_a_step_like_any_other():
    with workflow("steps") as wf:

        @task
        async def first(start):
            await give_way()
            return start + 1

        @task(inject_context=True)
        async def second(ctx, first):
            await give_way()
            ctx.get_channel().set("seen", ctx.task_id)
            return first + 1

        first >> second
        value, context = wf.execute(ret_context=True, initial_channel={"start": 1})
    assert value == 3
    assert context.channel.get("seen") == "second"
    assert loop_threads() == []


@pytest.mark.parametrize("make", [lambda fetch: fetch, functools.partial], ids=["object", "partial"])
def test_an_object_that_is_called_as_a_coroutine_needs_no_thread_as_a_member(make):
    class Fetch:
        async def __call__(self, number):
            await give_way()
            return threading.current_thread().name, number

    fetch = task("fetch")(make(Fetch()))
    values = fetch.map(range(3)).run()
    assert values == [("graflow-async", number) for number in range(3)]


@pytest.mark.parametrize("keeps", [False, True], ids=["its own loop", "one loop of the process"])
@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_a_coroutine_may_run_a_group_of_coroutines_and_wait_for_it(backend, keeps):
    @task
    async def down(number):
        await give_way()
        return [number] + (down.map([number - 1]).with_execution(backend).run()[0] if number else [])

    if keeps:
        keep_event_loop()
    try:
        assert down.run(3) == [3, 2, 1, 0]
        with workflow("down") as wf:
            down.map([1, 2]).with_execution(backend)
            assert wf.execute() == [[1, 0], [2, 1, 0]]
    finally:
        end_event_loop()
    assert loop_threads() == []


def test_a_run_without_async_tasks_starts_no_loop():
    seen = []
    with workflow("sync") as wf:
        TaskWrapper("a", lambda: seen.extend(loop_threads()))
        wf.execute()
    assert seen == []


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_steps_and_members_share_one_loop(backend):
    loops = []

    async def body(*_):
        loops.append(asyncio.get_running_loop())
        await give_way()

    with workflow("shared") as wf:
        members = [TaskWrapper(f"m{i}", body) for i in range(6)]
        sync = TaskWrapper("sync", lambda: "sync")
        group = parallel(*members, sync).with_execution(backend, {"thread_count": 4})
        TaskWrapper("before", body) >> group >> TaskWrapper("after", body)
        _, context = wf.execute(ret_context=True)
    assert len(loops) == 8
    assert len(set(map(id, loops))) == 1
    assert loops[0].is_closed()
    assert context.get_result("sync") == "sync"


def test_members_on_threads_wait_together():
    async def meet():
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            everyone.set()
        await asyncio.wait_for(everyone.wait(), 10)
        return arrived

    arrived = 0
    everyone = asyncio.Event()
    with workflow("meet") as wf:
        parallel(*(TaskWrapper(f"m{i}", meet) for i in range(3))).with_execution("threading", {"thread_count": 3})
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(f"m{i}") for i in range(3)] == [3, 3, 3]


def test_the_context_variables_of_the_caller_are_seen():
    tenant = contextvars.ContextVar("tenant", default="none")
    tenant.set("acme")

    async def who():
        await give_way()
        return tenant.get()

    with workflow("vars") as wf:
        group = TaskWrapper("a", who) | TaskWrapper("b", who)
        TaskWrapper("c", who) >> group
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(name) for name in "abc"] == ["acme"] * 3


def test_errors_retries_and_control_work_as_for_sync_tasks():
    attempts = []

    async def flaky(ctx):
        await give_way()
        attempts.append(ctx.retry_count)
        if ctx.retry_count < 2:
            raise OSError("again")
        ctx.terminate_workflow("done")
        return "value"

    with workflow("flaky") as wf:
        TaskWrapper("flaky", flaky, True, max_retries=2) >> Task("never")
        value, context = wf.execute(ret_context=True)
    assert (value, attempts, context.stop_reason) == ("value", [0, 1, 2], "terminated")


def test_an_error_of_an_async_task_is_the_tasks_own():
    async def fail():
        raise KeyError("k")

    with workflow("fail") as wf:
        TaskWrapper("fail", fail)
        with pytest.raises(exceptions.GraflowRuntimeError) as caught:
            wf.execute()
    assert isinstance(caught.value.cause, KeyError)


def test_async_iterations_and_dynamic_tasks():
    with workflow("loop") as wf:

        @task(inject_context=True)
        async def loop(ctx, data=0):
            await give_way()
            if data < 2:
                ctx.next_iteration(data + 1)
            return data

        loop >> TaskWrapper("after", lambda loop: loop)
        assert wf.execute() == 2


def test_an_async_task_awaits_another_one():
    with workflow("nested") as wf:

        @task
        async def inner(x):
            await give_way()
            return x * 2

        @task(inject_context=True)
        async def outer(ctx):
            inner.set_execution_context(ctx.execution_context)
            return await inner(x=21)

        assert wf.execute("outer") == 42


def test_an_async_task_runs_on_its_own_outside_any_run():
    @task
    async def alone(x):
        await give_way()
        return x

    assert alone.run(x=5) == 5
    assert loop_threads() == []


def test_what_a_task_leaves_running_is_cancelled_when_the_run_ends():
    ended = []

    async def background():
        try:
            await forever()
        finally:
            ended.append("cancelled")

    async def start():
        kept.append(asyncio.get_running_loop().create_task(background()))
        await give_way()

    kept = []
    with workflow("left") as wf:
        TaskWrapper("start", start)
        wf.execute()
    assert ended == ["cancelled"]
    assert loop_threads() == []


def test_one_engine_in_two_threads_keeps_its_loop_until_the_last_run_ends():
    engine, loops, short_done = WorkflowEngine(), [], threading.Event()

    async def short():
        loops.append(asyncio.get_running_loop())

    async def long():
        loops.append(asyncio.get_running_loop())
        started.set()
        await asyncio.to_thread(short_done.wait, 10)
        return "long"

    started, results = threading.Event(), []

    def run(func, name):
        graph = TaskGraph()
        graph.add_node(TaskWrapper(name, func, register_to_context=False))
        results.append(engine.execute(ExecutionContext.create(graph, name)))

    worker = threading.Thread(target=run, args=(long, "long"))
    worker.start()
    assert started.wait(60)
    run(short, "short")
    short_done.set()
    worker.join(60)
    assert results == [None, "long"]
    assert loops[0] is loops[1]
    assert loop_threads() == []


def test_an_async_task_over_its_time_is_cancelled_and_named():
    cancelled = []

    async def slow():
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    with workflow("late") as wf:
        TaskWrapper("slow", slow, timeout=0.05)
        with pytest.raises(exceptions.TaskTimeoutError, match=r"slow.*0\.05"):
            wf.execute()
    assert cancelled == [1]


def test_a_timeout_error_of_the_task_itself_stays_its_own():
    async def own():
        raise TimeoutError("mine")

    with workflow("own") as wf:
        TaskWrapper("own", own, timeout=30)
        with pytest.raises(exceptions.GraflowRuntimeError) as caught:
            wf.execute()
    assert type(caught.value.cause) is TimeoutError


def test_a_function_that_wraps_an_async_one_is_limited_too():
    async def work(wait):
        await wait()
        return "in time"

    with workflow("wrapped") as wf:
        TaskWrapper("quick", functools.partial(work, give_way), timeout=30) >> TaskWrapper(
            "slow", functools.partial(work, forever), timeout=0.05
        )
        with pytest.raises(exceptions.TaskTimeoutError, match="slow"):
            wf.execute()


def test_nested_groups_mix_sync_and_async_members():
    async def co():
        await give_way()
        return "co"

    with workflow("mixed") as wf:
        inner = ParallelGroup([TaskWrapper("a", co), TaskWrapper("b", lambda: "b")], name="inner")
        ParallelGroup([inner, TaskWrapper("c", co), TaskWrapper("d", lambda: "d")], name="outer")
        _, context = wf.execute("outer", ret_context=True)
    assert [context.get_result(name) for name in "abcd"] == ["co", "b", "co", "d"]


@pytest.fixture
def kept_loop():
    keep_event_loop()
    yield
    end_event_loop()
    assert loop_threads() == []


@pytest.mark.usefixtures("kept_loop")
def test_runs_of_a_process_that_keeps_its_loop_share_it():
    loops = []

    async def body():
        loops.append(asyncio.get_running_loop())
        await give_way()

    def around():
        with workflow("inner") as inner:
            TaskWrapper("body", body)
            inner.execute()

    for name in ("first", "second"):
        with workflow(name) as wf:
            TaskWrapper("body", body) >> TaskWrapper("around", around)
            wf.execute()
    assert len(loops) == 4
    assert len(set(map(id, loops))) == 1
    assert not loops[0].is_closed()


@pytest.mark.usefixtures("kept_loop")
def test_a_coroutine_on_the_kept_loop_may_call_async_tasks_and_run_workflows():
    async def body(ctx):
        with workflow("inner") as inner:
            TaskWrapper("in", lambda: leaf.func(10))
            found = inner.execute()
        leaf.set_execution_context(ctx.execution_context)
        return await leaf(x=1), found

    with workflow("outer") as wf:

        @task
        async def leaf(x):
            await give_way()
            return x + 1

        TaskWrapper("body", body, True)
        assert wf.execute("body") == (2, 11)


def test_async_members_that_wait_for_one_another_all_run_at_once():
    """Far more of them than there are CPUs: each waits until the last one has begun."""
    count, begun = 200, asyncio.Barrier(200)
    with workflow("overlap") as wf:

        @task
        async def member(number):
            await begun.wait()
            return number

        @task
        def total(members):
            return sum(members)

        member.map(range(count), name="members") >> total
    assert wf.execute() == sum(range(count))


@pytest.mark.parametrize("mapped", [True, False])
def test_groups_of_async_members_all_run_at_once(mapped):
    count, begun = 64, asyncio.Barrier(64)

    async def member(number):
        await begun.wait()
        return number

    def inner(index):
        made, name = TaskWrapper("member", member, register_to_context=False), f"inner{index}"
        if mapped:
            return made.map([index], name=name)
        return ParallelGroup([made(task_id=f"{name}.{index}", number=index)], name=name)

    with workflow("nested") as wf:
        group = ParallelGroup(map(inner, range(count)), name="outer").with_execution("threading", {"timeout": 30})
        assert group.is_async
        assert len(wf.execute("outer")) == count
        assert not (group | task("sync")(lambda: 1)).is_async


def test_a_number_of_threads_that_is_asked_for_limits_async_members_as_well():
    running, most, three = [], [], asyncio.Barrier(3)
    with workflow("limited") as wf:

        @task
        async def member(number):
            running.append(number)
            most.append(len(running))
            await three.wait()
            running.remove(number)

        member.map(range(12), name="members").with_execution("threading", {"thread_count": 3})
        wf.execute()
    assert max(most) == 3


# -- members that are coroutines ---------------------------------------------------------------------------------------


def test_coroutines_take_no_threads():
    count, begun, threads = 300, asyncio.Barrier(300), []
    with workflow("light") as wf:

        @task
        async def member(number):
            await begun.wait()
            threads.append(threading.active_count())
            return number

        @task
        async def double(members):
            return sum(members) * 2

        member.map(range(count), name="members") >> double
        before = threading.active_count()
        assert wf.execute() == sum(range(count)) * 2
    assert max(threads) <= before + 1  # the loop's


def test_what_is_not_async_behind_a_coroutine_runs_on_a_thread_of_its_own():
    """It may take its time: each of these waits for the others, which the event loop could not."""
    together, seen = threading.Barrier(3), []
    with workflow("tail") as wf:

        def body(name):
            async def first():
                await give_way()
                return name

            def second():
                together.wait(60)
                seen.append(threading.current_thread() in loop_threads())

            async def third():
                await give_way()
                return f"{name} to the end"

            head = TaskWrapper(name, first)
            head >> TaskWrapper(f"{name}2", second) >> TaskWrapper(f"{name}3", third)
            return head

        parallel(*(body(name) for name in "abc"))
        _, context = wf.execute("ParallelGroup_1", ret_context=True)
    assert seen == [False] * 3
    assert [context.get_result(f"{name}3") for name in "abc"] == [f"{name} to the end" for name in "abc"]


def test_coroutines_behind_coroutines_and_passes_of_loops_need_no_thread_either():
    with workflow("chain") as wf:

        @task(inject_context=True, max_cycles=5)
        async def loop(ctx, number=0, data=None):
            await give_way()
            seen.append(threading.current_thread())
            if ctx.can_iterate() and ctx.cycle_count < 3:
                ctx.next_iteration(number)
            return ctx.cycle_count

        @task
        async def after(number):
            seen.append(threading.current_thread())
            return number

        seen = []
        heads = [loop(task_id=f"l{i}", number=i) for i in range(4)]
        for i, head in enumerate(heads):
            head >> after(task_id=f"a{i}", number=i)
        parallel(*heads)
        _, context = wf.execute("ParallelGroup_1", ret_context=True)
    assert [context.get_result(f"l{i}") for i in range(4)] == [3] * 4
    assert [context.get_result(f"a{i}") for i in range(4)] == [0, 1, 2, 3]
    assert len(set(seen)) == 1


def test_a_coroutine_that_waits_to_be_tried_again_holds_up_no_other(monkeypatch):
    """The others end while it waits; its wait goes through the sleep that tests may patch."""
    others_ended, waits = threading.Event(), []

    def sleep(seconds):
        waits.append(seconds)
        assert others_ended.wait(60)

    monkeypatch.setattr("graflow.core.engine.time.sleep", sleep)
    with workflow("patient") as wf:
        ended = []

        @task(inject_context=True, retry_policy=RetryPolicy(max_retries=1, initial_interval=30))
        async def member(ctx, number):
            await give_way()
            if number == 0 and ctx.retry_count == 0:
                raise OSError("not yet")
            ended.append(number)
            if len(ended) == 4:
                others_ended.set()
            return number

        member.map(range(5), name="members")
        assert wf.execute() == [0, 1, 2, 3, 4]
    assert waits == [30]
    assert ended[-1] == 0


def test_each_coroutine_has_context_variables_of_its_own():
    tenant = contextvars.ContextVar("tenant", default="none")
    with workflow("apart") as wf:

        @task
        async def member(number):
            before = tenant.get()
            tenant.set(str(number))
            await give_way()
            return before, tenant.get()

        tenant.set("caller")
        member.map(range(3), name="members")
        assert wf.execute() == [("caller", str(number)) for number in range(3)]
    assert tenant.get() == "caller"


def test_a_coroutine_that_fails_or_cancels_itself_is_a_failed_member():
    with workflow("failures") as wf:

        @task
        async def member(number):
            await give_way()
            if number == 1:
                raise KeyError("k")
            if number == 2:
                asyncio.current_task().cancel()
                await forever()
            return number

        member.map(range(4), name="members").with_execution(policy="best_effort")
        assert wf.execute() == [0, None, None, 3]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_an_interruption_inside_a_coroutine_ends_the_run_and_not_the_loop_alone(backend, error):
    with workflow("exit") as wf:

        @task
        async def member(number):
            await give_way()
            if number == 1:
                raise error

        member.map(range(3), name="members").with_execution(backend)
        with pytest.raises(type(error)) as caught:
            wf.execute()
    assert caught.value is error
    assert loop_threads() == []


def test_a_coroutine_may_end_the_workflow_and_a_group_has_a_time_limit():
    with workflow("ends") as wf:

        @task(inject_context=True)
        async def member(ctx, number):
            await give_way()
            if number == 0:
                ctx.cancel_workflow("enough")

        member.map(range(3), name="members")
        with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="enough"):
            wf.execute()
    with workflow("late") as wf:

        @task
        async def endless(_):
            await forever()

        endless.map(range(3), name="endless").with_execution(backend_config={"timeout": 0.05})
        with pytest.raises(exceptions.GroupTimeoutError):
            wf.execute()
    assert loop_threads() == []


@pytest.mark.usefixtures("kept_loop")
def test_coroutines_share_the_loop_that_a_process_keeps():
    loops = []
    with workflow("kept") as wf:

        @task
        async def member(number):
            loops.append(asyncio.get_running_loop())
            await give_way()
            return number

        member.map(range(3), name="members")
        assert wf.execute() == [0, 1, 2]
        assert wf.execute() == [0, 1, 2]
    assert len(set(map(id, loops))) == 1
    assert not loops[0].is_closed()
