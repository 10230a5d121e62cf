"""What a group promises on every backend of one process, and how a backend is chosen."""

from __future__ import annotations

import re
import threading

import pytest

from graflow import parallel, task, workflow
from graflow.coordination import executor as executor_module
from graflow.coordination.coordinator import CoordinationBackend, TaskCoordinator
from graflow.coordination.executor import GroupExecutor
from graflow.coordination.threading_coordinator import ThreadingCoordinator
from graflow.core import task as task_module
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.handlers.group_policy import GroupExecutionPolicy, StrictGroupPolicy
from graflow.core.task import ParallelGroup, Task
from graflow.core.workflow import get_current_workflow_context
from graflow.exceptions import (
    ConfigError,
    GraflowRuntimeError,
    GraflowWorkflowCanceledError,
    GroupTimeoutError,
    ParallelGroupError,
)
from tests.support import wait_until
from tests.unit.test_tasks import Doubling

each_backend = pytest.mark.parametrize("backend", ["threading", CoordinationBackend.DIRECT])


def with_ctx(name, body):
    return task(name, inject_context=True)(body)


def failing(name, text="broken"):
    def body():
        raise ValueError(text)

    return task(name)(body)


# -- choosing a backend -----------------------------------------------------------------------------------------------


def test_backends_by_name_and_value():
    assert {backend.name: backend.value for backend in CoordinationBackend} == {
        "REDIS": "redis",
        "THREADING": "threading",
        "DIRECT": "direct",
    }
    resolve = GroupExecutor._resolve_backend
    assert resolve(None) is CoordinationBackend.THREADING
    assert resolve(CoordinationBackend.REDIS) is CoordinationBackend.REDIS
    assert resolve("DiReCt") is CoordinationBackend.DIRECT
    for unknown in ("celery", 5):
        with pytest.raises(ValueError, match="known are redis, threading, direct"):
            resolve(unknown)
    assert task_module.GroupExecutor is GroupExecutor


def test_a_coordinator_says_how_a_group_is_run():
    with pytest.raises(TypeError):
        TaskCoordinator()
    made = GroupExecutor._create_coordinator(CoordinationBackend.THREADING, {"thread_count": 3, "host": "ignored"})
    assert isinstance(made, ThreadingCoordinator)
    assert made.thread_count == 3
    assert ThreadingCoordinator().thread_count >= 1
    assert isinstance(GroupExecutor._create_coordinator(CoordinationBackend.DIRECT, {}), TaskCoordinator)


@pytest.mark.parametrize("count", [0, -1, "2", 1.5, True])
def test_the_number_of_threads_is_checked(count):
    with pytest.raises(ConfigError, match="thread_count"):
        ThreadingCoordinator(count)


@pytest.mark.parametrize("backend", ["threading", "direct"])
@pytest.mark.parametrize("timeout", [0, -1, "5", True])
def test_the_time_limit_of_a_group_is_checked(backend, timeout):
    with pytest.raises(ConfigError, match="timeout"):
        GroupExecutor._create_coordinator(CoordinationBackend(backend), {"timeout": timeout})


def test_a_group_whose_members_have_all_ended_is_not_over_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("graflow.coordination.direct_coordinator.time.monotonic", lambda: now[0])

    def slow():
        now[0] += 3
        return "done"

    with workflow("w") as wf:
        group = parallel(Task("quick"), task(slow)).with_execution("direct", {"timeout": 2})
        _, context = wf.execute(ret_context=True)
        assert context.get_result("slow") == "done"
        (group | Task("late"))
        with pytest.raises(GroupTimeoutError, match="2 of 3 members"):
            wf.execute()


class Recording(TaskCoordinator):
    def __init__(self, config):
        self.config = config
        self.calls = []

    def execute_group(self, group_id, tasks, execution_context, policy):
        self.calls.append((group_id, tasks, execution_context, policy))


@pytest.fixture
def made(monkeypatch):
    """Coordinators that the executor made for REDIS, by a plug-in."""
    coordinators = []

    def factory(config):
        coordinators.append(Recording(config))
        return coordinators[-1]

    monkeypatch.setitem(executor_module._factories, CoordinationBackend.REDIS, factory)
    return coordinators


def test_settings_of_the_group_lie_over_those_of_the_context(made):
    context = ExecutionContext(TaskGraph(), config={"host": "context", "anything": 1})
    members = [Task("a", False)]
    GroupExecutor.execute_parallel_group(
        "g", members, context, backend="redis", backend_config={"host": "group"}, policy="strict"
    )
    (coordinator,) = made
    assert coordinator.config == {"host": "group", "anything": 1}
    ((group_id, tasks, given, policy),) = coordinator.calls
    assert (group_id, tasks, given, type(policy)) == ("g", members, context, StrictGroupPolicy)


def test_only_settings_of_the_group_are_checked_for_unknown_ones(made):
    context = ExecutionContext(TaskGraph(), config={"leese": 1})
    GroupExecutor.execute_parallel_group("g", [Task("a", False)], context, backend="redis", backend_config={"lease": 1})
    with pytest.raises(ConfigError, match="leese"):
        GroupExecutor.execute_parallel_group(
            "g", [Task("a", False)], context, backend="redis", backend_config={"leese": 1}
        )
    assert sum(len(coordinator.calls) for coordinator in made) == 1


@each_backend
def test_a_misspelt_setting_of_a_local_group_ends_the_run_with_the_nearest_known_one(backend):
    ran = []
    with workflow("typo") as wf:
        (task("a")(lambda: ran.append(1)) | Task("b")).with_execution(backend, backend_config={"thread_cont": 2})
        with pytest.raises(ConfigError, match="'thread_cont' in backend_config; did you mean 'thread_count'"):
            wf.execute()
    assert ran == []


@each_backend
def test_a_configuration_for_workers_serves_local_groups_too(backend):
    config = {"url": "redis://:hush@nowhere:1/2", "lease": 5, "max_attempts": 2, "ssl_ca_certs": "/ca", "queue": "q"}
    with workflow("both") as wf:
        group = task("a")(lambda: 1) | task("b")(lambda: 2)
        group.with_execution(backend, backend_config={**config, "thread_count": 1, "timeout": 9})
        _, context = wf.execute(ret_context=True)
    assert (context.get_result("a"), context.get_result("b")) == (1, 2)


def test_the_executor_works_with_stand_ins(mocker):
    coordinator = mocker.Mock()
    create = mocker.patch.object(GroupExecutor, "_create_coordinator", return_value=coordinator)
    context, member = mocker.Mock(), mocker.Mock(task_id="a")
    GroupExecutor.execute_parallel_group("g", [member], context, backend=CoordinationBackend.REDIS)
    create.assert_called_once_with(CoordinationBackend.REDIS, {})
    assert coordinator.execute_group.call_args.args[:3] == ("g", [member], context)


def test_choosing_redis_needs_nothing_and_running_without_the_plug_in_says_what_to_install(monkeypatch):
    monkeypatch.delitem(executor_module._factories, CoordinationBackend.REDIS, raising=False)
    monkeypatch.setattr(executor_module, "entry_points", lambda **_: [])
    with workflow("w") as wf:
        (Task("a") | Task("b")).with_execution(CoordinationBackend.REDIS, {"host": "localhost"})
        with pytest.raises(GraflowRuntimeError, match="pip install graflow-celery"):
            wf.execute()


def test_coordinators_take_a_policy_in_any_form():
    with workflow("w") as wf:
        group = failing("a") | Task("b")
    context = ExecutionContext(wf.graph)
    ThreadingCoordinator(1).execute_group(group.task_id, group.tasks, context, "best_effort")
    assert context.completed_tasks == ["b"]


# -- members ----------------------------------------------------------------------------------------------------------


@each_backend
def test_a_member_runs_in_a_branch_of_its_own(backend):
    seen = {}

    def look(ctx):
        context = ctx.execution_context
        seen[ctx.task_id] = (ctx.session_id, ctx.trace_id, context.graph, context.parent_context, context.task_queue)

    with workflow("w") as wf:
        (with_ctx("a", look) | with_ctx("b", look)).with_execution(backend)
        _, context = wf.execute(ret_context=True)
    assert {name: entry[0] for name, entry in seen.items()} == {
        name: f"{context.session_id}_{name}" for name in ("a", "b")
    }
    for _, trace_id, graph, parent, queue in seen.values():
        assert trace_id == context.trace_id
        assert graph is context.graph
        assert parent is context
        assert queue is not context.task_queue


@each_backend
def test_a_branch_holds_successors_iterations_and_dynamic_tasks(backend):
    def loop(ctx, data=0):
        if data < 2:
            ctx.next_iteration(data + 1)
        else:
            ctx.next_task(Task("extra"))
        return data

    with workflow("w") as wf:
        looping, plain = with_ctx("looping", loop), Task("plain")
        looping >> Task("then") >> Task("last")
        parallel(looping, plain).with_execution(backend) >> Task("after")
        _, context = wf.execute(ret_context=True)
    ran = [re.sub(r"_[0-9a-f]{8}$", "", name) for name in context.completed_tasks]
    assert ran == [
        "looping",
        "looping_cycle_1",
        "looping_cycle_2",
        "extra",
        "then",
        "last",
        "plain",
        "ParallelGroup_1",
        "after",
    ]
    assert context.steps == 9
    assert context.get_result("looping") == 2
    assert context.cycle_controller.cycle_counts["looping"] == 3
    assert context.graph.has_node("extra")


@each_backend
def test_members_read_the_channel_live_and_write_in_private(backend):
    seen = []

    def write(ctx):
        channel = ctx.get_channel()
        channel.set("shared", "mine")
        seen.append(channel.get("shared"))
        parent = ctx.execution_context.parent_context.channel
        seen.append(parent.get("shared"))
        parent.set("live", "now")
        seen.append(channel.get("live"))
        channel.set("short", 1, ttl=100)

    with workflow("w") as wf:
        parallel(with_ctx("writer", write), Task("other")).with_execution(backend)
        _, context = wf.execute(ret_context=True, initial_channel={"shared": "before"})
    assert seen == ["mine", "before", "now"]
    assert context.channel.get("shared") == "mine"
    assert context.channel.get("short") == 1


@each_backend
def test_a_time_to_live_survives_the_merge(backend):
    with workflow("w") as wf:
        writer = with_ctx("writer", lambda ctx: ctx.get_channel().set("short", 1, ttl=0.05))
        parallel(writer, Task("other")).with_execution(backend)
        _, context = wf.execute(ret_context=True)
    wait_until(lambda: not context.channel.exists("short"))


@each_backend
def test_a_private_value_is_published_before_a_shared_operation_on_it(backend):
    def add(ctx):
        channel = ctx.get_channel()
        channel.set("sum", 10)
        channel.set("list", ["own"])
        return channel.atomic_add("sum", 5), channel.append("list", "x"), channel.get("sum"), channel.get("list")

    with workflow("w") as wf:
        parallel(with_ctx("adder", add), Task("other")).with_execution(backend)
        _, context = wf.execute(ret_context=True)
    assert context.get_result("adder") == (15, 2, 15, ["own", "x"])
    assert (context.channel.get("sum"), context.channel.get("list")) == (15, ["own", "x"])


@each_backend
def test_a_lock_excludes_other_members(backend):
    arrived, inside, most = [], [], []
    expected = 4 if backend == "threading" else 1

    def locked(ctx):
        arrived.append(ctx.task_id)
        with ctx.get_channel().lock("key"):
            inside.append(ctx.task_id)
            wait_until(lambda: len(arrived) >= expected)
            most.append(len(inside))
            inside.remove(ctx.task_id)

    with workflow("w") as wf:
        members = [with_ctx(f"m{number}", locked) for number in range(4)]
        parallel(*members).with_execution(backend, {"thread_count": 4})
        wf.execute()
    assert most == [1, 1, 1, 1]


@each_backend
def test_only_successful_members_merge_and_a_failed_one_leaves_its_exception(backend):
    def write_and_fail(ctx):
        ctx.get_channel().set("lost", 1)
        raise ValueError("broken")

    with workflow("w") as wf:
        bad = with_ctx("bad", write_and_fail)
        good = with_ctx("good", lambda ctx: ctx.get_channel().set("kept", 1))
        parallel(bad, good).with_execution(backend, policy="best_effort") >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert not context.channel.exists("lost")
    assert context.channel.get("kept") == 1
    assert isinstance(context.get_result("bad"), ValueError)
    assert context.completed_tasks == ["good", "ParallelGroup_1", "after"]


@each_backend
def test_operators_of_a_member_record_into_the_graph_of_the_run(backend):
    def build(ctx):
        a, b = Task(f"{ctx.task_id}_a"), Task(f"{ctx.task_id}_b")
        a >> b
        ctx.next_task(a)

    with workflow("w") as wf:
        parallel(with_ctx("x", build), with_ctx("y", build)).with_execution(backend)
    _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["x", "x_a", "x_b", "y", "y_a", "y_b", "ParallelGroup_1"]
    assert set(context.graph.get_edges()) == {("x_a", "x_b"), ("y_a", "y_b")}
    assert len(wf.graph.nodes) == 3
    assert get_current_workflow_context() is None


@each_backend
def test_members_of_every_kind(backend):
    with workflow("w") as wf:
        inner = Doubling("d1", 1) | Doubling("d2", 2)
        outer = ParallelGroup([Task("t"), task("f")(lambda: "f"), Doubling("d3", 3), inner], name="outer")
        outer.with_execution(backend)
        _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["t", "f", "d3", "d1", "d2", inner.task_id, "outer"]
    assert [context.get_result(name) for name in ("t", "f", "d1", "d2", "d3")] == [None, "f", 2, 4, 6]


@each_backend
def test_deeply_nested_groups_end_on_one_thread(backend):
    with workflow("w") as wf:
        group = Task("a") | Task("b")
        for level in range(8):
            group = ParallelGroup([group.with_execution(backend, {"thread_count": 1}), Task(f"t{level}")])
        group.with_execution(backend, {"thread_count": 1})
        _, context = wf.execute(ret_context=True)
    assert context.steps == 19


def test_one_after_another_in_member_order_without_touching_the_queue_of_the_run():
    order = []

    def note(ctx):
        order.append((ctx.task_id, ctx.execution_context.parent_context.task_queue.to_list(), threading.get_ident()))

    with workflow("w") as wf:
        first = with_ctx("first", lambda ctx: ctx.next_task(Task("waiting")))
        group = parallel(*(with_ctx(name, note) for name in "cab")).with_execution("direct")
        first >> group
        first >> Task("also")
        _, context = wf.execute(ret_context=True)
    assert order == [(name, ["also"], threading.get_ident()) for name in "cab"]
    assert context.completed_tasks[:2] == ["first", "waiting"]


def test_threads_run_members_at_the_same_time_up_to_their_number():
    together = threading.Barrier(3)
    with workflow("w") as wf:
        members = [task(f"m{number}")(lambda: together.wait(60) is not None) for number in range(3)]
        parallel(*members).with_execution("threading", {"thread_count": 3})
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(f"m{number}") for number in range(3)] == [True] * 3


@each_backend
def test_cancel_names_the_member(backend):
    with workflow("w") as wf:
        parallel(with_ctx("a", lambda ctx: ctx.cancel_workflow("stop it")), Task("b")).with_execution(backend)
        with pytest.raises(GraflowWorkflowCanceledError, match="stop it") as raised:
            wf.execute()
    assert raised.value.task_id == "a"


# -- policies, through a run ------------------------------------------------------------------------------------------


@each_backend
@pytest.mark.parametrize("depth", [0, 1])
def test_a_refusal_reaches_the_caller_unchanged(backend, depth):
    with workflow("w") as wf:
        group = parallel(Task("good"), failing("bad"), failing("worse", "worse text"), Task("fine"))
        group.with_execution(backend, {"thread_count": 4})
        for _ in range(depth):
            group = ParallelGroup([group, Task("beside")]).with_execution(backend)
        group >> Task("after")
        with pytest.raises(ParallelGroupError) as raised:
            wf.execute()
    error = raised.value
    if depth:
        assert error.group_id == "ParallelGroup_2"
        error = error.errors["ParallelGroup_1"]
    assert error.group_id == "ParallelGroup_1"
    assert [task_id for task_id, _ in error.failed_tasks] == ["bad", "worse"]
    assert all(type(pair) is tuple for pair in error.failed_tasks)
    assert "broken" in error.failed_tasks[0][1]
    assert "worse text" in error.failed_tasks[1][1]
    assert error.successful_tasks == ["good", "fine"]
    assert {name: str(cause) for name, cause in error.errors.items()} == {"bad": "broken", "worse": "worse text"}
    assert str(error) == error.message


@each_backend
@pytest.mark.parametrize(
    ("policy", "accepted"),
    [
        ("strict", False),
        ("best_effort", True),
        ({"type": "critical", "critical_task_ids": ["good"]}, True),
        ({"type": "critical", "critical_task_ids": ["bad"]}, False),
        ({"type": "at_least_n", "min_success": 1}, True),
        ({"type": "at_least_n", "min_success": 2}, False),
    ],
)
def test_policies_accept_or_refuse(backend, policy, accepted):
    with workflow("w") as wf:
        parallel(Task("good"), failing("bad")).with_execution(backend, policy=policy) >> Task("after")
        if accepted:
            assert wf.execute(ret_context=True)[1].completed_tasks[-1] == "after"
        else:
            with pytest.raises(ParallelGroupError):
                wf.execute()


def test_a_policy_of_ones_own_sees_every_result():
    class Seeing(GroupExecutionPolicy):
        def on_group_finished(self, group_id, tasks, results, context):
            self.seen = (group_id, [member.task_id for member in tasks], results, context)

    policy = Seeing()
    with workflow("w") as wf:
        group = parallel(Task("good"), failing("bad")).with_execution(policy=policy)
        assert group._execution_config["policy"] == {"type": "__custom__", "policy": policy}
        _, context = wf.execute(ret_context=True)
    group_id, members, results, given = policy.seen
    assert (group_id, members, given) == (group.task_id, ["good", "bad"], context)
    assert list(results) == ["good", "bad"]
    assert (results["good"].success, results["bad"].success) == (True, False)
    assert isinstance(results["bad"].error, ValueError)
    assert results["good"].duration >= 0
    assert results["good"].timestamp > 0


def test_handlers_of_the_engine_run_members():
    class Shouting:
        def execute_task(self, task, context):
            value = task.run().upper()
            context.set_result(task.task_id, value)
            return value

    with workflow("w") as wf:
        parallel(*(task(name, handler="loud")(lambda name=name: name) for name in "ab"))
    engine = WorkflowEngine()
    engine.register_handler("loud", Shouting())
    context = ExecutionContext.create(wf.graph)
    engine.execute(context)
    assert [context.get_result(name) for name in "ab"] == ["A", "B"]


@pytest.mark.usefixtures("many_switches")
def test_members_change_and_walk_the_graph_at_the_same_time():
    def grow(ctx):
        name = ctx.task_id
        for number in range(5):
            first, last = Task(f"{name}_{number}"), Task(f"{name}_{number}_last")
            first >> (Task(f"{name}_{number}_x") | Task(f"{name}_{number}_y")).with_execution("direct") >> last
            ctx.next_task(first)

    with workflow("w") as wf:
        members = [with_ctx(f"m{number}", grow) for number in range(8)]
        parallel(*members).with_execution("threading", {"thread_count": 8}) >> Task("after")
        _, context = wf.execute(ret_context=True)
    assert context.steps == 8 * (1 + 5 * 5) + 2
    assert len(set(context.completed_tasks)) == context.steps


@each_backend
@pytest.mark.parametrize("group_first", [True, False])
def test_a_group_that_two_branches_lead_into_runs_once_after_both(backend, group_first):
    with workflow("w") as wf:
        a, b, c, d, e = (Task(name) for name in "abcde")
        inner = ParallelGroup([c, d], name="inner")
        edges = [(a, inner), (a, e), (b, c)]
        for left, right in edges if group_first else reversed(edges):
            left >> right
        ParallelGroup([a, b], name="outer").with_execution(backend)
        _, context = wf.execute("outer", ret_context=True)
    assert context.completed_tasks == ["a", "e", "b", "outer", "c", "d", "inner"]
