"""A run is one trace over processes: the context of its span goes along with a group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from graflow import TaskExecutionContext, task, workflow
from graflow.flows import FlowRunner
from graflow.state import FlowStatus
from graflow.trace.carrying import continued, trace_context
from graflow.trace.otel import OpenTelemetryTracer
from tests.support import wait_until


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def exported(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def test_a_span_elsewhere_hangs_below_the_one_that_was_current_here(
    provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    here, elsewhere = provider.get_tracer("here"), provider.get_tracer("elsewhere")
    with here.start_as_current_span("group"):
        carried = trace_context()
    assert list(carried) == ["traceparent"]
    with continued(carried), elsewhere.start_as_current_span("member"):
        pass
    assert not trace.get_current_span().get_span_context().is_valid
    group, member = exported.get_finished_spans()
    assert group.context is not None
    assert member.context is not None
    assert member.parent is not None
    assert member.context.trace_id == group.context.trace_id
    assert member.parent.span_id == group.context.span_id


def test_without_a_span_nothing_goes_along() -> None:
    assert trace_context() == {}


@pytest.mark.parametrize("carried", [{}, {"traceparent": 7}, {"traceparent": "nonsense"}])
def test_what_is_no_context_means_none(
    carried: dict[str, object], provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    with continued(carried), provider.get_tracer("t").start_as_current_span("member"):
        pass
    (member,) = exported.get_finished_spans()
    assert member.parent is None


def test_the_setting_gives_runners_a_tracer_unless_they_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @task
    def one() -> str:
        return trace_context()["traceparent"] if trace_context() else ""

    own = OpenTelemetryTracer(TracerProvider())
    with workflow("ones") as made:
        one(task_id="one")
    monkeypatch.setenv("GRAFLOW_MONITORING_TRACING", "true")
    with FlowRunner("memory://", tracer=own, recovery=False) as runner:
        assert runner._means.tracer == [own]
        assert str(runner.run(made, flow_id="f").outputs).count("-") == 3, "a step runs inside its span"
    with FlowRunner("memory://", recovery=False) as runner:
        assert [type(each) for each in runner._means.tracer] == [OpenTelemetryTracer]


# -- flows -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runner(provider: TracerProvider) -> Iterator[FlowRunner]:
    with FlowRunner("memory://", tracer=OpenTelemetryTracer(provider), recovery=False) as made:
        yield made


def named_spans(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def place(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent_place(span: ReadableSpan) -> tuple[int, int]:
    assert span.parent is not None
    return span.parent.trace_id, span.parent.span_id


def test_a_flow_that_is_submitted_is_in_the_trace_of_who_submitted_it(
    runner: FlowRunner, provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    @task
    def step() -> int:
        return 1

    runner.register(lambda: step(task_id="step"), "small")
    with provider.get_tracer("app").start_as_current_span("request"):
        flow_id = runner.submit("small")
    runner.wait(flow_id, 60)
    wait_until(lambda: named_spans(exported, "small"))
    (request,), (flow,), (inner,) = [named_spans(exported, name) for name in ("request", "small", "step")]
    assert parent_place(flow) == place(request)
    assert parent_place(inner) == place(flow)


def test_what_resumes_a_flow_goes_on_with_its_trace(runner: FlowRunner, exported: InMemorySpanExporter) -> None:
    @task
    def step() -> int:
        if len(runs) < 3:
            runs.append(1)
            raise ValueError("not yet")
        return 1

    runs: list[int] = []
    runner.register(lambda: step(task_id="step"), "small")
    flow_id = runner.execute("small").flow_id
    runner.resume_flow(flow_id)
    runner.resume_flow(flow_id)
    first, second, third = named_spans(exported, "small")
    assert first.parent is None
    assert parent_place(second) == parent_place(third) == place(first)


def test_a_flow_that_sleeps_has_not_failed_in_its_trace(runner: FlowRunner, exported: InMemorySpanExporter) -> None:
    @task(inject_context=True)
    def step(context: TaskExecutionContext) -> int:
        context.flow.sleep(0.01)
        return 1

    runner.register(lambda: step(task_id="step"), "small")
    assert runner.execute("small").status is FlowStatus.COMPLETED
    assert {span.status.status_code for span in exported.get_finished_spans()} == {StatusCode.UNSET}
    assert len({place(span)[0] for span in exported.get_finished_spans()}) == 1


def test_a_child_and_a_fork_are_in_the_trace_of_who_asked_for_them(
    runner: FlowRunner, provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    @task
    def step() -> int:
        return 1

    @task(inject_context=True)
    def parent(context: TaskExecutionContext) -> object:
        return context.flow.start("small")

    runner.register(lambda: step(task_id="step"), "small")
    runner.register(lambda: parent(task_id="parent"), "large")
    state = runner.execute("large")
    assert state.status is FlowStatus.COMPLETED
    (child,) = named_spans(exported, "small")
    assert parent_place(child) in [place(span) for span in named_spans(exported, "parent")]
    with provider.get_tracer("app").start_as_current_span("request"):
        runner.fork_flow(state.flow_id, "parent")
    (request,) = named_spans(exported, "request")
    assert parent_place(named_spans(exported, "large")[-1]) == place(request)
