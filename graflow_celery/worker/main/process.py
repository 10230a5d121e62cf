"""What `celery -A graflow_celery worker` does beyond Celery."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any, Final

import redis
from celery import bootsteps, current_app, signals
from click import Option

from graflow.core.nodes.aio import end_event_loop, keep_event_loop
from graflow.core.task_registry import TaskResolverRegistry
from graflow.exceptions import ConfigError, TaskResolutionError
from graflow.hearing.streams import hear
from graflow.metrics import start_counting
from graflow.redis.config import rest_shared_clients
from graflow.runtime import set_stopping, this_runtime
from graflow.text.shown import get_logger
from graflow_celery.broker.app import GraflowCelery, app
from graflow_celery.broker.transport import rest_pools
from graflow_celery.celeryconfig import PARENT_VARIABLE
from graflow_celery.deployment import Deployment
from graflow_celery.wire.shared_payloads import forget_shared
from graflow_celery.worker.celery_tasks import catch_up, deployment_for
from graflow_celery.worker.done import members_done
from graflow_celery.worker.flows import FlowWatch, served_flows
from graflow_celery.worker.main.child_leases import ChildLeases
from graflow_celery.worker.main.forks import end_forked_processes_as_others
from graflow_celery.worker.main.housekeeping import BEAT, REST, Housekeeping
from graflow_celery.worker.main.imports import fill_registry, parse_import
from graflow_celery.worker.main.login import AccessStep, end_worker
from graflow_celery.worker.main.orphans import stop_with_parent
from graflow_celery.worker.main.pools import allow_processes, runs_threads, warn_of_soft_limits
from graflow_celery.worker.others import name_in_table
from graflow_celery.worker.output import show_members
from graflow_celery.worker.running import words_of_member

_log = get_logger(__name__)

POOL_LOOK: Final = 0.2  # seconds between looks for killed pool children
_LOOK_FOR_NAMESAKES: Final = REST + 2 * BEAT  # seconds; who was killed before this worker started is silent by then
_SHORT: Final = 0.2  # seconds without work after which a pool child closes the connections that it seldom needs,
_IDLE: Final = 3.0  # and after which it closes the one that it needs for each member
_KEY_FILE_VARIABLE: Final = "GRAFLOW_SIGNING_KEY_FILE"
_NO_MEMBERS: Final = frozenset({"celery", "graflow_celery"})  # packages that are imported for other reasons


class MembersStep(bootsteps.StartStopStep):
    """Tables tasks when the worker starts, then beats, sweeps and looks after the pool."""

    requires = ("celery.worker.components:Pool", AccessStep)

    def __init__(
        self,
        parent: Any,
        graflow_import: Sequence[str] = (),
        graflow_key_file: str | None = None,
        graflow_no_flows: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(parent, **options)
        self._entry = f"{parent.hostname} {uuid.uuid4().hex[:12]}"
        self._housekeeping: Housekeeping | None = None
        self._namesakes_due = inf
        self._children = ChildLeases()
        self._code = ""
        members_done.begin()
        try:
            start_counting(has_children=True)
        except (ConfigError, ImportError) as error:
            end_worker(error)
        if graflow_key_file:
            os.environ[_KEY_FILE_VARIABLE] = str(Path(graflow_key_file).resolve())
        of: GraflowCelery = parent.app
        given = {"time_limit": parent.time_limit, "soft_time_limit": parent.soft_time_limit}
        of.limits = {name: float(seconds) for name, seconds in given.items() if seconds}
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)  # where Celery, too, looks for what `-A` names
        named = [*(of.conf.imports or ()), *(of.conf.include or ())]
        try:
            imports = [*(parse_import(text) for text in graflow_import), *(("default", module) for module in named)]
            imports = [(name, module) for name, module in imports if module.partition(".")[0] not in _NO_MEMBERS]
            fill_registry(of.registry, imports)
        except (ConfigError, TaskResolutionError) as error:
            end_worker(error)
        self._watch: FlowWatch | None = None
        self._serves_flows = bool(served_flows()) and not graflow_no_flows
        if self._serves_flows:
            of.amqp.queues.select_add(of.graflow_settings.flow_queue_name)

    def start(self, parent: Any) -> None:
        set_stopping(False)
        warn_of_soft_limits(parent.pool, parent.app.registry)
        deployment = deployment_for(parent.app)
        deployment.runtime.interrupts = runs_threads(parent.pool)
        if runs_threads(parent.pool):
            end_forked_processes_as_others()
        keep_event_loop()
        _hear(parent.app)
        parent.app.pool_options = parent.pool.options
        self._code = _code(parent.app.registry)
        _tell_what_runs(parent.app.registry, deployment)
        self._namesakes_due = time.monotonic() + _LOOK_FOR_NAMESAKES
        if self._serves_flows:
            self._watch = FlowWatch(deployment)
            self._watch.start()
        self._housekeeping = Housekeeping(
            *(deployment, self._entry, lambda: self._describe(parent, deployment)),
            *(lambda: self._look_after(parent, deployment), parent.app.graflow_settings.sweep_interval),
        )
        self._housekeeping.start()

    def stop(self, parent: Any) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._housekeeping is not None:
            self._housekeeping.stop()
        end_event_loop()
        with suppress(redis.exceptions.RedisError, OSError):
            deployment_for(parent.app).record.workers.forget(self._entry)

    terminate = stop

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        maintain = getattr(parent.pool, "maintain_pool", None)
        if maintain is not None:
            # The death of a child is otherwise seen only after seconds.
            hub.call_repeatedly(POOL_LOOK, maintain)

    def _describe(self, parent: Any, deployment: Deployment) -> dict[str, Any]:
        """What others may know of this worker."""
        done, lost = members_done.counts()
        flows = {} if self._watch is None else self._watch.describe()
        return _describe(parent, deployment) | {"code": self._code, "done": done, "lost": lost} | flows

    def _look_after(self, parent: Any, deployment: Deployment) -> None:
        """What has to be done every second, also while no group is open."""
        stop_with_parent()
        rest_shared_clients(kept=False)  # what two threads opened at one moment
        if _reconnected.is_set() and self._housekeeping is not None:
            _reconnected.clear()
            self._housekeeping.expedite()
        catch_up()
        self._children.keep()
        if time.monotonic() >= self._namesakes_due:
            self._namesakes_due = inf
            _warn_of_namesakes(deployment, parent.hostname)


def _describe(parent: Any, deployment: Deployment) -> dict[str, Any]:
    """What others may know of this worker."""
    registry = parent.app.registry
    return {
        "slots": int(getattr(parent, "concurrency", 1) or 1),
        "queues": sorted(parent.app.amqp.queues.consume_from),
        "modules": _modules(registry),
        "tasks": sorted({name_in_table(x, name) for name in registry.ids() for x in registry.get(name).references()}),
        "keys": [] if deployment.keys is None else deployment.keys.ids,
        "pid": os.getpid(),
        "version": version("graflow-celery"),
        "from_code": PARENT_VARIABLE in os.environ,
    }


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


def _code(registry: TaskResolverRegistry) -> str:
    """By what workers with other tasks, or other sources of them, are told apart."""
    digest = hashlib.sha256()
    for name in registry.ids():
        digest.update(f"{name} {registry.get(name).digest()}\n".encode())
    for module in _modules(registry):
        digest.update((_source(module) or module).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _source(module: str) -> str | None:
    try:
        return inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError, SyntaxError):
        return None


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


def _on_shutdown(**_: object) -> None:
    set_stopping(True)


def _on_child_start(**_: object) -> None:
    allow_processes()
    end_forked_processes_as_others()
    show_members()
    _hear(current_app)
    keep_event_loop()
    signals.task_postrun.connect(_on_message_end)
    this_runtime().pacer.when_idle = ((_SHORT, _rest_in_part), (_IDLE - _SHORT, _rest))


def _hear(of: Any) -> None:
    """Keep what members print and log in this process, unless its application says otherwise."""
    if isinstance(of, GraflowCelery) and of.graflow_settings.keep_logs:
        hear(words_of_member)


def _rest_in_part() -> None:
    """A pool child without work soon holds one connection."""
    rest_shared_clients(kept=False)
    rest_pools()


def _rest() -> None:
    """Then it holds none, and nothing that groups shared."""
    forget_shared()
    rest_shared_clients()


def _on_message_end(task: Any = None, **_: object) -> None:
    """A pool child that has sent the end of a chord holds no connection to the broker for it."""
    if task is not None and task.request.chord:
        rest_pools()


def _on_child_end(**_: object) -> None:
    end_event_loop()


signals.worker_shutting_down.connect(_on_shutdown)
signals.worker_process_init.connect(_on_child_start)
signals.worker_process_shutdown.connect(_on_child_end)


def equip(worker_app: GraflowCelery) -> None:
    """Give an application what its workers need."""
    worker_app.user_options["worker"].add(
        Option(("--graflow-import",), multiple=True, metavar="[ID=]MODULE", help="Module whose tasks may run here.")
    )
    worker_app.user_options["worker"].add(
        Option(("--graflow-key-file",), metavar="FILE", help="Signing keys, one `key id:base64` per line.")
    )
    worker_app.user_options["worker"].add(
        Option(("--graflow-no-flows",), is_flag=True, help="Run no flows of the imported modules, only members.")
    )
    worker_app.steps["worker"].update({AccessStep, MembersStep})
    worker_app.steps["consumer"].add(ReconnectStep)


equip(app)
