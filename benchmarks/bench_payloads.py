"""Large arguments and results of groups on workers, against raw Celery on the same Redis, in the same run.

python -m benchmarks.bench_payloads [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from functools import partial
from typing import Any

from benchmarks.bench_celery import raw_workers
from benchmarks.common import heading, medians, row, timed
from benchmarks.tasks import length, noise, text
from graflow.redis.config import redis_url
from graflow_celery import LocalCluster, submit

MB = 1_000_000
TIMEOUT = 300.0
RESULTS = 16


def ours(config: dict[str, Any], group: Any, *, lengths: list[int] | None = None, values: object = None) -> None:
    found = submit(group, config).results(timeout=TIMEOUT)
    if (found if lengths is None else [len(value) for value in found]) != (values if lengths is None else lengths):
        raise SystemExit("A value came back as another one")


def raw_results(signature: Any, size: int) -> None:
    from celery import group

    values = group(signature.s(number, size) for number in range(RESULTS))().join(timeout=TIMEOUT)
    if not all(len(value) == size for value in values):
        raise SystemExit("A value of plain Celery came back as another one")


def raw_argument(raw: Any, value: bytes | str, members: int) -> None:
    from celery import group

    group(raw.length.s(number, value) for number in range(members))().join(timeout=TIMEOUT)


def show_results(config: dict[str, Any], raw: Any, rounds: int) -> None:
    size = 10 * MB
    heading(f"{RESULTS} results of 10 MB")
    for what, kind, plain in (("text", text, raw.text), ("random bytes", noise, raw.noise)):
        group = kind(task_id=f"make_{kind.__name__}", size=size).map(range(RESULTS))
        found = medians(
            rounds,
            ours=partial(timed, partial(ours, config, group, lengths=[size] * RESULTS)),
            raw=partial(timed, partial(raw_results, plain, size)),
        )
        speed = {name: RESULTS * size / MB / seconds for name, seconds in found.items()}
        row(what, f"{speed['ours']:.0f} MB/s", speed["ours"] / speed["raw"], "of raw Celery; at least 200 MB/s")


def show_arguments(config: dict[str, Any], raw: Any, rounds: int) -> None:
    heading("One argument for many members")
    for size, members, with_raw in ((10 * MB, 16, True), (100 * MB, 64, False)):
        for what, value in (("bytes", os.urandom(size)), ("text", "0123456789abcdef" * (size // 16))):
            group = length(task_id=f"length_{what}", value=value).map(range(members))
            actions = {"ours": partial(timed, partial(ours, config, group, values=[size] * members))}
            if with_raw:
                actions["raw"] = partial(timed, partial(raw_argument, raw, value, members))
            found = medians(rounds, **actions)
            ratio = found["raw"] / found["ours"] if with_raw else None
            aim = "times as fast as raw Celery" if with_raw else "at most 1.5 s; raw Celery would send 6.4 GB"
            row(f"{size // MB} MB of {what} for {members} members", f"{found['ours']:.2f} s", ratio, aim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with LocalCluster(workers=2, imports=["benchmarks.tasks"]) as cluster:
        config = cluster.backend_config
        with raw_workers(redis_url(config, for_celery=True).reveal()) as raw:
            ours(config, length(task_id="warm", value=b"").map(range(16)), values=[0] * 16)
            show_results(config, raw, rounds)
            show_arguments(config, raw, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\n  largest memory of this process: {peak} MiB, of any of its children: {_of_children()} MiB")


def _of_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"  {time.monotonic() - began:.0f} s")
