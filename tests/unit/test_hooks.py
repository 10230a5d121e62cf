"""Listeners: every hook at its time and once, on success, failure, cancel and interrupt alike."""

from __future__ import annotations

import logging
import threading

import pytest

from graflow import exceptions, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from graflow.trace.base import Tracer
from graflow.trace.noop import NoopTracer
from graflow.utils.graph import draw_ascii


class Recorder(Tracer):
    """Writes down every call in short."""

    def __init__(self):
        self.calls = []
        self.ends = []
        self.clones = []

    def on_workflow_start(self, name, context):
        self.calls.append(f"workflow {name}")

    def on_workflow_end(self, name, context, result=None, error=None):
        self.calls.append(f"workflow end {name}")
        self.ends.append((result, error))

    def on_task_queued(self, task, context):
        self.calls.append(f"queued {task.task_id}")

    def on_task_start(self, task, context):
        self.calls.append(f"start {task.task_id}")

    def on_task_end(self, task, context, result=None, error=None):
        self.calls.append(f"end {task.task_id} {result if error is None else type(error).__name__}")

    def on_parallel_group_start(self, group_id, member_ids, context):
        self.calls.append(f"group {group_id} {member_ids}")

    def on_parallel_group_end(self, group_id, member_ids, context, results=None):
        shown = {task_id: result.success for task_id, result in results.items()}
        self.calls.append(f"group end {group_id} {shown}")

    def on_dynamic_task_added(self, task_id, parent_task_id=None, is_iteration=False, metadata=None):
        self.calls.append(f"dynamic {task_id[:8]} {parent_task_id} {is_iteration}")

    def clone(self, trace_id):
        self.clones.append(trace_id)
        return self

    def flush(self):
        self.calls.append("flush")


def run(build, start=None, **options):
    """What a recorder heard, and the error of the run."""
    recorder = Recorder()
    with workflow("w", tracer=recorder) as wf:
        build()
        error = None
        try:
            wf.execute(start, **options)
        except BaseException as raised:
            error = raised
    return recorder, error


def test_a_run_of_two_tasks():
    recorder, _ = run(lambda: TaskWrapper("a", lambda: 1) >> TaskWrapper("b", lambda: 2))
    assert recorder.calls == [
        "queued a",
        "workflow w",
        "start a",
        "end a 1",
        "queued b",
        "start b",
        "end b 2",
        "workflow end w",
        "flush",
    ]
    assert recorder.ends == [(2, None)]


def test_a_failure_ends_task_and_run_once_with_the_error():
    def fail():
        raise KeyError("x")

    recorder, error = run(lambda: TaskWrapper("a", fail) >> Task("b"))
    assert recorder.calls == ["queued a", "workflow w", "start a", "end a KeyError", "workflow end w", "flush"]
    assert recorder.ends == [(None, error)]


def test_a_cancel_ends_task_and_run_with_the_error():
    recorder, error = run(lambda: TaskWrapper("a", lambda ctx: ctx.cancel_workflow("no"), True))
    assert "end a GraflowWorkflowCanceledError" in recorder.calls
    assert recorder.ends == [(None, error)]
    assert isinstance(error, exceptions.GraflowWorkflowCanceledError)


def test_an_interrupt_ends_task_and_run_once():
    def interrupted():
        raise KeyboardInterrupt

    recorder, error = run(lambda: TaskWrapper("a", interrupted))
    assert recorder.calls.count("end a KeyboardInterrupt") == 1
    assert recorder.calls.count("workflow end w") == 1
    assert recorder.ends == [(None, error)]
    assert isinstance(error, KeyboardInterrupt)


def test_max_steps_and_a_missing_start_node_end_the_run_with_the_error():
    recorder, error = run(lambda: Task("a") >> Task("b"), max_steps=1)
    assert recorder.ends == [(None, error)]
    recorder = Recorder()
    context = ExecutionContext.create(TaskGraph(), "missing", tracer=recorder)
    with pytest.raises(ValueError, match="missing") as caught:
        context.execute()
    assert recorder.ends == [(None, caught.value)]


def test_each_attempt_starts_and_ends():
    attempts = []

    def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError

    recorder, _ = run(lambda: TaskWrapper("a", flaky, max_retries=1))
    assert [call for call in recorder.calls if " a" in call] == [
        "queued a",
        "start a",
        "end a OSError",
        "start a",
        "end a None",
    ]


def test_a_group_and_its_members():
    recorder, _ = run(
        lambda: ParallelGroup([TaskWrapper("a", lambda: 1), TaskWrapper("b", lambda: 2)]).with_execution("direct"),
        "ParallelGroup_1",
    )
    assert recorder.calls == [
        "queued ParallelGroup_1",
        "workflow w",
        "start ParallelGroup_1",
        "group ParallelGroup_1 ['a', 'b']",
        "queued a",
        "start a",
        "end a 1",
        "queued b",
        "start b",
        "end b 2",
        "group end ParallelGroup_1 {'a': True, 'b': True}",
        "end ParallelGroup_1 None",
        "workflow end w",
        "flush",
    ]
    assert len(recorder.clones) == 2
    assert len(set(recorder.clones)) == 1


def fail():
    raise KeyError("x")


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("member", "ended", "expected"),
    [
        (fail, "{'a': False, 'b': True}", exceptions.ParallelGroupError),
        (interrupted, "{}", KeyboardInterrupt),
    ],
)
def test_a_group_that_fails_or_is_interrupted_ends_once(member, ended, expected):
    recorder, error = run(
        lambda: ParallelGroup([TaskWrapper("a", member), TaskWrapper("b", lambda: 2)]).with_execution("direct"),
        "ParallelGroup_1",
    )
    assert isinstance(error, expected)
    assert [call for call in recorder.calls if call.startswith("group end")] == [f"group end ParallelGroup_1 {ended}"]
    assert recorder.calls[-2:] == ["workflow end w", "flush"]


def test_a_group_over_its_time_ends_once(time_is_over):
    release = threading.Event()
    time_is_over(1)
    recorder, error = run(
        lambda: ParallelGroup([TaskWrapper("a", lambda: release.wait(30)), Task("b")]).with_execution(
            "threading", {"timeout": 0.1, "thread_count": 2}
        ),
        "ParallelGroup_1",
    )
    release.set()
    assert isinstance(error, exceptions.GroupTimeoutError)
    assert [call for call in recorder.calls if call.startswith("group end")] == [
        "group end ParallelGroup_1 {'b': True}"
    ]


def test_dynamic_tasks_and_iterations_name_their_parent():
    def spawn(ctx, data=None):
        if data is None:
            ctx.next_task(TaskWrapper("new", lambda: 1))
            ctx.next_iteration(1)

    recorder, _ = run(lambda: TaskWrapper("spawn", spawn, True))
    assert [call for call in recorder.calls if call.startswith("dynamic")] == [
        "dynamic new spawn False",
        "dynamic spawn_cy spawn True",
    ]


class Broken(Tracer):
    """Raises in every hook."""

    def __getattribute__(self, name):
        if name.startswith("on_") or name in {"clone", "flush"}:

            def broken(*_, **__):
                raise RuntimeError(f"broken {name}")

            return broken
        return super().__getattribute__(name)


def test_a_tracer_that_raises_is_logged_and_changes_nothing(caplog):
    recorder = Recorder()
    with caplog.at_level(logging.ERROR), workflow("w", tracer=[Broken(), recorder]) as wf:
        group = ParallelGroup([Task("a"), TaskWrapper("b", lambda ctx: ctx.next_task(Task("new")), True)])
        group.with_execution("direct") >> TaskWrapper("after", lambda: "end")
        value, context = wf.execute("ParallelGroup_1", ret_context=True)
    assert value == "end"
    assert context.completed_tasks == ["a", "b", "new", "ParallelGroup_1", "after"]
    assert recorder.calls.count("workflow end w") == 1
    for hook in ("on_workflow_start", "on_task_queued", "on_task_start", "on_task_end", "on_parallel_group_start"):
        assert any(hook in record.getMessage() or hook in str(record.exc_info) for record in caplog.records), hook


def test_branches_that_are_executed_by_hand_are_no_workflows():
    recorder = Recorder()
    graph = TaskGraph()
    graph.add_node(Task("a", register_to_context=False))
    parent = ExecutionContext(graph, tracer=recorder)
    parent.create_branch_context("a").execute()
    assert recorder.calls == ["queued a", "start a", "end a None"]


def test_executing_task_calls_the_hooks_without_an_engine():
    recorder = Recorder()
    context = ExecutionContext(TaskGraph(), tracer=recorder)
    with context.executing_task(Task("t", register_to_context=False)):
        pass
    with pytest.raises(KeyError), context.executing_task(Task("t", register_to_context=False)):
        raise KeyError
    assert recorder.calls == ["start t", "end t None", "start t", "end t KeyError"]


def test_the_default_tracer_knows_what_ran():
    with workflow("w") as wf:
        Task("a") >> (Task("b") | Task("c")) >> Task("d")
        _, context = wf.execute(ret_context=True)
    assert isinstance(context.tracer, NoopTracer)
    graph = context.tracer.get_runtime_graph()
    assert {"a", "b", "c", "d"} <= set(graph.nodes)
    drawing = draw_ascii(graph)
    assert all(name in drawing for name in "abcd")
    assert context.tracer.get_execution_order()[:2] == ["w", "a"]
