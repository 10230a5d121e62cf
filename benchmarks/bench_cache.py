"""Kept values: what it costs to be given one from an SQLite file, beside a plain read of it in the same run.

python -m benchmarks.bench_cache [--rounds N]
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import heading, medians, row, timed
from graflow import task
from graflow.flows.cache.keys import task_key
from graflow.flows.cache.sharing import Cache
from graflow.runtime import Runtime
from graflow.state import SqliteStore

BLOCK = 200  # reads
SOURCE = {"flow_id": "f", "step": "analyse", "visit": 1}


@task(cache=True)
def analyse(path: str, top: int = 10) -> dict[str, Any]:
    return {"path": path, "words": list(range(top)), "share": 0.25}


def given(cache: Cache, path: str) -> Any:
    """The value of a task, as a step of a flow is given it: its key is made, and it is looked for."""
    key = task_key(analyse, (), {"path": path})
    answer = cache.value(key, partial(analyse.func, path), ttl=None, source=SOURCE, wait=lambda: None)
    return answer.value, answer.reason.is_hit


def read(connection: sqlite3.Connection, path: str) -> Any:
    return connection.execute("SELECT value FROM texts WHERE path = ?", (path,)).fetchone()


def per_call(call: Callable[[str], Any]) -> float:
    """Microseconds of one call, of a block with different paths."""
    return timed(lambda: [call(f"docs/{number}.txt") for number in range(BLOCK)]) / BLOCK * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure kept values.")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "flows.db")
        cache = Cache(store.cache, Runtime(), lease=6.0)
        plain = sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("CREATE TABLE texts (path TEXT PRIMARY KEY, value TEXT)")
        first = per_call(partial(given, cache))  # each is computed, and kept
        for number in range(BLOCK):
            path = f"docs/{number}.txt"
            value, is_hit = given(cache, path)
            if not is_hit or value != analyse.func(path):
                raise SystemExit(f"{path} was not kept")
            plain.execute("INSERT INTO texts VALUES (?, ?)", (path, str(value)))
        found = medians(
            options.rounds,
            hit=lambda: per_call(partial(given, cache)),
            key=lambda: per_call(lambda path: task_key(analyse, (), {"path": path})),
            plain=lambda: per_call(partial(read, plain)),
        )
        plain.close()
        store.close()
    heading("Kept values on SQLite")
    row("a plain read of one row", f"{found['plain']:.1f} µs", 1.0)
    row("a kept value is given", f"{found['hit']:.1f} µs", found["hit"] / found["plain"], "at most 200 µs")
    row("of that, its key", f"{found['key']:.1f} µs", found["key"] / found["plain"])
    row("a value is looked for, and kept (once)", f"{first:.1f} µs", first / found["plain"])


if __name__ == "__main__":
    main()
