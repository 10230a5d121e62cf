"""The engine in one process against bare loops, networkx and a bare thread pool; microseconds per task.

python -m benchmarks.bench_engine [--scale 0.01] [--rounds N]
"""

from __future__ import annotations

import argparse
import graphlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import networkx as nx

from benchmarks.common import heading, in_process, medians, row, timed
from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup, TaskWrapper
from graflow.core.workflow import WorkflowContext

WIDTH, FAN_IN, THREADS = 100, 3, 4

MEMORY = """
import gc, os, sys
count = int(sys.argv[2])
import networkx
from graflow import workflow
from graflow.core.task import TaskWrapper
def noop(): return None
def used():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = used()
if sys.argv[1] == "networkx":
    graph = networkx.DiGraph()
    for number in range(count):
        graph.add_node(f"t{number}", task=object())
        if number:
            graph.add_edge(f"t{number - 1}", f"t{number}")
else:
    with workflow("memory") as wf:
        last = None
        for number in range(count):
            node = TaskWrapper(f"t{number}", noop)
            if last is not None:
                last >> node
            last = node
print(used() - before)
"""


def noop() -> None:
    return None


def parents(number: int) -> list[int]:
    """Three nodes of the layer above, spread over its width."""
    if number < WIDTH:
        return []
    layer, place = divmod(number, WIDTH)
    return [(layer - 1) * WIDTH + (place + step * 7) % WIDTH for step in range(FAN_IN)]


def chain_of(count: int) -> WorkflowContext:
    with workflow("chain") as wf:
        last = TaskWrapper("t0", noop)
        for number in range(1, count):
            node = TaskWrapper(f"t{number}", noop)
            last >> node
            last = node
    return wf


def layers_of(count: int) -> WorkflowContext:
    """The layered graph, below one first node so that it has a single start."""
    with workflow("layers") as wf:
        first = TaskWrapper("first", noop)
        nodes: list[TaskWrapper] = []
        for number in range(count):
            node = TaskWrapper(f"t{number}", noop)
            for parent in parents(number):
                nodes[parent] >> node
            if number < WIDTH:
                first >> node
            nodes.append(node)
    return wf


def networkx_layers(count: int) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for number in range(count):
        graph.add_node(f"t{number}", task=noop)
        for parent in parents(number):
            graph.add_edge(f"t{parent}", f"t{number}")
    return graph


def graphlib_loop(predecessors: dict[str, list[str]]) -> None:
    for _ in graphlib.TopologicalSorter(predecessors).static_order():
        noop()


def run(wf: WorkflowContext, count: int) -> None:
    wf.execute(max_steps=count + 10)


def chain(count: int, rounds: int, aim: str) -> None:
    wf = chain_of(count)
    bare = {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(count)}
    found = medians(
        rounds, bare=lambda: timed(lambda: graphlib_loop(bare)), graflow=lambda: timed(lambda: run(wf, count))
    )
    row(f"chain of {count:,}: graphlib loop", f"{found['bare'] / count * 1e6:.1f} µs", 1.0)
    row(
        f"chain of {count:,}: engine", f"{found['graflow'] / count * 1e6:.1f} µs", found["graflow"] / found["bare"], aim
    )


def layered(count: int, rounds: int) -> None:
    wf = layers_of(count)
    bare = {f"t{number}": [f"t{parent}" for parent in parents(number)] for number in range(count)}
    found = medians(
        rounds, bare=lambda: timed(lambda: graphlib_loop(bare)), graflow=lambda: timed(lambda: run(wf, count))
    )
    row(f"{count:,} nodes in layers: graphlib loop", f"{found['bare'] / count * 1e6:.1f} µs", 1.0)
    ratio = found["graflow"] / found["bare"]
    row(f"{count:,} nodes in layers: engine", f"{found['graflow'] / count * 1e6:.1f} µs", ratio, "at most 12 µs")


def build_group(count: int) -> ParallelGroup:
    with workflow("group"):
        group = TaskWrapper("t0", noop) | TaskWrapper("t1", noop)
        for number in range(2, count):
            group |= TaskWrapper(f"t{number}", noop)
    return group


def building(count: int, rounds: int) -> None:
    found = medians(
        rounds,
        networkx=lambda: timed(lambda: networkx_layers(count)),
        graflow=lambda: timed(lambda: layers_of(count)),
        group=lambda: timed(lambda: build_group(count)),
    )
    row(f"building {count:,} nodes: networkx", f"{found['networkx'] / count * 1e6:.1f} µs", 1.0)
    for name, what in (("graflow", "with >>"), ("group", "as one group with |")):
        ratio = found[name] / found["networkx"]
        row(f"building {count:,} nodes: {what}", f"{found[name] / count * 1e6:.1f} µs", ratio, "at most 12 µs")


def group_of(count: int) -> WorkflowContext:
    with workflow("group") as wf:
        members = task(id="member")(lambda number: number).map(range(count), name="members")
        members.with_execution(CoordinationBackend.THREADING, backend_config={"thread_count": THREADS})
        members >> TaskWrapper("after", noop)
    return wf


def bare_pool(count: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(noop) for _ in range(count)]:
            future.result()


def threading_group(count: int, rounds: int) -> None:
    wf = group_of(count)
    found = medians(rounds, bare=lambda: timed(lambda: bare_pool(count)), graflow=lambda: timed(wf.execute))
    row(f"threading group of {count:,}: bare thread pool", f"{found['bare'] / count * 1e6:.1f} µs", 1.0)
    ratio = found["graflow"] / found["bare"]
    row(f"threading group of {count:,}: member", f"{found['graflow'] / count * 1e6:.1f} µs", ratio, "at most 30 µs")


def channel_keys(count: int, keys: int, rounds: int) -> None:
    wf = group_of(count)

    def with_keys(number: int) -> float:
        context = ExecutionContext.create(wf.graph.copy())
        context.channel.set_many({f"key{key}": key for key in range(number)})
        return timed(context.execute)

    found = medians(rounds, few=lambda: with_keys(0), many=lambda: with_keys(keys))
    row(f"threading group of {count:,}: empty channel", f"{found['few'] / count * 1e6:.1f} µs", 1.0)
    ratio = found["many"] / found["few"]
    row(f"threading group of {count:,}: {keys:,} keys", f"{found['many'] / count * 1e6:.1f} µs", ratio, "no growth")


def memory(count: int) -> None:
    if not Path("/proc/self/statm").exists():
        print("  this system does not tell how much memory a process uses")
        return
    networkx, graflow = (int(in_process(MEMORY, name, count)) for name in ("networkx", "graflow"))
    row(f"memory of {count:,} nodes: networkx", f"{networkx / 1e6:.0f} MB", 1.0)
    row(f"memory of {count:,} tasks: graflow", f"{graflow / 1e6:.0f} MB", graflow / max(networkx, 1), "at most 2 x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all sizes, to try the script out")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    def size(count: int) -> int:
        return max(int(count * options.scale), 2)

    heading("Engine, time per task")
    chain(size(1_000), options.rounds, "at most 10 µs")
    chain(size(100_000), max(options.rounds // 3, 1), "as at 1,000")
    layered(size(10_000), options.rounds)
    heading("Building, time per node")
    building(size(10_000), options.rounds)
    heading("Groups on threads, time per member")
    threading_group(size(1_000), options.rounds)
    channel_keys(size(200), size(5_000), options.rounds)
    heading("Memory")
    memory(size(100_000))


if __name__ == "__main__":
    main()
