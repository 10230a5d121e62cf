"""A program whose flow waits for a file: `waiting.py URL FOLDER [HOW]`; the second start goes on by recovery."""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from graflow import task
from graflow.flows import AsyncFlowRunner, FlowRunner, flow

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


@task
def terminated():
    os.kill(os.getpid(), signal.SIGTERM)
    while RUNNER._home.recorder_of("w").stop is None:
        time.sleep(0.01)


@flow("terminated")
def ending():
    terminated >> first


@task
def forking():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
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
    while not (FOLDER / "ran").exists() or "second" not in (FOLDER / "ran").read_text(encoding="utf-8"):
        time.sleep(0.01)


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
