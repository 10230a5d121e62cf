"""Durable flows: what their stores cost.

python -m benchmarks.bench_flows [--scale 0.01] [--rounds N]
"""

from __future__ import annotations

import argparse
import gc
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from benchmarks.common import heading, medians, row, timed
from graflow.state import FlowStatus, SqliteStore, StateStore, open_store
from graflow.state.changes import Change, Entry, MemberRow, NewFlow, StepRow
from graflow.state.statuses import Move
from tests.support import PrivateRedis, private_redis

BLOCK = 100  # writes
AIMS = {
    "memory": "at most 6 µs",
    "sqlite": "at most 60 µs",
    "sqlite, synchronous=full": "",
    "redis": "at most 450 µs",
}


def begin(store: StateStore, flow_id: str) -> int:
    """A flow that runs; its epoch."""
    inputs = {"paths": [f"docs/{number}.txt" for number in range(10)], "top": 10}
    made = store.create(NewFlow(flow_id, "document_analysis", FlowStatus.PENDING, inputs, "digest", time.time()))
    return store.claim(flow_id, "host:1:1", seen=made.record, at=time.time()).epoch or 0


def step_change(flow_id: str, epoch: int, number: int) -> Change:
    """What is written between two steps: the end of one, which returned a small value, and the start of the next."""
    now = time.time()
    name, following = f"step_{number}", f"step_{number + 1}"
    value = {"words": number, "name": name, "top": ["a", "b", "c"]}
    return Change(
        flow_id,
        Move.STEP,
        epoch,
        now,
        entries=(
            Entry("step.completed", name, 1, attempt=1, data={"node": name, "outcome": {"value": value, "queue": []}}),
            Entry("step.started", following, 1, attempt=1, data={"node": following}),
        ),
        steps=(
            StepRow(name, 1, {"status": "completed", "completed_at": now, "outputs": value, "output_size": 60}),
            StepRow(following, 1, {"status": "running", "started_at": now, "attempts": 1, "worker": "host:1"}),
        ),
    )


def fill(store: StateStore, flow_id: str, steps: int) -> None:
    epoch = begin(store, flow_id)
    for number in range(steps):
        store.append(step_change(flow_id, epoch, number))


class Floors:
    """What the storage itself costs for a write of this size."""

    def __init__(self, folder: Path, client: redis.Redis) -> None:
        self._connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("CREATE TABLE lines (line TEXT)")
        self._script = client.register_script("return redis.call('XADD', KEYS[1], '*', 'line', ARGV[1])")

    def commit(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO lines VALUES (?)", ("x" * 600,))
        self._connection.execute("COMMIT")

    def script(self) -> None:
        self._script(keys=["floor"], args=["x" * 600])


def appends(stores: dict[str, StateStore], floors: Floors, count: int) -> None:
    """Some writes of each store after the other, so that a busy machine is busy for all of them."""
    epochs = {name: begin(store, "appends") for name, store in stores.items()}
    seen: dict[str, list[float]] = {}

    def measure(name: str, calls: list[Callable[[], object]]) -> None:
        gc.collect()
        gc.disable()
        for call in calls:
            start = time.perf_counter()
            call()
            seen.setdefault(name, []).append(time.perf_counter() - start)
        gc.enable()

    for first in range(0, count, BLOCK):
        measure("WAL commit", [floors.commit] * BLOCK)
        measure("Redis script", [floors.script] * BLOCK)
        for name, store in stores.items():
            changes = [step_change("appends", epochs[name], number) for number in range(first, first + BLOCK)]
            measure(name, [partial(store.append, change) for change in changes])
    found = {name: statistics.median(values) * 1e6 for name, values in seen.items()}
    for name, value in found.items():
        floor = found["Redis script"] if name.lower().startswith("redis") else found["WAL commit"]
        row(name, f"{value:.1f} µs", value / floor, AIMS.get(name, "the floor"))


def reads(stores: dict[str, StateStore], flows: int, rounds: int) -> None:
    for name, store in stores.items():
        fill(store, "state", 100)
        for number in range(flows):
            begin(store, f"flow-{number}")
        found = medians(
            rounds,
            state=lambda store=store: timed(lambda: store.get_flow_state("state")),  # type: ignore[misc]
            flows=lambda store=store: timed(lambda: store.list_flows(limit=flows)),  # type: ignore[misc]
            found=lambda store=store: timed(lambda: store.list_flows(search="flow-7", limit=flows)),  # type: ignore[misc]
            events=lambda store=store: timed(lambda: store.events("state")),  # type: ignore[misc]
        )
        row(f"{name}: get_flow_state of 100 steps", f"{found['state'] * 1e3:.2f} ms", aim="at most 5 ms")
        row(f"{name}: journal of 100 steps", f"{found['events'] * 1e3:.2f} ms")
        row(f"{name}: {flows:,} flows listed", f"{found['flows'] * 1e3:.1f} ms", aim="at most 20 ms")
        row(f"{name}: searched among {flows:,} flows", f"{found['found'] * 1e3:.1f} ms")


def groups(stores: dict[str, StateStore], members: int) -> None:
    """A group whose members come in by 100, as batches of outcomes do."""
    for name, store in stores.items():
        epoch = begin(store, "group")
        group = StepRow("g", 1, {"status": "running", "size": members})
        store.append(Change("group", Move.STEP, epoch, time.time(), steps=[group]))

        def write(store: StateStore = store, epoch: int = epoch) -> None:
            for first in range(0, members, 100):
                rows = [
                    MemberRow("g", 1, index, {"status": "completed", "completed_at": time.time(), "outputs": index})
                    for index in range(first, min(first + 100, members))
                ]
                outcomes = [{"index": each.index, "success": True, "outcome": {"value": each.index}} for each in rows]
                entry = Entry("group.members", "g", 1, data={"outcomes": outcomes})
                store.append(Change("group", Move.STEP, epoch, time.time(), entries=[entry], members=rows))

        row(f"{name}: one of {members:,} members", f"{timed(write) / members * 1e6:.1f} µs")
        shown = timed(lambda store=store: store.get_flow_state("group"))  # type: ignore[misc]
        page = timed(lambda store=store: store.list_members("group", "g", cursor=str(members // 2)))  # type: ignore[misc]
        row(f"{name}: the group shown, a page of its members", f"{shown * 1e3:.1f}, {page * 1e3:.1f} ms")


def sizes(folder: Path, server: PrivateRedis, steps: int) -> None:
    """Bytes that a step takes, of few and of many: the same when all is linear."""
    for count in (steps // 10, steps):
        file = folder / f"size-{count}.db"
        store = SqliteStore(file)
        store.initialize()
        empty = file.stat().st_size
        fill(store, "size", count)
        store.close()
        row(f"sqlite: bytes per step of {count:,}", f"{(file.stat().st_size - empty) / count:,.0f}")
        with server.client() as client:
            client.flushdb()
            store_in_redis = open_store(server.url)
            fill(store_in_redis, "size", count)
            used = sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter())
            row(f"redis: bytes of memory per step of {count:,}", f"{used / count:,.0f}")
            store_in_redis.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all sizes, to try the script out")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    def size(count: int) -> int:
        return max(int(count * options.scale), 20)

    with tempfile.TemporaryDirectory() as name, private_redis() as server, server.client() as client:
        folder = Path(name)
        stores = {
            "memory": open_store("memory://"),
            "sqlite": open_store(folder / "flows.db"),
            "sqlite, synchronous=full": open_store(f"sqlite:///{folder}/full.db?synchronous=full"),
            "redis": open_store(server.url),
        }
        heading("One write between two steps")
        appends(stores, Floors(folder, client), size(2_000))
        del stores["sqlite, synchronous=full"]
        heading("Reading")
        reads(stores, size(1_000), options.rounds)
        heading("Groups")
        groups(stores, size(100_000))
        heading("Size")
        sizes(folder, server, size(5_000))


if __name__ == "__main__":
    main()
