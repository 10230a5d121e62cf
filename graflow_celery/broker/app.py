"""The one place that builds Celery applications.

`app` serves `celery -A graflow_celery …`. Everything else asks `app_for(settings)`, so that a process may talk to
several deployments. Building an application connects to nothing, and its configuration is read at first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import click
from celery import Celery
from celery.backends.redis import RedisBackend
from celery.loaders.app import AppLoader

from graflow.core.task_registry import TaskResolverRegistry, default_registry
from graflow.exceptions import ConfigError
from graflow.foreign import attempt_import, import_failure
from graflow.processes.per_process import PerProcess
from graflow.redis.config import redis_url
from graflow.secret import revealed
from graflow.text.shown import printable
from graflow_celery.broker.addresses import REDIS_SCHEMES, BrokerAccess, broker_settings, result_backend_settings
from graflow_celery.broker.chord_counts import ChordClient
from graflow_celery.celeryconfig import celeryconfig
from graflow_celery.record import record_client
from graflow_celery.settings import Settings

RUN_TASK: Final = "graflow.run"
FINISH_TASK: Final = "graflow.finish"
ENTRY_TASK: Final = "graflow.entry"
FLOW_TASK: Final = "graflow.flow"

# Nothing else is ever decoded, whoever can write to the broker and whatever `celeryconfig.py` says.
ONLY_JSON: Final[Mapping[str, Any]] = {
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}
# What follows from `Settings`, which has read `celeryconfig.py`.
_DECIDED: Final = frozenset(
    {"broker_url", "broker_transport", "broker_transport_options", "result_backend", "task_default_queue"}
)
# What every application of ours is configured with besides; `celeryconfig.py` may override any of it.
DEFAULTS: Final[Mapping[str, Any]] = {
    # Outcomes are written to the group record, once; Celery keeps none.
    "task_ignore_result": True,
    # A message is acknowledged when it starts: the record, not the broker, recovers what is lost.
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    # No message in hand but those that run: what a busy worker holds, an idle one cannot take.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    # Events of a task reach monitors under the name of the member's own task.
    "task_send_sent_event": False,
    "worker_hijack_root_logger": True,
    # Members are many and small: one line of log for each is noise at INFO.
    "worker_redirect_stdouts": False,
    "enable_utc": True,
    "task_create_missing_queues": True,
}


def configuration(settings: Settings, *, results: bool = True) -> dict[str, Any]:
    """The Celery configuration that follows from settings.

    Args:
        settings: Where broker and record are, and under which names.
        results: Whether to name the Redis of record as result backend, which chords need.
    """
    broker = revealed(settings.broker_url or redis_url(settings.connection, for_celery=True))
    scheme = urlsplit(broker).scheme
    made: dict[str, Any] = {
        **ONLY_JSON,
        **DEFAULTS,
        **broker_settings(broker),
        **(result_backend_settings(settings.connection) if results else {"result_backend": "disabled://"}),
        "task_default_queue": settings.queue_name,
        "result_expires": settings.result_ttl,
        "event_queue_prefix": f"{settings.key_prefix}.events",
        "event_exchange": f"{settings.key_prefix}.events",
        "control_exchange": f"{settings.key_prefix}.control",
    }
    # Two prefixes on one server also have their queues and remote control apart.
    made.setdefault("result_backend_transport_options", {})["global_keyprefix"] = f"{settings.key_prefix}:celery:"
    if scheme in REDIS_SCHEMES:
        made["broker_transport_options"]["global_keyprefix"] = f"{settings.key_prefix}:broker:"
    else:
        # Other brokers count what is not acknowledged, so an early acknowledgement would let in one message more.
        made["worker_disable_prefetch"] = False
        made["task_acks_late"] = True
    if scheme.startswith("amqp"):
        made["task_default_queue_type"] = made["task_create_missing_queue_type"] = "quorum"
        made["worker_detect_quorum_queues"] = True
    return made


class ModuleLoader(AppLoader):
    """Imports the modules that `--include` and `imports` name."""

    def import_task_module(self, module: str) -> Any:
        """A module, imported.

        Raises:
            click.ClickException: When it cannot be, which ends the command with one line that says why.
        """

        def refuse(error: Exception | SystemExit) -> NoReturn:
            raise click.ClickException(
                printable(f"Cannot import the task module '{module}': {import_failure(module, error)}")
            ) from error

        return attempt_import(lambda: super(ModuleLoader, self).import_task_module(module), refuse)


class GraflowCelery(Celery):
    """A Celery application of one deployment.

    Attributes:
        given_settings: The settings it was built for; None for those of the environment.
        registry: Where its workers look tasks up.
        limits: Time limits of its worker, here and in the children of this process, by a member's name for them.
        pool_options: What the pool of its worker in this process was told; empty without a worker.
    """

    amqp_cls = BrokerAccess
    control_cls = "graflow_celery.broker.control:SignedControl"
    loader_cls = ModuleLoader
    given_settings: Settings | None = None
    registry: TaskResolverRegistry = default_registry()
    limits: Mapping[str, float] = MappingProxyType({})
    pool_options: Mapping[str, Any] = MappingProxyType({})

    @property
    def graflow_settings(self) -> Settings:
        """Where the record and the broker of this application are."""
        return self.given_settings or Settings.load()

    def _get_backend(self) -> Any:
        """Celery's result backend, which chords count in; nobody waits for its results, so it subscribes to none."""
        backend = super()._get_backend()
        backend.add_pending_result = lambda result, **_: result
        if isinstance(backend, RedisBackend):
            connection = self.graflow_settings.connection
            backend._create_client = lambda **_: ChordClient(record_client(connection))
        return backend


def build_app(settings: Settings | None = None, *, results: bool = True) -> GraflowCelery:
    """A Celery application for settings; those of `celeryconfig.py` and the environment when None."""
    made = GraflowCelery("graflow", set_as_current=False)
    made.given_settings = settings
    # Defaults of an application win over what its configuration module says, so both come as one.
    made.add_defaults(lambda: _defaults(settings, results=results))
    return made


def _defaults(settings: Settings | None, *, results: bool) -> dict[str, Any]:
    """What an application is configured with.

    Raises:
        ConfigError: For settings that cannot be used; a command of Celery's ends with that line instead.
    """
    try:
        return {**configuration(settings or Settings.load(), results=results), **_operators_own()}
    except ConfigError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(printable(error)) from error


def _operators_own() -> dict[str, Any]:
    """The Celery settings of `celeryconfig.py`, without those that are not its to decide."""
    module = celeryconfig()
    return {
        name: value
        for name, value in ({} if module is None else vars(module)).items()
        if name.islower()
        and not name.startswith(("_", "graflow_"))
        and name not in _DECIDED | ONLY_JSON.keys()
        and not isinstance(value, ModuleType)
    }


_apps: Final[PerProcess[tuple[str, bool], GraflowCelery]] = PerProcess()


def app_for(settings: Settings, *, results: bool = False, identity: str | None = None) -> GraflowCelery:
    """The application of this process for settings, made at first use.

    A sending application has no result backend unless asked (`results`), because Celery would otherwise subscribe to
    every message of a group that it sends.

    Args:
        settings: Where the broker is, and under which names.
        results: Whether to name a result backend.
        identity: That of the settings, where it is known.
    """
    return _apps.get((identity or settings.identity(), results), lambda: build_app(settings, results=results))


app = build_app()


def runs_eagerly(sending: Celery) -> bool:
    """Whether Celery is set to run tasks where they are sent (`task_always_eager`), as test set-ups do."""
    # Of `app` only what was said in code counts: to look it up would configure it from the environment.
    said = app.conf.task_always_eager if app.configured else app._preconf.get("task_always_eager")
    return bool(said or sending.conf.task_always_eager)
