from __future__ import annotations

import io
import itertools
import json
import logging
import pickle
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import networkx as nx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console

from graflow import task, workflow
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskResult
from graflow.exceptions import ConfigError
from graflow.trace.base import Tracer
from graflow.trace.composite import CompositeTracer, combine
from graflow.trace.console import ConsoleTracer
from graflow.trace.logging import LoggingTracer
from graflow.trace.noop import NoopTracer
from graflow.trace.otel import OpenTelemetryTracer
from graflow.trace.progress import ProgressTracer, track
from graflow.utils.graph import draw_ascii
from tests.support import at_once, wait_until


@dataclass(eq=False)
class Step:
    task_id: str


@dataclass
class Run:
    """What listeners read of an execution context."""

    session_id: str = "s1"
    trace_id: str = "s1"
    graph: TaskGraph = field(default_factory=TaskGraph)
    parent_context: Run | None = None
    start_node: str | None = "a"
    max_steps: int = 10
    steps: int = 3
    _task_execution_stack: list = field(default_factory=list)

    def branch(self, name):
        return Run(f"{self.session_id}_{name}", self.trace_id, self.graph, parent_context=self)


def chain_of(*ids):
    run = Run()
    for task_id in ids:
        run.graph.add_node(Step(task_id))
    for before, after in itertools.pairwise(ids):
        run.graph.add_edge(before, after)
    return run


def play(tracer, run, task_id, *, error=None, inside=None):
    step = Step(task_id)
    tracer.on_task_queued(step, run)
    run._task_execution_stack.append(SimpleNamespace(task_id=task_id, start_time=time.time()))
    tracer.on_task_start(step, run)
    if inside is not None:
        inside()
    tracer.on_task_end(step, run, result=None, error=error)
    run._task_execution_stack.pop()


class Recorder(Tracer):
    """Notes the names and arguments of all calls."""

    def __init__(self):
        self.calls = []

    def on_workflow_start(self, name, context):
        self.calls.append(("workflow_start", name))

    def on_workflow_end(self, name, context, result=None, error=None):
        self.calls.append(("workflow_end", name, result, error))

    def on_task_queued(self, task, context):
        self.calls.append(("task_queued", task.task_id))

    def on_task_start(self, task, context):
        self.calls.append(("task_start", task.task_id))

    def on_task_end(self, task, context, result=None, error=None):
        self.calls.append(("task_end", task.task_id, result, error))

    def on_parallel_group_start(self, group_id, member_ids, context):
        self.calls.append(("group_start", group_id, member_ids))

    def on_member_end(self, group_id, member_id, context, error=None, ran=None):
        self.calls.append(("member_end", group_id, member_id, error, ran))

    def on_parallel_group_end(self, group_id, member_ids, context, results=None):
        self.calls.append(("group_end", group_id, member_ids, results))

    def on_dynamic_task_added(self, task_id, parent_task_id=None, is_iteration=False, metadata=None):
        self.calls.append(("dynamic", task_id, parent_task_id, is_iteration, metadata))

    def flush(self):
        self.calls.append(("flush",))

    def shutdown(self):
        self.calls.append(("shutdown",))


class Failing(Tracer):
    def on_task_start(self, task, context):
        raise ValueError(f"no {task.task_id}")


def call_every_hook(tracer, run):
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a")
    tracer.on_parallel_group_start("g", ["m"], run)
    tracer.on_member_end("g", "m", run, ran={"m": True})
    tracer.on_parallel_group_end("g", ["m"], run, results={"m": TaskResult("m", True)})
    tracer.on_dynamic_task_added("d", parent_task_id="a", is_iteration=True, metadata={"n": 1})
    tracer.on_workflow_end("wf", run, result=5)
    tracer.flush()
    tracer.shutdown()


# -- base and default: the runtime graph -------------------------------------------------------------------------------

RECORDING = [Tracer, NoopTracer]


def recording(test):
    return pytest.mark.parametrize("kind", RECORDING)(test)


def relations_of(tracer):
    return {(a, b): relation for a, b, relation in tracer.get_runtime_graph().edges(data="relation")}


@recording
def test_a_run_becomes_a_trace_with_a_span_for_each_task(kind):
    run, tracer = chain_of("a", "b", "skipped"), kind()
    began = datetime.now(UTC)
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a")
    play(tracer, run, "b")
    tracer.on_workflow_end("wf", run, result=1)
    nodes = tracer.get_runtime_graph().nodes
    assert list(nodes) == tracer.get_execution_order() == ["wf", "a", "b"]
    assert nodes["wf"]["metadata"] == {
        "type": "trace",
        "start_node": "a",
        "max_steps": 10,
        "session_id": "s1",
        "steps": 3,
    }
    assert nodes["a"]["metadata"] == {"type": "span", "task_type": "Step", "handler_type": None}
    for node in nodes.values():
        assert (node["status"], node["executions"]) == ("completed", 1)
        assert began <= node["start_time"] <= node["end_time"] <= datetime.now(UTC)
    assert draw_ascii(tracer.get_runtime_graph()).split() == ["wf", "a", "b"]


@recording
def test_the_graph_tells_failures_repetitions_and_what_still_runs(kind):
    run, tracer = chain_of("a", "b"), kind()
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", error=ValueError("first"))
    play(tracer, run, "a")
    play(tracer, run, "b", error=KeyError("second"))
    nodes = tracer.get_runtime_graph().nodes
    assert (nodes["a"]["status"], nodes["a"]["executions"]) == ("completed", 2)
    assert "error" not in nodes["a"]["metadata"]
    assert nodes["b"]["status"] == "failed"
    assert nodes["b"]["metadata"].items() >= {"error": "'second'", "error_type": "KeyError"}.items()
    assert (nodes["wf"]["status"], nodes["wf"]["end_time"]) == ("running", None)
    assert tracer.get_execution_order() == ["wf", "a", "a", "b"]
    tracer.on_workflow_end("wf", run, error=KeyError("second"))
    assert tracer.get_runtime_graph().nodes["wf"]["status"] == "failed"


@recording
def test_a_task_inside_another_one_is_its_child(kind):
    run, tracer = chain_of("outer", "inner"), kind()
    play(tracer, run, "outer", error=ValueError(), inside=lambda: play(tracer, run, "inner"))
    nodes = tracer.get_runtime_graph().nodes
    assert (nodes["outer"]["status"], nodes["inner"]["status"]) == ("failed", "completed")
    assert relations_of(tracer) == {("outer", "inner"): "parent-child"}


@recording
def test_members_and_dynamic_tasks_hang_below_what_started_them(kind):
    run, tracer = chain_of("g", "d"), kind()
    results = {"here": TaskResult("here", True), "elsewhere": TaskResult("elsewhere", False)}

    def members():
        tracer.on_parallel_group_start("g", [*results, "never"], run)
        branch = run.branch("here")
        play(tracer.clone(run.trace_id), branch, "here")
        play(tracer.clone(run.trace_id), branch, "after_here")
        tracer.on_member_end("g", "remote", run, error=OSError("gone"), ran={"remote": False, "after": True})
        tracer.on_parallel_group_end("g", list(results), run, results=results)

    play(tracer, run, "g", inside=members)
    tracer.on_dynamic_task_added("extra", parent_task_id="g")
    tracer.on_dynamic_task_added("unseen", parent_task_id="g", is_iteration=True)
    play(tracer, run, "extra")
    assert relations_of(tracer) == {
        **{("g", name): "parallel-member" for name in ("here", "elsewhere")},
        **{("g", name): "parent-child" for name in ("after_here", "remote", "after", "extra")},
    }
    nodes = tracer.get_runtime_graph().nodes
    assert nodes["elsewhere"]["status"] == nodes["remote"]["status"] == "failed"
    assert nodes["remote"]["metadata"]["error"] == "gone"
    assert nodes["after"]["status"] == "completed"


@recording
def test_a_new_run_starts_a_new_record_and_a_continued_one_keeps_it(kind):
    tracer, first = kind(), chain_of("a")
    tracer.on_workflow_start("wf", first)
    play(tracer, first, "a")
    tracer.on_workflow_start("wf", first)
    assert tracer.get_execution_order() == ["wf", "a", "wf"]
    tracer.on_workflow_start("wf", Run("s2", "s2"))
    assert tracer.get_execution_order() == list(tracer.get_runtime_graph()) == ["wf"]


@recording
def test_the_record_can_be_switched_off(kind):
    tracer = kind(enable_runtime_graph=False)
    call_every_hook(tracer, Run())
    assert tracer.enable_runtime_graph is False
    assert tracer.get_runtime_graph() is None
    assert tracer.get_execution_order() == []
    assert tracer.export_runtime_graph() is None


@recording
def test_the_graph_is_exported_as_data_json_and_graphml(kind):
    run, tracer = chain_of("a", "b"), kind()
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", inside=lambda: play(tracer, run, "b"))
    data = tracer.export_runtime_graph()
    assert [(node["id"], node["status"]) for node in data["nodes"]] == [
        *(("wf", "running"), ("a", "completed")),
        ("b", "completed"),
    ]
    assert data["edges"] == [{"source": "a", "target": "b", "relation": "parent-child"}]
    assert data["execution_order"] == ["wf", "a", "b"]
    assert isinstance(data["nodes"][0]["start_time"], datetime)
    from_text = json.loads(tracer.export_runtime_graph("json"))
    assert datetime.fromisoformat(from_text["nodes"][1]["end_time"]) == data["nodes"][1]["end_time"]
    assert (from_text["edges"], from_text["execution_order"]) == (data["edges"], data["execution_order"])
    assert nx.parse_graphml(tracer.export_runtime_graph("graphml")).edges["a", "b"] == {"relation": "parent-child"}
    with pytest.raises(ValueError, match="Unknown format 'xml'; choose dict, json or graphml"):
        tracer.export_runtime_graph("xml")


@recording
def test_members_on_many_threads_are_all_recorded(kind):
    tracer = kind()

    def work(number):
        run = Run()
        for step in range(200):
            play(tracer, run, f"{number}_{step}")

    at_once(work, range(4))
    assert len(tracer.get_runtime_graph()) == 800


@recording
def test_the_current_span_is_the_innermost_open_one(kind):
    run, tracer = chain_of("a", "b"), kind()
    seen = [tracer.get_current_span_id()]

    def look():
        seen.append(tracer.get_current_span_id())

    play(tracer, run, "a", inside=lambda: (look(), play(tracer, run, "b", inside=look), look()))
    look()
    assert seen == [None, "a", "b", "a", None]


# -- base: spans for subclasses ----------------------------------------------------------------------------------------


class Output(Tracer):
    """What users write who come from the first Graflow."""

    def __init__(self, **options):
        super().__init__(**options)
        self.said = []

    def _output_trace_start(self, name, trace_id, metadata):
        self.said.append(("trace", name, trace_id, metadata))

    def _output_trace_end(self, name, output, metadata):
        self.said.append(("trace end", name, output, metadata))

    def _output_span_start(self, name, parent_name, metadata):
        self.said.append(("span", name, parent_name, metadata))

    def _output_span_end(self, name, output, metadata):
        self.said.append(("span end", name, output, metadata))

    def _output_event(self, name, parent_span, metadata):
        self.said.append(("event", name, parent_span, metadata))

    def _output_attach_to_trace(self, trace_id, parent_span_id):
        self.said.append(("attach", trace_id, parent_span_id))


def test_the_hooks_of_the_engine_become_traces_and_spans():
    run, tracer = chain_of("a"), Output()
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", error=ValueError("bad"), inside=lambda: play(tracer, run, "b"))
    tracer.on_dynamic_task_added("d", parent_task_id="a", metadata={"n": 1})
    tracer.on_workflow_end("wf", run, result=5)
    facts = {"task_type": "Step", "handler_type": None}
    assert tracer.said == [
        ("trace", "wf", "s1", {"start_node": "a", "max_steps": 10, "session_id": "s1"}),
        ("span", "a", None, facts),
        ("span", "b", "a", facts),
        ("span end", "b", None, {}),
        ("span end", "a", None, {"error": "bad", "error_type": "ValueError"}),
        ("event", "dynamic_task_added", "a", {"task_id": "d", "is_iteration": False, "n": 1}),
        ("trace end", "wf", 5, {"steps": 3}),
    ]


def test_spans_can_be_told_by_hand():
    tracer = Output()
    tracer.attach_to_trace("t1", "elsewhere")
    assert tracer.get_current_span_id() == "elsewhere"
    tracer.trace_start("wf", "t1", {"k": 1})
    tracer.span_start("a")
    tracer.span_start("b", parent_name="a", metadata={"n": 1})
    tracer.span_start("c", parent_name="unknown")
    tracer.event("noted", parent_span="b", metadata={"m": 2})
    tracer.span_end("b", output=7, metadata={"error": "bad"})
    tracer.trace_end("wf", output=8)
    assert tracer.said[-3:] == [
        ("event", "noted", "b", {"m": 2}),
        ("span end", "b", 7, {"error": "bad"}),
        ("trace end", "wf", 8, None),
    ]
    nodes = tracer.get_runtime_graph().nodes
    assert {name: node["status"] for name, node in nodes.items()} == {
        "wf": "completed",
        "a": "running",
        "b": "failed",
        "c": "running",
    }
    assert nodes["b"]["metadata"] == {"type": "span", "n": 1, "error": "bad"}
    assert relations_of(tracer) == {("a", "b"): "parent-child"}


@pytest.mark.parametrize("kind", [Tracer, NoopTracer, Output, ConsoleTracer])
def test_a_clone_is_another_object_whose_spans_appear_in_the_graph_of_the_original(kind, capsys):
    tracer = kind()
    clone = tracer.clone("t")
    assert type(clone) is kind
    assert clone is not tracer
    play(clone.clone("t"), Run(), "a")
    assert clone.get_runtime_graph() is None
    assert list(tracer.get_runtime_graph()) == ["a"]


@pytest.mark.parametrize("kind", [Tracer, NoopTracer])
@pytest.mark.parametrize("is_one_of_several", [False, True])
def test_members_are_in_the_graph_of_a_listener_that_makes_its_clones_anew(kind, is_one_of_several):
    class Own(kind):
        def clone(self, trace_id):
            return Own(enable_runtime_graph=False)

    tracer = Own()
    with workflow("w", tracer=CompositeTracer([tracer]) if is_one_of_several else tracer) as wf:
        (task("b")(lambda: 2) | task("c")(lambda: 3)).with_execution("direct")
        wf.execute()
    told = tracer.export_runtime_graph("dict")
    assert told["execution_order"] == ["w", "ParallelGroup_1", "b", "c"]
    assert {node["id"]: node["status"] for node in told["nodes"]} == dict.fromkeys(told["execution_order"], "completed")


def test_what_a_clone_counts_its_original_has_counted():
    class Counting(Tracer):
        def __init__(self):
            self.count = 0

        def on_task_start(self, task, context):
            self.count += 1

    tracer = Counting()
    play(tracer.clone("t"), Run(), "a")
    assert tracer.count == 1


# -- console -----------------------------------------------------------------------------------------------------------


def printed(capsys):
    return [re.sub(r"\d+\.\d{3} s", "T s", line) for line in capsys.readouterr().out.splitlines()]


def test_the_console_shows_a_run_with_what_is_inside_indented(capsys):
    run, tracer = chain_of("a"), ConsoleTracer()
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", error=ValueError("bad"), inside=lambda: play(tracer, run, "b"))
    tracer.on_parallel_group_start("g", ["m", "n"], run)
    tracer.on_dynamic_task_added("d", parent_task_id="a")
    tracer.on_workflow_end("wf", run)
    assert printed(capsys) == [
        "TRACE START: wf (start_node=a, max_steps=10, session_id=s1)",
        "  SPAN START: a (task_type=Step)",
        "    SPAN START: b (task_type=Step)",
        "    SPAN END: b ✓ T s",
        "  SPAN END: a ✗ T s bad (error_type=ValueError)",
        "  EVENT: parallel_group_start (group_id=g, member_ids=['m', 'n'])",
        "    EVENT: dynamic_task_added (task_id=d, is_iteration=False)",
        "TRACE END: wf ✓ T s (steps=3)",
    ]


def test_the_console_can_be_short_and_wider_and_has_colours_on_a_terminal_only(capsys, monkeypatch):
    run, tracer = chain_of("a"), ConsoleTracer(show_metadata=False, indent_size=4)
    play(tracer, run, "a")
    assert printed(capsys) == ["    SPAN START: a", "    SPAN END: a ✓ T s"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    play(tracer, run, "a")
    assert "\x1b[36mSPAN START: a\x1b[0m" in capsys.readouterr().out
    play(ConsoleTracer(enable_colors=False), run, "a")
    assert "\x1b" not in capsys.readouterr().out


# -- several -----------------------------------------------------------------------------------------------------------


def test_every_listener_hears_every_hook_with_all_arguments():
    alone, one, two = Recorder(), Recorder(), Recorder()
    call_every_hook(alone, Run())
    call_every_hook(CompositeTracer([one, two]), Run())
    assert one.calls == two.calls == alone.calls
    assert len(alone.calls) == 11


def test_a_failing_listener_does_not_silence_the_others():
    heard = Recorder()
    with pytest.raises(ValueError, match="no a"):
        CompositeTracer([Failing(), heard]).on_task_start(Step("a"), Run())
    assert heard.calls == [("task_start", "a")]
    with pytest.raises(ExceptionGroup):
        CompositeTracer([Failing(), Failing()]).on_task_start(Step("a"), Run())


def test_combining_gives_one_listener_out_of_none_one_or_several():
    one, two, three = Recorder(), NoopTracer(), Recorder()
    assert isinstance(combine(None), NoopTracer)
    assert isinstance(combine([]), NoopTracer)
    assert combine(one) is one
    assert combine([one]) is one
    assert combine([one, CompositeTracer([two, three])]).tracers == (one, two, three)


def test_several_listeners_are_told_spans_by_hand_and_one_of_them_knows_the_current_one():
    one, two = Output(), Output()
    tracer = CompositeTracer([one, two])
    tracer.trace_start("wf", "t")
    tracer.attach_to_trace("t", "p")
    tracer.span_start("a", "p", {"n": 1})
    assert tracer.get_current_span_id() == "a"
    tracer.event("e", "a")
    tracer.span_end("a", 1)
    tracer.trace_end("wf", 2)
    assert one.said == two.said
    assert [said[0] for said in one.said] == ["trace", "attach", "span", "event", "span end", "trace end"]


def test_a_composite_shows_the_graph_that_one_of_its_listeners_recorded():
    run, tracer = chain_of("a"), combine([LoggingTracer(), NoopTracer()])
    play(tracer.clone("s1"), run, "a")
    assert list(tracer.get_runtime_graph()) == ["a"]
    assert tracer.get_execution_order() == ["a"]
    assert combine([LoggingTracer(), LoggingTracer()]).get_runtime_graph() is None


# -- logging -----------------------------------------------------------------------------------------------------------


def test_the_log_shows_ends_with_durations_and_failures_as_warnings(caplog):
    run, tracer = Run(), LoggingTracer()
    with caplog.at_level(logging.INFO):
        tracer.on_workflow_start("wf", run)
        play(tracer, run, "a")
        play(tracer, run, "b", error=ValueError("boom"))
        tracer.on_parallel_group_start("g", ["m"], run)
        tracer.on_parallel_group_end("g", ["m"], run, results={"m": TaskResult("m", False)})
        tracer.on_workflow_end("wf", run, error=ValueError("boom"))
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in levels] == ["INFO", "INFO", "WARNING", "INFO", "WARNING", "WARNING"]
    assert "Task a ended after 0.0" in levels[1][1]
    assert "Task b failed" in levels[2][1]
    assert "boom" in levels[2][1]
    assert "1 failed" in levels[4][1]
    assert all("s1" in message for _, message in levels)


def test_the_log_takes_a_logger_and_a_level_and_never_shows_values(caplog):
    tracer = LoggingTracer(logging.getLogger("mine"), level=logging.DEBUG)
    with caplog.at_level(logging.DEBUG, logger="mine"):
        call_every_hook(tracer, Run())
        tracer.on_task_end(Step("a"), Run(), result="a secret")
    assert {record.name for record in caplog.records} == {"mine"}
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert "Iteration d added by a" in caplog.text
    assert "a secret" not in caplog.text


# -- progress ----------------------------------------------------------------------------------------------------------


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_a_bar_shows_the_run_its_tasks_and_failures():
    console, run = terminal(), chain_of("a", "b", "c", "[red]d")
    tracer = ProgressTracer(console=console, delay=0)
    tracer.on_workflow_start("my [flow]", run)
    play(tracer, run, "a")
    play(tracer, run, "a")
    play(tracer, run, "b", error=ValueError())
    tracer.on_task_start(Step("[red]d"), run)
    tracer.on_workflow_end("my [flow]", run, error=ValueError())
    shown = console.file.getvalue()
    assert "my [flow]" in shown
    assert "2/4" in shown
    assert "1 failed ValueError" in shown


def test_a_member_that_ran_elsewhere_counts_and_a_retry_mends_a_failure():
    console, run = terminal(), chain_of("g", "m")
    tracer = ProgressTracer(console=console, delay=0)
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "g", error=ValueError())
    play(tracer, run, "g")
    tracer.on_parallel_group_end("g", ["m"], run, results={"m": TaskResult("m", True)})
    tracer.on_workflow_end("wf", run)
    *_, last_drawing = console.file.getvalue().split("wf ")
    assert "2/2" in last_drawing
    assert "failed" not in last_drawing


def test_members_that_run_elsewhere_move_the_bar_one_by_one():
    console, run = terminal(), chain_of("g", "m", "n")
    tracer = ProgressTracer(console=console, delay=0)
    tracer.on_workflow_start("wf", run)
    tracer.on_member_end("g", "m", run)
    tracer.on_member_end("g", "n", run, error=ValueError())
    tracer.shutdown()
    assert tracer._runs[run.trace_id].fields() == {"completed": 2, "total": 3, "note": "1 failed "}


def test_a_bar_of_a_group_counts_its_members_and_no_other_task():
    console, run = terminal(), chain_of("before", "g", "m", "n", "after")
    tracer = ProgressTracer(console=console, delay=0, group="g")
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "before")
    assert "0/?" in console.file.getvalue()
    tracer.on_parallel_group_start("other", ["x"], run)
    tracer.on_parallel_group_start("g", ["m", "n"], run)
    play(tracer, run, "m")
    tracer.on_member_end("g", "n", run, error=ValueError())
    play(tracer, run, "g")
    play(tracer, run, "after")
    tracer.on_workflow_end("wf", run)
    *_, last_drawing = console.file.getvalue().split("wf ")
    assert "2/2" in last_drawing
    assert "1 failed" in last_drawing


def test_a_bar_that_comes_late_shows_the_seconds_since_the_run_began():
    console, run = terminal(), chain_of("a")
    tracer = ProgressTracer(console=console, delay=60)
    tracer.on_workflow_start("wf", run)
    tracer._runs[run.trace_id].started_at -= 90
    tracer._show()
    tracer.on_workflow_end("wf", run)
    assert re.search(r" 9\d\.\d s ", console.file.getvalue())


def test_items_are_counted_in_a_bar_and_nothing_is_drawn_where_there_is_no_terminal(capsys):
    console = terminal()
    assert list(track("abc", "letters", console=console)) == ["a", "b", "c"]
    assert "letters" in console.file.getvalue()
    assert "3/3" in console.file.getvalue()
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_short_run_shows_no_bar():
    console, run = terminal(), chain_of("a")
    tracer = ProgressTracer(console=console, delay=60)
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a")
    tracer.on_workflow_end("wf", run)
    assert not console.file.getvalue()


def test_a_long_task_gets_its_bar_while_it_lasts():
    console, run = terminal(), chain_of("a")
    tracer = ProgressTracer(console=console, delay=0.01)
    tracer.on_workflow_start("wf", run)
    tracer.on_task_start(Step("a"), run)
    wait_until(lambda: "0/1" in console.file.getvalue())
    tracer.on_workflow_end("wf", run)


def test_two_runs_at_once_have_a_bar_each():
    console = terminal()
    tracer = ProgressTracer(console=console, delay=0)
    one, two = chain_of("a"), Run("s2", "s2")
    tracer.on_workflow_start("first", one)
    tracer.on_workflow_start("second", two)
    tracer.on_workflow_end("first", one)
    tracer.on_workflow_end("second", two)
    assert "first" in console.file.getvalue()
    assert "second" in console.file.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_nothing_is_drawn_where_standard_error_is_no_terminal(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    call_every_hook(ProgressTracer(delay=0), Run())
    assert stream is None or not stream.getvalue()


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield SimpleNamespace(provider=provider, finished=lambda: {s.name: s for s in exporter.get_finished_spans()})
    provider.shutdown()


def parent_of(span, finished):
    return next(
        (name for name, s in finished.items() if span.parent and s.context.span_id == span.parent.span_id), None
    )


def test_a_run_and_its_tasks_are_one_trace(spans):
    run, tracer = Run(), OpenTelemetryTracer(spans.provider)

    def library_call():
        with spans.provider.get_tracer("library").start_as_current_span("query"):
            pass

    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", inside=library_call)
    play(tracer, run, "b")
    tracer.on_workflow_end("wf", run)
    finished = spans.finished()
    parents = {name: parent_of(span, finished) for name, span in finished.items()}
    assert parents == {"wf": None, "a": "wf", "b": "wf", "query": "a"}
    assert len({span.context.trace_id for span in finished.values()}) == 1
    assert finished["a"].attributes == {"graflow.task_id": "a", "graflow.session_id": "s1"}
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_failure_is_recorded_on_its_span(spans):
    run, tracer = Run(), OpenTelemetryTracer(spans.provider)
    error = ValueError("boom")
    tracer.on_workflow_start("wf", run)
    play(tracer, run, "a", error=error)
    tracer.on_workflow_end("wf", run, error=error)
    for span in spans.finished().values():
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.status.description == "ValueError: boom"
        assert span.events[0].name == "exception"


def test_members_hang_below_their_run_on_any_thread_and_those_elsewhere_get_recorded_times(spans):
    run, tracer = Run(), OpenTelemetryTracer(spans.provider)
    results = {
        "here": TaskResult("here", True, duration=1.0, timestamp=100.0),
        "elsewhere": TaskResult("elsewhere", False, error_message="lost", duration=2.0, timestamp=100.0),
    }

    def members():
        tracer.on_parallel_group_start("g", list(results), run)
        thread = threading.Thread(target=play, args=(tracer, run.branch("here"), "here"))
        thread.start()
        thread.join()
        tracer.on_parallel_group_end("g", list(results), run, results=results)

    tracer.on_workflow_start("wf", run)
    play(tracer, run, "g", inside=members)
    tracer.on_workflow_end("wf", run)
    finished = spans.finished()
    assert parent_of(finished["here"], finished) == "wf"
    assert parent_of(finished["elsewhere"], finished) == "g"
    assert (finished["elsewhere"].start_time, finished["elsewhere"].end_time) == (98 * 10**9, 100 * 10**9)
    assert finished["elsewhere"].status.description == "lost"
    assert finished["g"].attributes["graflow.group.size"] == 2
    assert finished["g"].attributes["graflow.group.failed"] == 1


def test_spans_left_open_are_ended_at_shutdown_and_ends_without_a_start_do_no_harm(spans):
    run, tracer = Run(), OpenTelemetryTracer(spans.provider)
    tracer.on_task_end(Step("never"), run)
    play(tracer, run, "alone")
    tracer.on_task_start(Step("left"), run)
    tracer.flush()
    assert list(spans.finished()) == ["alone"]
    tracer.shutdown()
    assert list(spans.finished()) == ["alone", "left"]
    assert not trace.get_current_span().get_span_context().is_valid, "what comes later does not hang below them"


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tracer",
    [
        Tracer(),
        NoopTracer(),
        LoggingTracer(),
        ProgressTracer(),
        OpenTelemetryTracer(),
        combine([NoopTracer(), Tracer()]),
    ],
    ids=lambda tracer: type(tracer).__name__,
)
def test_a_listener_survives_pickling_after_use(tracer):
    call_every_hook(tracer, Run())
    again = pickle.loads(pickle.dumps(tracer))
    assert type(again) is type(tracer)
    call_every_hook(again, Run("s2", "s2"))


@pytest.mark.parametrize("given", [3, print, "console", NoopTracer, [NoopTracer(), 3]])
def test_what_is_no_tracer_is_refused_where_it_is_given(given):
    with pytest.raises(ConfigError, match=r"A tracer is a Tracer, such as ConsoleTracer\(\), not "):
        workflow("w", tracer=given)
