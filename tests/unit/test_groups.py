"""Groups on the backends of one process: branches, one channel, cancellation, policies, nesting."""

import contextvars
import threading

import pytest

from graflow import chain, exceptions, parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.handler import TaskHandler
from graflow.core.handlers.group_policy import StrictGroupPolicy
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from tests.support import at_once

BACKENDS = ["threading", "direct"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def channel_task(name, body):
    return TaskWrapper(name, lambda ctx: body(ctx.get_channel()), True)


@each_backend
def test_members_results_and_branches_reach_the_parent(backend):
    with workflow("branches") as wf:
        a, b, c = (TaskWrapper(n, lambda n=n: n.upper()) for n in "abc")
        group = (a >> TaskWrapper("a2", lambda a: a + "2")) | b
        group.with_execution(backend) >> c
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["a", "a2", "b", "ParallelGroup_1", "c"]
    assert [context.get_result(n) for n in ("a", "a2", "b", "ParallelGroup_1")] == ["A", "A2", "B", None]
    assert context.steps == 5


@each_backend
def test_only_written_keys_are_merged_in_member_order(backend):
    with workflow("merge") as wf:
        members = [channel_task(f"m{i}", lambda ch, i=i: (ch.set("last", i), ch.set(f"own{i}", i))) for i in range(4)]
        deleting = channel_task("m4", lambda ch: ch.delete("gone"))
        parallel(*members, deleting).with_execution(backend)
        _, context = wf.execute(ret_context=True, initial_channel={"gone": 1, "kept": 2})
    channel = context.channel
    assert channel.get("last") == 3
    assert [channel.get(f"own{i}") for i in range(4)] == [0, 1, 2, 3]
    assert not channel.exists("gone")
    assert channel.get("kept") == 2


@each_backend
def test_atomic_operations_are_shared_at_once(backend):
    with workflow("atomic") as wf:
        members = [
            channel_task(f"m{i}", lambda ch, i=i: [ch.atomic_add("sum", i) and ch.append("list", i) for _ in range(20)])
            for i in range(1, 6)
        ]
        parallel(*members).with_execution(backend, {"thread_count": 5})
        _, context = wf.execute(ret_context=True)
    assert context.channel.get("sum") == 300
    assert sorted(context.channel.get("list")) == sorted(i for i in range(1, 6) for _ in range(20))


@each_backend
def test_a_failed_member_keeps_its_writes_and_reports_its_exception(backend):
    def fail(ctx):
        ctx.get_channel().set("half", 1)
        raise KeyError("broken")

    with workflow("fail") as wf:
        group = TaskWrapper("bad", fail, True) | TaskWrapper("good", lambda: 1)
        group.with_execution(backend) >> Task("after")
        with pytest.raises(exceptions.ParallelGroupError) as caught:
            wf.execute()
    error = caught.value
    assert [task_id for task_id, _ in error.failed_tasks] == ["bad"]
    assert "broken" in error.failed_tasks[0][1]
    assert error.successful_tasks == ["good"]
    assert isinstance(error.errors["bad"], KeyError)
    with workflow("tolerant") as wf:
        group = TaskWrapper("bad", fail, True) | TaskWrapper("good", lambda: 1)
        group.with_execution(backend, policy="best_effort") >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert not context.channel.exists("half")
    assert isinstance(context.get_result("bad"), KeyError)
    assert "bad" not in context.completed_tasks
    assert context.completed_tasks[-1] == "after"


@each_backend
def test_cancel_in_a_member_ends_the_run_and_starts_no_other(backend):
    started = []
    with workflow("cancel") as wf:
        members = [
            TaskWrapper(
                f"m{i}", lambda ctx, i=i: (started.append(i), ctx.cancel_workflow("stop") if i == 1 else None), True
            )
            for i in range(10)
        ]
        parallel(*members).with_execution(backend, {"thread_count": 1}) >> Task("after")
        with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="stop") as caught:
            wf.execute()
    assert caught.value.task_id == "m1"
    assert started == [0, 1]


@each_backend
def test_terminate_in_a_member_lets_the_others_finish(backend):
    with workflow("terminate") as wf:
        members = [
            TaskWrapper(f"m{i}", lambda ctx, i=i: ctx.terminate_workflow("enough") if i == 0 else i, True)
            for i in range(4)
        ]
        parallel(*members).with_execution(backend) >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["m0", "m1", "m2", "m3", "ParallelGroup_1"]
    assert context.stop_reason == "terminated"


@each_backend
def test_a_jump_out_of_a_branch_is_followed_by_the_parent(backend):
    with workflow("jump") as wf:
        cleanup = Task("cleanup")
        a = TaskWrapper("a", lambda ctx: ctx.next_task(cleanup), True)
        a >> Task("skipped")
        (a | Task("b")).with_execution(backend) >> Task("after")
        _, context = wf.execute(start_node="ParallelGroup_1", ret_context=True)
    assert context.completed_tasks == ["a", "b", "ParallelGroup_1", "cleanup", "after"]


@each_backend
def test_dynamic_tasks_of_members_come_back(backend):
    def spawn(ctx):
        ctx.next_task(TaskWrapper(f"child_of_{ctx.task_id}", lambda: ctx.task_id))

    with workflow("dynamic") as wf:
        parallel(*(TaskWrapper(n, spawn, True) for n in "abc")).with_execution(backend) >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == [
        "a", "child_of_a", "b", "child_of_b", "c", "child_of_c", "ParallelGroup_1", "after",
    ]  # fmt: skip
    assert context.get_result("child_of_b") == "b"
    assert "child_of_a" in context.graph.nodes


def test_nested_groups_do_not_deadlock_on_one_thread():
    with workflow("nested") as wf:
        value = TaskWrapper("x0", lambda: 0)
        for depth in range(1, 6):
            value = ParallelGroup([value, TaskWrapper(f"x{depth}", lambda d=depth: d)]).with_execution(
                "threading", {"thread_count": 1}
            )
        _, context = wf.execute(start_node=value.task_id, ret_context=True)
    assert [context.get_result(f"x{i}") for i in range(6)] == list(range(6))


def test_members_see_the_context_variables_of_the_starting_thread():
    tenant = contextvars.ContextVar("tenant", default="none")
    tenant.set("acme")
    with workflow("vars") as wf:
        parallel(*(TaskWrapper(n, tenant.get) for n in "ab"))
        _, context = wf.execute(ret_context=True)
    assert (context.get_result("a"), context.get_result("b")) == ("acme", "acme")


@each_backend
def test_a_group_outside_any_run_is_a_run_of_its_own(backend):
    double = TaskWrapper("double", lambda number: 2 * number)
    assert double.map([1, 2]).with_execution(backend).run() == [2, 4]
    assert double.map([]).run() == []
    with workflow("around") as wf:
        pair = (TaskWrapper("a", lambda: 1) | TaskWrapper("b", lambda: 2)).with_execution(backend)
        pair >> TaskWrapper("after", lambda: "not run with the group alone")
        assert pair.run() == [1, 2]
        assert wf.execute() == "not run with the group alone"
        assert pair.run() == pair() == [1, 2]
    with pytest.raises(exceptions.ParallelGroupError, match="'bad': ZeroDivisionError"):
        ParallelGroup([TaskWrapper("bad", lambda: 1 / 0)], name="failing").with_execution(backend).run()


@each_backend
def test_a_fan_out_inside_its_own_member_has_results_of_its_own(backend):
    @task
    def fibonacci(n):
        if n < 2:
            return n
        return sum(fibonacci.map([n - 1, n - 2]).with_execution(backend).run())

    assert [fibonacci.run(n) for n in range(7)] == [0, 1, 1, 2, 3, 5, 8]
    with workflow("numbers") as wf:
        fibonacci.map(range(7)).with_execution(backend)
        assert wf.execute() == [0, 1, 1, 2, 3, 5, 8]


@each_backend
def test_what_a_member_does_under_the_id_of_another_one_is_not_that_ones(backend):
    upper = task("upper")(str.upper)

    def work(number):
        if number == 1:
            raise KeyError("k")
        return upper.map(["a", "b", "c"], name="all").with_execution(backend).run()

    with workflow("ids") as wf:
        task("work")(work).map(range(3), name="all").with_execution(backend, policy="best_effort")
        value, context = wf.execute(ret_context=True)
    assert value == [["A", "B", "C"], None, ["A", "B", "C"]]
    assert isinstance(context.get_result("all[1]"), KeyError)
    assert "all[1]" not in context.completed_tasks


def test_nor_is_it_that_of_one_that_has_not_begun():
    upper = task("upper")(str.upper)

    def work(context, number):
        if number == 1:
            context.cancel_workflow("enough")
        return upper.map(["a", "b", "c"], name="all").with_execution("direct").run()

    with workflow("ids") as wf:
        group = task("work", inject_context=True)(work).map(range(3), name="all").with_execution("direct")
        Task("start") >> group
        context = ExecutionContext.create(wf.graph, "start")
        with pytest.raises(exceptions.GraflowWorkflowCanceledError):
            context.execute()
    assert "all[2]" not in context.completed_tasks
    assert context.get_result("all[2]") is None


@each_backend
def test_a_group_inside_the_last_one_gives_the_values_of_its_members(backend):
    def bad():
        raise KeyError("k")

    with workflow("nested") as wf:
        tasks = [TaskWrapper(name, lambda name=name: name) for name in "abc"]
        tolerant = ParallelGroup([TaskWrapper("bad", bad), tasks[2]], name="tolerant").with_execution(
            backend, policy="best_effort"
        )
        strict = ParallelGroup([TaskWrapper("worse", bad)], name="strict").with_execution(backend)
        innermost = ParallelGroup([tasks[1], tolerant], name="innermost").with_execution(backend)
        ParallelGroup([tasks[0], innermost, strict], name="all").with_execution(backend, policy="best_effort")
        value, context = wf.execute(ret_context=True)
    assert value == ["a", ["b", [None, "c"]], None]
    assert context.get_result("innermost") is None


@each_backend
def test_handlers_apply_inside_branches_at_any_depth(backend):
    class Loud(TaskHandler):
        def execute_task(self, task, context):
            value = f"loud {task.task_id}"
            context.set_result(task.task_id, value)
            return value

    engine = WorkflowEngine()
    engine.register_handler("loud", Loud())
    with workflow("handlers") as wf:
        inner = ParallelGroup([TaskWrapper(n, lambda: n, handler_type="loud") for n in "ab"], name="inner")
        outer = ParallelGroup([inner, Task("c")], name="outer")
        for group in (inner, outer):
            group.with_execution(backend)
    context = ExecutionContext.create(wf.graph, "outer")
    engine.execute(context)
    assert context.get_result("a") == "loud a"


@each_backend
def test_a_group_in_a_loop_runs_anew_each_time(backend):
    with workflow("loop") as wf:
        group = parallel(*(TaskWrapper(n, lambda ctx: ctx.cycle_count, True) for n in "ab")).with_execution(backend)

        @task(inject_context=True)
        def again(ctx):
            if ctx.cycle_count < 3:
                ctx.next_task(group)

        group >> again
        _, context = wf.execute(start_node="ParallelGroup_1", ret_context=True)
    assert context.get_result("a") == 3
    assert context.cycle_controller.cycle_counts["a"] == 3


def test_two_threads_run_one_workflow_without_seeing_each_other():
    barrier = threading.Barrier(2)
    with workflow("twice") as wf:

        @task(inject_context=True)
        def first(ctx, who):
            barrier.wait(60)
            ctx.get_channel().set("mine", who)
            barrier.wait(60)
            return ctx.get_channel().get("mine")

        first >> TaskWrapper("second", lambda first, who: (first, who))
    results = at_once(lambda who: wf.execute(initial_channel={"who": who}), "xy")
    assert results == [("x", "x"), ("y", "y")]


def test_a_group_over_its_time_limit_says_so(time_is_over):
    release = threading.Event()
    time_is_over(1)
    with workflow("slow") as wf:
        group = TaskWrapper("quick", lambda: 1) | TaskWrapper("stuck", lambda: release.wait(30))
        group.with_execution("threading", {"timeout": 0.2, "thread_count": 2})
        with pytest.raises(exceptions.GroupTimeoutError, match=r"ParallelGroup_1.*1 of 2"):
            wf.execute()
    release.set()


def test_mapped_values_come_in_item_order():
    @task
    def square(x):
        if x == 2:
            raise ValueError("two")
        return x * x

    with workflow("map") as wf:
        squares = square.map(range(4), name="squares").with_execution(policy="best_effort")
        squares >> TaskWrapper("total", lambda squares: squares)
        assert wf.execute() == [0, 1, None, 9]
        assert "square" not in wf.graph.nodes


def test_an_empty_fan_out_gives_an_empty_list():
    @task
    def square(x):
        return x * x

    with workflow("empty") as wf:
        square.map([], name="squares") >> TaskWrapper("total", lambda squares: squares)
        assert wf.execute() == []


def test_chains_of_groups_run_in_order():
    with workflow("chains") as wf:
        names = iter(range(100))
        make = lambda: Task(f"t{next(names)}")
        chain(make(), make() | make(), make() | make() | make(), make())
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks[0] == "t0"
    assert context.completed_tasks[-1] == "t6"
    assert context.steps == 9


def test_members_are_never_start_nodes():
    with workflow("w") as wf:
        a, b, c, d, outside = map(Task, ["a", "b", "c", "d", "outside"])
        a >> (b | c) >> d
        assert wf.execute("a", ret_context=True)[1].completed_tasks == ["a", "b", "c", "ParallelGroup_1", "d"]
        outside >> b
        assert wf.graph.get_start_nodes() == ["a", "outside"]
        wf.graph.remove_node("outside")
        assert wf.execute(ret_context=True)[1].completed_tasks == ["a", "b", "c", "ParallelGroup_1", "d"]


@each_backend
def test_counting_and_appending_in_members_loses_nothing(backend):
    def count(ctx):
        for _ in range(50):
            ctx.get_channel().atomic_add("count")
            ctx.get_channel().append("list", ctx.task_id)

    with workflow("w") as wf:
        parallel(*(TaskWrapper(f"m{number}", count, True) for number in range(6))).with_execution(
            backend, {"thread_count": 6}
        )
        _, context = wf.execute(ret_context=True)
    assert context.channel.get("count") == len(context.channel.get("list")) == 300


def test_results_of_a_group_do_not_depend_on_who_finishes_first():
    order = {"first": threading.Event(), "second": threading.Event()}

    def run(ctx, wait_for=None, then=None):
        if wait_for:
            order[wait_for].wait(60)
        ctx.get_channel().set("last", ctx.task_id)
        if then:
            order[then].set()
        if ctx.task_id.startswith("bad"):
            raise ValueError(ctx.task_id)

    with workflow("w") as wf:
        running = task("running", inject_context=True)(run)
        group = parallel(
            running(task_id="bad1", wait_for="second"),
            running(task_id="good1", wait_for="first", then="second"),
            running(task_id="bad2"),
            running(task_id="good2", then="first"),
        ).with_execution("threading", {"thread_count": 4}, "best_effort")
        _, context = wf.execute(group.task_id, ret_context=True)
        assert context.completed_tasks == ["good1", "good2", group.task_id]
        assert context.channel.get("last") == "good2"
        for event in order.values():
            event.clear()
        group.with_execution(policy="strict")
        with pytest.raises(exceptions.ParallelGroupError) as raised:
            wf.execute(group.task_id)
    assert [task_id for task_id, _ in raised.value.failed_tasks] == ["bad1", "bad2"]
    assert raised.value.successful_tasks == ["good1", "good2"]


# -- as the whole, or the end, of a workflow ---------------------------------------------------------------------------


def numbered(*names):
    return [task(id=name)(lambda name=name: name) for name in names]


def test_a_workflow_that_ends_with_a_group_has_the_list_of_its_members_values():
    with workflow("ends") as wf:
        start, a, b = numbered("start", "a", "b")
        group = start >> (a | b)
    assert wf.execute() == ["a", "b"]
    assert group.rightmost.task_id == "ParallelGroup_1"
    _, context = wf.execute(ret_context=True)
    assert context.get_result("ParallelGroup_1") is None


def test_members_that_failed_leave_none_at_their_place():
    with workflow("ends") as wf:
        good = task(id="good")(lambda: 1)
        bad = task(id="bad")(lambda: 1 / 0)
        (bad | good).with_execution(policy="best_effort")
    assert wf.execute() == [None, 1]


def test_the_value_is_that_of_the_task_that_ran_last():
    visits = []
    with workflow("back") as wf:

        @task(inject_context=True)
        def start(context):
            visits.append(1)
            if len(visits) > 1:
                context.terminate_workflow("enough")

        a, b = numbered("a", "b")
        group = a | b
        start >> group >> start
    assert wf.execute("start") is None


def test_a_workflow_of_one_fan_out_and_nothing_else_runs_it():
    with workflow("alone") as wf:

        @task
        def double(number):
            return 2 * number

        double.map([1, 2, 3], name="doubled")
        assert wf.execute() == [2, 4, 6]
    assert wf.execute() == [2, 4, 6]


def test_of_two_fan_outs_that_nothing_connects_none_is_guessed():
    with workflow("two") as wf:

        @task
        def double(number):
            return 2 * number

        double.map([1], name="one")
        double.map([2], name="two")
    with pytest.raises(exceptions.GraphCompilationError, match="has no tasks"):
        wf.execute()


def test_a_run_is_never_saved_between_the_end_of_a_group_and_the_end_of_its_step(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    saved, savers = threading.Event(), []
    finish = StrictGroupPolicy.on_group_finished

    def finish_while_somebody_saves(policy, group_id, tasks, results, context):
        def save():
            CheckpointManager.create_checkpoint(context, path=tmp_path / "run")
            saved.set()

        if not savers:
            savers.append(threading.Thread(target=save))
            savers[0].start()
            saved.wait(0.3)  # long enough for a save that nobody stops
        finish(policy, group_id, tasks, results, context)

    monkeypatch.setattr(StrictGroupPolicy, "on_group_finished", finish_while_somebody_saves)
    with workflow("saved") as wf:
        start, a, b, end = numbered("start", "a", "b", "end")
        start >> (a | b).with_execution("direct") >> end
    _, context = wf.execute(ret_context=True)
    savers[0].join(30)

    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    restored.execute()
    assert restored.steps == context.steps == 5


@pytest.mark.parametrize("backend", ["direct", "threading"])
def test_the_task_behind_a_member_that_failed_is_named(backend):
    with workflow("w") as wf:
        load = task("load")(lambda: 1)
        load >> task("parse")(lambda: 1 / 0)
        parallel(load, task("other")(lambda: {}["key"])).with_execution(backend)
        with pytest.raises(exceptions.ParallelGroupError) as caught:
            wf.execute("ParallelGroup_1")
    assert str(caught.value) == (
        "Parallel group 'ParallelGroup_1': 2 of 2 tasks failed: "
        "'load': Task 'parse' failed: ZeroDivisionError: division by zero; 'other': KeyError: 'key'"
    )
    assert caught.value.failed_tasks == [("load", "Task 'parse' failed: division by zero"), ("other", "'key'")]
    assert isinstance(caught.value.errors["load"], ZeroDivisionError)
