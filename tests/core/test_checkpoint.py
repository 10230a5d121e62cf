"""Checkpoints: names, files, state, metadata, resuming; contexts with a start node among them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from graflow import exceptions, parallel, task, workflow
from graflow.core.checkpoint import SCHEMA_VERSION, CheckpointManager, CheckpointMetadata
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.signing import SigningKeys, generate_key
from tests.graph_support import context_of, node


@task("module_task")
def module_task():
    return "result"


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    """Keeps the key of the user that runs the tests out of them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY", raising=False)
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY_FILE", raising=False)
    return tmp_path / "state"


def stopped_half_way():
    """Three tasks in a row, the first of which has run."""
    tasks = [node(name, lambda name=name: name.upper()) for name in "abc"]
    context = context_of(*tasks, edges=[("a", "b"), ("b", "c")], max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps"):
        context.execute()
    context.max_steps = 100
    return context


def save(context, tmp_path, name="run", **options):
    return CheckpointManager.create_checkpoint(context, path=tmp_path / name, **options)


def state_of(tmp_path, name="run"):
    return json.loads((tmp_path / f"{name}.state.json").read_text())


# -- metadata ----------------------------------------------------------------------------------------------------------


def metadata(**changes):
    fields = {
        "checkpoint_id": "s_1_2",
        "session_id": "s",
        "steps": 1,
        "start_node": "a",
        "backend": {"channel": "memory"},
        "user_metadata": {"k": [1]},
    }
    return CheckpointMetadata.create(**fields | changes)


def test_metadata_gets_a_utc_time():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", metadata().created_at)


def test_metadata_is_made_by_keyword_only():
    with pytest.raises(TypeError):
        CheckpointMetadata.create("s_1_2", "s", 1, "a", {}, {})


def test_metadata_goes_to_a_dict_and_back():
    made = metadata()
    assert CheckpointMetadata.from_dict(made.to_dict()) == made
    assert json.loads(json.dumps(made.to_dict())) == made.to_dict()


def test_metadata_without_user_metadata_has_an_empty_one():
    assert metadata(user_metadata=None).user_metadata == {}


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "backend"),
    [
        (None, "local"),
        ("run.pkl", "local"),
        ("/var/run", "local"),
        (Path("run"), "local"),
        ("redis://host/1", "redis"),
        ("s3://bucket/run", "s3"),
    ],
)
def test_the_backend_follows_from_the_path(path, backend):
    assert CheckpointManager._infer_backend_from_path(path) == backend


@pytest.mark.parametrize("backend", ["redis", "s3"])
def test_backends_that_do_not_exist_yet_say_so(backend):
    with pytest.raises(NotImplementedError, match=backend):
        CheckpointManager.create_checkpoint(ExecutionContext(TaskGraph()), path=f"{backend}://x/run")
    with pytest.raises(NotImplementedError, match=backend):
        CheckpointManager.resume_from_checkpoint(f"{backend}://x/run")


def test_the_base_path_has_no_suffix():
    assert CheckpointManager._get_base_path("x/run.pkl") == "x/run"
    assert CheckpointManager._get_base_path("x/run") == "x/run"


def test_a_given_path_is_its_own_base():
    context = ExecutionContext(TaskGraph())
    assert CheckpointManager._resolve_base_path(context, "x/run.pkl") == "x/run"


def test_without_a_path_the_checkpoint_goes_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = stopped_half_way()
    path, _ = CheckpointManager.create_checkpoint(context)
    session = context.session_id
    assert re.fullmatch(rf"checkpoints/{session}/session_{session}_step_1_\d+\.pkl", path)
    assert Path(path).exists()


def test_checkpoint_ids_have_three_parts_and_never_repeat():
    context = stopped_half_way()
    ids = {CheckpointManager._generate_checkpoint_id(context) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(rf"{context.session_id}_1_\d+", each) for each in ids)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["run", "run.pkl", "deep/er/run"])
def test_four_files_are_written_and_missing_folders_made(tmp_path, given):
    path, _ = CheckpointManager.create_checkpoint(stopped_half_way(), path=str(tmp_path / given))
    base = path.removesuffix(".pkl")
    assert path.endswith("run.pkl")
    assert sorted(file.name for file in Path(base).parent.iterdir() if file.is_file()) == [
        "run.meta.json",
        "run.pkl",
        "run.sig",
        "run.state.json",
    ]


def test_the_files_are_readable_by_their_owner_only(tmp_path):
    save(stopped_half_way(), tmp_path)
    for suffix in (".pkl", ".state.json", ".meta.json", ".sig"):
        assert stat.S_IMODE((tmp_path / f"run{suffix}").stat().st_mode) == 0o600


def test_the_state_file_holds_what_has_run_and_what_waits(tmp_path):
    context = stopped_half_way()
    save(context, tmp_path)
    state = state_of(tmp_path)
    assert state["schema_version"] == SCHEMA_VERSION
    assert state["session_id"] == context.session_id
    assert state["trace_id"] == context.trace_id
    assert (state["start_node"], state["steps"]) == ("a", 1)
    assert state["completed_tasks"] == ["a"]
    assert state["cycle_counts"] == {"a": 1}
    assert state["retry_counts"] == {}
    assert state["backend"] == {"channel": "memory"}
    assert state["resuming_task_id"] is None
    (pending,) = state["pending_tasks"]
    assert set(pending) == {
        "task_id", "task_data", "strategy", "status", "created_at", "retry_count", "max_retries", "last_error",
    }  # fmt: skip
    assert (pending["task_id"], pending["status"], pending["strategy"]) == ("b", "ready", "reference")


def test_results_and_channel_values_are_not_in_the_state_file(tmp_path):
    context = stopped_half_way()
    context.channel.set("k", "a value that is easy to find")
    save(context, tmp_path)
    assert "easy to find" not in (tmp_path / "run.state.json").read_text()


def test_the_metadata_file_holds_what_the_caller_gave(tmp_path):
    given = {"stage": "half", "list": [1, 2.5, None, True], "umlaut": "ü"}
    _, described = save(stopped_half_way(), tmp_path, metadata=given)
    kept = json.loads((tmp_path / "run.meta.json").read_text())
    assert kept == described.to_dict()
    assert kept["user_metadata"] == given
    assert (kept["steps"], kept["start_node"], kept["backend"]) == (1, "a", {"channel": "memory"})


def test_metadata_that_is_no_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        save(stopped_half_way(), tmp_path, name="new/run", metadata={"k": object()})
    assert not (tmp_path / "new").exists()


def test_creating_tells_the_context_and_changes_nothing_else(tmp_path):
    context = stopped_half_way()
    context.request_checkpoint({"wanted": 1}, path="later")
    path, described = save(context, tmp_path)
    assert context.last_checkpoint_path == path
    assert context.checkpoint_metadata == described.to_dict()
    assert context.queue.to_list() == ["b"]
    assert context.steps == 1
    assert context.checkpoint_requested is True
    assert context.checkpoint_request_metadata == {"wanted": 1}
    assert context.checkpoint_request_path == "later"


def test_a_context_that_cannot_be_pickled_leaves_no_file_and_no_trace(tmp_path):
    context = stopped_half_way()
    context.channel.set("generator", (x for x in ()))
    with pytest.raises(TypeError):
        save(context, tmp_path)
    assert list(tmp_path.glob("run*")) == []
    assert context.last_checkpoint_path is None
    assert context.checkpoint_metadata == {}


# -- contexts with a start node ----------------------------------------------------------------------------------------


def test_a_start_entry_is_the_graphs_own_task_and_can_be_saved(tmp_path):
    context = context_of(module_task, start="module_task", max_steps=10)
    (spec,) = context.queue.get_pending_task_specs()
    assert spec.executable is module_task
    save(context, tmp_path)
    (pending,) = state_of(tmp_path)["pending_tasks"]
    assert pending["task_id"] == "module_task"
    assert pending["task_data"]["strategy"] == "reference"
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.queue.to_list() == ["module_task"]
    assert WorkflowEngine().execute(restored) == "result"


def test_a_context_without_a_start_node_can_be_saved(tmp_path):
    save(ExecutionContext(context_of(module_task).graph), tmp_path)
    restored, described = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.queue.to_list() == []
    assert described.start_node is None


def test_a_plain_task_as_start_node_can_be_saved(tmp_path):
    save(context_of(Task("noop", register_to_context=False)), tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    restored.execute()
    assert restored.completed_tasks == ["noop"]


def test_a_task_that_only_the_pickle_can_hold_has_no_data_in_the_state(tmp_path):
    outside = object.__hash__(object())
    save(context_of(node("closure", lambda: outside)), tmp_path)
    (pending,) = state_of(tmp_path)["pending_tasks"]
    assert pending["task_data"] is None
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.execute() == outside


def test_an_unknown_start_node_is_refused_before_there_is_anything_to_save():
    with pytest.raises(ValueError, match=r"Start node 'nope' not found in graph\. Available nodes: \['module_task'\]"):
        context_of(module_task, start="nope")


def test_a_start_node_that_is_a_group_can_be_saved(tmp_path):
    with workflow("w") as wf:
        ParallelGroup([TaskWrapper("a", lambda: 1), TaskWrapper("b", lambda: 2)])
    save(ExecutionContext.create(wf.graph, "ParallelGroup_1"), tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    restored.execute()
    assert restored.completed_tasks == ["a", "b", "ParallelGroup_1"]


# -- specs -------------------------------------------------------------------------------------------------------------


def test_a_spec_goes_to_data_and_back_to_the_graphs_own_task():
    context = context_of(module_task)
    spec = TaskSpec(module_task, context, retry_count=2, max_retries=5, last_error="why")
    data = json.loads(json.dumps(CheckpointManager._serialize_task_spec(spec)))
    back = CheckpointManager._deserialize_task_spec(data, context)
    assert back.executable is module_task
    assert (back.status, back.created_at) == (TaskStatus.READY, spec.created_at)
    assert (back.retry_count, back.max_retries, back.last_error) == (2, 5, "why")


def test_a_spec_of_a_task_that_is_gone_names_it():
    with pytest.raises(KeyError, match="ghost"):
        CheckpointManager._deserialize_task_spec({"task_id": "ghost"}, context_of(module_task))


# -- resuming ----------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    context = stopped_half_way()
    _, described = save(context, tmp_path, metadata={"stage": 1})
    restored, loaded = CheckpointManager.resume_from_checkpoint(tmp_path / "run.pkl")
    assert loaded == described
    assert restored.checkpoint_metadata == described.to_dict()
    assert restored.session_id == context.session_id
    assert restored.trace_id == context.trace_id
    assert (restored.steps, restored.start_node, restored.max_steps) == (1, "a", 100)
    assert restored.completed_tasks == ["a"]
    assert restored.queue.to_list() == ["b"]
    assert restored.get_result("a") == "A"
    assert restored.is_completed() is False
    assert WorkflowEngine().execute(restored) == "C"
    assert restored.completed_tasks == ["a", "b", "c"]
    assert restored.steps == 3


def test_pending_entries_are_the_graphs_own_tasks(tmp_path):
    save(stopped_half_way(), tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    (spec,) = restored.queue.get_pending_task_specs()
    assert spec.executable is restored.graph.get_node("b")
    assert spec.execution_context is restored


def test_limits_counts_and_policies_are_as_saved(tmp_path):
    context = context_of(module_task, max_steps=77, default_max_cycles=6, default_max_retries=4)
    context.cycle_controller.set_node_max_cycles("module_task", 3)
    context.cycle_controller.cycle_counts["module_task"] = 2
    context.retry_controller.set_node_max_retries("module_task", 5)
    context.retry_controller.increment("module_task", OSError("why"))
    save(context, tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert (restored.max_steps, restored.default_max_retries) == (77, 4)
    assert restored.cycle_controller.default_max_cycles == 6
    assert restored.cycle_controller.get_max_cycles_for_node("module_task") == 3
    assert restored.cycle_controller.get_cycle_count("module_task") == 2
    assert restored.retry_controller.get_max_retries_for_node("module_task") == 5
    assert restored.retry_controller.get_retry_count("module_task") == 1
    assert str(restored.retry_controller.get_last_error("module_task")) == "why"


def test_channel_values_keep_their_types_and_their_time_to_live(tmp_path):
    context = stopped_half_way()
    context.channel.set("tuple", (1, {2}))
    context.channel.set("short", 1, ttl=1000)
    context.channel.append("list", 1)
    save(context, tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.channel.get("tuple") == (1, {2})
    assert restored.channel.get("short") == 1
    assert restored.channel.append("list", 2) == 2
    assert restored.channel.atomic_add("n") == 1
    with restored.channel.lock("k"):
        pass


def test_request_flags_are_cleared(tmp_path):
    context = stopped_half_way()
    context.request_checkpoint({"x": 1}, path="p")
    save(context, tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.checkpoint_requested is False
    assert restored.checkpoint_request_metadata is None
    assert restored.checkpoint_request_path is None


def test_the_resuming_task_comes_first(tmp_path):
    save(stopped_half_way(), tmp_path, resuming_task_id="a")
    assert state_of(tmp_path)["resuming_task_id"] == "a"
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.queue.to_list() == ["a", "b"]


def test_queue_and_counts_come_from_the_state(tmp_path):
    save(stopped_half_way(), tmp_path)
    state = state_of(tmp_path)
    state["completed_tasks"] = []
    state["cycle_counts"] = {}
    state["pending_tasks"] = [{"task_id": "a"}]
    (tmp_path / "run.state.json").write_text(json.dumps(state))
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run", allow_unsigned=True)
    assert restored.queue.to_list() == ["a"]
    assert restored.completed_tasks == []
    assert restored.cycle_controller.cycle_counts == {}


def test_dynamic_nodes_are_there_after_resuming(tmp_path):
    def spawn(ctx):
        ctx.next_task(node("new", lambda: "new ran"))
        ctx.checkpoint(path=str(tmp_path / "run"))

    context_of(node("spawn", spawn, True)).execute()
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert "new" in restored.graph.nodes
    assert restored.queue.to_list() == ["new"]
    assert restored.execute() == "new ran"
    assert restored.graph.get_start_nodes() == ["spawn"]


def test_joins_that_wait_are_kept(tmp_path):
    context = context_of(
        node("s"),
        node("a", lambda ctx: ctx.checkpoint(path=str(tmp_path / "run")), True),
        node("b"),
        node("join"),
        edges=[("s", "a"), ("s", "b"), ("a", "join"), ("b", "join")],
    )
    context.execute()
    assert state_of(tmp_path)["waiting_joins"] == {"join": ["b"]}
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    restored.execute()
    assert restored.completed_tasks == ["s", "a", "b", "join"]


def test_an_error_in_a_result_is_kept_even_when_its_class_cannot_come_back(tmp_path):
    class AwkwardError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one}/{two}")

    def fail():
        raise AwkwardError(1, 2)

    with workflow("w") as wf:
        group = TaskWrapper("bad", fail, max_retries=1) | TaskWrapper("good", lambda: "good")
        group.with_execution(policy="best_effort") >> Task("after")
    context = ExecutionContext.create(wf.graph)
    context.execute()
    save(context, tmp_path)
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    kept = restored.get_result("bad")
    assert isinstance(kept, exceptions.RemoteTaskError)
    assert "AwkwardError: 1/2" in str(kept)
    assert restored.get_result("good") == "good"


# -- requests of tasks -------------------------------------------------------------------------------------------------


def test_a_deferred_request_only_asks():
    context = context_of(module_task)
    given = {"stage": 1, "cycle_count": 99}
    with context.executing_task(module_task) as ctx:
        assert ctx.checkpoint(given, path="somewhere") is None
    assert context.checkpoint_requested is True
    assert context.checkpoint_request_path == "somewhere"
    kept = context.checkpoint_request_metadata
    assert kept is not given
    assert (kept["stage"], kept["cycle_count"], kept["task_id"], kept["mode"]) == (1, 99, "module_task", "deferred")
    assert kept["elapsed_time"] >= 0
    assert given == {"stage": 1, "cycle_count": 99}
    context.clear_checkpoint_request()
    assert context.checkpoint_requested is False
    assert context.checkpoint_request_metadata is None


def test_a_request_without_metadata_has_an_empty_one():
    context = ExecutionContext(TaskGraph())
    context.request_checkpoint()
    assert context.checkpoint_request_metadata == {}
    assert context.checkpoint_request_path is None


def test_the_engine_writes_after_the_successors_are_queued(tmp_path):
    context = context_of(
        node("a", lambda ctx: ctx.checkpoint(path=str(tmp_path / "run")), True), node("b"), edges=[("a", "b")]
    )
    context.execute()
    state = state_of(tmp_path)
    assert state["completed_tasks"] == ["a"]
    assert [each["task_id"] for each in state["pending_tasks"]] == ["b"]
    assert state["resuming_task_id"] is None
    assert context.checkpoint_requested is False
    assert context.last_checkpoint_path == str(tmp_path / "run.pkl")


def test_a_request_is_written_before_a_terminate_exit(tmp_path):
    def end(ctx):
        ctx.checkpoint(path=str(tmp_path / "run"))
        ctx.terminate_workflow("enough")

    context_of(node("a", end, True), node("b"), edges=[("a", "b")]).execute()
    assert state_of(tmp_path)["completed_tasks"] == ["a"]


def test_an_immediate_request_is_written_at_once(tmp_path):
    returned = []

    def at_once(ctx):
        returned.append(ctx.checkpoint({"note": 1}, path=str(tmp_path / "run"), deferred=False))
        assert (tmp_path / "run.pkl").exists()

    context_of(node("a", at_once, True), node("b"), edges=[("a", "b")]).execute()
    ((path, described),) = returned
    assert path == str(tmp_path / "run.pkl")
    assert described.user_metadata["mode"] == "immediate"
    state = state_of(tmp_path)
    assert state["resuming_task_id"] == "a"
    assert state["completed_tasks"] == []


def test_a_checkpoint_made_by_hand_inside_a_task_runs_that_task_again(tmp_path):
    ran = []

    def by_hand(ctx):
        ran.append(1)
        if len(ran) == 1:
            CheckpointManager.create_checkpoint(ctx.execution_context, path=tmp_path / "run")
        return "value"

    context_of(node("a", by_hand, True)).execute()
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    assert restored.queue.to_list() == ["a"]


# -- signatures and formats --------------------------------------------------------------------------------------------


def test_the_first_checkpoint_makes_a_key_for_the_user(tmp_path, state_home):
    save(stopped_half_way(), tmp_path)
    (key,) = state_home.rglob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_configured_key_signs(tmp_path, monkeypatch, state_home):
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", generate_key("mine"))
    save(stopped_half_way(), tmp_path)
    assert (tmp_path / "run.sig").read_text().startswith("mine:")
    assert not state_home.exists()
    CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", generate_key("other"))
    with pytest.raises(exceptions.SignatureError, match="another key"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


def test_a_checkpoint_of_before_the_key_was_configured_still_loads(tmp_path, monkeypatch):
    save(stopped_half_way(), tmp_path)
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", generate_key("later"))
    CheckpointManager.resume_from_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("suffix", [".pkl", ".state.json", ".meta.json", ".sig"])
@pytest.mark.parametrize("edit", [lambda old: old[:-2] + b"1}", lambda old: old + b" "])
def test_an_edited_checkpoint_is_refused(tmp_path, suffix, edit):
    save(stopped_half_way(), tmp_path, metadata={"n": 0})
    path = tmp_path / f"run{suffix}"
    changed = edit(path.read_bytes())
    path.write_bytes(changed)
    if suffix == ".sig" and changed.endswith(b" "):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")  # white space around a signature means nothing
        return
    with pytest.raises((exceptions.SignatureError, json.JSONDecodeError)):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


def test_a_part_of_another_checkpoint_is_refused(tmp_path):
    save(stopped_half_way(), tmp_path)
    save(stopped_half_way(), tmp_path, "other")
    (tmp_path / "run.pkl").write_bytes((tmp_path / "other.pkl").read_bytes())
    with pytest.raises(exceptions.SignatureError, match="edited"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


def test_a_checkpoint_in_the_place_of_another_one_is_refused(tmp_path):
    save(stopped_half_way(), tmp_path)
    save(stopped_half_way(), tmp_path, "other")
    for suffix in (".pkl", ".state.json", ".meta.json", ".sig"):
        (tmp_path / f"other{suffix}").replace(tmp_path / f"run{suffix}")
    with pytest.raises(exceptions.SignatureError, match="renamed"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


def test_an_older_checkpoint_beside_a_newer_one_counts_for_nothing(tmp_path):
    older, newer = stopped_half_way(), stopped_half_way()
    save(older, tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.glob("run.*")}
    save(newer, tmp_path)
    for name, content in old.items():
        (tmp_path / f"{name}.new").write_bytes(content)

    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run")

    assert restored.session_id == newer.session_id


def test_a_pipe_in_the_place_of_the_folder_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(exceptions.ConfigError, match="pipe, where a checkpoint is to be, is no folder"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "pipe" / "run")


@pytest.mark.parametrize("name", ["run.pkl", "run.sig", "run.sig.new"])
def test_a_pipe_in_the_place_of_a_part_is_never_waited_for(tmp_path, name):
    save(stopped_half_way(), tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    if name.endswith(".new"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")
        return
    with pytest.raises(exceptions.ConfigError, match=f"{name}, is no regular file"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"schema_version": ' + "1" * 10_000 + "}"])
def test_json_without_end_is_a_clear_error(tmp_path, content):
    save(stopped_half_way(), tmp_path)
    (tmp_path / "run.state.json").write_text(content)
    for options in ({}, {"allow_unsigned": True}):
        with pytest.raises(exceptions.ConfigError, match="damaged"):
            CheckpointManager.resume_from_checkpoint(tmp_path / "run", **options)


def test_an_unsigned_checkpoint_loads_only_when_the_caller_says_so(tmp_path):
    save(stopped_half_way(), tmp_path)
    (tmp_path / "run.sig").unlink()
    with pytest.raises(exceptions.SignatureError, match="allow_unsigned=True"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")
    restored, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run", allow_unsigned=True)
    assert restored.completed_tasks == ["a"]


@pytest.mark.parametrize("suffix", [".pkl", ".state.json", ".meta.json"])
def test_a_missing_file_is_reported_first(tmp_path, suffix):
    save(stopped_half_way(), tmp_path)
    (tmp_path / "run.sig").write_text("nonsense")
    (tmp_path / f"run{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"run{suffix}")):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("suffix", [".state.json", ".meta.json"])
@pytest.mark.parametrize("content", [b"{broken", b"", b"\xff\xfe{", b'{"a": 1'])
def test_broken_json_is_reported_before_the_signature(tmp_path, suffix, content):
    save(stopped_half_way(), tmp_path)
    (tmp_path / f"run{suffix}").write_bytes(content)
    with pytest.raises(json.JSONDecodeError):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("suffix", [".state.json", ".meta.json"])
def test_json_that_is_no_object_is_a_clear_error(tmp_path, suffix):
    save(stopped_half_way(), tmp_path)
    (tmp_path / f"run{suffix}").write_text("[1]")
    with pytest.raises(exceptions.ConfigError, match="damaged"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, "2.0", None])
def test_another_version_is_refused_by_name(tmp_path, version):
    save(stopped_half_way(), tmp_path)
    state = state_of(tmp_path) | {"schema_version": version}
    (tmp_path / "run.state.json").write_text(json.dumps(state))
    with pytest.raises(exceptions.ConfigError, match=re.escape(repr(version))):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run", allow_unsigned=True)


def test_a_checkpoint_with_its_queue_in_redis_is_recognised(tmp_path):
    save(stopped_half_way(), tmp_path)
    state = state_of(tmp_path) | {"schema_version": "1.0", "backend": {"queue": "redis", "channel": "memory"}}
    (tmp_path / "run.state.json").write_text(json.dumps(state))
    with pytest.raises(exceptions.ConfigError, match="queue in Redis"):
        CheckpointManager.resume_from_checkpoint(tmp_path / "run", allow_unsigned=True)


def test_a_missing_checkpoint_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        CheckpointManager.resume_from_checkpoint(tmp_path / "nothing")


def test_a_checkpoint_of_a_branch_is_one_of_the_whole_run(tmp_path):
    context = stopped_half_way()
    branch = context.create_branch_context("b")
    path, described = save(branch, tmp_path)
    assert described.session_id == context.session_id
    assert state_of(tmp_path)["session_id"] == context.session_id
    assert branch.last_checkpoint_path == context.last_checkpoint_path == path


def test_keys_are_not_in_the_files(tmp_path, monkeypatch):
    text = generate_key("mine")
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", text)
    context = stopped_half_way()
    context.channel.set("keys", SigningKeys.from_environment())
    save(context, tmp_path)
    secret = text.partition(":")[2].encode()
    assert all(secret not in file.read_bytes() for file in tmp_path.glob("run*"))


def test_a_session_id_never_leads_out_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = TaskGraph()
    graph.add_node(Task("a", register_to_context=False))
    context = ExecutionContext(graph, "a", session_id="../../%252e%252e/etc")
    path, metadata = CheckpointManager.create_checkpoint(context)
    assert (tmp_path / path).resolve().is_relative_to(tmp_path / "checkpoints")
    assert metadata.session_id == "../../%252e%252e/etc"


@pytest.mark.parametrize("backend", ["threading", "direct"])
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
        running = task("running", inject_context=True)(member)
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


_ONE_OF_SEVERAL = """
import sys
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import create_execution_context
path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for index in range(rounds):
    context = create_execution_context()
    context.channel.set_many({"first": name, "second": name})
    CheckpointManager.create_checkpoint(context, path=path, metadata={"writer": name})
    read, metadata = CheckpointManager.resume_from_checkpoint(path)
    writers = {metadata.user_metadata["writer"], read.channel.get("first"), read.channel.get("second")}
    assert len(writers) == 1, writers
"""


def test_processes_that_share_a_path_write_and_read_whole_checkpoints(tmp_path):
    command = [sys.executable, "-c", _ONE_OF_SEVERAL, str(tmp_path / "shared")]
    writers = [
        subprocess.Popen([*command, name, "10"], stderr=subprocess.PIPE, text=True) for name in ("one", "two", "three")
    ]

    errors = [writer.communicate(timeout=60)[1] for writer in writers]

    assert [writer.returncode for writer in writers] == [0, 0, 0], errors
    context, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "shared")
    assert context.channel.get("first") in {"one", "two", "three"}
    assert sorted(path.suffix for path in tmp_path.glob("shared*")) == [".json", ".json", ".pkl", ".sig"]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"k": object()}, "The metadata of a checkpoint is what JSON can hold, and Object of type object is not"),
        ("done", r"The metadata of a checkpoint is a mapping, such as \{'why': 'done'\}, not 'done'"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused_in_words(tmp_path, metadata, words):
    with workflow("w") as wf:
        task(id="save", inject_context=True)(lambda context: context.checkpoint(metadata, path=tmp_path / "ck"))
        with pytest.raises(TypeError, match=words):
            wf.execute()
    assert not list(tmp_path.glob("ck*"))


def test_a_run_whose_task_is_no_longer_in_its_module_says_what_is_missing(tmp_path, monkeypatch):
    context = context_of(module_task)
    path, _ = CheckpointManager.create_checkpoint(context, path=tmp_path / "ck")
    monkeypatch.delattr(sys.modules[__name__], "module_task")
    with pytest.raises(exceptions.TaskResolutionError) as caught:
        CheckpointManager.resume_from_checkpoint(path)
    assert str(caught.value) == (
        f"The run saved as {tmp_path / 'ck'} needs what this program lacks: module '{__name__}' has no attribute "
        "'module_task'. Give it back the module, function or class under that name, or start the run anew"
    )
