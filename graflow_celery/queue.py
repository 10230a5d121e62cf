"""`RedisTaskQueue`: the one place that publishes messages and takes them back, with Celery and kombu.

A group's members go out as hints (which run, which indices); their envelopes lie in the group record. A task on its own
goes out with its envelope in the message. No execution context is needed on either side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import redis
from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from celery import chord
from kombu.exceptions import BatchPublishError, ContentDisallowed, DecodeError, KombuError, OperationalError
from kombu.utils.uuid import uuid
from redis.backoff import NoBackoff
from redis.retry import Retry

from graflow.core.task_registry import TaskResolverRegistry, default_registry
from graflow.exceptions import GraflowRuntimeError, PayloadError, TaskResolutionError
from graflow.queue.base import TaskQueue, TaskSpec
from graflow.secret import revealed
from graflow.utils.redis_utils import normalize_redis_config, shared_client
from graflow_celery.brokers import describe_broker
from graflow_celery.celery_app import ENTRY_TASK, RUN_TASK, GraflowCelery, app_for
from graflow_celery.entries import body_of, spec_of
from graflow_celery.record import GroupSpec
from graflow_celery.settings import Settings
from graflow_celery.signatures import finish_signature, messages_of, run_message
from graflow_celery.transport import broker_priority, warn_of_ignored_priorities

CONNECT_SECONDS: Final = 1.5  # after which a server that does not answer counts as not there
_FIRST_PAUSE: Final = 0.005  # seconds between two looks into an empty queue, which double up to
_LONGEST_PAUSE: Final = 0.1
_SENT_AT_ONCE: Final = 100  # messages; workers begin with the first ones while the next are written


class BrokerUnreachableError(GraflowRuntimeError, ConnectionError):
    """The broker does not answer, or refuses us."""


class RedisTaskQueue(TaskQueue):
    """Work for Celery workers.

    Args:
        redis_client: A live client, turned into parameters and not kept.
        key_prefix: Namespace of queues.
        backend_config: Settings, of which `queue`, `broker_url` and the connection count here.
        resolver_registry: Where tasks become envelopes and back; the process-wide one when None.
        default_resolver_id: The resolver of specs that name no other than `default`.
    """

    def __init__(
        self,
        redis_client: Any = None,
        key_prefix: str = "graflow",
        *,
        backend_config: Mapping[str, Any] | Settings | None = None,
        resolver_registry: TaskResolverRegistry | None = None,
        default_resolver_id: str = "default",
    ) -> None:
        super().__init__()
        if not isinstance(backend_config, Settings):
            given = normalize_redis_config(backend_config)
            if redis_client is not None:
                given.update(normalize_redis_config({"redis_client": redis_client}))
            if key_prefix != Settings.model_fields["key_prefix"].default:
                given.setdefault("key_prefix", key_prefix)
            backend_config = Settings.load(given)
        self.settings: Settings = backend_config
        self.registry = resolver_registry or default_registry()
        self.default_resolver_id = default_resolver_id
        self._connection: Any = None
        self._is_declared = False
        self._is_reached = False

    @property
    def key_prefix(self) -> str:
        return self.settings.key_prefix

    @property
    def app(self) -> GraflowCelery:
        return app_for(self.settings)

    # -- members of groups -----------------------------------------------------------------------------------------

    def publish(
        self,
        spec: GroupSpec,
        indices: Sequence[int],
        *,
        slots: int = 1,
        weights: Sequence[int] | None = None,
        singly: bool = False,
        then: bool = False,
    ) -> int:
        """Send members of an opened group as one Celery group of batches; returns the number of messages.

        Args:
            spec: The group as its record holds it.
            indices: The members to send, ascending.
            slots: Members that the workers can run at once.
            weights: Bytes of each member's envelope by index.
            singly: Whether each member gets a message of its own.
            then: Whether to send a Celery chord whose body runs the group's continuation.

        Raises:
            BrokerUnreachableError: When the broker cannot be reached.
        """
        if not indices:
            return 0
        parts = messages_of(spec, indices, slots=slots, weights=weights, singly=singly)
        self._send_members(spec, parts, then=then)
        return len(parts)

    def _send_members(self, spec: GroupSpec, parts: Sequence[Sequence[int]], *, then: bool) -> None:
        """Send a message for each of these parts, as a Celery group or as the header of a chord."""
        app = app_for(self.settings, results=True) if then else self.app
        messages = [run_message(app, spec, part) for part in parts]
        with self._broker_errors(), app.producer_or_acquire() as producer:
            if then:
                header = [app.signature(RUN_TASK, app=app, **message) for message in messages]
                chord(header, finish_signature(app, spec), app=app).apply_async(producer=producer)
            else:
                _send_group(app, producer, messages)
            ranked = sorted({message["queue"] for message in messages if message.get("priority")})
            warn_of_ignored_priorities(producer.connection, [app.amqp.queues[name] for name in ranked])

    def publish_continuation(self, spec: GroupSpec) -> None:
        """Send the continuation of a group whose members are all recorded; twice is harmless."""
        with self._broker_errors(), self.app.producer_or_acquire() as producer:
            finish_signature(self.app, spec).apply_async(producer=producer)

    # -- tasks on their own ----------------------------------------------------------------------------------------

    def enqueue(self, spec: TaskSpec) -> bool:
        """Send one task with its envelope.

        Raises:
            TaskResolutionError: When the task can be sent neither by reference nor by value.
            BrokerUnreachableError: When the broker cannot be reached.
        """
        return self.enqueue_many([spec]) == 1

    def enqueue_many(self, specs: Iterable[TaskSpec]) -> int:
        """Send several tasks; nothing is sent unless all of them can be."""
        given = list(specs)
        for spec in given:
            if not isinstance(spec, TaskSpec):
                raise TypeError(f"A queue takes a TaskSpec, not {spec!r}")
        bodies = [self.body_of(spec) for spec in given]
        with self._broker_errors(), self.app.producer_or_acquire() as producer:
            self._reach()
            for body in bodies:
                self.app.send_task(
                    ENTRY_TASK,
                    kwargs=body,
                    queue=self.settings.queue_name,
                    priority=broker_priority(str(self.app.conf.broker_url), None),
                    producer=producer,
                    ignore_result=True,
                    shadow=body["task_id"].partition("[")[0],
                    argsrepr=f"(task_id={body['task_id']!r}, run_id={body['run_id']!r}, index={body['index']})",
                    kwargsrepr="{}",
                )
                self.count("enqueued")
        return len(bodies)

    def body_of(self, spec: TaskSpec, *, run_id: str | None = None, index: int = 0) -> dict[str, Any]:
        """The message body of a task on its own, as plain JSON data."""
        named = spec.resolver_id if spec.resolver_id != "default" else self.default_resolver_id
        return body_of(spec, self._resolver(named), run_id=run_id, index=index)

    def spec_of(self, body: Mapping[str, Any]) -> TaskSpec:
        """The entry that a message body stands for, its task resolved.

        Raises:
            TaskResolutionError: For an unknown version, a malformed body, an unknown reference, a signature that does
                not hold.
        """
        return spec_of(body, self._resolver)

    def _resolver(self, resolver_id: str) -> Any:
        resolver = self.registry.get(resolver_id)
        keys = self.settings.keys
        return resolver if keys is None else resolver.with_keys(keys)

    def dequeue(self, timeout: float | None = 0.0) -> TaskSpec | None:
        """Take one task back: verified, resolved, and acknowledged when that succeeded.

        Messages for members of groups are left for workers.

        Args:
            timeout: Seconds to wait for one; None waits without end.

        Raises:
            TaskResolutionError: For a message that cannot be used; it is taken off the queue.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_PAUSE
        with self._broker_errors():
            self._reach()
            while True:
                # Never blocking: a wait that is given up would take a message off the queue later, for nobody.
                entry, others = self._next_entry()
                if entry is not None:
                    return self._accepted(entry)
                left = pause if end is None else min(pause, end - time.monotonic())
                if left <= 0:
                    return None
                time.sleep(left)
                pause = min(2 * pause, _LONGEST_PAUSE * (10 if others else 1))

    def _next_entry(self) -> tuple[Any | None, int]:
        """The next message that is a task on its own, and the number of other ones before it, which are put back."""
        others: list[Any] = []
        try:
            while (message := self._get()) is not None and message.headers.get("task") != ENTRY_TASK:
                others.append(message)
            return message, len(others)
        finally:
            for hint in reversed(others):  # each is put at the front
                hint.requeue()

    def _get(self) -> Any | None:
        """The next message of the queue, whatever it is."""
        if self._connection is None:
            self._connection = self.app.connection_for_read()
        bound = self.app.amqp.queues[self.settings.queue_name](self._connection.default_channel)
        if not self._is_declared:
            bound.declare()
            self._is_declared = True
        try:
            return bound.get(no_ack=False, accept=["json"])
        except (DecodeError, KeyError, ValueError, TypeError) as error:
            raise TaskResolutionError(
                f"A message of queue '{self.settings.queue_name}' is refused: not a message of Celery's "
                f"({type(error).__name__})"
            ) from error

    def _accepted(self, message: Any) -> TaskSpec:
        try:
            spec = self.spec_of(_body_in(message))
        except (TaskResolutionError, PayloadError) as error:
            message.reject()
            self.count("refused")
            raise TaskResolutionError(f"A message of queue '{self.settings.queue_name}' is refused: {error}") from error
        message.ack()
        self.count("dequeued")
        return spec

    def size(self) -> int:
        """Messages that wait in the queue, those for members of groups included."""
        return self.lengths([self.settings.queue_name])[self.settings.queue_name]

    def lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages that wait in each of several queues of the broker."""
        with self._broker_errors():
            self._reach()
            return {name: queue_length(self.app, name) for name in queues}

    def is_empty(self) -> bool:
        return self.size() == 0

    def cleanup(self) -> None:
        """Take every waiting message off the queue and close the connection that `dequeue` holds."""
        with self._broker_errors(), self.app.connection_for_write() as connection:
            self._reach()
            bound = self.app.amqp.queues[self.settings.queue_name](connection.default_channel)
            bound.declare()
            bound.purge()
        self.close()

    def close(self) -> None:
        """Close the connection that `dequeue` holds."""
        if self._connection is not None:
            self._connection.release()
            self._connection, self._is_declared = None, False

    @contextmanager
    def _broker_errors(self) -> Iterator[None]:
        try:
            yield
        except (KombuError, AMQPError, OSError, redis.exceptions.RedisError) as error:
            broker = self.settings.broker_url
            where = describe_broker(revealed(broker)) if broker else self.settings.server
            raise BrokerUnreachableError(
                f"Cannot reach {where} as broker of queue '{self.settings.queue_name}': {_reason(error)}"
            ) from error

    def _reach(self) -> None:
        """Find out at once, and once, when there is no server; kombu would try for several seconds."""
        if not (self._is_reached or self.settings.broker_url):
            connect_once(shared_client(self.settings.connection, decode_responses=False))
            self._is_reached = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_is_declared": False}


def _reason(error: BaseException) -> str:
    """Why a broker cannot be used; the texts of errors are left out, since they may repeat its URL."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refuses the username or password"
    if isinstance(error, AccessRefused | NotAllowed):
        return "it refuses the username, the password or the virtual host"
    return type(error).__name__


def _send_group(app: GraflowCelery, producer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    """Send messages as `celery.group` does, many in one round trip where the transport can.

    After a line that broke all of them are sent again, as they are hints, of which two do what one does.
    """
    group_id = uuid()

    def send() -> None:
        try:
            with producer.batch(_SENT_AT_ONCE):
                for index, message in enumerate(messages):
                    place = {"group_id": group_id, "group_index": index}
                    app.send_task(RUN_TASK, producer=producer, retry=False, add_to_parent=False, **place, **message)
        except (BatchPublishError, OperationalError) as error:
            raise (error.__cause__ or error) from None  # the kinds of error that `ensure` connects again for

    policy = app.conf.task_publish_retry_policy
    producer.connection.transport_options.update(policy)  # what bounds connecting, as in `Producer.publish`
    producer.connection.ensure(producer, send, **policy)()


def connect_once(client: redis.Redis, seconds: float = CONNECT_SECONDS) -> None:
    """Open a connection to a client's server and close it again, without the client's own retries."""
    connection: Any = client.connection_pool.make_connection()
    connection.retry = Retry(NoBackoff(), 0)
    connection.socket_connect_timeout = min(connection.socket_connect_timeout or seconds, seconds)
    connection.socket_timeout = min(connection.socket_timeout or seconds, seconds)
    try:
        connection.connect()
    finally:
        connection.disconnect()


def queue_length(app: GraflowCelery, name: str) -> int:
    """Messages that wait in a queue, which is declared when it does not exist."""
    with app.connection_for_write() as connection, closing(connection.channel()) as channel:
        # Not passive: with a key prefix kombu's Redis channel takes every queue for absent.
        return int(app.amqp.queues[name](channel).queue_declare().message_count)


def _body_in(message: Any) -> Mapping[str, Any]:
    """The keyword arguments of a Celery message.

    Raises:
        PayloadError: When the message is no JSON or not in Celery's form.
    """
    try:
        _args, kwargs, _embed = message.decode()
    except (ContentDisallowed, DecodeError, ValueError, TypeError) as error:
        raise PayloadError(f"not a Celery message in JSON: {type(error).__name__}") from error
    if not isinstance(kwargs, Mapping):
        raise PayloadError("its arguments are no JSON object")
    return kwargs
