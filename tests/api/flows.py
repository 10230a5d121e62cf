"""Flows that applications of tests serve."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fastapi.testclient import TestClient

from graflow import task
from graflow.flows import FlowRunner
from tests.support import wait_until

Json = dict[str, object]


class Flows:
    """Registers with a runner: `sums` ends at once; `held` waits for `gate`; `weak` fails while `is_broken`.

    Attributes:
        gate: What `held` waits for.
        is_broken: Whether the second step of `weak` fails.
    """

    def __init__(self, runner: FlowRunner) -> None:
        self.gate = threading.Event()
        self.is_broken = True

        @task
        def add(a: int, b: int) -> int:
            return a + b

        @task
        def hold() -> None:
            assert self.gate.wait(60)

        @task
        def tell() -> str:
            return "let go"

        @task
        def begin() -> int:
            return 1

        @task
        def end() -> int:
            if self.is_broken:
                raise ValueError("page 17 has no text")
            return 2

        def sums(a: int, b: int = 2, password: str = "") -> None:
            add(task_id="add", a=a, b=b)

        def held() -> None:
            hold(task_id="hold") >> tell(task_id="tell")

        def weak() -> None:
            begin(task_id="begin") >> end(task_id="end")

        for function in (sums, held, weak):
            runner.register(function)


def settled(client: TestClient, flow: str, flow_id: str) -> Json:
    """The state of a run, once it rests."""
    return reached(client, flow, flow_id, lambda status: status in {"completed", "failed", "paused", "cancelled"})


def reached(client: TestClient, flow: str, flow_id: str, wanted: Callable[[str], bool]) -> Json:
    """The state of a run, once its status is as wanted."""
    state: Json = {}

    def look() -> bool:
        state.update(client.get(f"/api/v1/{flow}/status/{flow_id}").json())
        return wanted(str(state["status"]))

    wait_until(look)
    return state


def problem(answer: object, status: int, code: str) -> Json:
    """The problem that an answer tells, which is this one."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    told = answer.json()
    assert (told["type"], told["status"]) == (f"urn:graflow:problem:{code}", status)
    return told
