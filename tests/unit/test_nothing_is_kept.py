"""Nothing of a run stays in memory through its tasks or its workflow, whatever happened in it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter

import pytest

from graflow import task, workflow
from graflow.channels.base import Channel
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.nodes.aio import EventLoopThread
from graflow.core.retry import RetryPolicy
from graflow.core.run.agenda import Agenda
from graflow.core.run.frame import Frame
from graflow.core.run.ledger import Ledger
from graflow.core.run.members.group_run import GroupRun
from graflow.core.task import ParallelGroup, Task, TaskWrapper, parallel
from graflow.exceptions import GraflowError, GraflowRuntimeError, GroupTimeoutError
from graflow.trace.base import Tracer
from tests.support import forever, give_way, wait_until


class State:
    """A value of a task."""


OF_A_RUN = (
    *(Agenda, BranchOutcome, Channel, EventLoopThread, ExecutionContext, Frame, GroupRun, Ledger, State, Tracer),
    WorkflowEngine,
)


def made():
    return State()


def chain():
    TaskWrapper("a", made) >> TaskWrapper("b", lambda a: (a, State())) >> Task("c")


def group(backend="threading"):
    members = [TaskWrapper(name, made) for name in "abc"]
    members[0] >> TaskWrapper("behind", lambda a: [a])
    Task("start") >> parallel(*members).with_execution(backend) >> TaskWrapper("end", lambda a, b: {"ab": (a, b)})


def fan_out():
    task(id="member")(lambda item: (item, State())).map([State(), 1, 2], name="all") >> TaskWrapper("end", made)


def nested_groups():
    inner = ParallelGroup([TaskWrapper("a", made), TaskWrapper("b", made)], name="inner")
    ParallelGroup([inner, TaskWrapper("c", made)], name="outer")


def coroutines():
    async def body(state=None):
        await give_way()
        return State(), state

    TaskWrapper("first", body) >> parallel(*(TaskWrapper(name, body) for name in "abc")) >> TaskWrapper("last", body)


def coroutines_over_their_time():
    parallel(*(TaskWrapper(name, forever, timeout=0.02) for name in "abc"))


def loop():
    @task(inject_context=True, max_cycles=9)
    def step(ctx, state=None):
        ctx.channel.set("kept", (state, State()))
        if ctx.cycle_count < 5:
            ctx.next_iteration(State())
        return State()

    step >> Task("end")


def loop_in_a_group():
    @task(inject_context=True, max_cycles=9)
    def step(ctx, state=None):
        if ctx.cycle_count < 3:
            ctx.next_iteration(State())
        return State(), state

    step | Task("other")


def dynamic_tasks():
    @task(inject_context=True)
    def step(ctx):
        held = State()
        ctx.next_task(TaskWrapper("born", lambda: held) >> TaskWrapper("behind", made))
        ctx.set_local_data("local", State())

    step >> Task("end")


def dynamic_group():
    @task(inject_context=True)
    def step(ctx):
        held = State()
        ctx.next_task(task(id="each")(lambda number: (number, held)).map(range(3), name="born"))

    step >> Task("end")


def retries():
    def fails_once(tries=[]):  # noqa: B006 - counts
        held = State()
        tries.append(1)
        if len(tries) % 2:
            raise OSError("once")
        return held

    TaskWrapper("step", fails_once, max_retries=1) >> Task("end")


def fails():
    held = State()
    raise OSError("always", held)


def retries_in_vain():
    TaskWrapper("step", fails, retry_policy=RetryPolicy(2, initial_interval=0)) >> Task("end")


def failed_group():
    TaskWrapper("a", made) | TaskWrapper("b", fails)


def tolerated_failures():
    (TaskWrapper("a", made) | TaskWrapper("b", fails)).with_execution(policy="best_effort") >> Task("end")


def failed_coroutines():
    async def body():
        await give_way()
        fails()

    TaskWrapper("a", body, max_retries=1) | TaskWrapper("b", body)


def ended():
    TaskWrapper("step", lambda ctx: ctx.terminate_workflow("enough"), True) >> Task("end")


def cancelled():
    TaskWrapper("a", lambda ctx: ctx.cancel_workflow("enough"), True) | TaskWrapper("b", made)


def out_of_steps():
    left = TaskWrapper("left", made)
    Task("start") >> left >> TaskWrapper("right", made) >> left


def a_workflow_inside_a_task():
    @task
    def step():
        with workflow("inner") as inner:
            TaskWrapper("a", made) | TaskWrapper("b", made)
            return inner.execute()

    step >> Task("end")


def a_task_that_calls_tasks():
    helper = TaskWrapper("helper", lambda x: (x, State()), register_to_context=False)

    @task(inject_context=True)
    def step(ctx):
        helper(x=ctx)
        return helper.run(x=State())

    step >> Task("end")


def methods():
    class Service:
        @task
        def scale(self):
            return State()

    Task("start") >> Service().scale


def over_time():
    TaskWrapper("step", lambda: over.wait(10), timeout=0.02) >> Task("end")


over = threading.Event()
KINDS = [
    *(chain, group, fan_out, nested_groups, coroutines, coroutines_over_their_time, loop, loop_in_a_group),
    *(dynamic_tasks, dynamic_group, retries, retries_in_vain, failed_group, tolerated_failures, failed_coroutines),
    *(ended, cancelled, out_of_steps, a_workflow_inside_a_task, a_task_that_calls_tasks, methods, over_time),
]


def of_runs():
    gc.collect()
    return Counter(type(found).__name__ for found in gc.get_objects() if isinstance(found, OF_A_RUN))


def execute(wf):
    """Run to whatever end, of which nothing is kept."""
    limit = 5 if wf.name == "out_of_steps" else 10_000
    try:
        wf.execute(max_steps=limit)
    except (GraflowError, GroupTimeoutError):
        return "failed"
    return "done"


@pytest.mark.usefixtures("only_new_objects")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_of_a_run_is_kept_by_its_tasks(kind):
    over.clear()
    with workflow(kind.__name__) as wf:
        kind()
    tasks = [data["task"] for data in wf.graph.nodes.values()]
    before = of_runs()
    ends = {execute(wf) for _ in range(2)}
    over.set()  # what was over its time and still runs, ends
    if ends != {"done"}:
        assert of_runs()["ExecutionContext"], "a workflow gives the context of a run that failed"
        del wf
    wait_until(lambda: not of_runs() - before, 5, str(tasks))


@pytest.mark.usefixtures("only_new_objects")
@pytest.mark.parametrize("backend", ["direct", "threading"])
def test_what_a_member_ran_in_is_freed_at_once(backend):
    """Without a garbage collector; and who holds on to it is told that it is over."""
    seen, late = [], []
    with workflow("members") as wf:

        @task(inject_context=True)
        def member(ctx, number):
            seen.append(weakref.ref(ctx.execution_context))
            if number == 0:
                late.append(ctx)
            return number

        member.map(range(5), name="members").with_execution(backend, {"thread_count": 1}) >> Task("end")
    gc.disable()
    try:
        wf.execute()
        assert [ref() is None for ref in seen] == [False, True, True, True, True]
    finally:
        gc.enable()
    with pytest.raises(GraflowRuntimeError, match="too late"):
        late[0].next_task(Task("more", register_to_context=False))
