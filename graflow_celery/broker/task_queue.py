"""`RedisTaskQueue`: tasks on their own, each with its envelope in its message.

Members of groups go out by `graflow_celery.broker.publisher`. No execution context is needed on either side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Final

import redis
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.utils.uuid import uuid
from redis.backoff import NoBackoff
from redis.retry import Retry

from graflow.core.task_registry import TaskResolverRegistry, default_registry
from graflow.durations import checked_seconds
from graflow.exceptions import PayloadError, SignatureError, TaskResolutionError
from graflow.queue.base import TaskQueue, TaskSpec
from graflow.redis.config import normalize_redis_config
from graflow.redis.places import connection_apart
from graflow_celery.broker.app import ENTRY_TASK, GraflowCelery
from graflow_celery.broker.entries import body_of, take_once, task_spec
from graflow_celery.broker.publisher import MemberPublisher
from graflow_celery.record import CONNECT_SECONDS, record_client
from graflow_celery.settings import Settings

_FIRST_PAUSE: Final = 0.005  # seconds between two looks into an empty queue, which double up to
_LONGEST_PAUSE: Final = 0.1


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
        redis_client: object = None,
        key_prefix: str = "graflow",
        *,
        backend_config: Mapping[str, Any] | Settings | None = None,
        resolver_registry: TaskResolverRegistry | None = None,
        default_resolver_id: str = "default",
    ) -> None:
        if not isinstance(backend_config, Settings):
            given = normalize_redis_config(backend_config)
            if redis_client is not None:
                given.update(normalize_redis_config({"redis_client": redis_client}))
            if key_prefix != Settings.model_fields["key_prefix"].default:
                given.setdefault("key_prefix", key_prefix)
            backend_config = Settings.load(given)
        super().__init__()
        self.settings = backend_config
        self._publisher = MemberPublisher(backend_config)
        self.registry = resolver_registry or default_registry()
        self.default_resolver_id = default_resolver_id
        self._connection: Any = None
        self._is_declared = False
        self._is_reached = False

    @property
    def app(self) -> GraflowCelery:
        return self._publisher.app

    @property
    def key_prefix(self) -> str:
        return self.settings.key_prefix

    def enqueue(self, task_spec: TaskSpec) -> bool:
        """Send one task with its envelope.

        Raises:
            TaskResolutionError: When the task can be sent neither by reference nor by value.
            BrokerUnreachableError: When the broker cannot be reached.
        """
        return self.enqueue_many([task_spec]) == 1

    def enqueue_many(self, specs: Iterable[TaskSpec]) -> int:
        """Send several tasks; nothing is sent unless all of them can be."""
        given = list(specs)
        for spec in given:
            if not isinstance(spec, TaskSpec):
                raise TypeError(f"A queue takes a TaskSpec, not {spec!r}")
        bodies = [self.body_of(spec) for spec in given]
        with self._publisher.errors(), self.app.producer_or_acquire() as producer:
            self._reach()
            for body in bodies:
                self.app.send_task(
                    ENTRY_TASK,
                    kwargs=body,
                    queue=self.settings.queue_name,
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
        return body_of(spec, self._resolver(named), run_id=run_id, index=index, keys=self.settings.keys)

    def task_spec(self, body: Mapping[str, Any]) -> TaskSpec:
        """The entry that a message body stands for, its task resolved.

        Raises:
            TaskResolutionError: For an unknown version, a malformed body, an unknown reference, a signature of code
                that does not hold.
            SignatureError: When there is a key, and the body is not signed with it.
        """
        return task_spec(body, self._resolver, self.settings.keys)

    def take(self, body: Mapping[str, Any], taker: str) -> bool:
        """Whether an entry may run, which a signed one may but once; without a key nothing is noted.

        Args:
            body: As `task_spec` has verified it.
            taker: Who asks; the same one may ask again after a lost answer.
        """
        if self.settings.keys is None:
            return True
        client = record_client(self.settings.connection)
        return take_once(client, self.key_prefix, body, taker)

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
        seconds = checked_seconds("timeout", timeout)
        end = None if seconds is None else time.monotonic() + seconds
        pause = _FIRST_PAUSE
        with self._publisher.errors():
            self._reach()
            while True:
                # Never blocking: a wait that is abandoned would take a message off the queue later, for nobody.
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
            spec = self._taken(_body_in(message))
        except (TaskResolutionError, PayloadError, SignatureError) as error:
            message.reject()
            self.count("refused")
            raise TaskResolutionError(f"A message of queue '{self.settings.queue_name}' is refused: {error}") from error
        message.ack()
        self.count("dequeued")
        return spec

    def _taken(self, body: Mapping[str, Any]) -> TaskSpec:
        spec = self.task_spec(body)
        if not self.take(body, uuid()):
            raise SignatureError("it was taken before; a signed task runs once")
        return spec

    def size(self) -> int:
        """Messages that wait in the queue, those for members of groups included."""
        return self.lengths([self.settings.queue_name])[self.settings.queue_name]

    def lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages that wait in each of several queues of the broker."""
        with self._publisher.errors():
            self._reach()
            return {name: queue_length(self.app, name) for name in queues}

    def is_empty(self) -> bool:
        return self.size() == 0

    def cleanup(self) -> None:
        """Take every waiting message off the queue and close the connection that `dequeue` holds."""
        with self._publisher.errors(), self.app.connection_for_write() as connection:
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

    def _reach(self) -> None:
        """Find out at once, and once, when there is no server; kombu would try for several seconds."""
        if not (self._is_reached or self.settings.broker_url):
            connect_once(record_client(self.settings.connection))
            self._is_reached = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_is_declared": False}


def connect_once(client: redis.Redis, seconds: float = CONNECT_SECONDS) -> None:
    """Open a connection to a client's server and close it again, without the client's own retries."""
    connection = connection_apart(client.connection_pool)
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
