"""Whether record and broker let a worker in: one that is refused says so once and ends."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import redis
from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.worker import state
from kombu.exceptions import KombuError

from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.processes.forks import between_forks
from graflow.redis.config import shared_client
from graflow.redis.diagnosis import why_unreachable
from graflow.secret import revealed
from graflow.text.shown import get_logger
from graflow_celery.broker.addresses import REDIS_SCHEMES, given_broker
from graflow_celery.broker.app import GraflowCelery
from graflow_celery.broker.task_queue import connect_once
from graflow_celery.deployment import refusal
from graflow_celery.errors import AccessRefusedError, BrokerUnreachableError, RecordUnreachableError
from graflow_celery.record import CONNECT_SECONDS
from graflow_celery.settings import Settings
from graflow_celery.worker.celery_tasks import deployment_for

_log = get_logger(__name__)

_LOOK: Final = 1.0  # seconds between looks for a server that did not answer
_NOT_THERE: Final = (
    RecordUnreachableError,
    BrokerUnreachableError,
    redis.exceptions.RedisError,
    KombuError,
    AMQPError,
    OSError,
)

_LAST_WORDS: Final = "This worker ends: %s"

_Door = Callable[[], object]


class AccessStep(bootsteps.StartStopStep):
    """Ends a worker that is refused by record or broker, or set up wrongly; waits for what does not answer yet."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: object, **options: object) -> None:
        super().__init__(parent, **options)
        self._stop = threading.Event()

    def start(self, parent: Any) -> None:
        try:
            closed = [deployment_for(parent.app).check, *_broker_doors(parent.app)]
            why: list[Exception] = []
            closed = [door for door in closed if not _enter(door, why)]
        except (AccessRefusedError, ConfigError) as error:
            end_worker(error)
        for told in why:
            _log.warning("This worker waits: %s", told)
        if closed:
            threading.Thread(target=self._keep_asking, args=(closed,), name="graflow-access", daemon=True).start()

    def stop(self, parent: object) -> None:  # noqa: ARG002 - Celery passes it
        self._stop.set()

    terminate = stop

    def _keep_asking(self, closed: list[_Door]) -> None:
        while closed and not self._stop.wait(_LOOK):
            try:
                with between_forks():
                    closed = [door for door in closed if not _enter(door, [])]
            except (AccessRefusedError, ConfigError) as error:
                _log.critical(_LAST_WORDS, error)
                state.should_stop = EX_FAILURE
                return


def end_worker(error: Exception) -> NoReturn:
    """End a worker that cannot start, with a line that says why."""
    cause = error.__cause__
    # What a module raised while it was imported needs its traceback; of all else the line says everything.
    is_raised_inside = not isinstance(cause, ModuleNotFoundError) and _comes_from_import(cause)
    _log.critical(_LAST_WORDS, error, exc_info=is_raised_inside)
    raise WorkerShutdown(EX_FAILURE) from None


def _comes_from_import(error: BaseException | None) -> bool:
    trace = None if error is None else error.__traceback__
    return any(frame.f_globals.get("__name__") == "importlib" for frame, _ in traceback.walk_tb(trace))


def _enter(door: _Door, why: list[Exception]) -> bool:
    """Whether a server has let us in; False when it does not answer, for the reason that is added.

    Raises:
        AccessRefusedError: When it answers, and does not.
    """
    try:
        door()
    except AccessRefusedError:
        raise
    except _NOT_THERE as error:
        if isinstance(error, GraflowRuntimeError):  # others may repeat a URL with its password
            why.append(error)
        return False
    return True


def _broker_doors(of: GraflowCelery) -> list[_Door]:
    """How to log in to a broker that is not the Redis of record."""
    settings: Settings = of.graflow_settings
    broker = revealed(settings.broker_url or "")
    scheme = urlsplit(broker).scheme
    if scheme in REDIS_SCHEMES:
        with suppress(ConfigError):
            return [partial(_enter_redis, given_broker(broker), settings)]
    return [partial(_enter_amqp, of)] if scheme.startswith("amqp") else []


def _enter_redis(broker: dict[str, Any], settings: Settings) -> None:
    client = shared_client({"socket_connect_timeout": CONNECT_SECONDS, **broker})
    try:
        connect_once(client)
        with suppress(redis.exceptions.NoPermissionError):
            client.ping()  # where no password was given, the first command is what is refused
    except (redis.exceptions.RedisError, OSError) as error:
        refused = refusal("The broker", broker, error, settings.broker_said)
        if refused is None:
            raise BrokerUnreachableError(why_unreachable("The broker", broker, error, settings.broker_said)) from error
        raise AccessRefusedError(refused) from None


def _enter_amqp(of: GraflowCelery) -> None:
    with of.connection_for_read() as connection:
        try:
            # Once: `connect` of kombu would try again.
            connection.transport.close_connection(connection.transport.establish_connection())
        except (AccessRefused, NotAllowed):
            raise AccessRefusedError(
                f"The broker at {connection.as_uri()} refuses the username, the password or the virtual host; "
                f"correct {of.graflow_settings.said('broker_url')}"
            ) from None
