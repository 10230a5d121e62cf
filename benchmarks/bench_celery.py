"""Groups on workers against raw Celery on the same Redis, in the same run, with two worker processes each.

python -m benchmarks.bench_celery [--members 20] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from benchmarks.common import ROOT, cpu_below, heading, medians, row, timed
from benchmarks.tasks import noop
from benchmarks.unrecorded import run_group
from graflow import workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.task import Executable, ParallelGroup
from graflow.redis.config import create_redis_client, redis_url
from graflow_celery import LocalCluster, submit

WORKERS, DEPTH = 2, 4
TIMEOUT = 300.0


@contextmanager
def raw_workers(url: str) -> Iterator[Any]:
    """The module of plain Celery tasks, served by as many worker processes of one slot as the cluster has."""
    os.environ["RAW_CELERY_URL"] = url
    from benchmarks import raw_celery

    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.raw_celery",
        "worker",
        "-c",
        "1",
        "-Q",
        "raw",
        "-l",
        "error",
    ]
    names = [f"raw{number}@%h" for number in range(WORKERS)]
    workers = [
        subprocess.Popen([*command, "-n", name], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in names
    ]
    try:
        while len(raw_celery.app.control.ping(timeout=1.0)) < WORKERS:
            if any(worker.poll() is not None for worker in workers):
                raise SystemExit("A worker of plain Celery has ended")
        yield raw_celery
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


class ClientCommands:
    """Counts what clients send to a Redis while it is open; commands that scripts call are not counted."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._client, self._marker = create_redis_client(config), uuid.uuid4().hex
        self._ready, self.count = threading.Event(), 0
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._ready.set()
            for command in monitor.listen():
                if self._marker in command["command"]:
                    return
                self.count += command["client_type"] != "lua"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.echo(self._marker)
        self._thread.join(timeout=30)


def served_calls(client: Any) -> int:
    """Commands that the server has run, those inside scripts included."""
    return sum(entry["calls"] for entry in client.info("commandstats").values())


def raw_group(raw: Any, members: int) -> None:
    from celery import group

    group(raw.noop.s(number) for number in range(members))().get(timeout=TIMEOUT)


def raw_join(raw: Any, members: int) -> None:
    from celery import group

    group(raw.noop.s(number) for number in range(members))().join(timeout=TIMEOUT)


def raw_counted(raw: Any, client: Any, members: int) -> None:
    run = uuid.uuid4().hex
    for number in range(members):
        raw.counted.delay(number, run, members)
    client.blpop([f"raw:{run}:done"], timeout=TIMEOUT)
    client.hgetall(f"raw:{run}")
    client.delete(f"raw:{run}", f"raw:{run}:done")


def ours(config: dict[str, Any], members: int, **settings: object) -> None:
    values = submit(noop.map(range(members)), backend_config={**config, **settings}).results(timeout=TIMEOUT)
    if values != list(range(members)):
        raise SystemExit("The results are not the members' values in order")


def throughput(config: dict[str, Any], raw: Any, members: int, rounds: int) -> None:
    found = medians(
        rounds,
        celery=lambda: timed(lambda: raw_group(raw, members)),
        graflow=lambda: timed(lambda: ours(config, members)),
    )
    row(f"{members:,} no-ops: celery.group().get()", f"{members / found['celery']:,.0f}/s", 1.0)
    ratio = found["celery"] / found["graflow"]
    row(f"{members:,} no-ops: submit().results()", f"{members / found['graflow']:,.0f}/s", ratio, "at least 3 x")


def latency(config: dict[str, Any], raw: Any, rounds: int) -> None:
    found = medians(
        rounds * 10, celery=lambda: timed(lambda: raw_join(raw, 2)), graflow=lambda: timed(lambda: ours(config, 2))
    )
    row("group of 2: celery.group().join()", f"{found['celery'] * 1e3:.1f} ms", 1.0)
    row(
        "group of 2: submit().results()",
        f"{found['graflow'] * 1e3:.1f} ms",
        found["graflow"] / found["celery"],
        "at most 1.3 x",
    )


def unrecorded(config: dict[str, Any], members: int) -> None:
    if run_group(config, members, TIMEOUT) != list(range(members)):
        raise SystemExit("The results are not the members' values in order")


def worker_time(action: Callable[[], None]) -> float:
    """Processor seconds that the workers take for a call."""
    before = cpu_below()
    action()
    return cpu_below() - before


def one_by_one(config: dict[str, Any], raw: Any, members: int, rounds: int) -> None:
    """Against Celery tasks that run no envelope and know no context, and against the same members unrecorded."""
    client = create_redis_client(config)
    found = medians(
        rounds,
        counted=lambda: timed(lambda: raw_counted(raw, client, members)),
        unrecorded=lambda: timed(lambda: unrecorded(config, members)),
        graflow=lambda: timed(lambda: ours(config, members, batch_size=1)),
    )
    plain, bare, recorded = (found[name] for name in ("counted", "unrecorded", "graflow"))
    alone = f"{members:,} sent alone:"
    row(f"{alone} plain Celery, own counter", f"{plain / members * 1e3:.2f} ms", 1.0)
    row(f"{alone} same members, no record", f"{bare / members * 1e3:.2f} ms", bare / plain)
    row(f"{alone} with the record", f"{recorded / members * 1e3:.2f} ms", recorded / plain, "at most 1.3 x")
    row("  with the record against same members, no record", "", recorded / bare, "at most 1.3 x")
    used = medians(
        rounds,
        counted=lambda: worker_time(lambda: raw_counted(raw, client, members)),
        graflow=lambda: worker_time(lambda: ours(config, members, batch_size=1)),
    )
    row(f"{alone} workers' CPU, plain Celery", f"{used['counted'] / members * 1e6:.0f} µs", 1.0)
    more = f"{(used['graflow'] - used['counted']) / members * 1e6:.0f} µs more, at most 250 µs"
    row(f"{alone} workers' CPU", f"{used['graflow'] / members * 1e6:.0f} µs", used["graflow"] / used["counted"], more)


def commands(config: dict[str, Any], raw: Any, members: int) -> None:
    client = create_redis_client(config)
    actions: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("celery.group().get()", lambda: raw_group(raw, members), ""),
        ("sent alone, with the record", lambda: ours(config, members, batch_size=1), "at most 14"),
        ("sent in batches", lambda: ours(config, members), "at most one script"),
    )
    for what, action, aim in actions:
        before = served_calls(client)
        with ClientCommands(config) as seen:
            action()
        served = served_calls(client) - before
        row(f"commands per member: {what}", f"{seen.count / members:.2f}", aim=aim)
        row("  with those inside scripts", f"{served / members:.2f}")


def nested(depth: int, config: dict[str, Any]) -> Executable:
    if depth == 0:
        leaf: Executable = noop(number=1)
        return leaf
    group = ParallelGroup([nested(depth - 1, config), nested(depth - 1, config)])
    return group.with_execution(CoordinationBackend.REDIS, backend_config=config)


def nesting(imports: list[str]) -> None:
    """Groups in groups on one worker with one slot, where waiting must not take the slot."""
    with LocalCluster(workers=1, concurrency=1, imports=imports) as cluster:

        def run() -> None:
            with workflow("nested") as wf:
                nested(DEPTH, cluster.backend_config)
                wf.execute()

        found = medians(3, graflow=lambda: timed(run))
    row(f"nested {DEPTH} deep, {2**DEPTH} leaves, one slot", f"{found['graflow']:.2f} s", aim="at most 2 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    imports = [noop.__module__]
    with LocalCluster(workers=WORKERS, concurrency=1, imports=[*imports, run_group.__module__]) as cluster:
        config = dict(cluster.backend_config)
        with raw_workers(redis_url(config, for_celery=True).reveal()) as raw:
            raw_group(raw, 10)
            ours(config, 10)
            heading(f"Groups on {WORKERS} worker processes")
            throughput(config, raw, options.members, options.rounds)
            latency(config, raw, options.rounds)
            one_by_one(config, raw, options.members, options.rounds)
            heading("Commands that clients send to Redis")
            commands(config, raw, options.members)
    heading("Nesting")
    nesting(imports)


if __name__ == "__main__":
    main()
