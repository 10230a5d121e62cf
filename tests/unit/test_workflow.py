"""Workflows: the current one, its definition, and what a run of it does."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading

import pytest

from graflow import parallel, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.task import Task
from graflow.core.workflow import (
    WorkflowContext,
    clear_workflow_context,
    current_workflow_context,
    get_current_workflow_context,
    require_workflow_context,
    set_current_workflow_context,
)
from graflow.exceptions import GraflowRuntimeError, GraphCompilationError
from tests.support import at_once


def test_a_workflow_is_current_inside_its_block():
    with workflow("outer") as outer:
        assert isinstance(outer, WorkflowContext)
        assert (outer.name, type(outer.graph)) == ("outer", TaskGraph)
        with WorkflowContext("inner") as inner:
            assert current_workflow_context() is inner
        assert current_workflow_context() is outer
        with pytest.raises(RuntimeError, match="inside"), workflow("failing"):
            raise RuntimeError("inside")
        assert require_workflow_context() is outer
    assert get_current_workflow_context() is None


def test_a_block_can_be_entered_again_and_nested_in_itself():
    with workflow("w") as wf:
        Task("a")
        with wf:
            Task("b")
        assert current_workflow_context() is wf
    with wf:
        Task("c")
    assert list(wf.graph.nodes) == ["a", "b", "c"]
    assert get_current_workflow_context() is None


def test_threads_that_share_a_workflow_each_leave_their_own_block():
    wf, outer = workflow("shared"), workflow("outer")
    both_inside = threading.Barrier(2)

    def build(first):
        with outer if first else workflow("other"), wf:
            both_inside.wait(60)
        return get_current_workflow_context()

    assert at_once(build, (True, False)) == [None, None]


def test_the_current_workflow_is_made_fetched_required_and_forgotten():
    assert get_current_workflow_context() is None
    with pytest.raises(GraflowRuntimeError):
        require_workflow_context()
    made = current_workflow_context()
    assert current_workflow_context() is made
    assert get_current_workflow_context() is made
    Task("a")
    assert list(made.graph.nodes) == ["a"]
    clear_workflow_context()
    assert get_current_workflow_context() is None
    other = get_current_workflow_context(create_if_not_exist=True)
    assert list(other.graph.nodes) == []
    set_current_workflow_context(made)
    assert require_workflow_context() is made
    Task("b")
    assert list(made.graph.nodes) == ["a", "b"]


def test_a_workflow_belongs_to_its_thread():
    with workflow("w"):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(get_current_workflow_context()))
        thread.start()
        thread.join()
        assert seen == [None]
        assert contextvars.copy_context().run(require_workflow_context).name == "w"


def test_a_workflow_can_be_built_by_hand(capsys):
    wf = workflow("hand")
    for name in "abc":
        wf.add_node(name, Task(name, register_to_context=False))
    wf.add_node("a", Task("a", register_to_context=False), skip_if_exists=True)
    wf.add_edge("a", "b")
    wf.add_edge("b", "c")
    assert wf.get_next_group_name() == "ParallelGroup_1"
    assert wf.get_next_group_name() == "ParallelGroup_2"
    wf.show_info()
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("hand", "'a'", "'b'", "'c'"))
    wf.visualize_dependencies()
    assert "a" in capsys.readouterr().out
    _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["a", "b", "c"]


def test_the_value_of_a_run_is_that_of_the_last_task():
    with workflow("w") as wf:
        task("a")(lambda x: x + 1) >> task("b")(lambda a: a * 10)
        assert wf.execute(initial_channel={"x": 1}) == 20
        value, context = wf.execute("a", 100, True, {"x": 2})
    assert value == 30
    assert context.get_result("a") == 3
    assert context.stop_reason == "completed"


def test_a_workflow_without_tasks_says_how_they_join_it():
    with workflow("idle") as wf:
        task(lambda x: x).map([1, 2], name="one")
        task(lambda x: x).map([1, 2], name="another")
    with pytest.raises(GraphCompilationError, match=r"'idle' has no tasks.*map"):
        wf.execute()


def test_several_start_nodes_or_none_are_refused_with_the_candidates():
    with workflow("w") as wf:
        a, b, c = (Task(name) for name in "abc")
        a >> c
        b >> c
        with pytest.raises(GraphCompilationError, match=r"'a', 'b'"):
            wf.execute()
        c >> a
        c >> b
        with pytest.raises(GraphCompilationError, match=r"'a', 'b', 'c'|'a', 'c', 'b'"):
            wf.execute()
    with pytest.raises(GraphCompilationError):
        workflow("empty").execute()


@pytest.mark.parametrize("names", ["", "ab"])
def test_an_unknown_start_node_is_refused_with_the_nodes(names):
    with workflow("w") as wf:
        for name in names:
            Task(name)
        with pytest.raises(ValueError, match=r"Start node 'x' not found in graph. Available nodes: \[") as raised:
            wf.execute("x")
    assert all(repr(name) in str(raised.value) for name in names)


def test_an_edge_to_a_node_without_a_task_is_named():
    with workflow("w") as wf:
        Task("a")
        wf.add_edge("a", "ghost")
        with pytest.raises(GraflowRuntimeError, match="'ghost'"):
            wf.execute()


def test_a_run_can_start_in_the_middle():
    with workflow("w") as wf:
        a, b, c, d = (Task(name) for name in "abcd")
        a >> b >> d
        a >> c >> d
        _, context = wf.execute(start_node="b", ret_context=True)
    assert context.completed_tasks == ["b", "d"]


def test_the_definition_stays_what_it_was():
    def grow(ctx):
        made = Task("made")
        Task("chained") >> made
        ctx.next_task(Task("dynamic"))
        seen.append(list(wf.graph.nodes))

    seen = []
    with workflow("w") as wf:
        task("grow", inject_context=True)(grow) >> Task("after")
        runs = [wf.execute(ret_context=True)[1] for _ in range(2)]
    assert list(wf.graph.nodes) == ["grow", "after"]
    assert seen == [["grow", "after"]] * 2
    for context in runs:
        assert context.graph is not wf.graph
        assert list(context.graph.nodes) == ["grow", "after", "made", "chained", "dynamic"]
        assert context.completed_tasks == ["grow", "dynamic", "after"]


def test_a_failed_run_leaves_the_workflow_ready_for_another():
    fails = [True, False]
    with workflow("w") as wf:

        @task(inject_context=True)
        def shaky(ctx):
            ctx.next_task(Task("extra"))
            if fails.pop(0):
                raise ValueError("once")

        shaky >> task("after")(lambda: "value")
        with pytest.raises(GraflowRuntimeError, match="once"):
            wf.execute()
        assert wf.execute() == "value"


def test_a_workflow_that_a_task_made_current_is_so_for_that_task_alone():
    made = []
    graph = TaskGraph()

    def define():
        made.append(current_workflow_context())
        Task("x") >> Task("y")

    graph.add_node(task("a")(define))
    ExecutionContext.create(graph).execute()
    assert get_current_workflow_context() is None
    assert made[0].graph.get_edges() == [("x", "y")]


def test_a_task_can_build_and_run_a_workflow_of_its_own():
    @task
    def outer(n):
        with workflow("inner") as inner:
            first = task("first")(lambda: n)
            first >> parallel(*(task(f"m{k}")(lambda first, k=k: first * k) for k in range(3)))
            _, context = inner.execute(ret_context=True)
        Task("mine")
        return [context.get_result(f"m{k}") for k in range(3)]

    with workflow("w") as wf:
        members = [outer(task_id=f"o{n}", n=n) for n in range(3)]
        parallel(*members) >> task("after")(lambda o0, o1, o2: [o0, o1, o2])
    assert wf.execute() == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


def test_a_workflow_runs_outside_its_block():
    with workflow("w") as wf:

        @task(inject_context=True)
        def grow(ctx):
            ctx.next_task(Task("x") >> Task("y"))

        grow >> Task("after")
    _, context = wf.execute(ret_context=True)
    assert context.completed_tasks == ["grow", "x", "after", "y"]
    assert get_current_workflow_context() is None


def test_many_nodes_are_not_all_listed():
    with workflow("w") as wf:
        for number in range(30):
            Task(f"t{number}")
        with pytest.raises(GraphCompilationError, match=r"start nodes: \['t0', .*'t19'\] and 10 more\. Name one"):
            wf.execute()
        with pytest.raises(ValueError, match=r"Available nodes: \['t0', .*'t19'\] and 10 more$"):
            wf.execute("x")


def test_settings_of_threads_load_no_other_backend():
    code = (
        "import sys\n"
        "from graflow import task, workflow\n"
        "with workflow('w') as wf:\n"
        "    task('f')(abs).map([-1]).with_execution('threading', {'thread_count': 2, 'timeout': 60})\n"
        "    assert wf.execute() == [1]\n"
        "assert not {'celery', 'redis', 'graflow_celery'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
