"""How far a step is, as it tells itself: on record, not too often, and gone with the attempt."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graflow import RetryPolicy, task
from graflow.flows import FlowRunner
from graflow.flows.recording import calls
from tests.support import wait_until


@pytest.fixture
def runner() -> Any:
    with FlowRunner("memory://", recovery=False) as made:
        yield made


def told_of(runner: FlowRunner, flow_id: str) -> list[dict[str, Any]]:
    return [dict(line.data) for line in runner.events(flow_id) if line.kind == "step.progress"]


def test_what_a_step_tells_is_seen_while_it_runs(runner: FlowRunner) -> None:
    gate = threading.Event()

    @task(inject_context=True)
    def count(context: Any) -> int:
        context.progress(62, total=100, message="page 62")
        assert gate.wait(60)
        context.progress(100, total=100)
        return 100

    runner.register(lambda: count, "counts")
    try:
        flow_id = runner.submit("counts")

        def seen() -> Any:
            return next((step.progress for step in runner.get_flow_state(flow_id).steps), None)

        wait_until(lambda: seen() == {"done": 62, "total": 100, "message": "page 62"})
    finally:
        gate.set()
    state = runner.wait(flow_id, 60)
    assert (state.outputs, state.steps[0].progress) == (100, {"done": 100, "total": 100, "message": None})


def test_it_is_recorded_as_often_as_somebody_can_read_and_at_the_end(
    runner: FlowRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TOLD_EVERY", 3600.0)

    @task(inject_context=True)
    def count(context: Any) -> None:
        for number in range(1, 1001):
            context.progress(number, total=1000)

    @task(inject_context=True)
    def tell(context: Any) -> None:
        context.progress(float("nan"), message=17)
        context.progress("many", total=3)  # which is no number, and comes too soon

    runner.register(lambda: count(task_id="count") >> tell(task_id="tell"), "counts")
    state = runner.execute("counts")
    assert state.status == "completed"
    assert told_of(runner, state.flow_id) == [
        {"done": 1, "total": 1000, "message": None},
        {"done": 1000, "total": 1000, "message": None},
        {"done": None, "total": None, "message": "17"},
    ], "a step that follows begins anew"


def test_an_attempt_begins_without_what_the_one_before_told(runner: FlowRunner) -> None:
    attempts: list[int] = []

    @task(inject_context=True, retry_policy=RetryPolicy(max_retries=1, initial_interval=0.0))
    def fails_once(context: Any) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            context.progress(1, total=2)
            raise ValueError("not yet")

    runner.register(lambda: fails_once, "fails")
    state = runner.execute("fails")
    assert (state.status, len(attempts), state.steps[0].progress) == ("completed", 2, None)
