"""Workers: what `celery -A graflow_celery worker` does beyond Celery, and `TaskWorker`, which starts one from code."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import redis
from celery import bootsteps, signals
from celery.worker import state
from click import Option

from graflow.core.task_registry import TaskResolverRegistry, default_registry
from graflow.durations import checked_seconds
from graflow.exceptions import ConfigError, GraflowRuntimeError, TaskResolutionError
from graflow.redis.config import redis_url
from graflow.runtime import set_stopping
from graflow.secret import revealed
from graflow_celery.broker.app import GraflowCelery, app, build_app
from graflow_celery.broker.task_queue import RedisTaskQueue
from graflow_celery.deployment import WORKER_TTL, Deployment, deployment_of
from graflow_celery.settings import Settings
from graflow_celery.sweeper import beat, expedite_all, sweep
from graflow_celery.worker.celery_tasks import deployment_for, install
from graflow_celery.worker.imports import Imports, fill_registry, named_imports, parse_import, whole_number
from graflow_celery.worker.login import AccessStep, end_worker
from graflow_celery.worker.orphans import PARENT_VARIABLE, STOP_SECONDS, reap, stop_with_parent
from graflow_celery.worker.pools import ThreadPool, runs_threads, warn_of_soft_limits

_log = logging.getLogger(__name__)

POOL_LOOK: Final = 0.2  # seconds between looks for killed pool children
_LOOK_FOR_NAMESAKES: Final = 4  # at which beat; what was killed before this worker started has been silent by then
BEAT: Final = 1.0  # seconds between a worker's signs of life
_KEY_FILE_VARIABLE: Final = "GRAFLOW_SIGNING_KEY_FILE"
_START_SECONDS: Final = 30.0
_OF_ONE_GROUP: Final = {"connection", "timeout", "max_in_flight", "batch_size", "worker_wait", "on_no_worker"}
_NO_MEMBERS: Final = frozenset({"celery", "graflow_celery"})  # packages that are imported for other reasons


class MembersStep(bootsteps.StartStopStep):
    """Tables tasks when the worker starts, then beats, sweeps and looks after the pool."""

    requires = ("celery.worker.components:Pool", AccessStep)

    def __init__(
        self, parent: Any, graflow_import: Sequence[str] = (), graflow_key_file: str | None = None, **options: Any
    ) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._entry = f"{parent.hostname} {uuid.uuid4().hex[:12]}"
        self._beats = 0
        if graflow_key_file:
            os.environ[_KEY_FILE_VARIABLE] = str(Path(graflow_key_file).resolve())
        of: GraflowCelery = parent.app
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)  # where Celery, too, looks for what `-A` names
        named = [*(of.conf.imports or ()), *(of.conf.include or ())]
        imports = [*(parse_import(text) for text in graflow_import), *(("default", module) for module in named)]
        imports = [(name, module) for name, module in imports if module.partition(".")[0] not in _NO_MEMBERS]
        try:
            fill_registry(of.registry, imports)
        except TaskResolutionError as error:
            end_worker(error)

    def start(self, parent: Any) -> None:
        set_stopping(False)
        warn_of_soft_limits(parent.pool, parent.app.registry)
        deployment = deployment_for(parent.app)
        deployment.runtime.interrupts = runs_threads(parent.pool)
        _tell_what_runs(parent.app.registry, deployment)
        self._spawn("graflow-beat", lambda: self._beat(parent, deployment), BEAT)
        interval = parent.app.graflow_settings.sweep_interval
        self._spawn("graflow-sweep", lambda: self._sweep(deployment, interval), interval)

    def stop(self, parent: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=1.0)
        with suppress(redis.exceptions.RedisError, OSError):
            deployment_for(parent.app).record.workers.forget(self._entry)

    terminate = stop

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        maintain = getattr(parent.pool, "maintain_pool", None)
        if maintain is not None:
            # The death of a child is otherwise seen only after seconds.
            hub.call_repeatedly(POOL_LOOK, maintain)

    def _spawn(self, name: str, call: Callable[[], object], interval: float) -> None:
        def repeat() -> None:
            while True:
                try:
                    call()
                except (redis.exceptions.RedisError, GraflowRuntimeError, OSError) as error:
                    _log.warning("%s: %s: %s", name, type(error).__name__, error)
                if self._stop.wait(interval):
                    return

        thread = threading.Thread(target=repeat, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _beat(self, parent: Any, deployment: Deployment) -> None:
        stop_with_parent()
        registry = parent.app.registry
        resolvers = [registry.get(name) for name in registry.ids()]
        info = {
            "slots": int(getattr(parent, "concurrency", 1) or 1),
            "queues": sorted(parent.app.amqp.queues.consume_from),
            "modules": _modules(registry),
            "digest": "-".join(resolver.digest() for resolver in resolvers),
            "keys": [] if deployment.keys is None else deployment.keys.ids,
            "pid": os.getpid(),
        }
        beat(deployment, self._entry, info)
        self._beats += 1
        if self._beats == _LOOK_FOR_NAMESAKES:
            _warn_of_namesakes(deployment, parent.hostname)

    @staticmethod
    def _sweep(deployment: Deployment, interval: float) -> None:
        if _reconnected.is_set():
            expedite_all(deployment)
            _reconnected.clear()
        sweep(deployment, interval)


def _warn_of_namesakes(deployment: Deployment, name: str) -> None:
    """Log that remote control and monitors take this worker and another one for the same."""
    alike = [w for w in deployment.record.live_workers(2 * BEAT) if w.worker_id == name]
    others = ", ".join(str(worker.info.get("pid")) for worker in alike if worker.info.get("pid") != os.getpid())
    if len(alike) > 1:
        _log.warning(
            "%d workers are called '%s' (the other's pid: %s): each works, but Flower and `celery inspect` show them "
            "as one; start each with a name of its own, such as --hostname second@%%h",
            *(len(alike), name, others or "the same"),
        )


def _modules(registry: TaskResolverRegistry) -> list[str]:
    return sorted({module for name in registry.ids() for module in registry.get(name).modules})


def _tell_what_runs(registry: TaskResolverRegistry, deployment: Deployment) -> None:
    modules, keys = _modules(registry), deployment.keys
    if not modules and keys is None:
        _log.warning("This worker can run no member: it has neither modules (--graflow-import) nor a signing key")
        return
    _log.info(
        "Runs the tasks of %s; signing keys: %s",
        ", ".join(modules) or "no module",
        "none" if keys is None else ", ".join(keys.ids),
    )


_reconnected: Final = threading.Event()


class ReconnectStep(bootsteps.StartStopStep):
    """Notes that the line to the broker was broken: a message that was on its way is lost."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        if parent.restart_count > 0:
            _reconnected.set()


def _on_shutdown(**_: Any) -> None:
    set_stopping(True)


signals.worker_shutting_down.connect(_on_shutdown)


def equip(worker_app: GraflowCelery) -> None:
    """Give an application what its workers need."""
    worker_app.user_options["worker"].add(
        Option(("--graflow-import",), multiple=True, metavar="[ID=]MODULE", help="Module whose tasks may run here.")
    )
    worker_app.user_options["worker"].add(
        Option(("--graflow-key-file",), metavar="FILE", help="Signing keys, one `key id:base64` per line.")
    )
    worker_app.steps["worker"].update({AccessStep, MembersStep})
    worker_app.steps["consumer"].add(ReconnectStep)


equip(app)


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
            settings = settings.model_copy(update={"queue": queue})
        elif queue is not None and not isinstance(queue, RedisTaskQueue):
            raise ConfigError(f"queue= takes the name of a queue or a RedisTaskQueue, not {queue!r}")
        if resolver_registry is not None and not isinstance(resolver_registry, TaskResolverRegistry):
            raise ConfigError(f"resolver_registry= takes a TaskResolverRegistry, not {resolver_registry!r}")
        self.settings = settings
        self.concurrency = whole_number("concurrency", concurrency, at_least=1)
        self.name = f"graflow-{uuid.uuid4().hex[:8]}@{socket.gethostname()}"
        self._imports = named_imports(imports, resolver_id)
        self._registry = resolver_registry
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
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
                self._command(),
                env=self._environment(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # banner and farewell would mix with the caller's lines; logs go to stderr
            )
        if wait:
            self.wait_until_ready()
        return self

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
            *("-m", "celery", "-A", "graflow_celery", "worker"),
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
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        for name, value in settings.model_dump(exclude=_OF_ONE_GROUP, exclude_none=True).items():
            found[f"GRAFLOW_{name.upper()}"] = str(revealed(value))
        return found

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the worker's main process.

        Raises:
            GraflowRuntimeError: When it runs in a thread of this process, or not at all.
        """
        if self._process is None:
            raise GraflowRuntimeError("Only a worker in a process of its own can be sent a signal")
        self._process.send_signal(signum)

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
