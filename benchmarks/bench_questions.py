"""Questions of flows: how soon a step goes on, what a flow that waits holds, and who is first of many who answer.

python -m benchmarks.bench_questions [--scale 0.1] [--rounds 20]
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, heading, row
from graflow import task
from graflow.exceptions import AnswerRefusedError
from graflow.flows import FlowRunner, flow
from graflow.state import SqliteStore
from tests.support import private_redis

_ANSWERERS = 16
_PROCESSES = 4
_OTHER = "from benchmarks.bench_questions import {what}; import sys; {what}(*sys.argv[1:])"
_PERSON = """
import sys, time
from graflow.flows import FlowRunner
with FlowRunner(sys.argv[1], recovery=False) as runner:  # knows no flow, as a command line does
    for line in sys.stdin:
        begun = time.time()
        runner.answer(line.strip(), True, by="ann")
        print(begun, flush=True)
"""


@task(inject_context=True)
def ask(context: Any) -> float:
    context.ask("Go on?")
    return time.time()


@flow("bench_asks")
def asks() -> Any:
    return ask


# -- other processes ---------------------------------------------------------------------------------------------------


def serve(url: str) -> None:
    """An idle runner, until it is told to end."""
    with FlowRunner(url) as runner:
        runner.initialize()
        print("ready", flush=True)
        sys.stdin.readline()


def answer_all(url: str, who: str) -> None:
    """Answer every question as several people at once, and print whose answers counted."""
    with FlowRunner(url, recovery=False) as runner:
        ids = sys.stdin.readline().split()

        def answered(person: str) -> list[str]:
            won = []
            for question_id in ids:
                try:
                    runner.answer(question_id, True, by=person)
                except AnswerRefusedError:
                    continue
                won.append(question_id)
            return won

        people = [f"{who}-{number}" for number in range(_ANSWERERS // _PROCESSES)]
        with ThreadPoolExecutor(len(people)) as pool:
            print(" ".join(each for won in pool.map(answered, people) for each in won), flush=True)


def _other(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def _put_away(runner: FlowRunner, count: int) -> list[str]:
    """Have so many flows ask, and wait until they wait; ids of them."""
    ids = [runner.submit("bench_asks") for _ in range(count)]
    for flow_id in ids:
        while True:
            if runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None:
                break
            time.sleep(0.005)
    return ids


# -- figures -----------------------------------------------------------------------------------------------------------


def goes_on(name: str, url: str, rounds: int) -> None:
    """From an answer in one process to the step in another one."""
    other, person = _other(_OTHER.format(what="serve"), url), _other(_PERSON, url)
    assert other.stdout is not None
    assert person.stdin is not None
    assert person.stdout is not None
    other.stdout.readline()
    taken = []
    with FlowRunner(url, recovery=False) as runner:
        for _ in range(rounds):
            (flow_id,) = _put_away(runner, 1)
            time.sleep(0.1)  # whoever has put it away has nothing more to do with it
            (question,) = runner.questions(flow_id=flow_id)
            print(question.id, file=person.stdin, flush=True)
            begun = float(person.stdout.readline())
            taken.append(runner.wait(flow_id, 30).outputs - begun)
    other.communicate("\n", timeout=60)
    person.communicate(timeout=60)
    taken.sort()
    row(f"{name}: answer -> step, p50", f"{statistics.median(taken) * 1e3:.0f} ms", aim="at most 300 ms")
    row(f"{name}: answer -> step, largest of {rounds}", f"{taken[-1] * 1e3:.0f} ms")


def room(name: str, url: str, count: int, size: Callable[[], int]) -> list[str]:
    """Bytes, threads and open files of flows that wait; their questions."""
    with FlowRunner(url, recovery=False) as runner:
        _put_away(runner, 10)
        before, held = size(), _held()
        _put_away(runner, count)
        row(f"{name}: bytes of a flow that waits", f"{(size() - before) / count:,.0f}", aim="at most 4,096")
        more = tuple(now - then for now, then in zip(_held(), held, strict=True))
        row(f"{name}: threads, files for {count} that wait", f"{more[0]}, {more[1]}", aim="none")
        found, cursor = [], None
        while True:
            page = runner.questions(cursor=cursor, limit=200)
            found += [question.id for question in page]
            cursor = page.next_cursor
            if cursor is None:
                return found


def _held() -> tuple[int, int]:
    deadline = time.monotonic() + 30  # threads of a pool that has nothing to do end
    least = threading.active_count()
    while time.monotonic() < deadline and threading.active_count() > 2:
        time.sleep(0.1)
        least = min(least, threading.active_count())
    return least, len(list(Path("/proc/self/fd").iterdir()))


def race(name: str, url: str, ids: list[str]) -> None:
    """Many answer each of many questions."""
    others = [_other(_OTHER.format(what="answer_all"), url, str(number)) for number in range(_PROCESSES)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(_PROCESSES) as pool:
        told = list(pool.map(lambda each: each.communicate(" ".join(ids) + "\n", timeout=1200)[0], others))
    took = time.perf_counter() - begun
    won = Counter(question_id for text in told for question_id in text.split())
    once = sum(1 for question_id in ids if won[question_id] == 1)
    row(f"{name}: settled once, of {len(ids)} by {_ANSWERERS}", f"{once}", aim=f"{len(ids)}, in {took:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # a server of this benchmark's own keeps nothing, and says so
    count = max(10, int(1000 * given.scale))
    with tempfile.TemporaryDirectory() as folder, private_redis() as server:
        file = Path(folder) / "flows.db"

        def file_size() -> int:
            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return file.stat().st_size

        def memory() -> int:
            with server.client() as client:
                return int(client.info("memory")["used_memory"])

        heading("Questions")
        SqliteStore(file).initialize()
        for name, url, size in (("sqlite", f"sqlite:///{file}", file_size), ("redis", server.url, memory)):
            goes_on(name, url, given.rounds)
            race(name, url, room(name, url, count, size))


if __name__ == "__main__":
    main()
