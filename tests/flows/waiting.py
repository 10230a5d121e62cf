"""A program whose flow waits for a file: `waiting.py URL FOLDER [HOW]`; the second start goes on by recovery."""

import asyncio
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from graflow import task
from graflow.flows import AsyncFlowRunner, FlowRunner, flow
from tests.support import wait_until

FOLDER = Path(sys.argv[2]) if __name__ == "__main__" else Path("/nowhere")


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
    wait_until((FOLDER / "go").exists)
    return context.flow.idempotency_key


@flow("waiting")
def waiting():
    first >> second


@task
def terminated():
    os.kill(os.getpid(), signal.SIGTERM)
    wait_until(lambda: RUNNER._home.recorder_of("w").stop is not None)


@flow("terminated")
def ending():
    terminated >> first


@task
def forking():
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


@flow("with_a_child")
def with_a_child():
    forking >> first


async def awaited():
    await AsyncFlowRunner(sys.argv[1]).execute("waiting", flow_id="w")


def in_background():
    RUNNER.submit("waiting", flow_id="w")
    wait_until(lambda: (FOLDER / "ran").exists() and "second" in (FOLDER / "ran").read_text(encoding="utf-8"))


if __name__ == "__main__":
    RUNNER = FlowRunner(sys.argv[1])
    match (sys.argv[3:] or ["waiting"])[0]:
        case "awaited":
            asyncio.run(awaited())
        case "in_background":
            in_background()
        case name:
            RUNNER.execute(name, flow_id="w")
    note("went on")
