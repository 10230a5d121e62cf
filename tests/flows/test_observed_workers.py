"""What real workers tell of flows: spans that are one trace, and counts of all processes of a machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from graflow.flows import FlowRunner
from graflow.metrics.sharing import SharedCounts
from graflow.state import FlowStatus
from graflow_celery import LocalCluster
from tests.flows import observed
from tests.support import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """The environment of processes that tell."""
    spans, counts = tmp_path_factory.mktemp("spans"), tmp_path_factory.mktemp("counts")
    return {
        "SPANS_TO": str(spans),
        "GRAFLOW_MONITORING_TRACING": "true",
        "GRAFLOW_MONITORING_METRICS": "true",
        "GRAFLOW_MONITORING_METRICS_DIR": str(counts),
    }


@pytest.fixture(scope="module")
def cluster(variables):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        running = LocalCluster(workers=2, imports=[observed.__name__])
        running.__enter__()
    try:
        yield running
    finally:
        running.__exit__(None, None, None)


def test_a_flow_on_workers_with_its_group_is_one_trace(cluster, variables, tmp_path):
    def spans(name):
        """Process, trace, span and parent of each span of that name."""
        found = []
        for path in Path(variables["SPANS_TO"]).iterdir():
            lines = path.read_text("utf-8").split("\n")[:-1]
            found += [(path.name, *json.loads(line)) for line in lines]
        return [(process, *place) for process, said, *place in found if said == name]

    tracer = TracerProvider().get_tracer("here")
    config = cluster.backend_config
    with FlowRunner(backend="redis", backend_config=config, config=config) as runner:
        with tracer.start_as_current_span("request") as request:
            flow_id = runner.submit("observed", {"numbers": [1, 2, 3]})
        assert runner.wait(flow_id, 120).status is FlowStatus.COMPLETED
    here = request.get_span_context()
    names = ["observed", "group", *(f"inside {number}" for number in (1, 2, 3))]
    wait_until(lambda: all(map(spans, names)) and len(spans("observed")) > 1, 60)
    assert {(trace, parent) for _, trace, _, parent in spans("observed")} == {(here.trace_id, here.span_id)}
    assert str(os.getpid()) not in {process for process, *_ in spans("observed")}
    groups = {(trace, span) for _, trace, span, _ in spans("group")}
    assert {trace for trace, _ in groups} == {here.trace_id}
    for name in names[2:]:
        assert {(trace, parent) for _, trace, _, parent in spans(name)} <= groups


def test_a_runner_and_workers_count_together(cluster, variables):
    def counted():
        samples = [sample for metric in SharedCounts(counts).collect() for sample in metric.samples]
        totals = {}
        for sample in samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            key = (sample.name, *labels.values())
            totals[key] = totals.get(key, 0) + sample.value
        return totals

    def grown():
        return {key: value - before.get(key, 0) for key, value in counted().items()}

    counts = Path(variables["GRAFLOW_MONITORING_METRICS_DIR"])
    before = counted()
    config = cluster.backend_config
    subprocess.run(
        [sys.executable, "-m", observed.__name__],
        env={
            **os.environ,
            **variables,
            "GRAFLOW_REDIS_URL": config["url"].reveal(),
            "GRAFLOW_KEY_PREFIX": config["key_prefix"],
            "GRAFLOW_SIGNING_KEY": config["signing_key"].reveal(),
        },
        check=True,
        timeout=120,
    )
    wanted = {
        ("graflow_members_total", "succeeded"): 3,
        ("graflow_batch_seconds_count",): 1,
        ("graflow_queue_lag_seconds_count",): 1,
        ("graflow_flow_run_seconds_count", "completed", "observed"): 1,
        ("graflow_flow_run_seconds_count", "queued", "observed"): 1,
        ("graflow_flow_wait_seconds_count", "observed"): 1,
        ("graflow_step_seconds_count", "completed", "observed"): 2,
    }
    wait_until(lambda: all(number <= grown().get(key, 0) for key, number in wanted.items()), 60)
