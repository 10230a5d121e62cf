"""What metrics cost: tasks of the engine and steps on record, with and without.

python -m benchmarks.bench_metrics [--steps N] [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.bench_flow_runs import chained, new_id
from benchmarks.common import heading, medians, row, timed
from graflow.flows import FlowRunner
from graflow.metrics.prometheus import record
from graflow.observing import observers


def counted(action: Callable[[], object]) -> float:
    observers.append(record)
    try:
        return timed(action)
    finally:
        observers.remove(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    made = chained(options.steps)
    with FlowRunner("memory://", recovery=False) as runner:

        def recorded() -> None:
            runner.run(made, flow_id=new_id())

        for title, action in (("A task of the engine", made.execute), ("A step on record in memory", recorded)):
            heading(title)
            found = medians(
                options.rounds,
                without=lambda action=action: timed(action),  # type: ignore[misc]
                counted=lambda action=action: counted(action),  # type: ignore[misc]
            )
            for name, seconds in found.items():
                row(name, f"{seconds / options.steps * 1e6:.2f} µs", seconds / found["without"], "at most 1.02 x")


if __name__ == "__main__":
    main()
