"""The engine: order of steps, control requests, failures, limits, handlers, and what a run leaves behind."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
import time
from contextvars import ContextVar, copy_context
from traceback import walk_stack

import pytest

from graflow import exceptions, task, workflow
from graflow.channels.branch import ChannelWrite
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import outcome_from_data, outcome_to_data
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.handler import TaskHandler
from graflow.core.handlers.group_policy import BestEffortGroupPolicy
from graflow.core.task import ParallelGroup, Task, TaskWrapper, chain, parallel
from graflow.flows import FlowRunner
from graflow.observing import Happening, observers
from graflow.runtime import Runtime
from graflow.trace.base import Tracer
from tests.graph_support import context_of, in_a_row, node
from tests.support import at_once, wait_until

# -- one step ----------------------------------------------------------------------------------------------------------


def test_dynamic_tasks_run_before_the_successors_of_the_task_that_queued_them():
    def spawn(ctx):
        ctx.next_task(node("d1"))
        ctx.next_task(node("d2"))

    context = context_of(node("t", spawn, True), node("s1"), node("s2"), edges=[("t", "s1"), ("t", "s2")])
    context.execute()
    assert context.completed_tasks == ["t", "d1", "d2", "s1", "s2"]


def test_the_value_of_the_run_is_that_of_the_last_task():
    assert in_a_row(node("a", lambda: 1), node("b", lambda: 2)).execute() == 2


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_context_variables_that_a_step_sets_are_its_own(backend):
    tenant = ContextVar("tenant", default="nobody")

    def tell(name):
        before = tenant.get()
        tenant.set(name)
        return before, tenant.get()

    def fail_once(ctx):
        if not ctx.retry_count:
            tell("failed attempt")
            raise ValueError
        return tell("retry")

    def whole_run():
        tenant.set("caller")
        with workflow("apart") as wf:
            steps = [node("a", lambda: tell("a")), node("b", lambda: tell("b") if tenant.get() else None)]
            retried = TaskWrapper("retried", fail_once, True, max_retries=1)
            members = parallel(node("c", lambda: tell("c")), node("d", lambda: tell("d"))).with_execution(backend)
            chain(*steps, retried, members, node("last", lambda: tell("last")))
            _, context = wf.execute(ret_context=True)
        told = {name: context.get_result(name) for name in context.completed_tasks if context.get_result(name)}
        return told, tenant.get()

    told, after = copy_context().run(whole_run)
    assert told == {name: ("caller", "retry" if name == "retried" else name) for name in told}
    assert len(told) == 6
    assert after == "caller"


def test_execution_can_begin_in_the_middle():
    context = in_a_row(node("a"), node("b"), node("c", lambda: "c"))
    assert WorkflowEngine().execute(context, "b") == "c"
    assert context.completed_tasks == ["b", "c"]


def test_an_unknown_start_is_an_error_of_both_kinds():
    context = in_a_row(node("a"))
    with pytest.raises(ValueError, match="'ghost' not found in graph"):
        WorkflowEngine().execute(context, "ghost")
    with pytest.raises(exceptions.GraflowRuntimeError, match="ghost"):
        WorkflowEngine().execute(context, "ghost")


def test_a_queued_task_that_is_nowhere_in_the_graph_is_refused():
    context = in_a_row(node("a"))
    context.add_to_queue(node("ghost"))
    with pytest.raises(exceptions.GraflowRuntimeError, match="ghost"):
        context.execute()
    assert context.completed_tasks == ["a"]


def test_an_edge_to_nowhere_is_an_error_that_names_it():
    context = context_of(node("a"), edges=[("a", "nowhere")])
    with pytest.raises(exceptions.GraflowRuntimeError, match="nowhere"):
        context.execute()
    assert context.completed_tasks == ["a"]


def test_an_unknown_handler_is_refused_without_a_retry():
    context = in_a_row(node("a", handler_type="nope", max_retries=3))
    with pytest.raises(ValueError, match="Unknown handler type: nope; known are direct"):
        context.execute()
    assert context.retry_controller.get_retry_count("a") == 0


def test_execute_task_passes_task_and_context_to_the_handler():
    class Remembering(TaskHandler):
        def execute_task(self, task, context):
            seen.append((task, context))
            context.set_result(task.task_id, "handled")
            return "handled"

    seen = []
    engine = WorkflowEngine()
    engine.register_handler("mine", Remembering())
    task = node("a", handler_type="mine")
    context = in_a_row(task)
    assert engine.execute(context) == "handled"
    assert seen == [(task, context)]
    assert isinstance(engine._get_handler(task), Remembering)
    assert set(engine._handlers) == {"direct", "mine"}


def test_a_task_that_calls_another_hands_its_requests_on():
    helper = node("helper", lambda ctx: ctx.cancel_workflow("from the helper"), True)
    context = in_a_row(node("a", helper.run), node("b"))
    helper.set_execution_context(context)
    with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="from the helper") as caught:
        context.execute()
    assert caught.value.task_id == "a"


# -- control -----------------------------------------------------------------------------------------------------------


def test_cancel_ends_the_run_after_the_body():
    reached = []

    def cancel(ctx):
        ctx.cancel_workflow("no more")
        reached.append(1)
        return "value"

    context = in_a_row(node("a", cancel, True, max_retries=2), node("b"))
    with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="no more") as caught:
        context.execute()
    assert (caught.value.task_id, caught.value.message) == ("a", "no more")
    assert reached == [1]
    assert context.completed_tasks == []
    assert context.stop_reason == "canceled"
    assert context.ctrl_message == "no more"


def test_cancel_wins_over_an_error_of_the_same_task():
    def cancel(ctx):
        ctx.cancel_workflow("stop")
        raise KeyError("while stopping")

    context = in_a_row(node("a", cancel, True, max_retries=5))
    with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="stop") as caught:
        context.execute()
    assert isinstance(caught.value.__cause__, KeyError)
    assert context.retry_controller.get_retry_count("a") == 0


def test_terminate_completes_the_task_and_runs_nothing_else():
    def end(ctx):
        ctx.next_task(node("never"))
        ctx.terminate_workflow("enough")
        return "last"

    context = in_a_row(node("a", end, True), node("b"))
    assert context.execute() == "last"
    assert context.completed_tasks == ["a"]
    assert context.stop_reason == "terminated"
    assert context.ctrl_message == "enough"


def test_goto_skips_successors_whether_the_target_is_new_or_not():
    context = context_of(
        node("a", lambda ctx: ctx.next_task(node("new"), goto=True), True), node("b"), edges=[("a", "b")]
    )
    context.execute()
    assert context.completed_tasks == ["a", "new"]


def test_flags_of_one_task_do_not_reach_the_next_one():
    context = context_of(
        node("a", lambda ctx: ctx.next_task(ctx.graph.get_node("b")), True),
        node("skipped"),
        node("b"),
        node("c"),
        edges=[("a", "skipped"), ("b", "c")],
    )
    context.execute()
    assert context.completed_tasks == ["a", "b", "c"]


def test_a_chain_that_was_built_elsewhere_brings_its_edges():
    with workflow("elsewhere"):
        steps = Task("x") >> Task("y")
    context = in_a_row(node("a", lambda ctx: ctx.next_task(steps), True), node("b"))
    context.execute()
    assert context.completed_tasks == ["a", "x", "b", "y"]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_an_error_is_wrapped_and_stored():
    original = ValueError("broken")

    def fail():
        raise original

    context = in_a_row(node("a", fail), node("b"))
    with pytest.raises(exceptions.GraflowRuntimeError, match=r"^Task 'a' failed: ValueError: broken$") as caught:
        context.execute()
    assert (caught.value.task_id, caught.value.run_id) == ("a", context.session_id)
    assert caught.value.cause is original
    assert context.get_result("a") is original
    assert context.completed_tasks == []
    assert context.stop_reason == "failed"


def test_an_error_of_ours_passes_unchanged():
    original = exceptions.TaskError("x", "mine")

    def fail():
        raise original

    with pytest.raises(exceptions.TaskError) as caught:
        in_a_row(node("a", fail)).execute()
    assert caught.value is original


def test_a_failed_run_can_be_taken_up_again_at_the_task_that_failed():
    attempts = []

    def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("away")
        return "up"

    context = in_a_row(node("a"), node("b", flaky), node("c", lambda b: b))
    with pytest.raises(exceptions.GraflowRuntimeError):
        context.execute()
    assert context.queue.to_list() == ["b"]
    assert context.execute() == "up"
    assert context.completed_tasks == ["a", "b", "c"]
    assert context.stop_reason == "completed"


def test_what_a_failed_attempt_added_is_gone_before_the_next_one():
    attempts = []

    def spawn(ctx):
        attempts.append(1)
        fresh = TaskWrapper("fresh", lambda: len(attempts))
        if len(attempts) == 1:
            raise OSError("before it was asked for")
        ctx.next_task(fresh)
        if len(attempts) < 3:
            raise OSError("again")

    with workflow("eager") as wf:
        TaskWrapper("t", spawn, True, max_retries=3) >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["t", "fresh", "after"]
    assert context.get_result("fresh") == 3
    assert context.requests.nodes == [("fresh", ["t"])]


def test_an_interrupt_ends_the_run_and_keeps_the_task():
    presses = [KeyboardInterrupt]

    def interrupted():
        if presses:
            raise presses.pop()
        return "done"

    context = in_a_row(node("a", interrupted, max_retries=5), node("b"))
    with pytest.raises(KeyboardInterrupt):
        context.execute()
    assert context.stop_reason == "failed"
    assert context.current_task_id is None
    context.execute()
    assert context.completed_tasks == ["a", "b"]


class PressesOnce(Tracer):
    def __init__(self):
        self.presses = [KeyboardInterrupt]

    def on_task_start(self, task, context):
        if self.presses:
            raise self.presses.pop()


def test_an_interrupt_just_before_a_task_leaves_no_task_running():
    context = in_a_row(node("a"), node("b"), tracer=PressesOnce())
    with pytest.raises(KeyboardInterrupt):
        context.execute()

    assert context.current_task_id is None
    other, of_other = node("other"), context_of(node("x"))
    other.set_execution_context(of_other)
    assert other.get_execution_context() is of_other
    context.execute()
    assert context.completed_tasks == ["a", "b"]


# -- max_steps ---------------------------------------------------------------------------------------------------------


def test_reaching_max_steps_with_work_pending_raises():
    context = in_a_row(node("a"), node("b"), node("c"), max_steps=2)
    with pytest.raises(exceptions.MaxStepsExceededError) as caught:
        context.execute()
    assert (caught.value.max_steps, caught.value.pending) == (2, ["c"])
    assert context.stop_reason == "max_steps"
    assert context.steps == 2
    context.max_steps = 3
    context.execute()
    assert context.completed_tasks == ["a", "b", "c"]


def test_finishing_at_the_limit_is_no_error():
    context = in_a_row(node("a"), node("b"), max_steps=2)
    context.execute()
    assert context.stop_reason == "completed"


def test_warn_gives_a_warning_and_the_last_value():
    context = in_a_row(node("a", lambda: "a"), node("b"), max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps=1"):
        assert context.execute() == "a"
    assert context.stop_reason == "max_steps"


@pytest.mark.parametrize("backend", ["threading", "direct"])
@pytest.mark.parametrize("policy", ["strict", "best_effort"])
def test_a_branch_that_uses_up_the_steps_ends_the_run(backend, policy):
    def endless(ctx):
        ctx.next_task(ctx.graph.get_node("loop2"))

    with workflow("steps") as wf:
        loop = TaskWrapper("loop", endless, True)
        loop >> TaskWrapper("loop2", lambda ctx: ctx.next_task(ctx.graph.get_node("loop")), True)
        group = ParallelGroup([loop, Task("b")]).with_execution(backend, policy=policy)
        group >> Task("after")
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1", max_steps=20)
    with pytest.raises(exceptions.MaxStepsExceededError) as caught:
        context.execute()
    assert caught.value.max_steps == 20
    assert context.stop_reason == "max_steps"
    warned = ExecutionContext.create(wf.graph, "ParallelGroup_1", max_steps=20, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps=20"):
        warned.execute()
    assert warned.stop_reason == "max_steps"
    assert "after" not in warned.completed_tasks


# -- groups that are given up ------------------------------------------------------------------------------------------


def test_members_of_an_abandoned_group_are_told_and_start_nothing_more(time_is_over):
    release, told, entered = threading.Event(), [], threading.Event()
    time_is_over(1, when=entered.is_set)

    def stuck(ctx):
        entered.set()
        release.wait(30)
        told.append(ctx.is_cancelled())

    with workflow("late") as wf:
        member = TaskWrapper("stuck", stuck, True)
        member >> TaskWrapper("more", lambda: told.append("more ran"))
        group = ParallelGroup([TaskWrapper("quick", lambda: 1), member])
        group.with_execution("threading", {"timeout": 0.2, "thread_count": 2})
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1")
    with pytest.raises(exceptions.GroupTimeoutError):
        context.execute()
    assert entered.is_set()
    assert context.groups.open == {}
    release.set()
    wait_until(lambda: not [each for each in threading.enumerate() if each.name.startswith("graflow-ParallelGroup_1")])
    assert told == [True]


def test_a_group_that_ran_out_of_time_repeats_only_what_is_missing(time_is_over):
    release, ran = threading.Event(), []
    time_is_over(1, when=lambda: "slow" in ran)

    def slow():
        ran.append("slow")
        release.wait(30)

    with workflow("again") as wf:
        parallel(TaskWrapper("quick", lambda: ran.append("quick")), TaskWrapper("slow", slow)).with_execution(
            "threading", {"timeout": 0.2, "thread_count": 2}
        )
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1")
    with pytest.raises(exceptions.GroupTimeoutError):
        context.execute()
    release.set()
    context.execute()
    assert ran.count("quick") == 1
    assert ran.count("slow") == 2
    assert context.completed_tasks == ["quick", "slow", "ParallelGroup_1"]


def test_two_visits_of_nested_groups_have_different_keys():
    keys = []

    class Watching(TaskHandler):
        def execute_task(self, task, context):
            keys.append(context.member.run_id.partition(":")[2])
            context.set_result(task.task_id, None)

    engine = WorkflowEngine()
    engine.register_handler("watching", Watching())
    with workflow("twice") as wf:
        inner = ParallelGroup([TaskWrapper(n, lambda: n, handler_type="watching") for n in "ab"], name="inner")
        outer = ParallelGroup([inner, Task("c")], name="outer")
        for group in (inner, outer):
            group.with_execution("direct")
        outer >> TaskWrapper("again", lambda ctx: ctx.cycle_count < 2 and ctx.next_task(outer), True)
    engine.execute(ExecutionContext.create(wf.graph, "outer"))
    assert keys == ["inner:0.0", "inner:0.0", "inner:1.0", "inner:1.0"]


def test_one_engine_runs_several_contexts_at_once():
    engine, barrier = WorkflowEngine(), threading.Barrier(2)

    def run(name):
        return engine.execute(in_a_row(node("a", lambda: barrier.wait(10)), node("b", lambda: name)))

    assert at_once(run, "xy") == ["x", "y"]


def test_members_that_are_unknown_to_the_graph_run_all_the_same():
    context = in_a_row(node("a"))
    run = context.open_group("loose", [node("m1", lambda: 1), node("m2", lambda: 2)])
    for index in run.pending():
        run.run(index)

    class Accept:
        def on_group_finished(self, group_id, tasks, results, context):
            assert all(result.success for result in results.values())

    run.close(Accept())
    assert [context.get_result(name) for name in ("m1", "m2")] == [1, 2]


def test_a_time_to_live_goes_on_while_the_group_waits_for_other_members():
    context = in_a_row(node("a"))
    run = context.open_group("g", [node("m")])
    writes = [ChannelWrite("over", 1, ttl=5.0), ChannelWrite("alive", 1, ttl=50.0), ChannelWrite("plain", 1)]
    run.record(0, BranchOutcome("m", success=True, ended=time.monotonic() - 10, writes=writes))
    context.channel.set("over", "before")
    run.close(BestEffortGroupPolicy())
    assert sorted(context.channel.keys()) == ["alive", "plain"]


@pytest.mark.parametrize("skew", [-600, 600])
@pytest.mark.parametrize(
    "way", [lambda it: outcome_from_data(outcome_to_data(it), "m"), lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_time_to_live_does_not_depend_on_the_clock_of_the_machine_that_ran_the_member(skew, way):
    context = in_a_row(node("a"))
    run = context.open_group("g", [node("m")])
    there = BranchOutcome("m", success=True, timestamp=time.time() + skew, writes=[ChannelWrite("told", 1, ttl=60.0)])
    there.results, there.completed, there.steps = [("m", None)], ["m"], 1
    run.record(0, way(there))
    run.close(BestEffortGroupPolicy())
    assert context.channel.get("told") == 1


def test_a_chain_of_chains_runs_in_order():
    with workflow("long") as wf:
        chain(*(Task(f"t{i}") for i in range(50)))
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == [f"t{i}" for i in range(50)]


def test_an_interrupt_ends_a_group_on_threads_and_tells_its_members():
    told = []

    def member(ctx):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        wait_until(ctx.is_cancelled)
        told.append(ctx.task_id)

    with workflow("interrupted") as wf:
        ParallelGroup([TaskWrapper("a", member, True), Task("b")]).with_execution("threading", {"thread_count": 1})
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1")
    with pytest.raises(KeyboardInterrupt):
        context.execute()
    wait_until(lambda: told)
    assert context.groups.open == {}
    assert context.queue.to_list() == ["ParallelGroup_1"]
    assert context.stop_reason == "failed"


def calls_of(thread):
    """The names of the functions that a thread is in, the innermost first."""
    return [frame.f_code.co_name for frame, _ in walk_stack(sys._current_frames()[thread])]


def test_an_interrupt_that_wakes_nobody_ends_a_group_on_threads_as_well():
    runtime, runs, ended, told = Runtime(), [], threading.Event(), []

    def member(ctx):
        runs.append(ctx.task_id)
        wait_until(ctx.is_cancelled)
        told.append(ctx.task_id)

    def interrupted():
        runs.append(runtime.thread())
        with workflow("asleep") as wf:
            ParallelGroup([TaskWrapper("a", member, True)]).with_execution("threading")
        with pytest.raises(KeyboardInterrupt):
            ExecutionContext.create(wf.graph, "ParallelGroup_1").execute()
        ended.set()

    threading.Thread(target=interrupted, daemon=True).start()
    wait_until(lambda: len(runs) == 2)
    wait_until(lambda: (calls := calls_of(runs[0]))[0] == "wait" and "finish" in calls and "start" not in calls)
    # Noted for the thread, as a signal is that comes just before it falls asleep: no call into C returns for it.
    runtime.interrupt(runs[0], KeyboardInterrupt)
    assert ended.wait(30)
    wait_until(lambda: told == ["a"])


def test_a_run_that_is_not_recorded_is_told_once_by_its_name_and_end():
    told = []

    def hear(what, seconds, labels):
        assert seconds >= 0
        told.append((what, labels))

    observers.append(hear)
    try:
        with workflow("ones") as made:
            task("one")(lambda: 1)
        made.execute()
        with workflow("failing") as failing:
            task("fails")(lambda: 1 / 0)
        with pytest.raises(exceptions.TaskFailedError):
            failing.execute()
        runner = FlowRunner("memory://", recovery=False)
        runner.run(made, flow_id="recorded")
    finally:
        observers.remove(hear)
    runs = [labels for what, labels in told if what is Happening.RUN_ENDED]
    assert runs == [("ones", "completed"), ("failing", "failed")]
