"""What `graflow serve` bears: requests a second, open streams of events, and memory over some time.

python -m benchmarks.bench_server [--flows 1000] [--streams 200] [--seconds 10] [--minutes 2] [--store URL]

The server is a process of its own; its CPU time is told beside the times, which count whoever else uses the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.common import ROOT, heading
from graflow.state import StateStore, open_store
from graflow.state.changes import Change, Entry, NewFlow, StepRow
from graflow.state.statuses import FlowStatus, Move

FLOW = "report"
STEPS = 5
WATCHED = "watched"
CLIENTS = 8
PAUSE = 0.5  # seconds between two transitions that streams are told of
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def written(store: StateStore, flows: int) -> None:
    """So many flows that have completed, and one that runs."""
    for number in range(flows):
        begun(store, f"f{number}", time.time() - number)
        store.append(Change(f"f{number}", Move.COMPLETE, 1, time.time(), [Entry("flow.completed")]))
    begun(store, WATCHED, time.time())


def begun(store: StateStore, flow_id: str, at: float) -> None:
    names = [f"step_{number}" for number in range(STEPS)]
    planned = {name: {"after": names[place + 1 : place + 2]} for place, name in enumerate(names)}
    record = store.create(NewFlow(flow_id, FLOW, FlowStatus.PENDING, {"number": 1}, "d", at)).record
    store.claim(flow_id, "bench:1:1", seen=record, at=at, flow={"fingerprint": planned})
    ended = {"status": "completed", "started_at": at, "completed_at": at + 1, "attempts": 1}
    steps = [StepRow(name, 1, ended) for name in names]
    store.append(Change(flow_id, Move.STEP, 1, at + 1, [Entry("step.completed", name, 1) for name in names], steps))


class Server:
    """A server over a store."""

    def __init__(self, url: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "graflow", "serve", "--port", str(port), "--store", url]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self._answers():
            time.sleep(0.1)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            sys.exit("the server has ended")
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @property
    def megabytes(self) -> float:
        """Of memory that it has now."""
        fields = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="utf-8").split()
        return int(fields[1]) * PAGE / 1e6


def requests(server: Server, title: str, path: str, seconds: float) -> None:
    """Print what several clients get of one address in some time."""
    times: list[float] = []
    until, cpu = time.perf_counter() + seconds, server.cpu

    def ask() -> None:
        with httpx.Client(base_url=server.url) as client:
            while (began := time.perf_counter()) < until:
                client.get(path).raise_for_status()
                times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p95 = statistics.quantiles(times, n=20)[18]
    print(
        f"  {title:<44}{len(times) / seconds:>8.0f} /s   p50 {statistics.median(times) * 1e3:>6.1f} ms   "
        f"p95 {p95 * 1e3:>6.1f} ms   server {(server.cpu - cpu) / len(times) * 1e3:.2f} ms CPU each"
    )


@contextmanager
def changing(store: StateStore, change: Callable[[int], Change], pause: float) -> Iterator[dict[int, float]]:
    """A run that changes again and again; by the place of each change in its journal, when it was written.

    Args:
        store: The run's.
        change: The change of each number from 0.
        pause: Seconds between two.
    """
    told: dict[int, float] = {}
    stopped = threading.Event()

    def go_on() -> None:
        for number in itertools.count():
            now = time.time()
            told[store.append(change(number)).seq] = now
            if stopped.wait(pause):
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield told
    finally:
        stopped.set()
        thread.join()


def _step_again(number: int) -> Change:
    row = StepRow("step_1", 1, {"status": "running", "worker": f"w{number}"})
    return Change(WATCHED, Move.STEP, 1, time.time(), [Entry("step.started", "step_1", 1)], [row])


async def watched(url: str, heard: dict[int, float]) -> None:
    """One stream of the run: when each of its events came, and at 0 when it was open."""
    timeout = httpx.Timeout(30.0)
    address = f"/api/v1/{FLOW}/flows/{WATCHED}/events"
    async with (
        httpx.AsyncClient(base_url=url, timeout=timeout) as client,
        client.stream("GET", address, headers={"Accept": "text/event-stream"}) as stream,
    ):
        heard[0] = time.time()
        async for line in stream.aiter_lines():
            if line.startswith('data: {"seq":'):
                heard[json.loads(line[6:])["seq"]] = time.time()


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        await asyncio.sleep(0.1)
    sys.exit("not all streams were served within a minute")


async def streams(server: Server, store: StateStore, count: int, seconds: float) -> None:
    """Print how late events come to so many streams, and what the server takes for it."""
    heard: list[dict[int, float]] = [{} for _ in range(count)]
    watchers = [asyncio.create_task(watched(server.url, each)) for each in heard]
    await until(lambda: all(heard))
    with changing(store, _step_again, PAUSE) as told:
        cpu, began = server.cpu, time.monotonic()
        await asyncio.sleep(seconds)
        share = (server.cpu - cpu) / (time.monotonic() - began)
    await until(lambda: all(max(told) in each for each in heard))
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    late = [each[seq] - at for seq, at in told.items() for each in heard if seq in each]
    print(
        f"  {count} streams, {1 / PAUSE:.0f} changes a second: {len(late)} of {count * len(told)} came by themselves, "
        f"the last one to all; late p50 "
        f"{statistics.median(late) * 1e3:.0f} ms, p95 {statistics.quantiles(late, n=20)[18] * 1e3:.0f} ms; "
        f"server {share * 100:.0f} % of a core"
    )


def memory(server: Server, store: StateStore, flows: int, count: int, minutes: float) -> None:
    """Print how much memory the server has while streams are open and lists are read."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        asyncio.run(streams(server, store, count, minutes * 60))
        over.set()

    thread = threading.Thread(target=watch)
    thread.start()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in itertools.count():
            if over.wait(0.05):
                break
            client.get("/api/v1/runs" if number % 2 else f"/api/v1/{FLOW}/status/f{number % flows}").raise_for_status()
            seen.append(server.megabytes)
    thread.join()
    parts = [statistics.mean(seen[len(seen) * part // 10 : len(seen) * (part + 1) // 10]) for part in range(10)]
    shown = " ".join(f"{each:.0f}" for each in parts)
    print(f"  MB of memory in tenths of {minutes:g} min, with {len(seen)} requests: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=1_000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--store", help="its address; a SQLite file of its own otherwise")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        url = given.store or f"sqlite:///{folder}/flows.db"
        store = open_store(url)
        written(store, given.flows)
        server = Server(url)
        try:
            heading(f"{given.flows:,} flows in {url.partition(':')[0]}, {CLIENTS} clients")
            for title, path in (
                ("nothing (/healthz)", "/healthz"),
                ("status of a flow", f"/api/v1/{FLOW}/status/f7"),
                ("list of a flow's runs, 50", f"/api/v1/{FLOW}/flows"),
                ("list of all runs, 50", "/api/v1/runs"),
            ):
                requests(server, title, path, given.seconds)
            heading("Streams")
            asyncio.run(streams(server, store, given.streams, given.seconds * 2))
            heading("Memory")
            memory(server, store, given.flows, given.streams, given.minutes)
        finally:
            server.close()
            store.close()


if __name__ == "__main__":
    main()
