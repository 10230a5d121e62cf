"""A flow whose tasks make spans; as a program it executes the flow. What is told goes into a folder, by process."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from graflow import TaskExecutionContext, task
from graflow.flows import FlowRunner, flow


class IntoFolder(SpanExporter):
    """Writes a line for each span into the file of its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with (self.folder / f"{os.getpid()}").open("a", encoding="utf-8") as file:
            for span in spans:
                parent = None if span.parent is None else span.parent.span_id
                file.write(json.dumps([span.name, span.context.trace_id, span.context.span_id, parent]) + "\n")
        return SpanExportResult.SUCCESS


@task
def inside(number: int) -> int:
    with trace.get_tracer("app").start_as_current_span(f"inside {number}"):
        return number


@task(inject_context=True)
def rest(context: TaskExecutionContext) -> None:
    context.flow.sleep(0.05)


@flow("observed")
def observed(numbers: list[int]) -> None:
    rest(task_id="rest") >> inside.map(numbers, name="group").with_execution("redis")


if "SPANS_TO" in os.environ:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(IntoFolder(Path(os.environ["SPANS_TO"]))))
    trace.set_tracer_provider(provider)

if __name__ == "__main__":
    with FlowRunner(backend="redis") as runner:
        assert runner.execute("observed", {"numbers": [1, 2, 3]}).outputs == [1, 2, 3]
