"""What the benchmarks share: interleaved medians and one table shape."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def timed(action: Callable[[], object]) -> float:
    """Seconds that one call takes, without the collector's pauses."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start
    finally:
        gc.enable()


def medians(rounds: int, **actions: Callable[[], float]) -> dict[str, float]:
    """The median of what each action returns; the actions alternate, so that a busy machine is busy for all of them."""
    seen: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            seen[name].append(action())
    return {name: statistics.median(values) for name, values in seen.items()}


def in_process(code: str, *arguments: object) -> str:
    """What a fresh interpreter prints for the code; as after an installation, it may keep compiled modules."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()


def cpu_below() -> float:
    """Processor seconds that the processes below this one have used so far, servers aside; 0.0 where none are told."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            name, _, rest = stat.read_text().partition(" (")[2].rpartition(") ")
            fields, process = rest.split(), int(stat.parent.name)
            parents[process] = int(fields[1])
            used[process] = 0.0 if "server" in name else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_below(process: int) -> bool:
        parent = parents.get(process, 0)
        return parent == os.getpid() or (parent > 1 and is_below(parent))

    return sum(seconds for process, seconds in used.items() if is_below(process))


def heading(title: str) -> None:
    print(f"\n{title}")
    print(f"  {'what':<52}{'median':>16}{'ratio':>9}  aim")


def row(what: str, value: str, ratio: float | None = None, aim: str = "") -> None:
    print(f"  {what:<52}{value:>16}{'' if ratio is None else f'{ratio:.2f} x':>9}  {aim}")
