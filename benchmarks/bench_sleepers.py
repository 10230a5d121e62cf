"""What flows that sleep cost: queries of an idle process, and how late those are woken whose time has come.

python -m benchmarks.bench_sleepers [--sleepers N] [--woken N] [--seconds S]
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.common import heading, row
from graflow import TaskExecutionContext, task
from graflow.flows import FlowRunner
from graflow.state import FlowStatus

DAY = 86400.0
_ABOUT_TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")


@task(inject_context=True)
def nap(context: TaskExecutionContext, until: float) -> float:
    """Sleeps, and tells how late it went on."""
    context.flow.sleep(until=datetime.fromtimestamp(until, UTC))
    return time.time() - until


def sleeper(until: float) -> None:
    nap(task_id="nap", until=until)


class Counted:
    """Statements that SQLite is given by this process, transactions apart."""

    def __init__(self) -> None:
        self.queries = 0

    def note(self, statement: str) -> None:
        if not statement.lstrip().upper().startswith(_ABOUT_TRANSACTIONS):
            self.queries += 1

    @contextmanager
    def on_connections(self) -> Iterator[None]:
        """A block in which connections that are made are counted at."""
        connect = sqlite3.connect

        def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(*args, **kwargs)
            made.set_trace_callback(self.note)
            return made

        sqlite3.connect = connected  # type: ignore[assignment]  # the same, with one thing more
        try:
            yield
        finally:
            sqlite3.connect = connect


def put_to_sleep(runner: FlowRunner, untils: list[float]) -> list[str]:
    """Begin a flow for each time; when this returns all of them sleep."""
    flow_ids = [runner.submit("sleeper", {"until": until}) for until in untils]
    for flow_id in flow_ids:
        while runner.store.get_record(flow_id).fields.get("wake_at") is None:  # type: ignore[union-attr]  # it is there
            time.sleep(0.01)
    return flow_ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleepers", type=int, default=10_000)
    parser.add_argument("--woken", type=int, default=300, help="of others that are woken meanwhile, one after another")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    options = parser.parse_args()
    counted = Counted()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(counted.on_connections())
        measure(stack.enter_context(FlowRunner(f"sqlite:///{Path(folder) / 'flows.db'}")), counted, options)


def measure(runner: FlowRunner, counted: Counted, options: argparse.Namespace) -> None:
    runner.register(sleeper, "sleeper")
    begun = time.perf_counter()
    put_to_sleep(runner, [time.time() + DAY] * options.sleepers)
    heading(f"{options.sleepers:,} flows sleep in one SQLite store")
    row("to put one to sleep", f"{(time.perf_counter() - begun) / options.sleepers * 1e3:.2f} ms")
    time.sleep(3.0)  # for what is left of that
    before, cpu, begun = counted.queries, time.process_time(), time.perf_counter()
    time.sleep(options.seconds)
    passed = time.perf_counter() - begun
    row("queries of the idle process", f"{(counted.queries - before) / passed:.2f} /s", aim="at most 2 /s")
    row("CPU of it", f"{(time.process_time() - cpu) / passed * 1e3:.2f} ms/s")
    first = time.time() + options.woken * 0.02 + 5.0
    flow_ids = put_to_sleep(
        runner, [first + number * options.seconds / options.woken for number in range(options.woken)]
    )
    states = [runner.wait(flow_id, options.seconds + 120) for flow_id in flow_ids]
    late = sorted(state.outputs for state in states if state.status is FlowStatus.COMPLETED)
    row("woken late, median", f"{statistics.median(late):.2f} s")
    row("woken late, p95", f"{late[int(len(late) * 0.95)]:.2f} s", aim="at most 1.5 s")
    row("woken late, at worst", f"{late[-1]:.2f} s")
    row("woken, of those that were to be", f"{len(late)} of {len(flow_ids)}", aim="all")


if __name__ == "__main__":
    main()
