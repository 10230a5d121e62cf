"""DBOS and Prefect running the same flow of no-op steps on SQLite, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.common import ROOT

ENVIRONMENT = ROOT / "build" / "rivals"
PACKAGES = ("dbos>=3.0", "prefect>=3.4")

_TIMED = """
run(3)
for _ in range(rounds):
    begun = time.perf_counter()
    run(steps)
    print(time.perf_counter() - begun)
"""

_DBOS = (
    """
import sys, time
folder, steps, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
from dbos import DBOS
DBOS(config={
    "name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "log_level": "ERROR",
    "run_admin_server": False,
})
@DBOS.step()
def step(number: int) -> int:
    return number + 1
@DBOS.workflow()
def run(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    return number
DBOS.launch()
"""
    + _TIMED
    + "DBOS.destroy()\n"
)

_PREFECT = (
    """
import os, sys, time
folder, steps, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ.update(
    PREFECT_HOME=folder, PREFECT_LOGGING_LEVEL="CRITICAL", PREFECT_SERVER_LOGGING_LEVEL="CRITICAL",
    PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1",
)
from prefect import flow, task
@task(persist_result=True)
def step(number: int) -> int:
    return number + 1
@flow
def run(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    return number
"""
    + _TIMED
)


def prepare() -> Path:
    """The Python of an environment that has both; made at the first call."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print(f"Making an environment for {' and '.join(PACKAGES)} ...", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def seconds_of(name: str, steps: int, rounds: int) -> list[float]:
    """What each of so many runs of a flow of so many steps took.

    Args:
        name: `dbos` or `prefect`.
        steps: Of the flow.
        rounds: How often it is run, a short run before them aside.
    """
    code = {"dbos": _DBOS, "prefect": _PREFECT}[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(prepare()), "-c", code, folder, str(steps), str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]
