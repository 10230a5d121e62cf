"""Groups of many members, which stand in blocks, against `celery.group` on the same Redis in the same run.

python -m benchmarks.bench_blocks [--members 10000] [--most 1000000] [--rounds N]
"""

from __future__ import annotations

import argparse
import resource
import tracemalloc
from typing import Any

from benchmarks.bench_celery import TIMEOUT, WORKERS, ours, raw_group, raw_join, raw_workers
from benchmarks.common import heading, medians, row, timed
from benchmarks.tasks import nap, noop, now_and_then, total
from graflow import workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.redis.config import redis_url
from graflow_celery import LocalCluster, submit
from graflow_celery.deployment import deployment_of

_RAW: int = 1_000  # members of the plain group, whose time per member does not depend on how many there are


def in_workflow(config: dict[str, Any], members: int) -> None:
    with workflow("many") as wf:
        group = noop.map(range(members), name="numbers")
        group.with_execution(CoordinationBackend.REDIS, backend_config=config) >> total
        if wf.execute() != sum(range(members)):
            raise SystemExit("The next task did not take the list")


def throughput(config: dict[str, Any], raw: Any, members: int, rounds: int) -> float:
    found = medians(
        rounds,
        celery=lambda: timed(lambda: raw_group(raw, _RAW)) / _RAW,
        graflow=lambda: timed(lambda: ours(config, members)) / members,
        workflow=lambda: timed(lambda: in_workflow(config, members)) / members,
    )
    row(f"{_RAW:,} no-ops: celery.group().get()", f"{1 / found['celery']:,.0f}/s", 1.0)
    for name, what, aim in (
        ("graflow", "submit().results()", "120,000/s, 250 x"),
        ("workflow", "in a workflow, list to the next task", "80,000/s"),
    ):
        row(f"{members:,} no-ops: {what}", f"{1 / found[name]:,.0f}/s", found["celery"] / found[name], aim)
    return found["graflow"]


def growth(config: dict[str, Any], members: int, most: int, each: float) -> None:
    """Time and memory of ever larger groups against those of the first."""
    while (members := members * 10) <= most:
        took = min(timed(lambda: ours(config, members)) for _ in range(2)) / members
        row(f"{members:,} no-ops: submit().results()", f"{1 / took:,.0f}/s", took / each, "at most 1.2 x the time")
        tracemalloc.start()
        handle = submit(noop.map(range(members)), config)
        values = handle.results(TIMEOUT)
        del values
        held = tracemalloc.get_traced_memory()[0] / members
        tracemalloc.stop()
        row("  bytes a member that the submitter holds", f"{held:,.0f}", aim="at most 150")
    row("  memory of this process at most", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MiB")


def small(config: dict[str, Any], raw: Any, rounds: int) -> None:
    for members, aim in ((2, "at most 0.7 x"), (16, "at most 0.25 x")):
        found = medians(
            rounds * 10,
            celery=lambda members=members: timed(lambda: raw_join(raw, members)),  # type: ignore[misc]
            graflow=lambda members=members: timed(lambda: ours(config, members)),  # type: ignore[misc]
        )
        row(f"group of {members}: celery.group().join()", f"{found['celery'] * 1e3:.1f} ms", 1.0)
        ratio = found["graflow"] / found["celery"]
        row(f"group of {members}: submit().results()", f"{found['graflow'] * 1e3:.1f} ms", ratio, aim)


def uneven(config: dict[str, Any], rounds: int) -> None:
    found = medians(
        rounds,
        naps=lambda: timed(lambda: submit(nap.map(range(1_000)), config).results(TIMEOUT)),
        mixed=lambda: timed(lambda: submit(now_and_then.map(range(1_016)), config).results(TIMEOUT)),
    )
    row("1,000 members of 10 ms on 2 slots", f"{found['naps']:.2f} s", found["naps"] / 5.0, "at most 1.05 x 5 s")
    row("1,000 no-ops and 16 of 1 s", f"{found['mixed']:.2f} s", found["mixed"] / 8.0, "at most 1.1 x 8 s")


def watched(config: dict[str, Any], members: int, rounds: int) -> None:
    control = deployment_of(config).publisher.app.control
    control.enable_events()
    found = medians(rounds, graflow=lambda: timed(lambda: ours(config, members)))
    control.disable_events()
    row(f"{members:,} no-ops, each an event", f"{members / found['graflow']:,.0f}/s", aim="15,000/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with LocalCluster(workers=WORKERS, concurrency=1, imports=[noop.__module__]) as cluster:
        config = dict(cluster.backend_config)
        with raw_workers(redis_url(config, for_celery=True).reveal()) as raw:
            raw_group(raw, 10)
            ours(config, 1_000)
            heading(f"Members in blocks on {WORKERS} worker processes")
            each = throughput(config, raw, options.members, options.rounds)
            small(config, raw, options.rounds)
        uneven(config, min(options.rounds, 3))
        watched(config, options.members, options.rounds)
        growth(config, options.members, options.most, each)


if __name__ == "__main__":
    main()
