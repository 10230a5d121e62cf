"""Groups without pause, faults without pause, then a quiet end: nothing lost, nothing counted twice, no worker gone.

python -m tests.faults.soak [--seconds 1800] [--seed N] [--brokers Redis RabbitMQ Sentinel]

Each broker that is here has its turn: the Redis of record, RabbitMQ, and Sentinels that watch it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from graflow.redis.refusals import REFUSALS
from graflow_celery import RecordFullError
from tests import rabbit_support
from tests.faults import members, sentinels
from tests.faults.harness import ROWS, Cluster, Group, Worker, cluster
from tests.faults.refusing_line import RefusingProxy, refusing_line_to
from tests.faults.sentinels import watched
from tests.rabbit_support import PrivateRabbit
from tests.support import PrivateRedis, pass_time, private_redis, wait_until

_WORKERS = 2
_SUBMITTERS = 2
_PATIENCE = 150.0  # seconds that a group may take, whatever happens meanwhile
_BROKERS = ("Redis", "RabbitMQ", "Sentinel")
_TASKS = (members.work, members.work, members.talkative)


class Soak:
    """One turn: a cluster, lines to it that can be refused, and what has come of it so far.

    Args:
        running: The cluster, with its workers.
        lines: Through which each side reaches its server.
        seed: Of all that is left to chance.
        failover: Has another server take over; done once, and then the server has no other faults.
    """

    def __init__(
        self,
        running: Cluster,
        lines: dict[str, RefusingProxy],
        seed: int,
        failover: Callable[[], object] | None = None,
    ) -> None:
        self.running = running
        self.lines = lines
        self.chance = random.Random(seed)
        self.seed = seed
        self._failover = failover  # instead of faults of a server of which nobody else decides
        self.faults: Counter[str] = Counter()
        self.groups: list[tuple[Group, float]] = []
        self.problems: list[str] = []
        self.refused = 0  # submissions, which were made again
        self._killed: set[int] = set()
        self._counted = len(ROWS)  # of the turns before this one
        self._over = threading.Event()

    # -- the load --------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """All of it, until everything that was begun has ended."""
        threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(_SUBMITTERS)]
        for thread in threads:
            thread.start()
        try:
            self._make_trouble(seconds)
        finally:
            self._over.set()
            for line in self.lines.values():
                line.heal()
            while any(thread.is_alive() for thread in threads):
                self._supervise()
                pass_time(0.2)

    def _make_trouble(self, seconds: float) -> None:
        begun, named = time.monotonic(), list(self._possible().items())
        while (passed := time.monotonic() - begun) < seconds:
            if self._failover is not None and passed > seconds / 2:
                self.faults["failover"] += 1
                self._failover()
                self._failover = None
            name, fault = self.chance.choice(named)
            self.faults[name] += 1
            fault()
            self._supervise()
            pass_time(self.chance.uniform(0.3, 2.0))

    def _submit(self, number: int) -> None:
        chance = random.Random(self.seed * 100 + number)
        while not self._over.is_set():
            n, seconds = chance.choice([(1, 0.3), (5, 0.3), (20, 0.1), (60, 0.02), (150, 0.01)])
            self._one_group(chance.choice(_TASKS), n, seconds, then=chance.random() < 0.4)

    def _one_group(self, task: object, n: int, seconds: float, *, then: bool) -> None:
        run_id, begun = uuid.uuid4().hex, time.monotonic()
        try:
            group = self._submitted(run_id, begun, task=task, n=n, seconds=seconds, then=then)
            self.running.finish("soak", run_id, group, time.time(), timeout=_PATIENCE)
            self.groups.append((group, time.monotonic() - begun))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            places = [f"{Path(each.filename).name}:{each.lineno}" for each in frames if "/graflow" in each.filename]
            told = f"{type(error).__name__}: {str(error)[:300]} at {' '.join(places[-6:])}"
            self.problems.append(f"{n} members, run {run_id}: {told}")
            pass_time(1.0)

    def _submitted(self, run_id: str, begun: float, **load: object) -> Group:
        while True:
            try:
                return self.running.submit(**load, run_id=run_id)  # type: ignore[arg-type]
            except (ConnectionError, RecordFullError):
                # Refused whole; the same again is the same run.
                self.refused += 1
                if time.monotonic() - begun > _PATIENCE:
                    raise
                pass_time(0.3)

    # -- the faults ------------------------------------------------------------------------------------------------

    def _possible(self) -> dict[str, Callable[[], object]]:
        found: dict[str, Callable[[], object]] = {}
        for code in REFUSALS:
            for who, line in self.lines.items():
                found[f"{code} to {who}"] = lambda line=line, code=code: self._refuse(code, line)  # type: ignore[misc]
            found[f"{code} to all"] = lambda code=code: self._refuse(code, *self.lines.values())  # type: ignore[misc]
        for who, line in self.lines.items():
            found[f"{who} cut off"] = lambda line=line: self._for_a_while(line.reset, line.heal)  # type: ignore[misc]
            found[f"silence to {who}"] = lambda line=line: self._for_a_while(line.black_hole, line.heal)  # type: ignore[misc]
            found[f"replies to {who} lost"] = lambda line=line: line.lose_replies(3, b"EVALSHA")  # type: ignore[misc]
        return found | {
            "a worker killed": lambda: self._kill(signal.SIGKILL),
            "a worker told to stop": lambda: self._kill(signal.SIGTERM),
            "a pool child killed": self._kill_child,
            "a worker frozen": self._freeze,
            **({} if self._failover is not None else self._of_the_server()),
        }

    def _of_the_server(self) -> dict[str, Callable[[], object]]:
        server = self.running.server

        def told(*command: str) -> Callable[[], object]:
            return lambda: _tell(server, *command)

        def set_to(name: str, value: str) -> Callable[[], object]:
            return told("CONFIG", "SET", name, value)

        def busy() -> object:
            with contextlib.suppress(redis.exceptions.RedisError):
                server.client().eval("local n = 0 while n < 4e7 do n = n + 1 end return n", 0)
            return _tell(server, "PING")

        frozen = lambda: server.kill(signal.SIGSTOP), lambda: server.kill(signal.SIGCONT)
        return {
            "out of memory": lambda: self._for_a_while(set_to("maxmemory", "1"), set_to("maxmemory", "0")),
            "too few replicas": lambda: self._for_a_while(
                set_to("min-replicas-to-write", "1"), set_to("min-replicas-to-write", "0")
            ),
            "a replica for a while": lambda: self._for_a_while(
                told("REPLICAOF", "127.0.0.1", "1"), told("REPLICAOF", "NO", "ONE")
            ),
            "busy with a script": busy,
            "the server killed, with its data": server.restart,
            "the server frozen": lambda: self._for_a_while(*frozen),
        }

    def _for_a_while(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        begin()
        try:
            pass_time(self.chance.uniform(1.0, 6.0))
        finally:
            end()

    def _refuse(self, code: str, *lines: RefusingProxy) -> None:
        def set_to(value: str | None) -> None:
            for line in lines:
                line.code = value

        self._for_a_while(lambda: set_to(code), lambda: set_to(None))

    def _kill(self, number: int) -> None:
        worker = self.chance.choice(self.running.workers)
        self._killed.add(worker.pid)
        worker.signal_all(number) if number == signal.SIGKILL else worker.signal(number)

    def _kill_child(self) -> None:
        children = self.chance.choice(self.running.workers).children()
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(children), signal.SIGKILL)

    def _freeze(self) -> None:
        worker = self.chance.choice(self.running.workers)
        self._for_a_while(lambda: worker.signal_all(signal.SIGSTOP), lambda: worker.signal_all(signal.SIGCONT))

    def _supervise(self) -> None:
        """Start workers in the place of those that have ended, and note those that nobody has told to."""
        for worker in list(self.running.workers):
            if worker.process.poll() is not None:
                self.running.workers.remove(worker)
                if worker.pid not in self._killed:
                    self.problems.append(f"A worker has ended by itself: {_last_words(worker)}")
        missing = _WORKERS - len(self.running.workers)
        if missing > 0:
            self.running.start(missing, wait=False)

    def note_open_groups(self) -> None:
        """Wait for the end of all groups; those that do not end are problems."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.running.record.open_groups(), 60)
        self.problems += [f"Run {run_id} is still open" for run_id in self.running.record.open_groups()]

    def report(self, name: str) -> str:
        """What came of it, in lines."""
        members_ = sum(group.n for group, _ in self.groups)
        executions = sum(group.count("started") for group, _ in self.groups)
        slowest = max((seconds for _, seconds in self.groups), default=0.0)
        refused = sum(line.refused for line in self.lines.values())
        rows = ROWS[self._counted :]
        lines = [
            f"{name}, seed {self.seed}: {self.faults.total()} faults of {len(self.faults)} kinds",
            f"  {refused} commands refused, {self.refused} submissions made again",
            f"  {len(self.groups)} groups of {members_} members, {executions} executions, slowest {slowest:.0f} s",
            f"  lost {sum(row.lost or 0 for row in rows)}, counted twice {sum(row.twice or 0 for row in rows)}",
            f"  problems: {len(self.problems)}",
            f"  {dict(sorted(self.faults.items()))}",
            *(f"  {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def _tell(server: PrivateRedis, *command: str) -> None:
    """Send a command of the soak's own, as often as it takes: a server that is busy with a script refuses it."""

    def is_done() -> bool:
        with contextlib.suppress(redis.exceptions.RedisError):
            server.client().execute_command(*command)
            return True
        return False

    wait_until(is_done, 120, f"the server takes {' '.join(command)}", interval=0.1)


def _last_words(worker: Worker) -> str:
    told = [line for line in worker.log.splitlines() if "rror" in line]
    return " | ".join(told[-3:])[-600:]


# -- the turns ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _on_redis(folder: Path, seed: int, **settings: object) -> Iterator[Soak]:
    options = ("--busy-reply-threshold", "300")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(private_redis(appendonly=True, options=options))
        lines = {
            who: stack.enter_context(refusing_line_to("127.0.0.1", server.port)) for who in ("workers", "submitters")
        }
        running = stack.enter_context(cluster(folder, workers=0, server=server, **settings))
        running.worker_url = f"redis://127.0.0.1:{lines['workers'].port}/0"
        running.submit_url = f"redis://127.0.0.1:{lines['submitters'].port}/0"
        running.start(_WORKERS)
        yield Soak(running, lines, seed)


@contextlib.contextmanager
def _on_rabbit(folder: Path, seed: int) -> Iterator[Soak]:
    broker = PrivateRabbit()
    try:
        broker.start()
        with _on_redis(folder, seed, broker_url=broker.url) as made:
            yield made
    finally:
        broker.stop()


@contextlib.contextmanager
def _on_sentinels(folder: Path, seed: int) -> Iterator[Soak]:
    """Without lines in between, since the Sentinels name the servers themselves."""
    with watched(folder) as servers, cluster(folder, workers=0, server=servers.master) as running:
        running.worker_url = running.submit_url = servers.url

        def failover() -> None:
            servers.master.kill()
            servers.wait_for_promotion()
            running.server = servers.replica

        running.start(_WORKERS)
        yield Soak(running, {}, seed, failover)


_Turn = Callable[[Path, int], contextlib.AbstractContextManager[Soak]]


def _turns() -> dict[str, _Turn]:
    """What each broker that is on this machine is tried with."""
    possible: dict[str, tuple[_Turn, object]] = {
        "Redis": (_on_redis, "always"),
        "RabbitMQ": (_on_rabbit, rabbit_support.PROGRAM),
        "Sentinel": (_on_sentinels, sentinels.PROGRAM),
    }
    return {name: turn for name, (turn, program) in possible.items() if program is not None}


def main() -> int:
    """Run every turn; 1 when anything was lost, counted twice, or ended by itself."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1800.0)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options.add_argument("--brokers", nargs="+", choices=_BROKERS, default=_BROKERS)
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    turns, is_good = {name: turn for name, turn in _turns().items() if name in given.brokers}, True
    missing = ", ".join(name for name in given.brokers if name not in turns) or "none"
    print(f"seed {given.seed}; turns: {', '.join(turns)}; not on this machine: {missing}", flush=True)
    for name, turn in turns.items():
        with (
            tempfile.TemporaryDirectory(prefix="graflow-soak-") as folder,
            turn(Path(folder), given.seed + _BROKERS.index(name)) as soak,
        ):
            soak.run(given.seconds / len(turns))
            soak.note_open_groups()
            print(soak.report(name), flush=True)
        is_good = is_good and not soak.problems
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
