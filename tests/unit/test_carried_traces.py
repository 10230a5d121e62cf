"""A run is one trace over processes: the context of its span goes along with a group."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graflow import task, workflow
from graflow.flows import FlowRunner
from graflow.trace.carrying import continued, trace_context
from graflow.trace.otel import OpenTelemetryTracer


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
