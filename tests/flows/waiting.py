"""A program whose flow waits for a file: `waiting.py URL FOLDER`; the second start goes on by recovery."""

import sys
import time
from pathlib import Path

from graflow import task
from graflow.flows import FlowRunner, flow

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("/nowhere")


def note(name):
    with (FOLDER / "ran").open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


@task
def first():
    note("first")
    return 1


@task(inject_context=True)
def second(context):
    note(f"second {context.flow.attempt}")
    deadline = time.monotonic() + 30
    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return context.flow.idempotency_key


@flow("waiting")
def waiting():
    first >> second


if __name__ == "__main__":
    runner = FlowRunner(sys.argv[1])
    runner.execute("waiting", flow_id="w")
