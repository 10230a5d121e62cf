"""`TaskWorker`: a worker that is started from code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from celery.worker import state

from graflow.core.task_registry import TaskResolverRegistry, default_registry
from graflow.durations import checked_seconds
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.redis.config import redis_url
from graflow.secret import revealed
from graflow_celery.broker.app import build_app
from graflow_celery.broker.task_queue import RedisTaskQueue
from graflow_celery.celeryconfig import PARENT_VARIABLE
from graflow_celery.deployment import WORKER_TTL, deployment_of
from graflow_celery.settings import Settings
from graflow_celery.worker.celery_tasks import install
from graflow_celery.worker.main.imports import Imports, fill_registry, named_imports, whole_number
from graflow_celery.worker.main.orphans import STOP_SECONDS, reap
from graflow_celery.worker.main.pools import ThreadPool
from graflow_celery.worker.main.process import equip
from graflow_celery.worker.output import OUTPUT_VARIABLE, described_output

_START_SECONDS: Final = 30.0
_OF_ONE_GROUP: Final = {"connection", "timeout", "max_in_flight", "batch_size", "worker_wait", "on_no_worker"}
_PATH_VARIABLE: Final = "GRAFLOW_SYS_PATH"
# The worker finds modules where this process does; not by PYTHONPATH, which other Pythons would read as well.
# The command `celery` would first load all others that are installed, Flower and all, which takes a third of the time.
_BOOT: Final = f"""
import json, os, sys
sys.path[:] = json.loads(os.environ.pop("{_PATH_VARIABLE}"))
from celery.bin.base import CLIContext
from celery.bin.worker import worker
from graflow_celery import app
worker.params.extend(app.user_options["worker"])
around = CLIContext(app, no_color="NO_COLOR" in os.environ, workdir=None)
worker.main(prog_name="celery worker", obj=around, auto_envvar_prefix="CELERY_WORKER")
"""


class TaskWorker:
    """A Celery worker for the members of groups, started from code.

    Runs in a subprocess; with a `resolver_registry` in a thread of this process, because a registry cannot travel.

    Args:
        backend_config: Settings, or a `RedisTaskQueue`, whose settings count, and a registry of its own.
        queue: A queue name to consume, or a `RedisTaskQueue`.
        imports: Modules whose tasks may run, or `{resolver id: [modules]}`.
        resolver_registry: Where tasks are looked up.
        resolver_id: The resolver that `imports` are tabled in.
        concurrency: Members that run at once.
        quiet: Whether to keep back what members print and log, which else comes here with the task's name in front.

    Raises:
        ConfigError: For anything else.
    """

    def __init__(
        self,
        backend_config: Mapping[str, Any] | Settings | RedisTaskQueue | None = None,
        *,
        queue: str | RedisTaskQueue | None = None,
        imports: Imports = (),
        resolver_registry: TaskResolverRegistry | None = None,
        resolver_id: str = "default",
        concurrency: int = 1,
        quiet: bool = False,
    ) -> None:
        source = queue if isinstance(queue, RedisTaskQueue) else backend_config
        if isinstance(source, RedisTaskQueue):
            settings = source.settings
            if resolver_registry is None and source.registry is not default_registry():
                resolver_registry = source.registry
        elif source is None or isinstance(source, Mapping | Settings):
            settings = Settings.load(source)
        else:
            raise ConfigError(f"TaskWorker takes settings or a RedisTaskQueue, not a {type(source).__name__}")
        if isinstance(queue, str) and queue:
            settings = settings.consuming(queue)
        elif queue is not None and not isinstance(queue, RedisTaskQueue):
            raise ConfigError(f"queue= takes the name of a queue or a RedisTaskQueue, not {queue!r}")
        if resolver_registry is not None and not isinstance(resolver_registry, TaskResolverRegistry):
            raise ConfigError(f"resolver_registry= takes a TaskResolverRegistry, not {resolver_registry!r}")
        self.settings = settings
        self.concurrency = whole_number("concurrency", concurrency, at_least=1)
        self.name = f"graflow-{uuid.uuid4().hex[:8]}@{socket.gethostname()}"
        self._imports = named_imports(imports, resolver_id)
        self._registry = resolver_registry
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: _WorkerThread | None = None
        self._is_asked = False

    @property
    def pid(self) -> int | None:
        """The worker's main process; this process for one that runs in a thread, None when it does not run."""
        if self._process is not None:
            return self._process.pid
        return None if self._thread is None else os.getpid()

    def is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, wait: bool = True) -> Self:
        """Start the worker; one that runs already goes on.

        Args:
            wait: Whether to return only when it takes work.

        Raises:
            RecordUnreachableError: When the Redis of record does not answer.
            GraflowRuntimeError: When the worker ends, or does not take work within 30 s.
        """
        deployment = deployment_of(self.settings)
        deployment.check()
        if self.is_alive():
            pass
        elif self._registry is not None:
            fill_registry(self._registry, self._imports)
            self._thread = _WorkerThread(self.settings, self._registry, self.name, self.concurrency)
            self._thread.start()
        else:
            self._is_asked = False
            self._process = self._started()
        if wait:
            self.wait_until_ready()
        return self

    def _started(self) -> subprocess.Popen[bytes]:
        with described_output(quiet=self._quiet) as (described, descriptors):
            return subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
                self._command(),
                env={**self._environment(), OUTPUT_VARIABLE: described},
                pass_fds=descriptors,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # banner and farewell would mix with the caller's lines; logs go to stderr
            )

    def wait_until_ready(self, timeout: float = _START_SECONDS) -> None:
        """Return when the worker takes work.

        Raises:
            GraflowRuntimeError: When it has ended, or the time is over.
        """
        timeout = checked_seconds("timeout", timeout)
        record = deployment_of(self.settings).record
        end = time.monotonic() + timeout
        while not any(worker.worker_id == self.name for worker in record.live_workers(WORKER_TTL)):
            if not self.is_alive():
                raise GraflowRuntimeError(f"Worker '{self.name}' ended before it took work; its log says why")
            if time.monotonic() > end:
                self.stop(timeout=1.0)
                raise GraflowRuntimeError(f"Worker '{self.name}' took no work within {timeout:g} s")
            time.sleep(0.02)

    def _command(self) -> list[str]:
        given = [f"--graflow-import={resolver_id}={module}" for resolver_id, module in self._imports]
        return [
            *(sys.executable, "-W", "ignore:You're running the worker"),  # a root knows that it is one
            *("-c", _BOOT),
            *("--hostname", self.name, "--concurrency", str(self.concurrency), "--queues", self.settings.queue_name),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
            *given,
        ]

    def _environment(self) -> dict[str, str]:
        """The settings as environment variables, since arguments can be read by every user of the machine."""
        settings = self.settings
        found = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            "GRAFLOW_REDIS_URL": redis_url(settings.connection).reveal(),
            _PATH_VARIABLE: json.dumps([path or str(Path.cwd()) for path in sys.path]),
        }
        for name, value in settings.model_dump(exclude=_OF_ONE_GROUP, exclude_none=True).items():
            found[f"GRAFLOW_{name.upper()}"] = str(revealed(value))
        return found

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the worker's main process; after SIGKILL it is gone when this returns.

        Raises:
            GraflowRuntimeError: When it runs in a thread of this process, or not at all.
        """
        if self._process is None:
            raise GraflowRuntimeError("Only a worker in a process of its own can be sent a signal")
        self._process.send_signal(signum)
        if signum == signal.SIGKILL:
            self._process.wait()

    def ask_to_stop(self) -> None:
        """Let running members finish, then stop; `stop` waits for that."""
        if self._process is not None and self._process.poll() is None and not self._is_asked:
            # Once only: a second SIGTERM would mean not to wait for running members.
            self._is_asked = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Let running members finish, then stop; after `timeout` seconds the worker and its children are killed."""
        timeout = checked_seconds("timeout", timeout)
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.stop(timeout)
            self._thread = None
        process = self._process
        if process is None:
            return
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
        finally:
            # Also when the main process has ended: children of a killed one would live on.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            reap(process)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _WorkerThread(threading.Thread):
    """A Celery worker in a thread of this process."""

    def __init__(self, settings: Settings, registry: TaskResolverRegistry, name: str, concurrency: int) -> None:
        super().__init__(name=name, daemon=True)
        self._app = build_app(settings)
        self._app.registry = registry
        install(self._app)
        equip(self._app)
        self._hostname = name
        self._concurrency = concurrency
        self._worker: Any = None

    def run(self) -> None:
        self._app.set_current()  # in this thread: Celery looks a message's task up in the current application
        self._worker = self._app.WorkController(
            app=self._app,
            hostname=self._hostname,
            pool="solo" if self._concurrency == 1 else ThreadPool,
            concurrency=self._concurrency,
            queues=[self._app.graflow_settings.queue_name],
            without_gossip=True,
            without_mingle=True,
        )
        with suppress(SystemExit):
            self._worker.start()

    def stop(self, timeout: float) -> None:
        state.should_stop = 0
        try:
            self.join(timeout)
        finally:
            state.should_stop = None
