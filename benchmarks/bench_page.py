"""What the page asks of a server: answers about a run of many nodes and members, their sizes and times; layouts.

python -m benchmarks.bench_page [--members 100000] [--nodes 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import gzip
import logging
import random
import statistics
import tempfile
import time
from pathlib import Path

from fastapi.testclient import TestClient

from benchmarks.common import heading
from graflow.api.app import create_app
from graflow.drawing.placement import place
from graflow.flows import FlowRunner
from graflow.state import StateStore, open_store
from graflow.state.changes import Change, Entry, MemberRow, NewFlow, StepRow
from graflow.state.statuses import FlowStatus, Move

RUN = "/api/v1/large/flows/r1"
AT = 1_700_000_000.0
BATCH = 256
LAYOUT_AIM = 200  # ms for 1,000 nodes

Edges = list[tuple[int, int]]


def layered(nodes: int, edges: int, wide: int = 10) -> Edges:
    """Random edges from each layer of so many nodes to the next ones."""
    chosen, found = random.Random(1), set[tuple[int, int]]()
    while len(found) < edges:
        source = chosen.randrange(nodes)
        target = min(nodes - 1, source + chosen.randrange(1, 3 * wide))
        if source // wide < target // wide:
            found.add((source, target))
    return sorted(found)


def written(store: StateStore, nodes: int, members: int, flow_id: str = "r1", *, is_over: bool = True) -> None:
    """A run of so many steps, one of them a group of so many members, all ended; the run itself only if it is over."""
    edges = layered(nodes, nodes * 3 // 2)
    names = ["group", *(f"step_{number}" for number in range(1, nodes))]
    planned: dict[str, dict[str, object]] = {name: {} for name in names}
    for source, target in edges:
        planned[names[source]].setdefault("after", []).append(names[target])  # type: ignore[attr-defined]
    planned["group"]["members"] = members
    flow = NewFlow(flow_id, "large", FlowStatus.PENDING, {}, "d", AT)
    epoch = store.claim(
        flow_id, "bench:1:1", seen=store.create(flow).record, at=AT, flow={"fingerprint": planned}
    ).epoch
    assert epoch is not None
    ended = {"status": "completed", "started_at": AT, "completed_at": AT + 60, "attempts": 1, "worker": "ada-0"}
    steps = [StepRow(name, 1, ended) for name in names[1:]]
    group = StepRow("group", 1, {**ended, "size": members})
    store.append(Change(flow_id, Move.STEP, epoch, AT, [Entry("step.started", "group", 1)], [group, *steps]))
    for first in range(0, members, BATCH):
        rows = [
            MemberRow(
                "group",
                1,
                index,
                {
                    "status": "failed" if index % 1000 == 7 else "completed",
                    "started_at": AT + index / 2000,
                    "completed_at": AT + index / 2000 + 0.2,
                    "attempts": 1,
                    "worker": f"ada-{index % 8}",
                    "outputs": index,
                    "output_size": 6,
                },
            )
            for index in range(first, min(members, first + BATCH))
        ]
        store.append(Change(flow_id, Move.STEP, epoch, AT, [Entry("group.members", "group", 1)], members=rows))
    if is_over:
        store.append(Change(flow_id, Move.COMPLETE, epoch, AT + 60, [Entry("flow.completed")]))


def asked(client: TestClient, rounds: int) -> None:
    """Print size and time of each answer: the first one, and the median of those after it."""
    for title, path in (
        ("summary", RUN),
        ("graph", f"{RUN}/graph"),
        ("steps", f"{RUN}/steps"),
        ("one step", f"{RUN}/steps/step_5"),
        ("members, a page", f"{RUN}/steps/group/members?offset=50000&limit=100"),
        ("members, failed", f"{RUN}/steps/group/members?status=failed"),
        ("members, longest first", f"{RUN}/steps/group/members?sort=duration"),
        ("strip", f"{RUN}/steps/group/strip"),
        ("timeline, all", f"{RUN}/timeline?by=worker"),
        ("timeline, 1 s", f"{RUN}/timeline?from=10&to=11"),
        ("journal, a page", f"{RUN}/events?limit=100"),
    ):
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = client.get(path, headers={"Accept": "application/json"})
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
        size, packed = len(answer.content), len(gzip.compress(answer.content))
        print(
            f"{title:<24}{size / 1000:>10.1f} kB {packed / 1000:>8.1f} kB gz "
            f"{times[0]:>9.1f} ms first {statistics.median(times[1:]):>9.1f} ms"
        )


def layouts(rounds: int) -> None:
    """Print how long layouts take."""
    fan = [(0, node) for node in range(1, 1001)] + [(node, 1001) for node in range(1, 1001)]
    for title, nodes, edges in (
        ("300 nodes, 444 edges", 300, layered(300, 444)),
        (f"1,000 nodes, 1,479 edges (at most {LAYOUT_AIM} ms)", 1000, layered(1000, 1479)),
        ("2,000 nodes, 3,118 edges", 2000, layered(2000, 3118)),
        ("a chain of 1,000", 1000, [(node, node + 1) for node in range(999)]),
        ("a fan of 1,000, unlike", 1002, fan + [(node, node + 1) for node in range(1, 1000, 2)]),
        ("a chain of 12,000", 12_000, [(node, node + 1) for node in range(11_999)]),
    ):
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            place(range(nodes), edges)
            times.append((time.perf_counter() - began) * 1000)
        print(f"{title:<48}{min(times):>9.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    heading("Layouts")
    layouts(given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder)}/flows.db")
        written(store, given.nodes, given.members)
        heading(f"Answers about a run of {given.nodes:,} nodes and {given.members:,} members, in SQLite")
        with TestClient(create_app(FlowRunner(store, recovery=False)), base_url="http://127.0.0.1") as client:
            asked(client, max(2, given.rounds))
        store.close()


if __name__ == "__main__":
    main()
