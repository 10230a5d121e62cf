"""Flows as they run: recorded steps, resume, many at once, groups on workers, and the same flow in other tools.

python -m benchmarks.bench_flow_runs [--scale 0.01] [--rounds N] [--rivals]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.common import heading, medians, row, timed
from benchmarks.flow_rivals import seconds_of
from benchmarks.tasks import noop
from graflow import task, workflow
from graflow.core.workflow import WorkflowContext
from graflow.flows import FlowRunner, flow
from graflow.state import FlowStatus
from graflow_celery import LocalCluster
from tests.support import private_redis

AIMS = {"memory": "at most 20 µs", "sqlite": "at most 100 µs", "redis": "at most 600 µs"}
_ids = count()
_fails = [False]


@task
def nothing() -> int:
    return 1


@task
def given(number: int) -> int:
    return number


@task
def last() -> int:
    if _fails[0]:
        raise RuntimeError("not yet")
    return 1


def chained(steps: int) -> WorkflowContext:
    """A workflow of no-ops one after another; the last one fails while `_fails` says so."""
    with workflow("chained") as made:
        before: Any = nothing(task_id="s0")
        for number in range(1, steps - 1):
            after = nothing(task_id=f"s{number}")
            before >> after
            before = after
        before >> last(task_id="last")
    return made


@flow("bench_ten_steps")
def ten_steps(number: int) -> None:
    before: Any = given(task_id="s0", number=number)
    for step in range(1, 10):
        after = nothing(task_id=f"s{step}")
        before >> after
        before = after


def new_id() -> str:
    return f"bench-{next(_ids)}"


def steps(urls: dict[str, str], length: int, rounds: int) -> None:
    made = chained(length)
    runners = {name: FlowRunner(url, recovery=False) for name, url in urls.items()}

    def run(runner: FlowRunner) -> float:
        return timed(lambda: runner.run(made, flow_id=new_id()))

    actions = {name: (lambda runner=runner: run(runner)) for name, runner in runners.items()}
    found = medians(rounds, plain=lambda: timed(made.execute), **actions)
    for name, seconds in found.items():
        row(name, f"{seconds / length * 1e6:.1f} µs", seconds / found["plain"], AIMS.get(name, "unrecorded"))
    for runner in runners.values():
        runner.close()


def resumes(urls: dict[str, str], length: int) -> None:
    made = chained(length)
    for name, url in urls.items():
        if name == "memory":
            continue
        with FlowRunner(url, recovery=False) as runner:
            flow_id = new_id()
            _fails[0] = True
            if runner.run(made, flow_id=flow_id).status is not FlowStatus.FAILED:
                raise AssertionError("the last step was to fail")
            _fails[0] = False
            seconds = timed(lambda runner=runner, flow_id=flow_id: runner.run(made, flow_id=flow_id))  # type: ignore[misc]
            row(f"{name}: resume of {length:,} steps", f"{seconds:.2f} s", aim="at most 1 s")


def at_once(urls: dict[str, str], flows: int) -> None:
    for name, url in urls.items():
        with FlowRunner(url, max_concurrent=16) as runner:
            begun, submitted = time.perf_counter(), {}
            for number in range(flows):
                submitted[runner.submit("bench_ten_steps", {"number": number})] = time.time()
            states = [runner.wait(flow_id, 120) for flow_id in submitted]
            seconds = time.perf_counter() - begun
            lost = sum(state.status is not FlowStatus.COMPLETED for state in states)
            took = sorted(state.completed_at.timestamp() - submitted[state.flow_id] for state in states)  # type: ignore[union-attr]
            p95 = statistics.quantiles(took, n=20)[18]
            row(
                f"{name}: {flows} flows of 10 steps",
                f"{flows / seconds:.0f} flows/s",
                aim=f"p95 {p95:.3f} s, lost {lost}",
            )


def groups(members: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, LocalCluster(workers=2, imports=["benchmarks.tasks"]) as cluster:
        with workflow("fan_out") as made:
            noop.map(range(members), name="members").with_execution("redis", cluster.backend_config)
        with FlowRunner(Path(folder) / "flows.db", recovery=False) as runner:
            found = medians(
                rounds,
                outside=lambda: timed(made.execute),
                inside=lambda: timed(lambda: runner.run(made, flow_id=new_id())),
            )
    for name, seconds in found.items():
        aim = "at most 1.10 x" if name == "inside" else ""
        row(f"{members:,} members, {name} a flow", f"{seconds:.2f} s", seconds / found["outside"], aim)


def rivals(url: str, rounds: int) -> None:
    made = chained(100)
    with FlowRunner(url, recovery=False) as runner:
        bare = statistics.median(timed(made.execute) for _ in range(rounds))
        ours = statistics.median(timed(lambda: runner.run(made, flow_id=new_id())) for _ in range(rounds))
    overhead = (ours - bare) / 100
    row("graflow: one step of 100 on SQLite", f"{overhead * 1e6:.0f} µs")
    for name, aim in {"dbos": "at least 5 x", "prefect": "at least 50 x"}.items():
        seconds = statistics.median(seconds_of(name, 100, max(rounds // 2, 2))) / 100
        row(f"{name}: the same", f"{seconds * 1e6:.0f} µs", seconds / overhead, aim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all sizes, to try the script out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", action="store_true", help="DBOS and Prefect too, which are installed at first")
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    def size(number: int) -> int:
        return max(int(number * options.scale), 20)

    with tempfile.TemporaryDirectory() as name, private_redis() as server:
        urls = {"memory": "memory://", "sqlite": f"sqlite:///{name}/flows.db", "redis": server.url}
        heading("A recorded step, engine included")
        steps(urls, size(1_000), options.rounds)
        heading("Going on")
        resumes(urls, size(10_000))
        heading("Many at once")
        at_once(urls, size(100))
        heading("A group on workers")
        groups(size(10_000), options.rounds)
        if options.rivals:
            heading("Other tools")
            rivals(f"sqlite:///{name}/rivals.db", options.rounds)


if __name__ == "__main__":
    main()
