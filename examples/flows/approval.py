"""A flow asks a person; its process is killed, another one is started, and the answer makes the flow complete.

python examples/flows/approval.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel

from graflow import task
from graflow.flows import FlowRunner, flow
from graflow.hitl import question
from graflow.state import FlowStatus

FLOW_ID = "release"
LOOK = 0.05
PATIENCE = 60.0


class Release(BaseModel):
    version: str
    channel: Literal["stable", "beta"] = "beta"


@task
def draft() -> str:
    return "graflow"


@question(Release, of=["ann"])
def choose(draft: str) -> str:
    return f"Which release of {draft}?"


@task
def publish(draft: str, choose: Release) -> str:
    return f"{draft} {choose.version} is published as {choose.channel}"


@flow("approval")
def approval() -> None:
    draft >> choose >> publish


def serve(store: str) -> None:
    """What a process does that runs flows: begin this one, or go on with it, until it has ended."""
    with FlowRunner(store) as runner:
        runner.submit("approval", flow_id=FLOW_ID)
        runner.wait(FLOW_ID)


@contextmanager
def process(store: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, __file__, store])  # noqa: S603 - this file
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def until(is_so: Callable[[], object]) -> None:
    """Look until something holds."""
    ends = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > ends:
            raise TimeoutError(f"Nothing has come of it in {PATIENCE:.0f} s")
        time.sleep(LOOK)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="graflow-approval-") as folder:
        store = f"sqlite:///{folder}/flows.db"
        with FlowRunner(store, recovery=False) as desk:  # looks and answers, and runs nothing
            with process(store):
                until(lambda: desk.questions(flow_id=FLOW_ID) and desk.get_flow_state(FLOW_ID).owner is None)
                (asked,) = desk.questions(flow_id=FLOW_ID)
                print(f"asked: {asked.prompt}")
            print(f"killed; the flow is {desk.get_flow_state(FLOW_ID).status}, its question {asked.state}")
            with process(store) as second:
                desk.answer(asked.id, {"version": "0.2"}, by="ann", reason="as agreed")
                print("answered by ann")
                until(lambda: second.poll() is not None)
            state = desk.get_flow_state(FLOW_ID)
            print(f"{state.status}: {state.outputs}")
            print(f"begun: {', '.join(f'{step.step_name} {step.attempts}' for step in state.steps)}")
    return 0 if state.status is FlowStatus.COMPLETED else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        sys.exit(main())
