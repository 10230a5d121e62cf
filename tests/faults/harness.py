"""Gives each fault case a server, workers and a load of its own, and counts what came of it.

Executions are counted by the members themselves, in files that no fault touches; everything else is read from the
record over a connection that no fault touches.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import graflow_celery
from graflow.signing import generate_key
from graflow_celery import GroupHandle
from graflow_celery.record import GroupRecord
from tests.faults import members
from tests.support import PrivateRedis, private_redis, wait_until

MEMBERS = "tests.faults.members"
ROOT = Path(__file__).parent.parent.parent
LEASE = 5.0
SWEEP = 1.0


@dataclass
class Row:
    """What one case measured."""

    case: str
    fault: str
    submitted: int | None = None
    recorded: int | None = None
    lost: int | None = None
    twice: int | None = None
    executions: int | None = None
    refused: int | None = None
    continuations: int | None = None
    seconds: float | None = None
    note: str = ""

    @property
    def counts(self) -> tuple[int | None, ...]:
        """In the order of the table."""
        return (
            *(self.submitted, self.recorded, self.lost, self.twice),
            *(self.executions, self.refused, self.continuations),
        )

    def check(self) -> None:
        """The pass line of every case: nothing lost, nothing counted twice, one continuation."""
        assert self.lost == 0, self
        assert self.twice == 0, self
        assert self.recorded == self.submitted, self
        assert self.continuations in {None, 1}, self


ROWS: list[Row] = []


def observed(case: str, fault: str, note: str) -> None:
    """A row of a case that has no group to count."""
    ROWS.append(Row(case, fault, note=note))


def alive(pid: int) -> bool:
    """Whether a process exists and is not only waiting to be collected."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_idle(server: PrivateRedis, workers: int) -> None:
    """Until so many workers wait in BRPOP for a message."""
    with server.client() as client:
        wait_until(lambda: sum(seen["cmd"] == "brpop" for seen in client.client_list()) >= workers, 10, "idle workers")


class Worker:
    """One `celery -A graflow_celery worker` with its pool children and its log."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[int]:
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        return [int(pid) for pid in text.split()]

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def signal_all(self, signum: int) -> None:
        """To the main process and every child of its pool."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def kill(self) -> None:
        """As when the machine goes away: nothing of this worker is left."""
        self.signal_all(signal.SIGKILL)
        self.process.wait(60)


def kill_all(workers: Sequence[Worker]) -> None:
    """Frozen ones as well."""
    for worker in workers:
        worker.signal_all(signal.SIGCONT)
        worker.signal_all(signal.SIGKILL)
    for worker in workers:
        worker.process.wait(60)


class Group:
    """A submitted load and what its members wrote into files."""

    def __init__(self, handle: GroupHandle | None, folder: Path, n: int, run_id: str) -> None:
        self._handle = handle
        self.folder = folder
        self.n = n
        self.run_id = run_id
        self.process: Any = None
        self._waiting: Future[list[Any]] | None = None

    @property
    def handle(self) -> GroupHandle:
        assert self._handle is not None, "another process submitted it"
        return self._handle

    def wait_in_background(self, timeout: float = 90.0) -> None:
        """Have somebody wait for the group while the fault happens."""
        future: Future[list[Any]] = Future()
        self._waiting = future

        def wait() -> None:
            try:
                future.set_result(self.handle.outcomes(timeout=timeout))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=wait, daemon=True).start()

    def outcomes(self, timeout: float) -> list[Any]:
        """What the waiting thread got, or what a wait now gets."""
        if self._waiting is not None:
            return self._waiting.result(timeout)
        return self.handle.outcomes(timeout=timeout)

    def lines(self, kind: str) -> list[list[str]]:
        try:
            text = (self.folder / kind).read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        return [line.split() for line in text.splitlines()]

    def count(self, kind: str) -> int:
        return len(self.lines(kind))

    def starts(self) -> Counter[int]:
        """Executions of each member."""
        return Counter(int(line[0]) for line in self.lines("started"))

    def running_on(self, worker: Worker) -> dict[int, set[int]]:
        """The members that children of a worker run now, by the process of the child."""
        finished = {(line[0], line[1]) for line in self.lines("finished")}
        found: dict[int, set[int]] = {}
        for index, pid, _ in self.lines("started"):
            if (index, pid) not in finished and int(pid) in worker.children():
                found.setdefault(int(pid), set()).add(int(index))
        return found

    def wait_until_running_on(self, worker: Worker) -> None:
        """Of members that are held, so that it runs them until they are let go, or it is struck."""
        wait_until(lambda: self.running_on(worker), 30, f"members on {worker.name}")

    def let_go(self) -> None:
        """Held members end, and those that begin from now on are not held."""
        (self.folder / "open").touch()

    def wait_for(self, kind: str, count: int, timeout: float = 30.0) -> None:
        wait_until(lambda: self.count(kind) >= count, timeout, f"{kind}: {self.count(kind)} of {count}")


@dataclass
class Cluster:
    """A server, workers, and the settings of both sides; connections of either side may lead through a proxy."""

    server: PrivateRedis
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    worker_url: str | None = None
    submit_url: str | None = None
    workers: list[Worker] = field(default_factory=list)
    key: str = field(default_factory=generate_key)

    @property
    def config(self) -> dict[str, Any]:
        """What the submitting side uses."""
        return {"url": self.submit_url or self.server.url, "signing_key": self.key, **self.common}

    @property
    def common(self) -> dict[str, Any]:
        return {"lease": LEASE, "sweep_interval": SWEEP, "max_attempts": 4, **self.settings}

    @property
    def record(self) -> GroupRecord:
        """The record over a connection of its own."""
        return GroupRecord(self.server.client(), self.prefix)

    @property
    def prefix(self) -> str:
        return str(self.settings.get("key_prefix", "graflow"))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if not name.startswith("GRAFLOW_")}
        found.update({f"GRAFLOW_{name.upper()}": str(value) for name, value in self.common.items()})
        found["GRAFLOW_REDIS_URL"] = self.worker_url or self.server.url
        found["GRAFLOW_SIGNING_KEY"] = self.key
        found["PYTHONPATH"] = str(ROOT)
        return {**found, **(more or {})}

    def start(
        self,
        count: int = 1,
        *,
        concurrency: int = 2,
        imports: Sequence[str] = (MEMBERS,),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> list[Worker]:
        """Start workers and return when they take work."""
        fresh = []
        for _ in range(count):
            name = f"w{len(self.workers)}-{uuid.uuid4().hex[:6]}@here"
            command = [
                *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "graflow_celery", "worker"),
                *("--hostname", name, "--concurrency", str(concurrency), "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", self.prefix),
                *(f"--graflow-import={module}" for module in imports),
                *options,
            ]
            log = self.folder / f"{name}.log"
            worker = Worker(name, command, self.environment(environment), log)
            self.workers.append(worker)
            fresh.append(worker)
        if wait:
            for worker in fresh:
                self.wait_for_worker(worker)
        return fresh

    def wait_for_worker(self, worker: Worker) -> None:
        wait_until(
            lambda: (
                worker.process.poll() is not None
                or any(seen.worker_id == worker.name for seen in self.record.live_workers())
            ),
            30,
            worker.name,
            interval=0.05,
        )
        assert worker.process.poll() is None, worker.log[-3000:]

    def submit(
        self,
        n: int = 200,
        seconds: float = 0.1,
        *,
        task: Any = members.work,
        extra: Any = None,
        then: bool = True,
        run_id: str | None = None,
        policy: Any = None,
        **options: Any,
    ) -> Group:
        """Submit the standard load, or another one over the same numbers."""
        folder = self.folder / (run_id or uuid.uuid4().hex)[:8]
        folder.mkdir(exist_ok=True)  # what is submitted again has the same arguments
        group, continuation = load_of(folder, n, seconds, task=task, extra=extra)
        handle = graflow_celery.submit(
            group,
            {**self.config, **options},
            policy=policy,
            run_id=run_id,
            then=continuation if then else None,
        )
        return Group(handle, folder, n, handle.run_id)

    def finish(
        self,
        case: str,
        fault: str,
        group: Group,
        ended: float,
        *,
        timeout: float = 60.0,
        note: str = "",
        handle: Any = None,
        values: bool = True,
    ) -> Row:
        """Wait for the end as a user would, then count; `ended` is when the fault was over, on the wall clock."""
        waiting = handle or group.handle
        outcomes = group.outcomes(timeout) if handle is None else handle.outcomes(timeout=timeout)
        assert [outcome.index for outcome in outcomes] == list(range(group.n))
        if values:
            assert [outcome.value for outcome in outcomes] == list(range(group.n)), "order kept"
        has_continuation = self.record.header(group.run_id).spec.continuation
        if has_continuation:
            waiting.continuation().outcomes(timeout=timeout)
        row = self.count(case, fault, group, ended, note=note)
        if has_continuation and values:
            assert waiting.continuation().results(timeout=5) == [sum(range(group.n))]
        row.check()
        return row

    def count(self, case: str, fault: str, group: Group, ended: float, *, note: str = "") -> Row:
        """Count what stands in the record and in the members' files."""
        record = self.record
        header = record.header(group.run_id)
        order: Any = record.client.lrange(record.keys.run(group.run_id, "order"), 0, -1)
        entries = [header.spec.block(int(entry[1:])) if entry.startswith(b"b") else (int(entry),) for entry in order]
        recorded = [index for entry in entries for index in entry if index < group.n]
        row = Row(
            case=case,
            fault=fault,
            submitted=group.n,
            recorded=len(set(recorded)),
            lost=group.n - len(set(recorded)),
            twice=len(recorded) - len(set(recorded)),
            executions=group.count("started"),
            refused=header.status.refused,
            continuations=group.count("continued") if header.spec.continuation else None,
            seconds=max(0.0, (header.finished_at or time.time()) - ended),
            note=note,
        )
        ROWS.append(row)
        return row

    def stop(self) -> None:
        kill_all(self.workers)


def load_of(folder: Path, n: int, seconds: float, *, task: Any = members.work, extra: Any = None) -> tuple[Any, Any]:
    """The standard load as a group, and its continuation."""
    last = seconds if extra is None else extra
    group = task.map([(index, str(folder), last) for index in range(n)], name="load")
    return group, members.noted_total(task_id="then", folder=str(folder))


@contextlib.contextmanager
def cluster(
    folder: Path,
    *,
    workers: int = 2,
    concurrency: int = 2,
    appendonly: bool = False,
    server: PrivateRedis | None = None,
    options: Sequence[str] = (),
    **settings: Any,
) -> Iterator[Cluster]:
    """A cluster for the length of a `with` block.

    Args:
        folder: Where logs and the members' files go.
        workers: Worker processes to start at once; with 0 the case starts its own.
        concurrency: Members that each runs at once.
        appendonly: Whether the server keeps its data over a kill.
        server: Another server than one of its own.
        options: More arguments for the server.
        settings: More of `backend_config`.
    """
    with contextlib.ExitStack() as stack:
        if server is None:
            server = stack.enter_context(private_redis(appendonly=appendonly, options=options))
        made = Cluster(server, folder, settings)
        stack.callback(made.stop)
        made.start(workers, concurrency=concurrency)
        yield made


def table(rows: Sequence[Row]) -> str:
    """The rows as text for a terminal."""
    head = ("case", "fault", "sub", "rec", "lost", "twice", "exec", "refused", "cont", "s to DONE", "note")

    def order(row: Row) -> tuple[int, str]:
        digits = "".join(letter for letter in row.case if letter.isdigit())
        return (int(digits or 0), row.case)

    body = [
        (
            *(row.case, row.fault),
            *("-" if count is None else str(count) for count in row.counts),
            *("-" if row.seconds is None else f"{row.seconds:.1f}", row.note),
        )
        for row in sorted(rows, key=order)
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )
