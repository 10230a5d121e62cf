"""kombu's Redis transports with higher priorities first; without Sentinel also with one client per channel.

The stock channel builds a new client object for every operation, which costs more than the operation itself on a fast
network. The client is only a handle on the channel's connection pool, so one is enough.

The stock channel also notes every delivery in Redis until it is acknowledged, in two transactions per message, so that
what a dead worker held comes back after the visibility timeout. For members of groups the record does that, sooner.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty
from typing import Any, Final

import redis
import redis.sentinel
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis
from kombu.utils.eventio import poll

from graflow.processes.per_process import PerProcess
from graflow.redis.places import wait_for_places
from graflow.redis.refusals import RefusedForNowError, parser
from graflow.redis.urls import address_of
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.broker.app import FINISH_TASK, FLOW_TASK, RUN_TASK
from graflow_celery.broker.frames import fault_of

_log = get_logger(__name__)

QUORUM_PRIORITIES_SINCE: Final = 4  # major version of RabbitMQ
_OF_PATTERNS: Final = frozenset("*?[\\")
_HINTS: Final = (RUN_TASK, FINISH_TASK, FLOW_TASK)


_told: Final[set[tuple[str, str]]] = set()


def warn_of_ignored_priorities(connection: Connection, queues: Iterable[Any]) -> None:
    """Log, once per queue in this process, that messages sent there over AMQP go in order of arrival nevertheless."""
    if connection.transport.driver_type != "amqp":
        return
    for queue in queues:
        why = _why_ignored(connection, queue.queue_arguments or {})
        place = (connection.as_uri(), queue.name)
        if why is not None and place not in _told:
            _told.add(place)
            _log.warning(
                "Members with the option priority start in order of arrival: queue '%s' ignores it, because %s",
                queue.name,
                why,
            )


def _why_ignored(connection: Connection, arguments: Mapping[str, Any]) -> str | None:
    if arguments.get("x-queue-type") != "quorum":
        return None if "x-max-priority" in arguments else "it is a classic queue without x-max-priority"
    version = str(connection.connection.server_properties.get("version", ""))
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) >= QUORUM_PRIORITIES_SINCE:
        return None
    return f"quorum queues know them since RabbitMQ {QUORUM_PRIORITIES_SINCE}.0, and this is {version}"


class Deliveries(kombu_redis.QoS):
    """What this channel was delivered and has not acknowledged: hints of the record in memory, the rest in Redis."""

    def append(self, message: object, delivery_tag: str) -> None:
        if _is_hint(message):
            super(kombu_redis.QoS, self).append(message, delivery_tag)  # in memory alone
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if _is_hint(self._delivered.get(delivery_tag)):
            super(kombu_redis.QoS, self).ack(delivery_tag)
        else:
            super().ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: object = None, leftmost: bool = False) -> None:
        message: Any = self._delivered.get(tag)
        if not _is_hint(message):
            super().restore_by_tag(tag, client, leftmost)
        elif tag not in self._dirty:
            exchange, key = message.delivery_info["exchange"], message.delivery_info["routing_key"]
            with self.channel.conn_or_acquire(client) as held:
                self.channel._do_restore_message(message._raw, exchange, key, held, leftmost)


def _is_hint(message: Any) -> bool:
    """Whether a record, of groups or of flows, sees to it that this message is sent again when it is lost."""
    return message is not None and message.headers.get("task") in _HINTS


def _tell_dropped(why: str, queue: str = "") -> None:
    _log.error("A message%s is dropped: %s", f" of queue '{queue}'" if queue else "", why)


class HigherFirst(kombu_redis.Channel):
    """Takes messages of a higher priority first, as other brokers do; kombu takes the lowest number first.

    Its wait for a message ends when the last queue is given up: a worker that shuts down takes no more off the queue.
    """

    QoS = Deliveries

    def __init__(self, *args: Any, **options: object) -> None:
        self._waiting: tuple[Any, int | None] = (None, None)  # the socket that waits, as the server knows it
        super().__init__(*args, **options)
        self._ascending = sorted(self.priority_steps)
        self.priority_steps = self._ascending[::-1]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), "parser_class": parser()}

    def priority(self, n: int) -> int:
        """The step that a priority belongs to."""
        return int(self._ascending[bisect(self._ascending, n) - 1])

    def close(self) -> None:
        self._end_wait()
        super().close()

    def _basic_cancel(self, consumer_tag: str) -> None:
        super()._basic_cancel(consumer_tag)
        if not self.active_queues:
            self._end_wait()

    def _subscribe(self) -> None:
        """Listen to what is sent to all workers; by pattern only where one is meant.

        Redis grants channels by a pattern (`&graflow:*`), but no pattern that is not that very one.
        """
        topics = [topic for queue in self.active_fanout_queues for topic in self._get_subscribe_topics(queue)]
        if not topics:
            return
        listener = self.subclient
        if listener.connection._sock is None:
            listener.connection.connect()
        self._in_listen = listener.connection
        _for_each_kind(topics, listener.subscribe, listener.psubscribe)

    def _unsubscribe_from(self, queue: str) -> None:
        listener = self.subclient
        if listener.connection and listener.connection._sock:
            _for_each_kind(self._get_subscribe_topics(queue), listener.unsubscribe, listener.punsubscribe)

    def _receive_one(self, listener: Any) -> Any:
        try:
            return super()._receive_one(listener)
        except redis.exceptions.NoPermissionError as error:  # only events of other workers come by pattern
            if is_news(("channels", str(self.connection.client.as_uri()))):
                _log.warning(
                    "The user of the broker may not listen to all that is asked for (%s), so events of other workers "
                    "are not heard here; grant allchannels, or start with --without-gossip",
                    error,
                )
            return False

    def _brpop_start(self, timeout: float | None = None) -> None:
        connection = self.client.connection
        if self._waiting[0] is not connection._sock:
            self._waiting = (connection._sock, self._id_of(connection))
        super()._brpop_start(timeout)

    def _brpop_read(self, **options: Any) -> Any:
        self.connection.has_delivered = False
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            if self.connection.has_delivered:
                raise
            _tell_dropped(f"it is no JSON ({type(error).__name__})")
            raise Empty from None

    def _id_of(self, connection: Any) -> int | None:
        """The number by which the server knows a connection; None when it does not say."""
        connection.send_command("CLIENT", "ID")
        try:
            return int(connection.read_response())
        except self.ResponseError:  # this user may not ask
            return None

    def _end_wait(self) -> None:
        """End the wait for a message; one that came at the last moment goes back."""
        number = self._waiting[1]
        if not self._in_poll or number is None:
            return
        with suppress(Empty, self.ResponseError, *self.connection_errors):
            self._create_client().client_unblock(number)
            self._brpop_read()


def _for_each_kind(topics: Iterable[str], by_name: Callable[..., object], by_pattern: Callable[..., object]) -> None:
    for is_pattern, do in ((False, by_name), (True, by_pattern)):
        named = [topic for topic in topics if bool(_OF_PATTERNS.intersection(topic)) is is_pattern]
        if named:
            do(*named)


_pools: Final[PerProcess[str, redis.ConnectionPool]] = PerProcess()


def rest_pools() -> None:
    """Close the connections to brokers that this process has open and does not use."""
    for pool in _pools.all():
        pool.disconnect(inuse_connections=False)


class KeptClientChannel(HigherFirst):
    """A channel that keeps its pooled client, and shares the pool with all others that go to the same place.

    Clients of the event loop stay as they are, each with a connection of its own.
    """

    max_connections = 1_000  # of all channels of a process; a thread uses one
    _kept: Any = None
    _kept_pool: Any = None

    def __init__(self, *args: Any, **options: object) -> None:
        super().__init__(*args, **options)
        # What the stock channel has tried out its settings with; most channels never wait for anything on it.
        self.async_pool.disconnect(inuse_connections=False)

    def _get_pool(self, asynchronous: bool = False) -> Any:
        made = super()._get_pool(asynchronous)
        if asynchronous or "credential_provider" in made.connection_kwargs:
            return made
        place = sorted(self._connparams().items(), key=lambda item: item[0])

        def first() -> Any:
            wait_for_places(made)
            return made

        return _pools.get(repr(place), first)

    def _disconnect_pools(self) -> None:
        if self._pool is not None:
            self._pool.disconnect(inuse_connections=False)  # others use the rest
        self._pool = self._kept = self._kept_pool = None
        super()._disconnect_pools()

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._pool is None and self.connection.client is None:
            # A line that broke is closed twice, the second time without its settings; the worker must not die of that.
            raise ConnectionError("the connection of this channel is closed")
        pool = self.pool
        if self._kept is None or self._kept_pool is not pool:
            self._kept = super()._create_client()
            self._kept_pool = pool
        return self._kept


class PollerOnDemand(kombu_redis.MultiChannelPoller):
    """Takes a descriptor from the system when something is polled; most connections only send."""

    _made: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._made.close()
        self._made = None

    @property
    def poller(self) -> Any:
        if self._made is None:
            self._made = poll()
        return self._made

    @poller.setter
    def poller(self, made: Any) -> None:
        self._made = made

    def _on_connection_disconnect(self, connection: Any) -> None:
        if self._made is not None:  # else nothing of it is polled
            super()._on_connection_disconnect(connection)


class Transport(kombu_redis.Transport):
    """Also connects again, until it succeeds, after a server has refused for now.

    It waits longer than the stock one before it asks again: a wait ends with the first message, or with its channel.
    """

    Channel: type[HigherFirst] = KeptClientChannel
    brpop_timeout = 5
    connection_errors = (*kombu_redis.Transport.connection_errors, RefusedForNowError)

    def __init__(self, *args: Any, **options: object) -> None:
        super().__init__(*args, **options)
        self.cycle: Any = PollerOnDemand()
        self.connection_errors = type(self).connection_errors
        self.has_delivered = False
        """Whether the frame that was read last has been looked at."""

    def _deliver(self, message: Any, queue: str) -> None:
        """Hand a message to its consumer; a frame that is none is dropped."""
        self.has_delivered = True
        why = fault_of(message, queue)
        if why is None:
            super()._deliver(message, queue)
        else:
            _tell_dropped(why, queue)


class SentinelChannel(HigherFirst, kombu_redis.SentinelChannel):
    """A channel to whichever server Sentinel calls the master.

    The addresses of all Sentinels come as a transport option: several in the URL would make kombu go from one to the
    next when the master is gone, with the login of that one and with another transport.
    """

    from_transport_options: Any = (*kombu_redis.SentinelChannel.from_transport_options, "sentinels")
    sentinels: Sequence[str] = ()
    master_name: str = ""
    sentinel_kwargs: Mapping[str, Any] | None = None
    min_other_sentinels = 0

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        parameters = self._connparams(asynchronous)
        own = {name: value for name, value in parameters.items() if name not in {"host", "port"}}
        manager: Any = redis.sentinel.Sentinel(
            [address_of(text) for text in self.sentinels],
            min_other_sentinels=int(self.min_other_sentinels),
            sentinel_kwargs=self.sentinel_kwargs,
            **own,
        )
        if asynchronous:
            self._async_sentinel_manager = manager
        else:
            self._sentinel_manager = manager
        return manager.master_for(self.master_name, redis.Redis).connection_pool


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """The transport of `sentinel://` brokers."""

    default_port = kombu_redis.SentinelTransport.default_port
    Channel = SentinelChannel
