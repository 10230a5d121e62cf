"""Checkpoints in use: at once, deferred, periodic, in state machines and groups, after failures and crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graflow import RetryPolicy, chain, exceptions, parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.checkpoints import files as checkpoint_files
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from graflow.trace.base import Tracer
from tests import checkpoint_support as here
from tests.checkpoint_support import CRASH_AT, FAILING, GATES, RUNS, Crash, noting
from tests.support import wait_until


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY", raising=False)
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY_FILE", raising=False)
    RUNS.clear()
    GATES.clear()
    FAILING.clear()


def execute(wf, start=None, **options):
    """Run on a context of our own, so that it can be looked at after a crash."""
    context = ExecutionContext.create(wf.graph.copy(), start, **options)
    with suppress(Crash, exceptions.GraflowError):
        WorkflowEngine().execute(context)
    return context


def resume(path):
    context, _ = CheckpointManager.resume_from_checkpoint(path)
    return context


# -- at once, deferred, periodic ---------------------------------------------------------------------------------------


def test_at_once_the_task_runs_again_and_finds_what_it_had_stored(tmp_path):
    path = str(tmp_path / "run")

    def long_work(ctx):
        channel = ctx.get_channel()
        if not channel.exists("half"):
            channel.set("half", 21)
            ctx.checkpoint(path=path, deferred=False)
            raise here.Crash
        return channel.get("half") * 2, ctx.cycle_count

    with workflow("at once") as wf:
        noting("before") >> noting("long", long_work) >> noting("after")
    execute(wf)
    resumed = resume(path)
    assert resumed.queue.to_list() == ["long"]
    assert resumed.execute() == "after"
    assert resumed.get_result("long") == (42, 1)
    assert RUNS == ["before", "long", "long", "after"]


def test_deferred_the_task_counts_as_completed(tmp_path):
    path = str(tmp_path / "run")

    def crash(ctx):
        if here.RUNS.count("second") == 1:
            raise here.Crash

    with workflow("deferred") as wf:
        noting("first", lambda ctx: ctx.checkpoint({"stage": 1}, path=path)) >> noting("second", crash)
    execute(wf)
    resumed, described = CheckpointManager.resume_from_checkpoint(path)
    assert described.user_metadata["stage"] == 1
    resumed.execute()
    assert RUNS == ["first", "second", "second"]


def test_a_listener_saves_every_few_steps(tmp_path):
    class Periodic(Tracer):
        def on_task_end(self, task, context, result=None, error=None):
            if error is None and (context.steps + 1) % 3 == 0:
                context.request_checkpoint({"by": "listener"}, path=str(tmp_path / "run"))

    with workflow("periodic") as wf:
        chain(*(noting(f"t{i}") for i in range(10)))
    FAILING.add("t8")
    execute(wf, tracer=Periodic())
    FAILING.clear()
    resumed = resume(tmp_path / "run")
    assert resumed.completed_tasks == [f"t{i}" for i in range(6)]
    resumed.execute()
    assert Counter(RUNS) == Counter({f"t{i}": 1 for i in range(10)} | {"t6": 2, "t7": 2, "t8": 2})


def test_checkpoints_without_a_path_each_have_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with workflow("own") as wf:
        chain(*(noting(f"t{i}", lambda ctx: ctx.checkpoint()) for i in range(3)))
    context = execute(wf)
    files = sorted((tmp_path / "checkpoints" / context.session_id).glob("*.pkl"))
    assert len(files) == 3
    assert sorted(len(resume(file).completed_tasks) for file in files) == [1, 2, 3]


def test_a_run_is_resumed_several_times_from_one_checkpoint(tmp_path):
    with workflow("several") as wf:
        noting("a", lambda ctx: ctx.checkpoint(path=str(tmp_path / "run"))) >> noting("b")
    execute(wf)
    for _ in range(3):
        assert resume(tmp_path / "run").execute() == "b"
    assert RUNS == ["a"] + ["b"] * 4


def test_a_checkpoint_of_a_resumed_run_goes_on_from_there(tmp_path):
    path = str(tmp_path / "run")
    with workflow("again") as wf:
        chain(*(noting(f"t{i}", lambda ctx: ctx.checkpoint(path=path)) for i in range(4)))
    for failing in ("t1", "t2", "t3"):
        FAILING.clear()
        FAILING.add(failing)
        if failing == "t1":
            execute(wf)
        else:
            with pytest.raises(exceptions.GraflowRuntimeError):
                resume(path).execute()
    FAILING.clear()
    resume(path).execute()
    assert RUNS == ["t0", "t1", "t1", "t2", "t2", "t3", "t3"]


# -- state machines ----------------------------------------------------------------------------------------------------


def machine(path, crash_in, *, deferred):
    def step(ctx, state="start"):
        here.RUNS.append(f"{state}:{ctx.cycle_count}")
        if state == crash_in and here.RUNS.count(here.RUNS[-1]) == 1:
            raise here.Crash
        following = {"start": "fetch", "fetch": "store", "store": "done"}.get(state)
        ctx.get_channel().append("states", state)
        if not deferred:
            ctx.checkpoint(path=path, deferred=False)
        if following is not None:
            ctx.next_iteration(following)
        if deferred:
            ctx.checkpoint(path=path)
        return state

    return TaskWrapper("machine", step, inject_context=True, max_cycles=10)


def test_a_state_machine_goes_on_in_the_state_it_was_in(tmp_path):
    path = str(tmp_path / "run")
    with workflow("machine") as wf:
        machine(path, "store", deferred=True) >> noting("report")
    execute(wf)
    resumed = resume(path)
    assert resumed.execute() == "report"
    assert resumed.channel.get("states") == ["start", "fetch", "store", "done"]
    assert resumed.get_result("machine") == "done"
    assert RUNS == ["start:1", "fetch:2", "store:3", "store:3", "done:4", "report"]


def test_a_pass_that_saved_at_once_is_repeated_with_its_data_and_counts(tmp_path):
    path = str(tmp_path / "run")
    with workflow("machine") as wf:
        machine(path, "store", deferred=False) >> noting("report")
    execute(wf)
    resumed = resume(path)
    assert resumed.execute() == "report"
    assert RUNS == ["start:1", "fetch:2", "store:3", "fetch:2", "store:3", "done:4", "report"]


def test_what_a_task_asked_for_before_it_saved_at_once_is_not_asked_for_twice(tmp_path):
    path = str(tmp_path / "run")

    def spawn(ctx):
        ctx.next_task(here.noting("new"))
        ctx.next_iteration("again") if ctx.task_id == "spawn" and ctx.cycle_count == 1 else None
        if here.RUNS.count("spawn") == 1:
            ctx.checkpoint(path=path, deferred=False)
            raise here.Crash

    def body(ctx, data=None):
        if data is None:
            here.RUNS.append("spawn")
            spawn(ctx)
        else:
            here.RUNS.append(data)

    with workflow("spawn") as wf:
        TaskWrapper("spawn", body, inject_context=True) >> noting("after")
    execute(wf)
    state = json.loads(Path(f"{path}.state.json").read_text())
    assert [each["task_id"][:11] for each in state["pending_tasks"]] == ["new", "spawn_cycle"]
    resumed = resume(path)
    resumed.execute()
    assert RUNS == ["spawn", "spawn", "new", "again", "after"]


def test_a_jump_is_followed_after_resuming(tmp_path):
    def jump(ctx):
        ctx.next_task(ctx.graph.get_node("target"))
        ctx.checkpoint(path=str(tmp_path / "run"))

    with workflow("jump") as wf:
        noting("a", jump) >> noting("skipped")
        noting("target") >> noting("end")
    execute(wf, "a")
    RUNS.clear()
    resume(tmp_path / "run").execute()
    assert RUNS == ["target", "end"]


# -- retries -----------------------------------------------------------------------------------------------------------


def test_a_task_that_waits_to_be_tried_again_is_in_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("graflow.core.engine.time.sleep", lambda _: None)
    path = str(tmp_path / "run")

    def flaky(ctx):
        if ctx.retry_count < 2:
            raise OSError("again")
        return ctx.retry_count, ctx.cycle_count

    with workflow("wait") as wf:
        flaking = noting("flaky", flaky, retry_policy=RetryPolicy(max_retries=2, initial_interval=50.0))
        start = noting("start")
        start >> flaking
        start >> noting("saves", lambda ctx: ctx.checkpoint(path=path)) >> noting("after")
    execute(wf)
    state = json.loads(Path(f"{path}.state.json").read_text())
    assert [each["task_id"] for each in state["pending_tasks"]] == ["flaky", "after"]
    assert state["retry_counts"] == {"flaky": 1}
    RUNS.clear()
    resumed = resume(path)
    resumed.execute()
    assert RUNS in (["flaky", "after", "flaky"], ["flaky", "flaky", "after"])
    assert resumed.get_result("flaky") == (2, 1)


def test_a_failed_run_is_saved_and_taken_up_at_the_task_that_failed(tmp_path):
    with workflow("failed") as wf:
        chain(*(noting(f"t{i}") for i in range(4)))
    FAILING.add("t2")
    context = execute(wf)
    CheckpointManager.create_checkpoint(context, path=tmp_path / "run")
    FAILING.clear()
    resume(tmp_path / "run").execute()
    assert RUNS == ["t0", "t1", "t2", "t2", "t3"]


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["threading", "direct"])
@pytest.mark.parametrize("deferred", [True, False])
def test_a_member_saves_the_whole_run_and_finished_members_do_not_run_again(tmp_path, backend, deferred):
    path = str(tmp_path / "run")

    def saves(ctx):
        ctx.get_channel().set("written", "by saves")
        if here.RUNS.count("saves") == 1:
            ctx.checkpoint(path=path, deferred=deferred)
            if not deferred:
                raise here.Crash

    def crash(ctx):
        if deferred and here.RUNS.count("last") == 1:
            raise here.Crash

    with workflow("group") as wf:
        group = parallel(noting("first"), noting("second"), noting("saves", saves), noting("last", crash))
        noting("before") >> group.with_execution(backend, {"thread_count": 1}) >> noting("after")
    execute(wf)
    state = json.loads(Path(f"{path}.state.json").read_text())
    assert state["resuming_task_id"] == "ParallelGroup_1"
    assert state["completed_tasks"] == ["before"]
    assert list(state["finished_members"].values()) == [["first", "second"]]
    resumed = resume(path)
    assert resumed.execute() == "after"
    again = {"last": 2} if deferred else {"saves": 2}
    expected = {"before": 1, "first": 1, "second": 1, "saves": 1, "last": 1, "after": 1} | again
    assert Counter(RUNS) == Counter(expected)
    assert resumed.channel.get("written") == "by saves"
    assert resumed.completed_tasks == ["before", "first", "second", "saves", "last", "ParallelGroup_1", "after"]
    assert resumed.steps == 7


def test_a_branch_goes_on_at_the_task_it_had_reached(tmp_path):
    path = str(tmp_path / "run")
    with workflow("branch") as wf:
        head = noting("a", lambda ctx: ctx.get_channel().set("from a", 1))
        head >> noting("a2", lambda ctx: ctx.checkpoint(path=path)) >> noting("a3")
        (head | noting("b")).with_execution("direct") >> noting("after")
    FAILING.add("a3")
    execute(wf, "ParallelGroup_1")
    FAILING.clear()
    resumed = resume(path)
    assert resumed.execute() == "after"
    assert Counter(RUNS) == Counter({"a": 1, "a2": 1, "a3": 2, "b": 2, "after": 1})
    assert resumed.channel.get("from a") == 1
    assert resumed.completed_tasks == ["a", "a2", "a3", "b", "ParallelGroup_1", "after"]


def test_a_checkpoint_asked_for_in_a_branch_that_fails_later_is_there(tmp_path):
    path = str(tmp_path / "run")
    with workflow("fails") as wf:
        head = noting("a", lambda ctx: ctx.checkpoint(path=path))
        head >> noting("a2")
        (head | noting("b")).with_execution("threading") >> noting("after")
    FAILING.add("a2")
    context = execute(wf, "ParallelGroup_1")
    assert context.last_checkpoint_path == f"{path}.pkl"
    FAILING.clear()
    resumed = resume(path)
    resumed.execute()
    assert RUNS.count("a") == 1
    assert RUNS.count("a2") == 2
    assert resumed.completed_tasks[-1] == "after"


def test_a_member_saves_while_its_siblings_run(tmp_path):
    path = str(tmp_path / "run")
    GATES.update(saved=threading.Event(), running=threading.Event())

    def sibling(ctx):
        channel = ctx.get_channel()
        channel.set("half", "private")
        channel.atomic_add("shared")
        if here.GATES:
            here.GATES["running"].set()
            assert here.GATES["saved"].wait(60)
        return "sibling"

    def saves(ctx):
        assert here.GATES["running"].wait(60)
        ctx.checkpoint(path=path, deferred=False)
        here.GATES["saved"].set()

    with workflow("siblings") as wf:
        head = noting("early")
        head >> noting("sibling", sibling) >> noting("late")
        group = head | noting("saves", saves)
        group.with_execution("threading", {"thread_count": 2}) >> noting("after")
    execute(wf, "ParallelGroup_1")
    assert RUNS.count("after") == 1
    RUNS.clear()
    GATES.clear()
    FAILING.add("saves")
    with pytest.raises(exceptions.ParallelGroupError):
        resume(path).execute()
    assert "early" not in RUNS
    assert {"sibling", "late", "saves"} <= set(RUNS)


def test_finished_members_of_a_group_within_a_group_do_not_run_again(tmp_path):
    path = str(tmp_path / "run")

    def saves(ctx):
        if here.RUNS.count("saves") == 1:
            ctx.checkpoint(path=path, deferred=False)
            raise here.Crash

    with workflow("nested") as wf:
        inner = ParallelGroup([noting("x"), noting("saves", saves), noting("y")], name="inner")
        outer = ParallelGroup([noting("a"), inner, noting("b")], name="outer")
        for group in (inner, outer):
            group.with_execution("direct")
        noting("before") >> outer >> noting("after")
    execute(wf)
    resumed = resume(path)
    resumed.execute()
    assert RUNS == ["before", "a", "x", "saves", "saves", "y", "b", "after"]
    assert resumed.completed_tasks == ["before", "a", "x", "saves", "y", "inner", "b", "outer", "after"]
    assert [resumed.get_result(name) for name in ("x", "y", "a")] == ["x", "y", "a"]


def test_failed_members_run_again_after_resuming(tmp_path):
    path = str(tmp_path / "run")
    with workflow("failed") as wf:
        group = parallel(noting("good"), noting("bad"), noting("saves", lambda ctx: ctx.checkpoint(path=path)))
        group.with_execution("direct")
    FAILING.add("bad")
    execute(wf)
    FAILING.clear()
    resume(path).execute()
    assert RUNS == ["good", "bad", "saves", "bad"]


def test_many_members_save_at_the_same_time(tmp_path):
    path = str(tmp_path / "run")
    with workflow("many") as wf:
        members = [noting(f"m{i}", lambda ctx: ctx.checkpoint(path=path, deferred=False) and 1) for i in range(8)]
        parallel(*members).with_execution("threading", {"thread_count": 8}) >> noting("after")
    execute(wf)
    assert RUNS.count("after") == 1
    resumed = resume(path)
    assert resumed.execute() == "after"
    assert set(resumed.completed_tasks) == {*(f"m{i}" for i in range(8)), "ParallelGroup_1", "after"}


def test_a_group_in_a_loop_saves_each_visit_by_itself(tmp_path):
    path = str(tmp_path / "run")

    def saves(ctx):
        if ctx.cycle_count == 2 and here.RUNS.count("saves") == 2:
            ctx.checkpoint(path=path, deferred=False)
            raise here.Crash

    with workflow("loop") as wf:
        group = parallel(noting("a"), noting("saves", saves)).with_execution("direct")
        group >> noting("again", lambda ctx: ctx.cycle_count < 2 and ctx.next_task(group))
    execute(wf, "ParallelGroup_1")
    resume(path).execute()
    assert RUNS == ["a", "saves", "again", "a", "saves", "saves", "again"]


# -- crashes -----------------------------------------------------------------------------------------------------------

expressions = st.recursive(
    st.just("leaf"),
    lambda parts: st.tuples(st.sampled_from(["chain", "group"]), st.lists(parts, min_size=2, max_size=4)),
    max_leaves=10,
)


def saving(name, path):
    def body(ctx):
        with here.COUNTING:
            here.RUNS.append(name)
            crashes = len(here.RUNS) == here.CRASH_AT[0]
        if crashes:
            raise here.Crash
        ctx.checkpoint(path=path)
        return name

    return task(name, inject_context=True)(body)


def build(expression, path, backend, names):
    if expression == "leaf":
        names.append(f"t{len(names)}")
        return saving(names[-1], path)
    kind, parts = expression
    built = [build(part, path, backend, names) for part in parts]
    if kind == "chain":
        return chain(*built)
    return parallel(*built).with_execution(backend, {"thread_count": 3})


def completed_in(state):
    """Everything that a saved run, its open branches included, counts as completed."""
    found = set(state.completed_tasks)
    for members in state.groups.finished.values():
        found.update(*(outcome.completed for outcome in members.values()))
    for branches in state.groups.branches.values():
        found.update(*(completed_in(branch) for branch in branches.values()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["direct", "threading"])
@settings(max_examples=30, deadline=None)
@given(expression=expressions, data=st.data())
def test_a_run_resumed_from_any_crash_runs_nothing_twice_that_was_saved(tmp_path_factory, backend, expression, data):
    path = str(tmp_path_factory.mktemp("crash") / "run")
    names: list[str] = []
    with workflow("crash") as wf:
        build(("chain", ["leaf", expression]), path, backend, names)
    RUNS.clear()
    CRASH_AT[0] = data.draw(st.integers(2, len(names) + 1))
    execute(wf, "t0")
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("graflow-Par")])
    CRASH_AT[0] = 0
    resumed = resume(path)
    saved, before = completed_in(resumed), Counter(RUNS)
    resumed.execute()
    again = Counter(RUNS) - before
    assert [name for name in saved if again[name]] == []
    assert set(RUNS) == set(names)
    assert {name: resumed.get_result(name) for name in names} == {name: name for name in names}
    assert set(names) <= set(resumed.completed_tasks)


PARTS = (".pkl", ".state.json", ".meta.json", ".sig")


def base_context(steps):
    graph = TaskGraph()
    graph.add_node(Task("t", register_to_context=False))
    context = ExecutionContext.create(graph, "t")
    context.steps = steps
    return context


@pytest.mark.parametrize("crash_at", range(22))
def test_a_crash_at_any_point_of_writing_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch, crash_at):
    path = tmp_path / "run"
    CheckpointManager.create_checkpoint(base_context(1), path=path)
    with monkeypatch.context() as patch:
        crash_after(patch, crash_at)
        try:
            CheckpointManager.create_checkpoint(base_context(2), path=path)
            crashed = False
        except Crash:
            crashed = True
    steps = resume(path).steps
    assert steps in {1, 2}
    if not crashed:
        assert steps == 2
    # Whoever writes next, and crashes as well, does no more harm.
    with monkeypatch.context() as patch:
        crash_after(patch, crash_at)
        with suppress(Crash):
            CheckpointManager.create_checkpoint(base_context(3), path=path)
    assert resume(path).steps in {steps, 3}
    CheckpointManager.create_checkpoint(base_context(4), path=path)
    assert resume(path).steps == 4
    assert sorted(file.name for file in tmp_path.glob("run*")) == sorted(f"run{suffix}" for suffix in PARTS)


def crash_after(patch, calls_left):
    """Stop the program at a call that changes the disk, everything after it included."""
    left = [calls_left]

    def guarded(original, *, half=None):
        def call(*args, **kwargs):
            if left[0] <= 0:
                if left[0] == 0 and half is not None:
                    half(original, *args, **kwargs)
                left[0] = -1
                raise Crash
            left[0] -= 1
            return original(*args, **kwargs)

        return call

    patch.setattr(Path, "unlink", guarded(Path.unlink))
    patch.setattr(Path, "replace", guarded(Path.replace))
    patch.setattr(checkpoint_files.os, "fsync", guarded(os.fsync))
    patch.setattr(checkpoint_files, "_write_durably", guarded(checkpoint_files._write_durably, half=torn))


def torn(original, path, content):
    """Half of a file, as a power cut leaves it."""
    original(path, content[: len(content) // 2])


def test_an_error_while_writing_leaves_nothing_but_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run"
    CheckpointManager.create_checkpoint(base_context(1), path=path)
    original = checkpoint_files._write_durably

    def full_disk(file, content):
        original(file, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "_write_durably", full_disk)
    context = base_context(2)
    with pytest.raises(OSError, match="No space"):
        CheckpointManager.create_checkpoint(context, path=path)
    assert context.last_checkpoint_path is None
    assert sorted(file.name for file in tmp_path.glob("run*")) == sorted(f"run{suffix}" for suffix in PARTS)
    assert resume(path).steps == 1


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, -1])
@pytest.mark.parametrize("suffix", [".pkl", ".state.json", ".meta.json", ".sig"])
def test_a_truncated_checkpoint_is_refused(tmp_path, suffix, keep):
    CheckpointManager.create_checkpoint(base_context(1), path=tmp_path / "run")
    file = tmp_path / f"run{suffix}"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises((exceptions.SignatureError, json.JSONDecodeError)):
        resume(tmp_path / "run")


SCRIPT = """
import os, signal, sys
from graflow import parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext

LOG, PATH = "{log}", "{path}"

def note(name):
    with open(LOG, "a") as file:
        file.write(name + "\\n")

@task(inject_context=True)
def first(ctx):
    note("first")
    ctx.checkpoint(path=PATH)
    return 1

@task(inject_context=True)
def left(ctx, first):
    note("left")
    ctx.checkpoint(path=PATH)
    return first + 1

@task(inject_context=True)
def right(ctx, first):
    note("right")
    if os.environ.get("CRASH"):
        os.kill(os.getpid(), signal.SIGKILL)
    return first + 2

@task
def last(left, right):
    note("last")
    return left, right

def main():
    if sys.argv[1] == "run":
        with workflow("script") as wf:
            first >> parallel(left, right).with_execution("direct") >> last
            print(wf.execute())
    else:
        context, metadata = CheckpointManager.resume_from_checkpoint(PATH)
        print(context.execute())

if __name__ == "__main__":
    main()
"""


def test_a_killed_script_goes_on_in_another_process(tmp_path):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT.format(log=log, path=tmp_path / "run"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def run(mode, **extra):
        command = [sys.executable, str(script), mode]
        return subprocess.run(command, capture_output=True, text=True, env=environment | extra, timeout=60, check=False)

    killed = run("run", CRASH="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run("resume")
    assert resumed.stdout.strip() == "(2, 3)", resumed.stderr
    assert log.read_text().split() == ["first", "left", "right", "right", "last"]


@pytest.mark.slow
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path):
    code = (
        "import sys\n"
        "from tests.scenario.test_checkpoint_scenarios import base_context\n"
        "from graflow.core.checkpoint import CheckpointManager\n"
        "context = base_context(0)\n"
        "context.channel.set('ballast', list(range(20000)))\n"
        "while True:\n"
        "    context.steps += 1\n"
        f"    CheckpointManager.create_checkpoint(context, path={str(tmp_path / 'run')!r})\n"
        "    print(context.steps, flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for round_number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            for _ in range(3 + round_number):
                done = int(process.stdout.readline())
            process.kill()
            process.wait(60)
            written = [int(line) for line in process.stdout.read().split()]
        assert resume(tmp_path / "run").steps in {(written or [done])[-1], (written or [done])[-1] + 1}


def test_a_run_saved_from_another_thread_at_any_moment_goes_on_from_there(tmp_path):
    names: list[str] = []

    def writing(ctx):
        ctx.get_channel().set(f"key of {ctx.task_id}", ctx.task_id)
        return ctx.task_id

    def step():
        names.append(f"t{len(names)}")
        return noting(names[-1], writing)

    with workflow("watched") as wf:
        branches = []
        for _ in range(2):
            inner = ParallelGroup([step() >> step() for _ in range(3)])
            branches.append(step() >> inner.with_execution("threading", {"thread_count": 3}) >> step())
        first = step()
        first >> ParallelGroup(branches).with_execution("threading", {"thread_count": 2}) >> step()
    for round_number in range(10):
        context = ExecutionContext.create(wf.graph.copy(), first.task_id)
        for path in saved_while_running(context, tmp_path / str(round_number)):
            resumed = resume(path)
            resumed.execute()
            assert {name: resumed.get_result(name) for name in names} == {name: name for name in names}
            assert all(resumed.channel.get(f"key of {name}") == name for name in names)
            assert sorted(resumed.completed_tasks) == sorted(context.completed_tasks)
            assert resumed.steps == context.steps


def saved_while_running(context, folder):
    """Run to the end while another thread saves all the time; the paths that it wrote."""
    done, saved = threading.Event(), []

    def watch():
        while not (done.is_set() and saved):
            saved.append(CheckpointManager.create_checkpoint(context, path=folder / f"run{len(saved)}")[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    context.execute()
    done.set()
    watcher.join(60)
    return saved
