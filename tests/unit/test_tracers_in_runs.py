from __future__ import annotations

import io
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.console import Console

from graflow.core.context import ExecutionContext
from graflow.core.decorators import task
from graflow.core.task import Task
from graflow.core.workflow import workflow
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError
from graflow.trace.base import Tracer
from graflow.trace.console import ConsoleTracer
from graflow.trace.logging import LoggingTracer
from graflow.trace.noop import NoopTracer
from graflow.trace.otel import OpenTelemetryTracer
from graflow.trace.progress import ProgressTracer
from graflow.utils.graph import draw_ascii


class Recorder(Tracer):
    def __init__(self):
        self.calls = []

    def on_workflow_start(self, name, context):
        self.calls.append(f"> {name}")

    def on_workflow_end(self, name, context, result=None, error=None):
        self.calls.append(f"< {name} {result if error is None else type(error).__name__}")

    def on_task_start(self, task, context):
        self.calls.append(f"> {task.task_id}")

    def on_task_end(self, task, context, result=None, error=None):
        self.calls.append(f"< {task.task_id}{'' if error is None else ' failed'}")


class Raising(Tracer):
    def on_workflow_start(self, name, context):
        raise ValueError("raised at start")

    def on_task_start(self, task, context):
        raise ValueError("raised by a hook")

    def on_task_end(self, task, context, result=None, error=None):
        raise ValueError("raised by a hook")


def fan_out(tracer, *, failing=False):
    with workflow("wf", tracer=tracer) as wf:

        @task
        def load():
            return 1

        @task
        def left():
            if failing:
                raise ValueError("boom")

        @task
        def right():
            return 3

        @task
        def store():
            return 4

        load >> (left | right) >> store
    return wf


def test_a_run_tells_its_listener_in_pairs():
    with workflow("wf", tracer=(recorder := Recorder())) as wf:

        @task
        def a():
            return 1

        @task
        def b():
            return 2

        a >> b
        wf.execute()
    assert recorder.calls == ["> wf", "> a", "< a", "> b", "< b", "< wf 2"]


def test_a_failed_run_ends_with_its_error():
    recorder = Recorder()
    with pytest.raises(ParallelGroupError):
        fan_out(recorder, failing=True).execute()
    assert recorder.calls[-1] == "< wf ParallelGroupError"
    assert "< left failed" in recorder.calls
    assert recorder.calls.count("> right") == recorder.calls.count("< right") == 1


def test_a_run_with_the_default_listener_has_a_graph_of_what_ran():
    _, context = fan_out(None).execute(ret_context=True)
    graph = context.tracer.get_runtime_graph()
    assert set(graph) == {"wf", "load", "left", "right", "store", "ParallelGroup_1"}
    assert {status for _, status in graph.nodes(data="status")} == {"completed"}
    assert list(graph.edges(data="relation")) == [
        ("ParallelGroup_1", "left", "parallel-member"),
        ("ParallelGroup_1", "right", "parallel-member"),
    ]
    assert graph.nodes["left"]["metadata"]["handler_type"] == "direct"
    drawn = draw_ascii(graph)
    assert all(node in drawn for node in graph)


def test_a_graph_of_what_ran_needs_no_engine():
    context = ExecutionContext.create(fan_out(None).graph)
    with context.executing_task(Task("outside", register_to_context=False)):
        pass
    assert list(context.tracer.get_runtime_graph()) == ["outside"]


def test_the_console_shows_members_inside_their_group(capsys):
    fan_out(ConsoleTracer(show_metadata=False)).execute()
    shown = [line.partition(" ✓")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown[:5] == [
        "TRACE START: wf",
        "  SPAN START: load",
        "  SPAN END: load",
        "  SPAN START: ParallelGroup_1",
        "    EVENT: parallel_group_start",
    ]
    assert set(shown) >= {"    SPAN START: left", "    SPAN END: right", "    EVENT: parallel_group_end"}
    assert shown[-3:] == ["  SPAN START: store", "  SPAN END: store", "TRACE END: wf"]


class OldListener(Tracer):
    """As people wrote it for the first Graflow, where a failed run told nobody of its end."""

    def __init__(self):
        self.ended = []

    def on_workflow_end(self, workflow_name, context, result=None):
        self.ended.append((workflow_name, result))


@pytest.mark.parametrize("several", [False, True])
def test_a_listener_whose_end_takes_no_error_is_told_the_end_all_the_same(several, caplog):
    old = OldListener()
    fan_out([old, Recorder()] if several else old).execute()
    with pytest.raises(ParallelGroupError):
        fan_out([old, Recorder()] if several else old, failing=True).execute()
    assert old.ended == [("wf", 4), ("wf", None)]
    assert "failed" not in caplog.text


def test_several_listeners_hear_one_run():
    one, two = Recorder(), NoopTracer()
    fan_out([one, two]).execute()
    assert one.calls[-1] == "< wf 4"
    assert "store" in two.get_runtime_graph()


def test_a_listener_that_raises_is_logged_and_changes_nothing(caplog):
    heard = Recorder()
    with caplog.at_level(logging.ERROR):
        assert fan_out([Raising(), heard]).execute() == 4
    assert "raised by a hook" in caplog.text
    assert heard.calls[-1] == "< wf 4"


def test_a_run_is_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="graflow.run"):
        fan_out(LoggingTracer()).execute()
    for text in ("Workflow wf started", "Task load queued", "Group ParallelGroup_1 of 2", "Task store ended"):
        assert text in caplog.text


def test_a_bar_counts_the_tasks_of_a_run():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    fan_out(ProgressTracer(console=console, delay=0)).execute()
    *_, last_drawing = console.file.getvalue().split("wf ")
    assert "5/5" in last_drawing


def test_spans_of_members_hang_below_the_span_of_their_group():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.raises(GraflowRuntimeError):
        fan_out(OpenTelemetryTracer(provider), failing=True).execute()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    names = {span.context.span_id: name for name, span in spans.items()}
    parents = {name: names.get(span.parent.span_id) if span.parent else None for name, span in spans.items()}
    assert parents == {
        "wf": None,
        "load": "wf",
        "ParallelGroup_1": "wf",
        "left": "ParallelGroup_1",
        "right": "ParallelGroup_1",
    }
    failed = {name for name, span in spans.items() if not span.status.is_ok}
    assert failed == {"left", "ParallelGroup_1", "wf"}
    provider.shutdown()
