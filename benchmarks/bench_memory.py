"""What workers, the server and the program that submits keep in memory after thousands of runs: a curve.

python -m benchmarks.bench_memory [--runs 20000] [--members 4]

Ends with 1 where a process has grown by more than 5 % over the second half of the runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
from pathlib import Path
from typing import Any

import redis

from benchmarks.tasks import noop
from graflow_celery import LocalCluster, submit

POINTS = 20  # of the curve
MOST = 0.05  # growth over the second half
AT_ONCE = 8  # runs that are waited for together
KEPT = 5.0  # seconds of the outcomes of a run, so that the server has those of the last ones only


def resident(process: int) -> float:
    """MiB that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def below(process: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    return [int(child) for child in children] + [one for child in children for one in below(int(child))]


def measured(cluster: LocalCluster, client: redis.Redis) -> dict[str, float]:
    """MiB of each process by name."""
    gc.collect()
    found = {"this program": resident(os.getpid())}
    for number, main in enumerate(worker.pid for worker in cluster.workers if worker.pid is not None):
        found[f"worker {number}"] = resident(main)
        for child, process in enumerate(below(main)):
            found[f"child {child} of worker {number}"] = resident(process)
    found["server, used"] = client.info("memory")["used_memory"] / 2**20
    return found


def curve(config: dict[str, Any], cluster: LocalCluster, runs: int, members: int) -> dict[str, list[float]]:
    """What each process has at each point, after a first one in which it takes what it needs once."""
    points: dict[str, list[float]] = {}
    client = redis.Redis.from_url(cluster.redis_url.reveal())
    print(f"{'runs':>8}", "MiB of each process")
    for point in range(POINTS + 1):
        for first in range(0, runs // POINTS if point else 200, AT_ONCE):
            handles = [submit(noop.map(range(first, first + members)), config) for _ in range(AT_ONCE)]
            for handle in handles:
                handle.results(60)
        found = measured(cluster, client)
        for name, size in found.items():
            points.setdefault(name, []).append(size)
        print(
            f"{point * runs // POINTS:8}", "  ".join(f"{name} {size:.1f}" for name, size in found.items()), flush=True
        )
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--members", type=int, default=4)
    options = parser.parse_args()
    with LocalCluster(workers=1, concurrency=2, imports=["benchmarks.tasks"]) as cluster:
        points = curve({**cluster.backend_config, "result_ttl": KEPT}, cluster, options.runs, options.members)
    print(f"\nGrowth over the last {options.runs // 2:,} of {options.runs:,} runs")
    grown = {name: sizes[-1] / sizes[POINTS // 2] - 1 for name, sizes in points.items() if len(sizes) == POINTS + 1}
    for name, growth in grown.items():
        print(f"{name:28} {growth:+.1%}")
    if max(grown.values()) > MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
