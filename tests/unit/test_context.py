"""The execution context: creation, start nodes, the queue, branches, and contexts that are driven by hand."""

from __future__ import annotations

import pickle
import re
from contextlib import suppress

import pytest

from graflow import exceptions, workflow
from graflow.core.context import (
    ExecutionContext,
    TaskExecutionContext,
    create_execution_context,
    execute_with_cycles,
)
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.serialization import dumps, loads
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from tests.graph_support import graph_of, node, plain

# -- creation ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract():
    context = ExecutionContext(TaskGraph())
    assert (context.max_steps, context.steps, context.default_max_retries) == (10000, 0, 0)
    assert context.cycle_controller.default_max_cycles == 10
    assert re.fullmatch(r"[0-9a-f]{32}", context.session_id)
    assert context.trace_id == context.session_id
    assert context.channel is context.get_channel()
    assert context.channel.name == context.session_id
    assert context.queue is context.task_queue
    assert context.completed_tasks == []
    assert context.checkpoint_metadata == {}
    assert context.last_checkpoint_path is None
    assert context.checkpoint_requested is False
    assert context.checkpoint_request_metadata is None
    assert context.checkpoint_request_path is None
    assert context.stop_reason is None
    assert context.current_task_context is None
    assert context.current_task_id is None


def test_there_is_no_choice_of_a_queue():
    with pytest.raises(TypeError):
        ExecutionContext.create(TaskGraph(), queue_backend="redis")


def test_the_context_sees_nodes_that_are_added_to_its_graph_later():
    graph = TaskGraph()
    context = ExecutionContext.create(graph, None)
    graph.add_node(*plain("late"))
    assert context.graph is graph
    assert "late" in context.graph.nodes


def test_create_takes_the_first_start_node_and_the_constructor_takes_none():
    graph = graph_of(*plain("a", "b", "c"), edges=[("a", "c")])
    assert ExecutionContext.create(graph).start_node == "a"
    assert ExecutionContext.create(graph).queue.to_list() == ["a"]
    assert ExecutionContext(graph).start_node is None
    assert ExecutionContext(graph).queue.to_list() == []


def test_the_start_entry_holds_the_tasks_own_object():
    graph = graph_of(*plain("a"))
    (spec,) = ExecutionContext.create(graph, "a").queue.get_pending_task_specs()
    assert spec.executable is graph.get_node("a")


def test_an_unknown_start_node_is_refused_with_the_available_ones():
    with pytest.raises(ValueError, match=re.escape("Start node 'x' not found in graph. Available nodes: ['a', 'b']")):
        ExecutionContext.create(graph_of(*plain("a", "b")), "x")


def test_an_empty_graph_may_name_a_start_node_that_comes_later():
    graph = TaskGraph()
    context = ExecutionContext.create(graph, "later")
    assert context.queue.to_list() == []
    graph.add_node(node("later", lambda: "ran"))
    assert context.execute() == "ran"


def test_a_start_node_that_comes_later_is_found_by_hand_too():
    graph = TaskGraph()
    context = ExecutionContext.create(graph, "later")
    assert context.is_completed() is False
    assert context.get_next_task() is None
    graph.add_node(*plain("later"))
    assert context.get_next_task() == "later"
    assert context.get_next_task() is None
    assert context.is_completed() is True


def test_steps_given_at_creation_count_and_the_start_node_is_queued_all_the_same():
    context = ExecutionContext(graph_of(*plain("a")), "a", max_steps=6, steps=5)
    assert context.queue.to_list() == ["a"]
    context.execute()
    assert context.steps == 6


def test_a_start_node_that_never_came_is_refused_when_execution_begins():
    context = ExecutionContext.create(TaskGraph(), "never")
    with pytest.raises(ValueError, match="Start node 'never' not found in graph"):
        context.execute()
    assert context.stop_reason == "failed"


def test_the_start_node_can_be_assigned():
    context = ExecutionContext(graph_of(node("a", lambda: 1), node("b", lambda: 2)))
    context.start_node = "b"
    assert context.execute() == 2


def test_create_execution_context_queues_its_one_task():
    context = create_execution_context("first", 5)
    assert (context.queue.to_list(), context.steps, context.max_steps) == (["first"], 0, 5)
    assert create_execution_context().start_node == "ROOT"


def test_execute_with_cycles_warns_at_the_limit_and_returns_none():
    graph = graph_of(*plain("a", "b"), edges=[("a", "b")])
    with pytest.warns(UserWarning, match="max_steps=1"):
        assert execute_with_cycles(graph, "a", max_steps=1) is None


def test_an_unknown_mode_for_max_steps_is_refused():
    with pytest.raises(exceptions.ConfigError, match="on_max_steps"):
        ExecutionContext(TaskGraph(), on_max_steps="ignore")


# -- queue and steps ---------------------------------------------------------------------------------------------------


def test_a_task_may_be_queued_twice_and_then_runs_twice():
    ran = []
    again = node("again", lambda: ran.append(1))
    context = ExecutionContext.create(graph_of(again), "again")
    context.add_to_queue(again)
    assert context.queue.to_list() == ["again", "again"]
    context.execute()
    assert ran == [1, 1]
    assert context.completed_tasks == ["again"]
    assert context.steps == 2


def test_is_completed_is_a_bool_at_both_ends():
    context = create_execution_context("a", 1)
    assert context.is_completed() is False
    context.increment_step()
    assert context.is_completed() is True
    empty = ExecutionContext(TaskGraph())
    assert empty.is_completed() is True


def test_results_are_channel_keys():
    context = ExecutionContext(TaskGraph())
    context.set_result("a", None)
    assert context.channel.exists("a.__result__")
    assert context.get_result("a", "default") is None
    assert context.get_result("b", "default") == "default"


# -- driven by hand ----------------------------------------------------------------------------------------------------


def test_executing_task_works_without_an_engine():
    task = node("t", lambda: 1, max_cycles=3, max_retries=2)
    context = ExecutionContext(TaskGraph())
    with context.executing_task(task) as ctx:
        assert isinstance(ctx, TaskExecutionContext)
        assert context.current_task_context is ctx
        assert context.current_task_id == "t"
        assert len(context._task_execution_stack) == 1
        assert (ctx.cycle_count, ctx.max_cycles, ctx.retry_count, ctx.max_retries) == (1, 3, 0, 2)
        assert task.get_execution_context() is context
    assert context.current_task_id is None
    assert context._task_execution_stack == []
    assert context.get_result("t") is None
    assert not context.channel.exists("t.__result__")


def test_a_retry_by_hand_counts_no_cycle():
    task = node("t", lambda: 1, max_retries=2)
    context = ExecutionContext(graph_of(task))
    with pytest.raises(KeyError), context.executing_task(task):
        raise KeyError("x")
    context.retry_controller.increment("t")
    with context.executing_task(task) as ctx:
        assert (ctx.cycle_count, ctx.retry_count) == (1, 1)


def test_nested_blocks_restore_the_outer_task_and_hand_requests_on():
    outer, inner, other = plain("outer", "inner", "other")
    context = ExecutionContext(graph_of(outer, inner, other))
    with context.executing_task(outer) as ctx:
        with context.executing_task(inner) as inner_ctx:
            inner_ctx.terminate_workflow("enough")
        assert context.current_task_id == "outer"
        assert ctx.control == inner_ctx.control
    assert context.ctrl_message == "enough"


def test_a_nested_block_that_fails_takes_its_tasks_back():
    outer, inner, other = plain("outer", "inner", "other")
    context = ExecutionContext(graph_of(outer, inner, other))
    with context.executing_task(outer) as ctx:
        with suppress(KeyError), context.executing_task(inner) as inner_ctx:
            inner_ctx.next_task(other)
            raise KeyError
        assert not ctx.queued
    assert context.queue.to_list() == []


def test_a_task_that_cannot_begin_leaves_nothing_behind():
    class Stubborn(Task):
        @property
        def max_cycles(self):
            raise OSError("no")

    context = ExecutionContext(TaskGraph())
    with pytest.raises(OSError), context.executing_task(Stubborn("s", register_to_context=False)):
        pass
    assert context._task_execution_stack == []


def test_task_contexts_can_be_pushed_and_popped_for_ids_outside_the_graph():
    context = ExecutionContext(TaskGraph())
    ctx = context.create_task_context("ghost")
    context.push_task_context(ctx)
    assert context.current_task_id == "ghost"
    assert context.pop_task_context() is ctx
    assert context.pop_task_context() is None
    assert str(ctx) == "TaskExecutionContext(task_id=ghost, cycle_count=0)"


def test_requests_work_through_a_task_context_that_was_never_pushed():
    base, new = plain("base", "new")
    context = ExecutionContext(graph_of(base))
    ctx = context.create_task_context("base")
    assert ctx.next_task(new) == "new"
    iteration = ctx.next_iteration({"x": 1})
    assert re.fullmatch(r"base_cycle_0_[0-9a-f]{8}", iteration)
    assert context.queue.to_list() == ["new", iteration]


def test_next_iteration_needs_a_task_that_is_in_the_graph():
    context = ExecutionContext(TaskGraph())
    with pytest.raises(ValueError, match="needs a running task"):
        context.next_iteration()
    with pytest.raises(ValueError, match="'ghost' is not in the graph"):
        context.create_task_context("ghost").next_iteration()


def test_the_stronger_request_wins_and_keeps_its_message():
    context = ExecutionContext(graph_of(*plain("t")))
    with context.executing_task(context.graph.get_node("t")) as ctx:
        ctx.terminate_workflow("first")
        ctx.terminate_workflow("second")
        assert context.ctrl_message == "first"
        ctx.cancel_workflow("third")
        ctx.terminate_workflow("fourth")
        assert context.ctrl_message == "third"


def test_a_new_task_is_told_to_listeners_once():
    new = Task("new", register_to_context=False)
    context = ExecutionContext(graph_of(*plain("t")))
    with context.executing_task(context.graph.get_node("t")) as ctx:
        ctx.next_task(new)
        ctx.next_task(new)
    assert context.requests.nodes == [("new", ["t"])]
    assert context.queue.to_list() == ["new", "new"]


def test_local_data_belongs_to_one_execution():
    context = ExecutionContext(graph_of(*plain("t")))
    with context.executing_task(context.graph.get_node("t")) as ctx:
        assert ctx.get_local_data("k", 5) == 5
        ctx.set_local_data("k", 6)
        assert ctx.get_local_data("k") == 6
        assert ctx.elapsed_time() >= 0
    with context.executing_task(context.graph.get_node("t")) as ctx:
        assert ctx.get_local_data("k") is None


# -- branches ----------------------------------------------------------------------------------------------------------


def test_a_branch_has_its_own_session_and_queue_and_the_trace_of_its_parent():
    parent = ExecutionContext(graph_of(*plain("a")), default_max_retries=2)
    branch = parent.create_branch_context("b1")
    assert branch.session_id == f"{parent.session_id}_b1"
    assert branch.trace_id == parent.trace_id
    assert branch.graph is parent.graph
    assert branch.parent_context is parent
    assert branch.default_max_retries == 2
    assert branch.queue.to_list() == []
    assert branch.completed_tasks == []


def test_merging_takes_over_only_what_the_branch_wrote():
    parent = ExecutionContext(TaskGraph())
    parent.channel.set("kept", 1)
    parent.channel.set("gone", 1)
    parent.cycle_controller.cycle_counts["t"] = 2
    branch = parent.create_branch_context("b")
    parent.channel.set("kept", 2)
    branch.channel.set("new", 3, ttl=60)
    branch.channel.delete("gone")
    branch.set_result("t", "value")
    branch.mark_task_completed("t")
    branch.increment_step()
    branch.cycle_controller.increment("t")
    assert not parent.channel.exists("new")
    parent.merge_results(branch)
    parent.mark_branch_completed("b")
    assert parent.channel.get("kept") == 2
    assert parent.channel.get("new") == 3
    assert not parent.channel.exists("gone")
    assert parent.get_result("t") == "value"
    assert parent.completed_tasks == ["t", "b"]
    assert parent.steps == 1
    assert parent.cycle_controller.get_cycle_count("t") == 3


def test_a_branch_can_be_executed_by_hand():
    ran = []
    parent = ExecutionContext(graph_of(node("a", lambda: ran.append("a"))))
    branch = parent.create_branch_context("mine")
    branch.add_to_queue(parent.graph.get_node("a"))
    branch.execute()
    assert ran == ["a"]


# -- pickling ----------------------------------------------------------------------------------------------------------


def half_run():
    seen = []
    tasks = [node(name, lambda name=name: name.upper()) for name in "abcd"]
    context = ExecutionContext.create(
        graph_of(*tasks, edges=[("a", "b"), ("b", "c"), ("c", "d")]),
        "a",
        max_steps=2,
        default_max_cycles=7,
        default_max_retries=3,
        config={"note": 1},
        on_max_steps="warn",
    )
    context.cycle_controller.set_node_max_cycles("a", 4)
    context.retry_controller.set_node_max_retries("b", 5)
    context.channel.set("k", {"v": seen}, ttl=100)
    with pytest.warns(UserWarning, match="max_steps=2"):
        context.execute()
    return context


def test_a_half_run_context_keeps_everything_and_goes_on():
    saved = half_run()
    loaded = loads(dumps(saved))
    assert loaded.queue.to_list() == ["c"]
    assert loaded.completed_tasks == ["a", "b"]
    for name in ("session_id", "trace_id", "steps", "max_steps", "start_node", "config", "default_max_retries"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.cycle_controller.get_max_cycles_for_node("a") == 4
    assert loaded.cycle_controller.default_max_cycles == 7
    assert loaded.cycle_controller.cycle_counts == {"a": 1, "b": 1}
    assert loaded.retry_controller.get_max_retries_for_node("b") == 5
    assert loaded.get_result("b") == "B"
    assert loaded.channel.get("k") == {"v": []}
    loaded.max_steps = 10
    assert loaded.execute() == "D"
    with loaded.channel.lock("k"):
        loaded.channel.set("k", 1)


def test_a_context_saved_before_running_shows_its_start_node():
    loaded = loads(dumps(ExecutionContext.create(graph_of(*plain("a", "b")), "a")))
    assert loaded.queue.to_list() == ["a"]


def test_a_context_saved_inside_a_task_runs_that_task_again(tmp_path):
    ran = []

    def save(ctx):
        ran.append("save")
        ctx.execution_context.save(tmp_path / "run")

    tasks = [node("first", save, inject_context=True), node("last", lambda: "end")]
    ExecutionContext.create(graph_of(*tasks, edges=[("first", "last")]), "first").execute()
    loaded = ExecutionContext.load(tmp_path / "run")
    assert loaded.queue.to_list() == ["first"]
    assert loaded.execute() == "end"
    assert loaded.cycle_controller.cycle_counts == {"first": 1, "last": 1}


def test_iteration_nodes_act_on_the_context_they_are_loaded_into(tmp_path):
    def loop(ctx, data=0):
        if data < 2:
            ctx.next_iteration(data + 1)
        return data

    looping = node("loop", loop, inject_context=True)
    context = ExecutionContext.create(graph_of(looping), "loop", max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps=1"):
        context.execute()
    context.save(tmp_path / "run")
    loaded = ExecutionContext.load(tmp_path / "run")
    loaded.max_steps = 10
    assert loaded.execute() == 2
    assert loaded.get_result("loop") == 2
    assert context.get_result("loop") == 0


def test_groups_and_tracers_do_not_stop_a_context_from_being_pickled():
    with workflow("w") as wf:
        ParallelGroup([TaskWrapper("a", lambda: 1), TaskWrapper("b", lambda: 2)])
    context = ExecutionContext.create(wf.graph, "ParallelGroup_1")
    context.execute()
    loaded = loads(dumps(context))
    assert loaded.get_result("b") == 2


def test_saving_to_a_bad_path_and_loading_what_is_no_context_fail_clearly(tmp_path):
    context = ExecutionContext(TaskGraph())
    with pytest.raises(OSError, match="nowhere"):
        context.save(tmp_path / "nowhere" / "run")
    with pytest.raises(FileNotFoundError):
        ExecutionContext.load(tmp_path / "missing")
    for text in ("this is text", "corrupt\nos\n", "", "import os\n"):
        (tmp_path / "text").write_text(text)
        with pytest.raises(pickle.UnpicklingError):
            ExecutionContext.load(tmp_path / "text")
    (tmp_path / "other").write_bytes(pickle.dumps([1]))
    with pytest.raises(pickle.UnpicklingError, match="a list, not a context"):
        ExecutionContext.load(tmp_path / "other")


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    context = ExecutionContext(TaskGraph())
    context.save(tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    context.channel.set("generator", (x for x in ()))
    with pytest.raises(TypeError):
        context.save(tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before


def test_errors_that_do_not_survive_pickling_are_kept_as_descriptions():
    class NeedsTwoError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fail():
        raise NeedsTwoError("one", "two")

    context = ExecutionContext.create(graph_of(node("bad", fail)), "bad")
    with pytest.raises(exceptions.GraflowRuntimeError):
        WorkflowEngine().execute(context)
    kept = loads(dumps(context)).get_result("bad")
    assert isinstance(kept, exceptions.RemoteTaskError)
    assert "NeedsTwoError: one and two" in str(kept)


def test_running_creates_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_execution_context("a").execute()
    assert list(tmp_path.iterdir()) == []
