"""Real work of uneven size: the shards of the standard library, against a pool of processes on the same shards.

python -m benchmarks.bench_stdlib [--shards 40] [--rounds 3]; all 255 shards take some minutes
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.common import heading, medians, row, timed
from examples.stdlib_tasks import analyse_shard, list_shards
from graflow_celery import LocalCluster, submit

_WORKERS = 2
_TIMEOUT = 600.0


def measured(shard: dict[str, Any]) -> dict[str, Any]:
    """What a worker does for a shard, by a name that a pool of processes finds."""
    figures: dict[str, Any] = analyse_shard.func(shard)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=40, help="the first N of them")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shards = list_shards()[: options.shards]

    fresh = multiprocessing.get_context("spawn")  # as workers are: without what this process has imported
    with (
        LocalCluster(workers=_WORKERS, concurrency=1, imports=[analyse_shard.__module__]) as cluster,
        ProcessPoolExecutor(_WORKERS, mp_context=fresh) as pool,
    ):
        config = dict(cluster.backend_config)

        def in_pool() -> list[Any]:
            return [figures["totals"] for figures in pool.map(measured, shards)]

        def on_workers() -> list[Any]:
            return [figures["totals"] for figures in submit(analyse_shard.map(shards), config).results(_TIMEOUT)]

        if in_pool() != on_workers():  # the first time of both, which is not counted
            raise SystemExit("Workers and processes give different figures")
        found = medians(options.rounds, pool=lambda: timed(in_pool), graflow=lambda: timed(on_workers))
    heading(f"{len(shards)} shards of the standard library on {_WORKERS} processes")
    row("ProcessPoolExecutor.map", f"{found['pool']:.2f} s", 1.0)
    row("submit().results()", f"{found['graflow']:.2f} s", found["pool"] / found["graflow"], "at least 0.9 x its speed")


if __name__ == "__main__":
    main()
