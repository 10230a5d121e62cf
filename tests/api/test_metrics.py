"""`/metrics` over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Clients


def test_metrics_are_shown_where_they_are_on(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    client = clients()
    assert client.get("/metrics").status_code == 404
    monkeypatch.setenv("GRAFLOW_MONITORING_METRICS", "true")
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE graflow_flow_run_seconds histogram" in answer.text
