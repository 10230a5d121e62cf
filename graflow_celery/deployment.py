"""One deployment as this process sees it: its settings, its record, its queue, its keys, its tasks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import redis.sentinel

from graflow.configuration.document import Document
from graflow.configuration.finding import document
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry, default_registry
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.processes.per_process import PerProcess
from graflow.redis.config import connection_of, shared_client
from graflow.redis.diagnosis import why_unreachable
from graflow.redis.refusals import RefusedForNowError, in_a_word, unreachable
from graflow.redis.sentinels import refusing_sentinels
from graflow.runtime import this_runtime
from graflow.secret import Secret, revealed
from graflow.signing import KEY_FILE_VARIABLE, SigningKeys
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.broker.addresses import CLUSTER_REFUSED, REDIS_SCHEMES, broker_connection, given_broker
from graflow_celery.broker.app import configuration
from graflow_celery.broker.paces import Paces
from graflow_celery.broker.publisher import MemberPublisher
from graflow_celery.broker.task_queue import RedisTaskQueue, connect_once
from graflow_celery.celeryconfig import celeryconfig
from graflow_celery.errors import AccessRefusedError, BrokerUnreachableError, RecordUnreachableError
from graflow_celery.record import CONNECT_SECONDS, GroupRecord, WorkerInfo, check_rights, check_server, record_client
from graflow_celery.settings import GroupOptions, ServerSettings, Settings, said_in
from graflow_celery.wire.shared_payloads import SharedPayloads

_log = get_logger(__name__)
_WORKERS_KNOWN_FOR: Final = 0.5
_IN_A_SCRIPT: Final = "ACL failure in script"
_PAUSE: Final = 0.2  # seconds between two calls of a record that does not answer
WORKER_TTL: Final = 4.0  # seconds without a beat after which a worker process is not counted any more


@dataclass(frozen=True)
class Patience:
    """Seconds that a server which does not answer is waited for.

    Attributes:
        waiter: By whoever waits for a group, or has to know that a run is still its own.
        member: By a message that claims members, and by a member for a group inside it; then the sweeper is left to it.
        last: By a worker that shuts down, and by one whose child is gone; then the lease decides.
    """

    waiter: float = 300.0
    member: float = 30.0
    last: float = 10.0


class Deployment:
    """What is needed to open, run and read groups, whatever options these have.

    Args:
        settings: Where and under which names.
        registry: Where tasks become envelopes and back.
        patience: How long servers that do not answer are waited for.

    Attributes:
        limits: What an operator set for all members of this worker, by the name of the member's own option.
    """

    limits: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self, settings: Settings, registry: TaskResolverRegistry | None = None, *, patience: Patience | None = None
    ) -> None:
        self.settings: ServerSettings = settings
        self.patience = patience or Patience()
        self.registry = registry or default_registry()
        self.runtime = this_runtime()
        self.keys: SigningKeys | None = settings.keys
        self.connection = {"socket_connect_timeout": CONNECT_SECONDS, **settings.connection}
        self.client: redis.Redis = record_client(settings.connection)
        self.record = GroupRecord(self.client, settings.key_prefix, signing_keys=self.keys)
        self.shared_payloads = SharedPayloads(self.record, self.runtime)
        self.publisher = MemberPublisher(settings)
        self.paces = Paces()
        self.queue = RedisTaskQueue(backend_config=settings, resolver_registry=self.registry)
        self._is_checked = self._may_work = False
        self._place = _place_of(settings)
        self._seen_workers: tuple[float, list[WorkerInfo]] = (-1.0, [])

    def resolver(self, resolver_id: str = "default") -> TaskResolver:
        """The resolver with that id, signing and verifying with the keys of this deployment."""
        found = self.registry.get(resolver_id)
        return found if self.keys is None else found.with_keys(self.keys)

    def sending_resolver(self) -> TaskResolver:
        """The resolver that puts tasks into envelopes for the workers that there are.

        Workers that this program, or its cluster, started from code find modules where the program does, so a task of a
        module that they were not given can go to them by value.
        """
        found = self.resolver()
        if self.keys is None:
            return found
        self.check()
        with self.errors():
            alive = self.workers()
        key = self.keys.ids[0]
        if not alive or not all(w.info.get("from_code") and key in w.info.get("keys", ()) for w in alive):
            return found
        return found.sending_to(frozenset.intersection(*(frozenset(w.info.get("modules", ())) for w in alive)))

    @property
    def runs_eagerly(self) -> bool:
        """Whether members run in the process that sends them, because Celery's `task_always_eager` is set."""
        return self.publisher.runs_eagerly

    def check_not_gone(self) -> None:
        """Raise `RecordUnreachableError` at once when the record is gone for good."""
        why = _gone.get(self._place)
        if why is not None:
            raise RecordUnreachableError(why)

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration names the Redis of record."""
        return connection_of(config) == connection_of(self.settings.connection)

    def check(self, *, works: bool = True) -> None:
        """Make sure, once, that the Redis of record answers and can hold the record.

        Args:
            works: Whether groups are opened or run here, which takes more rights than looking at them.

        Raises:
            RecordUnreachableError: When it does not answer within about 1.5 s.
            AccessRefusedError: When it refuses us.
            BrokerUnreachableError: When a broker that is another Redis refuses us.
            ConfigError: When it cannot hold the record, the user may not write it, the broker is a Redis Cluster, or
                Celery lacks what it needs to talk to the broker.
        """
        if works and not self._may_work:
            self.check(works=False)
            with self.errors():
                check_rights(self.client, self.settings.key_prefix, is_broker=not self.settings.broker_url)
            self._may_work = True
        if self._is_checked:
            return
        with self.errors():
            connect_once(self.client)
            check_server(self.client)
        configuration(self.publisher.settings)  # says what is wrong with the broker before anything is written
        self._check_broker()
        self._is_checked = True

    def _check_broker(self) -> None:
        """Raise at once what would otherwise come after seconds or tries; a broker that does not answer is left."""
        broker = revealed(self.settings.broker_url or "")
        if not broker:
            return
        try:
            _ = self.publisher.app.connection_for_write().transport
        except (ImportError, NameError) as error:  # kombu's modules also fail on names of what they could not import
            scheme = broker.partition("://")[0]
            raise ConfigError(
                f"Celery cannot load its transport for {scheme}:// ({error}); is its package installed?"
            ) from error
        if urlsplit(broker).scheme in REDIS_SCHEMES:
            self._check_redis_broker(broker)

    def _check_redis_broker(self, broker: str) -> None:
        found: dict[str, Any] = {}
        client = shared_client(
            {"socket_connect_timeout": CONNECT_SECONDS, **broker_connection(broker)}, decode_responses=True
        )
        try:
            connect_once(client)
            found = dict(client.info("cluster"))
        except (redis.exceptions.RedisError, OSError) as error:
            refused = refusal("The broker", given_broker(broker), error, self.settings.broker_said)
            if refused is not None:
                raise BrokerUnreachableError(refused) from _without_text(error)
        if found.get("cluster_enabled"):
            raise ConfigError(CLUSTER_REFUSED)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors of the Redis client as ours, with the server's name and without secrets."""
        self.check_not_gone()
        try:
            yield
        except GraflowRuntimeError:
            raise
        except RefusedForNowError as error:
            raise RecordUnreachableError(self._why_unreachable(error)) from error
        except unreachable() as error:
            refused = refusal("The Redis of record", self.settings.connection, error, self.settings.said)
            if refused is not None:
                raise AccessRefusedError(refused) from _without_text(error)
            raise RecordUnreachableError(self._why_unreachable(error)) from _without_text(error)
        except (redis.exceptions.InvalidResponse, UnicodeDecodeError) as error:
            raise RecordUnreachableError(self._why_unreachable(error)) from _without_text(error)
        except redis.exceptions.NoPermissionError as error:
            raise ConfigError(f"The user of the Redis at {self.settings.server} may not do this: {error}") from error
        except redis.exceptions.ResponseError as error:
            if _IN_A_SCRIPT in str(error):
                raise ConfigError(
                    f"The user of the Redis at {self.settings.server} may not do this: {error}"
                ) from error
            if "DB index" not in str(error):
                raise
            raise ConfigError(
                f"The Redis of record at {self.settings.server} has no database of that number"
            ) from error

    def _why_unreachable(self, error: BaseException) -> str:
        return why_unreachable("The Redis of record", self.settings.connection, error, self.settings.said)

    def wait_out(self, error: BaseException, silent: float, *, run_id: str, why: str, over: str) -> None:
        """Wait a little for a record that does not answer.

        Args:
            error: What its client raised.
            silent: Seconds since it answered last.
            run_id: The run that waits.
            why: What for, as a clause that begins with `to`.
            over: What there is to say when patience is over.

        Raises:
            RecordUnreachableError: When it has not answered for as long as `patience.waiter`.
        """
        server = self.settings.server
        if silent > self.patience.waiter:
            raise RecordUnreachableError(
                f"The Redis of record at {server} has not answered for {silent:.0f} s: {over}"
            ) from None
        if is_news(("record", server, self.settings.key_prefix)):
            _log.warning("Run %s waits for the Redis of record at %s (%s) %s", run_id, server, in_a_word(error), why)
        self.runtime.sleep(_PAUSE)

    def live_workers(self) -> list[WorkerInfo]:
        """Workers that have beaten lately, whatever they consume; looked up at most twice a second."""
        looked, found = self._seen_workers
        if self.runtime.monotonic() - looked > _WORKERS_KNOWN_FOR:
            found = self.record.live_workers(WORKER_TTL)
            self._seen_workers = (self.runtime.monotonic(), found)
        return found

    def workers(self, queue: str | None = None) -> list[WorkerInfo]:
        """Live workers that consume a queue, that of the settings when None."""
        wanted = queue or self.settings.queue_name
        return [worker for worker in self.live_workers() if wanted in worker.info.get("queues", ())]

    def slots(self) -> int:
        """Members that the live workers can run at once; a guess when none is known yet."""
        return sum(int(worker.info.get("slots", 1)) for worker in self.workers()) or (os.cpu_count() or 1)


def refusal(what: str, connection: Mapping[str, Any], error: BaseException, said: Callable[[str], str]) -> str | None:
    """Who refuses our username or password, in words, when that is why a server cannot be reached.

    Args:
        what: The server's part.
        connection: Its connection keys as they were given.
        error: What its client raised.
        said: How the caller calls a connection key.
    """
    if isinstance(error, redis.exceptions.AuthenticationError):
        return why_unreachable(what, connection, error, said)
    unknown = isinstance(error, redis.sentinel.MasterNotFoundError)
    refusing = refusing_sentinels(shared_client(connection)) if unknown else ()
    if not refusing:
        return None
    return (
        f"{what} cannot be found: Sentinel {', '.join(refusing)} refuses the username or password "
        "(sentinel_username, sentinel_password)"
    )


def _without_text(error: BaseException) -> BaseException:
    """The same kind of error without its text, which may repeat a URL with a password."""
    try:
        return type(error)()
    except TypeError:
        return ConnectionError()


_gone: Final[dict[str, str]] = {}  # why records are gone for good, by their place


def _place_of(settings: Settings) -> str:
    """What all deployments over one record have in common."""
    return hashlib.sha256(f"{settings.key_prefix}|{settings.redis_url.reveal()}".encode()).hexdigest()


def note_gone(settings: Settings, why: str | None) -> None:
    """Note why a record is gone for good, so that nobody waits for it; None when it is there, perhaps again."""
    if why is None:
        _gone.pop(_place_of(settings), None)
    else:
        _gone[_place_of(settings)] = why


def _print_of(keys: SigningKeys | None) -> str:
    """What tells keys from others of the same ids, without showing them."""
    return "" if keys is None else repr(keys.derive("fingerprint", bound_to=()))


_deployments: Final[PerProcess[str, Deployment]] = PerProcess()


def deployment_of(config: Mapping[str, Any] | Settings | None = None, *, strict: bool = True) -> Deployment:
    """The deployment that a `backend_config` names; one per process and set of servers, names and keys.

    Raises:
        ConfigError: For unknown keys and values that do not fit.
    """
    return connected(config, strict=strict)[0]


def connected(
    config: Mapping[str, Any] | Settings | None = None, *, strict: bool = True
) -> tuple[Deployment, GroupOptions]:
    """`deployment_of`, with what the configuration says of a group."""
    key, settings, options = _settled(config, strict=strict)
    return _deployments.get(key, lambda: Deployment(settings)), options


_Settled = tuple[str, Settings, GroupOptions]
_Said = tuple[tuple[str, type, Any], ...]
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def _settled(config: Mapping[str, Any] | Settings | None, *, strict: bool) -> _Settled:
    """What a configuration comes to; remembered where all that is said of it is plain."""
    given = _said({} if config is None else config)
    module = celeryconfig()
    configured = _said({} if module is None else said_in(module))
    if given is None or configured is None or KEY_FILE_VARIABLE in os.environ:
        return _settle(Settings.load(config, strict=strict))
    around = tuple((name, os.environ[name]) for name in os.environ if name.startswith("GRAFLOW_"))
    return _remembered(given, (configured, around, document()), strict)


def _said(config: Any) -> _Said | None:
    """A plain configuration as a key; None for any other."""
    if type(config) is not dict or not all(type(x) in _PLAIN or isinstance(x, Secret) for x in config.values()):
        return None
    return tuple((name, type(value), value) for name, value in config.items())


@lru_cache(maxsize=64)
def _remembered(
    given: _Said, around: tuple[_Said, tuple[tuple[str, str], ...], Document | None], strict: bool
) -> _Settled:
    """As `_settled`, by what is given; what is configured and in the environment is read again by `load`."""
    del around
    return _settle(Settings.load({name: value for name, _, value in given}, strict=strict))


def _settle(settings: Settings) -> _Settled:
    # One for each way to name them too, so that errors speak of the options that this caller used.
    names = [settings.said(name) for name in ("broker_url", *sorted(settings.connection))]
    return f"{settings.identity()}|{_print_of(settings.keys)}|{names}", settings, settings.options
