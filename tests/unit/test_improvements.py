"""Behaviour that workflow engines of this kind get wrong; each test fails on what its name rules out."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
import threading

import pytest

from graflow import RetryPolicy, exceptions, parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext, execute_with_cycles
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.handlers.direct import DirectTaskHandler
from graflow.core.serialization import dumps, loads
from graflow.core.task import ParallelGroup, Task
from graflow.trace.base import Tracer
from tests.support import at_once
from tests.unit.test_tasks import Doubling

each_backend = pytest.mark.parametrize("backend", ["threading", "direct"])


def tasks(names):
    return [Task(name) for name in names]


def with_ctx(name, body, **options):
    return task(name, inject_context=True, **options)(body)


def completed(wf, **options):
    return wf.execute(ret_context=True, **options)[1].completed_tasks


# -- joins and start nodes --------------------------------------------------------------------------------------------


def test_a_join_runs_once_and_not_once_per_edge():
    runs = []
    with workflow("w") as wf:
        a, b, c = tasks("abc")
        join = task("join")(lambda: runs.append(1))
        a >> (b >> join)
        a >> (c >> join)
        assert completed(wf) == ["a", "b", "c", "join"]
    assert runs == [1]


def test_a_join_neither_hangs_nor_runs_early_when_a_branch_was_skipped():
    with workflow("w") as wf:
        a, slow, slower, skipped, join = tasks(["a", "slow", "slower", "skipped", "join"])
        jump = with_ctx("jump", lambda ctx: ctx.next_task(slow))
        a >> jump >> skipped >> join
        a >> slow >> slower >> join
        assert completed(wf) == ["a", "jump", "slow", "slower", "join"]


@each_backend
def test_a_task_in_front_of_a_group_becomes_a_member_and_runs_once(backend):
    runs = []
    with workflow("w") as wf:
        a, b, c = (task(name)(lambda name=name: runs.append(name)) for name in "abc")
        (a | (b | c)).with_execution(backend)
        assert wf.graph.get_edges() == []
        wf.execute()
    assert sorted(runs) == ["a", "b", "c"]


def test_members_are_never_start_nodes():
    with workflow("w") as wf:
        a, b, c, d, outside = tasks(["a", "b", "c", "d", "outside"])
        a >> (b | c) >> d
        assert completed(wf, start_node="a") == ["a", "b", "c", "ParallelGroup_1", "d"]
        outside >> b
        assert wf.graph.get_start_nodes() == ["a", "outside"]
        wf.graph.remove_node("outside")
        assert completed(wf) == ["a", "b", "c", "ParallelGroup_1", "d"]


def test_an_unknown_start_node_is_no_empty_success():
    with workflow("w") as wf:
        Task("a")
        for start in (lambda: wf.execute("b"), lambda: ExecutionContext.create(wf.graph, "b")):
            with pytest.raises(ValueError, match=r"'b' not found in graph. Available nodes: \['a'\]"):
                start()
        with pytest.raises(ValueError, match="'b'"):
            WorkflowEngine().execute(ExecutionContext.create(wf.graph), "b")


# -- the channel of a group -------------------------------------------------------------------------------------------


@each_backend
def test_a_branch_writes_back_its_own_keys_and_no_stale_copy_of_the_others(backend):
    def write(ctx, key):
        channel = ctx.get_channel()
        channel.set(key, "written")
        channel.set("last", key)

    with workflow("w") as wf:
        writing = with_ctx("writing", write)
        members = [writing(task_id=f"m{number}", key=f"key{number}") for number in range(4)]
        deleting = with_ctx("deleting", lambda ctx: ctx.get_channel().delete("gone"))
        group = parallel(*members, deleting).with_execution(backend)
        _, context = wf.execute(group.task_id, ret_context=True, initial_channel={"gone": 1, "key9": "old"})
    channel = context.channel
    assert [channel.get(f"key{number}") for number in range(4)] == ["written"] * 4
    assert channel.get("last") == "key3"
    assert channel.get("key9") == "old"
    assert not channel.exists("gone")


@each_backend
def test_counting_and_appending_in_members_loses_nothing(backend):
    def count(ctx):
        for _ in range(50):
            ctx.get_channel().atomic_add("count")
            ctx.get_channel().append("list", ctx.task_id)

    with workflow("w") as wf:
        parallel(*(with_ctx(f"m{number}", count) for number in range(6))).with_execution(backend, {"thread_count": 6})
        _, context = wf.execute(ret_context=True)
    assert context.channel.get("count") == len(context.channel.get("list")) == 300


# -- settings and control of groups -----------------------------------------------------------------------------------


def test_a_second_with_execution_keeps_what_it_does_not_name():
    with workflow("w"):
        group = Task("a") | Task("b")
        group.with_execution("direct", {"thread_count": 2}, "best_effort").with_execution(backend="threading")
    assert group._execution_config == {
        "backend": "threading",
        "backend_config": {"thread_count": 2},
        "policy": "best_effort",
    }


@each_backend
def test_cancel_in_a_member_cancels_the_workflow_and_terminate_ends_it_normally(backend):
    ran = []
    for stop in ("cancel_workflow", "terminate_workflow"):
        with workflow("w") as wf:
            stopping = with_ctx("stopping", lambda ctx, stop=stop: getattr(ctx, stop)("enough"))
            other, after = (task(name)(lambda name=name: ran.append(name)) for name in ("other", "after"))
            (stopping | other).with_execution(backend, {"thread_count": 1}) >> after
            if stop == "cancel_workflow":
                with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="enough") as raised:
                    wf.execute()
                assert raised.value.task_id == "stopping"
                assert ran == []
            else:
                _, context = wf.execute(ret_context=True)
                assert (context.stop_reason, ran) == ("terminated", ["other"])


def test_one_after_another_does_not_drain_the_queue_of_the_run():
    with workflow("w") as wf:
        a, b, c, beside, after = tasks(["a", "b", "c", "beside", "after"])
        group = (b | c).with_execution("direct")
        a >> group
        a >> beside
        group >> after
        beside >> after
        assert completed(wf) == ["a", "b", "c", "ParallelGroup_1", "beside", "after"]


@each_backend
def test_overlapping_groups_run_a_common_member_once(backend):
    runs = []
    with workflow("w") as wf:
        a, b, c = (task(name)(lambda name=name: runs.append(name)) for name in "abc")
        ((a | b) | (b | c)).with_execution(backend)
        wf.execute()
    assert sorted(runs) == ["a", "b", "c"]


def test_edges_into_an_absorbed_group_move_to_the_one_that_stays():
    with workflow("w") as wf:
        x, y, a, b, c, d = tasks("xyabcd")
        left, right = a | b, c | d
        x >> left
        y >> right
        assert (left | right).task_id == "ParallelGroup_1"
    assert wf.graph.get_edges() == [("x", "ParallelGroup_1"), ("y", "ParallelGroup_1")]


def test_classes_of_the_user_can_be_members():
    with workflow("w") as wf:
        Doubling("one", 1) | Doubling("two", 2) | Task("three")
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(name) for name in ("one", "two")] == [2, 4]


@each_backend
def test_what_members_did_is_known_to_the_run(backend):
    def fail():
        raise ValueError("broken")

    with workflow("w") as wf:
        growing = with_ctx("growing", lambda ctx: ctx.next_task(Task("dynamic")))
        parallel(growing, task("failing")(fail)).with_execution(backend, policy="best_effort")
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["growing", "dynamic", "ParallelGroup_1"]
    assert str(context.get_result("failing")) == "broken"
    assert context.graph.has_node("dynamic")


@each_backend
def test_operators_of_a_member_are_not_lost(backend):
    def build(ctx):
        ctx.next_task(Task("x") >> Task("y"))

    with workflow("w") as wf:
        parallel(with_ctx("building", build), Task("other")).with_execution(backend)
    _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["building", "x", "y", "other", "ParallelGroup_1"]
    assert ("x", "y") in context.graph.edges


def test_results_of_a_group_do_not_depend_on_who_finishes_first():
    order = {"first": threading.Event(), "second": threading.Event()}

    def run(ctx, wait_for=None, then=None):
        if wait_for:
            order[wait_for].wait(10)
        ctx.get_channel().set("last", ctx.task_id)
        if then:
            order[then].set()
        if ctx.task_id.startswith("bad"):
            raise ValueError(ctx.task_id)

    with workflow("w") as wf:
        running = with_ctx("running", run)
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


@each_backend
def test_handlers_of_the_engine_are_known_at_any_depth(backend):
    class Counting(DirectTaskHandler):
        def __init__(self):
            self.seen = []

        def execute_task(self, task, context):
            self.seen.append(task.task_id)
            return super().execute_task(task, context)

    with workflow("w") as wf:
        a, b, c = (task(name, handler="counting")(lambda: 0) for name in "abc")
        inner = ParallelGroup([a, b]).with_execution(backend)
        ParallelGroup([inner, c]).with_execution(backend)
    engine, handler = WorkflowEngine(), Counting()
    engine.register_handler("counting", handler)
    engine.execute(ExecutionContext.create(wf.graph))
    assert sorted(handler.seen) == ["a", "b", "c"]


# -- limits and retries -----------------------------------------------------------------------------------------------


def test_reaching_max_steps_is_no_success():
    with workflow("w") as wf:
        Task("a") >> Task("b") >> Task("c")
        with pytest.raises(exceptions.MaxStepsExceededError) as raised:
            wf.execute(max_steps=2)
        assert (raised.value.max_steps, raised.value.pending) == (2, ["c"])
        assert completed(wf, max_steps=3) == ["a", "b", "c"]
    for run in (execute_with_cycles, WorkflowEngine().execute_with_cycles):
        with pytest.warns(UserWarning, match="2"):
            assert run(wf.graph, "a", 2) is None


def test_a_retry_runs_before_what_was_queued_and_each_visit_has_a_full_budget():
    order, attempts = [], []

    def shaky(ctx):
        order.append("shaky")
        attempts.append(ctx.retry_count)
        if ctx.retry_count < 2:
            raise ValueError("once more")

    with workflow("w") as wf:
        start, other = Task("start"), task("other")(lambda: order.append("other"))
        shaking = with_ctx("shaky", shaky, max_retries=2)
        start >> shaking
        start >> other
        shaking >> with_ctx("again", lambda ctx: ctx.next_task(shaking) if ctx.cycle_count == 1 else None)
        _, context = wf.execute(ret_context=True)
    assert order == ["shaky", "shaky", "shaky", "other", "shaky", "shaky", "shaky"]
    assert attempts == [0, 1, 2, 0, 1, 2]
    assert context.retry_controller.get_retry_count("shaky") == 2


def test_a_backoff_wait_does_not_hold_up_ready_tasks():
    order = []

    def shaky():
        order.append("shaky")
        if order.count("shaky") == 1:
            raise ValueError("once")

    with workflow("w") as wf:
        start = Task("start")
        policy = RetryPolicy(max_retries=1, initial_interval=0.05)
        start >> task("shaky", retry_policy=policy)(shaky)
        start >> task("other")(lambda: order.append("other")) >> task("then")(lambda: order.append("then"))
        wf.execute()
    assert order == ["shaky", "other", "then", "shaky"]


# -- definitions and runs ---------------------------------------------------------------------------------------------


def test_every_run_starts_from_the_definition():
    with workflow("w") as wf:
        grow = with_ctx("grow", lambda ctx: [ctx.next_task(Task("dynamic")), Task("made") >> Task("chained")])
        grow >> Task("after")
        for _ in range(2):
            _, context = wf.execute(ret_context=True)
            assert context.completed_tasks == ["grow", "dynamic", "after"]
            assert list(context.graph.nodes) == ["grow", "after", "dynamic", "made", "chained"]
        assert list(wf.graph.nodes) == ["grow", "after"]


def test_nodes_that_a_task_added_are_no_start_nodes_of_a_graph_that_is_run_directly():
    graph = TaskGraph()
    graph.add_node(with_ctx("grow", lambda ctx: ctx.next_task(Task("dynamic", False))))
    context = ExecutionContext.create(graph)
    assert context.graph is graph
    context.execute()
    assert graph.has_node("dynamic")
    assert graph.get_start_nodes() == ["grow"]


def test_importing_building_and_running_create_no_file(tmp_path):
    code = (
        "from graflow import task, workflow\n"
        "with workflow('w') as wf:\n"
        "    a, b, c = (task(n)(lambda: 0) for n in 'abc')\n"
        "    a >> (b | c)\n"
        "    wf.execute()\n"
    )
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_overrides_a_default_is_logged_and_can_be_switched_off(caplog):
    with workflow("w") as wf, caplog.at_level(logging.DEBUG, logger="graflow"):
        task("open")(lambda limit=1: limit) >> task("closed", resolve_keyword_args=False)(lambda limit=1: limit)
        _, context = wf.execute(ret_context=True, initial_channel={"limit": None})
    assert context.get_result("open", "absent") is None
    assert context.get_result("closed") == 1
    assert [record for record in caplog.records if "limit" in record.getMessage() and "open" in record.getMessage()]


@pytest.mark.parametrize("outcome", ["value", "failure", "cancel", "max_steps"])
def test_the_end_of_a_run_is_told_once_on_every_exit(outcome):
    ends = []

    class Listening(Tracer):
        def on_workflow_end(self, name, context, result=None, error=None):
            ends.append((name, result, type(error)))

    def body(ctx):
        if outcome == "failure":
            raise ValueError("broken")
        if outcome == "cancel":
            ctx.cancel_workflow("stop")
        return 5

    with workflow("told", tracer=Listening()) as wf:
        with_ctx("a", body) >> with_ctx("b", lambda _: 6)
        limit = 1 if outcome == "max_steps" else 10
        if outcome == "value":
            assert wf.execute(max_steps=limit) == 6
        else:
            with pytest.raises(exceptions.GraflowRuntimeError):
                wf.execute(max_steps=limit)
    expected = {
        "value": ("told", 6, type(None)),
        "failure": ("told", None, exceptions.GraflowRuntimeError),
        "cancel": ("told", None, exceptions.GraflowWorkflowCanceledError),
        "max_steps": ("told", None, exceptions.MaxStepsExceededError),
    }
    assert ends == [expected[outcome]]


def test_two_runs_of_one_workflow_in_two_threads_are_apart():
    barrier, seen = threading.Barrier(2), {}

    def look(ctx, who):
        barrier.wait(10)
        ctx.get_channel().set("mine", who)
        barrier.wait(10)
        seen[who] = (ctx.get_channel().get("mine"), looking.get_execution_context() is ctx.execution_context)

    with workflow("w") as wf:
        looking = with_ctx("look", look)
    at_once(lambda who: wf.execute(initial_channel={"who": who}), "ab")
    assert seen == {"a": ("a", True), "b": ("b", True)}


# -- iterations and dynamic tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
def test_successors_follow_the_last_pass_of_a_loop_once(inside):
    seen = []

    def loop(ctx, data=0):
        seen.append(data)
        if data < 2:
            ctx.next_iteration(data + 1)
        return data

    with workflow("w") as wf:
        with_ctx("loop", loop) >> task("after")(lambda loop: seen.append(f"after {loop}"))
        if inside:
            wf.execute()
    if not inside:
        wf.execute()
    assert seen == [0, 1, 2, "after 2"]


def test_the_result_of_a_loop_is_that_of_its_last_good_pass():
    def loop(ctx, data=0):
        if data < 2:
            ctx.next_iteration(data + 1)
        return data

    with workflow("w") as wf:
        with_ctx("loop", loop)
        _, context = wf.execute(ret_context=True)
    assert context.get_result("loop") == 2


def test_a_task_defined_inside_a_running_task_is_new():
    with workflow("w") as wf:

        def define(ctx):
            @task
            def inner():
                return "inner"

            ctx.next_task(inner)

        with_ctx("define", define) >> Task("after")
        assert completed(wf) == ["define", "inner", "after"]


def test_a_positional_argument_wins_over_a_key_of_that_name():
    seen = []

    def loop(ctx, data=None):
        seen.append(data)
        if len(seen) < 2:
            ctx.next_iteration("passed")

    with workflow("w") as wf:
        with_ctx("loop", loop)
        wf.execute(initial_channel={"data": "key"})
    assert seen == ["key", "passed"]


# -- saving and loading -----------------------------------------------------------------------------------------------


def test_a_half_run_context_goes_on_where_it_was():
    ran = []
    graph = TaskGraph()
    for name in "abc":
        graph.add_node(task(name)(lambda name=name: ran.append(name)))
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    context = ExecutionContext(graph, "a", max_steps=2, on_max_steps="warn")
    with pytest.warns(UserWarning, match="c"):
        context.execute()
    twin = loads(dumps(context))
    assert twin.queue.to_list() == ["c"]
    assert twin.completed_tasks == ["a", "b"]
    twin.max_steps = 10
    twin.execute()
    assert twin.completed_tasks == ["a", "b", "c"]


def test_a_half_written_checkpoint_is_never_complete(tmp_path):
    context = ExecutionContext.create(TaskGraph())
    with pytest.raises(TypeError):
        CheckpointManager.create_checkpoint(context, path=str(tmp_path / "point"), metadata={"key": object()})
    assert list(tmp_path.iterdir()) == []
    path, _ = CheckpointManager.create_checkpoint(context, path=str(tmp_path / "point"))
    CheckpointManager.resume_from_checkpoint(path)
    (tmp_path / "point.meta.json").unlink()
    with pytest.raises(FileNotFoundError):
        CheckpointManager.resume_from_checkpoint(path)


@each_backend
def test_finished_members_are_not_run_again_on_resume(tmp_path, backend):
    ran, crash = [], [True]
    path = tmp_path / "point"

    def member(ctx, name):
        ran.append(name)
        if name == "b":
            ctx.checkpoint(path=str(path), deferred=False)
            if crash.pop():
                raise KeyboardInterrupt

    with workflow("w") as wf:
        running = with_ctx("running", member)
        group = parallel(running(task_id="a", name="a"), running(task_id="b", name="b"))
        group.with_execution(backend, {"thread_count": 1}) >> Task("after")
        wf.graph.remove_node("running")
        with pytest.raises(KeyboardInterrupt):
            wf.execute()
    del running, group, wf
    assert ran == ["a", "b"]
    context, _ = CheckpointManager.resume_from_checkpoint(str(path))
    restored = [entry for entry in context.graph.get_node("ParallelGroup_1").tasks if entry.task_id == "a"]
    restored[0].func = lambda *_, **__: pytest.fail("ran again")
    context.graph.get_node("b").func = lambda *_, **__: None
    WorkflowEngine().execute(context)
    assert context.completed_tasks == ["a", "b", "ParallelGroup_1", "after"]


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_with_their_fields(copied):
    twin = copied(exceptions.DuplicateTaskError("x"))
    assert (type(twin), twin.task_id, str(twin)) == (exceptions.DuplicateTaskError, "x", "Duplicate task ID: x")
    limit = copied(exceptions.RetryLimitExceededError("x", 3, 2, ValueError("broken")))
    assert (limit.task_id, limit.retry_count, limit.max_retries, str(limit.last_error)) == ("x", 3, 2, "broken")
    group = copied(exceptions.ParallelGroupError("m", "g", [("a", "b")], ["c"], {"a": ValueError("b")}))
    assert (str(group), group.group_id, group.failed_tasks, group.successful_tasks) == ("m", "g", [("a", "b")], ["c"])
