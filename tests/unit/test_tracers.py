from __future__ import annotations

import io
import itertools
import json
import logging
import pickle
import re
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import networkx as nx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console

from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskResult
from graflow.trace.base import Tracer
from graflow.trace.composite import CompositeTracer, combine
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

    def branch(self, name):
        return Run(f"{self.session_id}_{name}", self.trace_id, self.graph)


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
    tracer.on_task_start(step, run)
    if inside is not None:
        inside()
    tracer.on_task_end(step, run, result=None, error=error)


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


# -- base and default --------------------------------------------------------------------------------------------------


def test_the_base_listener_does_nothing_and_records_nothing():
    tracer = Tracer()
    call_every_hook(tracer, Run())
    assert tracer.get_runtime_graph() is None
    assert tracer.get_execution_order() == []
    assert tracer.export_runtime_graph() is None
    assert isinstance(tracer.clone("t"), Tracer)


def test_the_default_listener_gives_a_graph_of_what_ran():
    run, tracer = chain_of("a", "b", "c", "skipped"), NoopTracer()
    tracer.on_workflow_start("wf", run)
    for task_id in "abc":
        play(tracer, run, task_id)
    graph = tracer.get_runtime_graph()
    assert list(graph) == ["a", "b", "c"]
    assert list(graph.edges()) == [("a", "b"), ("b", "c")]
    assert graph.nodes["b"] == {"order": 1, "executions": 1, "status": "completed"}
    assert tracer.get_execution_order() == ["a", "b", "c"]
    assert draw_ascii(graph).split() == ["a", "|", "b", "|", "c"]


def test_the_graph_tells_failures_and_repetitions():
    run, tracer = chain_of("a", "b"), NoopTracer()
    play(tracer, run, "a", error=ValueError())
    play(tracer, run, "a")
    play(tracer, run, "b")
    play(tracer, run, "b", error=ValueError())
    nodes = tracer.get_runtime_graph().nodes
    assert (nodes["a"]["status"], nodes["a"]["executions"]) == ("completed", 2)
    assert (nodes["b"]["status"], nodes["b"]["executions"]) == ("failed", 2)
    assert tracer.get_execution_order() == ["a", "a", "b", "b"]


def test_a_failing_task_around_a_good_one_is_the_one_that_failed():
    run, tracer = chain_of("outer", "inner"), NoopTracer()
    play(tracer, run, "outer", error=ValueError(), inside=lambda: play(tracer, run, "inner"))
    nodes = tracer.get_runtime_graph().nodes
    assert (nodes["outer"]["status"], nodes["inner"]["status"]) == ("failed", "completed")


def test_members_and_dynamic_tasks_hang_below_what_started_them():
    run, tracer = chain_of("g", "d"), NoopTracer()
    results = {"here": TaskResult("here", True), "elsewhere": TaskResult("elsewhere", False)}

    def members():
        tracer.on_parallel_group_start("g", list(results), run)
        play(tracer.clone(run.trace_id), run.branch("here"), "here")
        tracer.on_parallel_group_end("g", list(results), run, results=results)

    play(tracer, run, "g", inside=members)
    tracer.on_dynamic_task_added("extra", parent_task_id="g")
    tracer.on_dynamic_task_added("again", parent_task_id="g", is_iteration=True)
    play(tracer, run, "extra")
    play(tracer, run, "again")
    graph = tracer.get_runtime_graph()
    kinds = {(a, b): kind for a, b, kind in graph.edges(data="kind")}
    assert kinds == {
        ("g", "here"): "member",
        ("g", "elsewhere"): "member",
        ("g", "extra"): "dynamic",
        ("g", "again"): "iteration",
    }
    assert graph.nodes["elsewhere"]["status"] == "failed"


def test_a_new_run_starts_a_new_record_and_a_continued_one_keeps_it():
    tracer, first = NoopTracer(), chain_of("a")
    tracer.on_workflow_start("wf", first)
    play(tracer, first, "a")
    tracer.on_workflow_start("wf", first)
    assert tracer.get_execution_order() == ["a"]
    tracer.on_workflow_start("wf", Run("s2", "s2"))
    assert tracer.get_execution_order() == []
    assert list(tracer.get_runtime_graph()) == []


def test_the_record_can_be_switched_off():
    tracer = NoopTracer(enable_runtime_graph=False)
    call_every_hook(tracer, Run())
    assert tracer.get_runtime_graph() is None
    assert tracer.get_execution_order() == []


def test_the_graph_is_exported_as_data_json_and_graphml():
    run, tracer = chain_of("a", "b"), NoopTracer()
    play(tracer, run, "a")
    play(tracer, run, "b")
    data = tracer.export_runtime_graph()
    assert [node["id"] for node in data["nodes"]] == ["a", "b"]
    assert json.loads(tracer.export_runtime_graph("json")) == data
    assert nx.parse_graphml(tracer.export_runtime_graph("graphml")).has_edge("a", "b")
    with pytest.raises(ValueError, match="graphml"):
        tracer.export_runtime_graph("xml")


def test_members_on_many_threads_are_all_recorded():
    run, tracer = Run(), NoopTracer()

    def work(number):
        for step in range(200):
            play(tracer, run, f"{number}_{step}")

    at_once(work, range(4))
    assert len(tracer.get_runtime_graph()) == 800


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


def test_a_composite_shows_the_graph_that_one_of_its_listeners_recorded():
    run, tracer = chain_of("a"), combine([Recorder(), NoopTracer()])
    play(tracer.clone("s1"), run, "a")
    assert list(tracer.get_runtime_graph()) == ["a"]
    assert tracer.get_execution_order() == ["a"]
    assert combine([Recorder(), Recorder()]).get_runtime_graph() is None


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
    wait_until(lambda: "0/1" in console.file.getvalue(), timeout=5)
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
