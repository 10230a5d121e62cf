"""The members of groups on their way to workers, as messages that are only hints.

A message says which run and which indices; the envelopes lie in the group record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import redis
from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from celery import chord
from kombu.exceptions import BatchPublishError, KombuError, OperationalError
from kombu.utils.uuid import uuid

from graflow.redis.diagnosis import fault_of_line, why_unreachable
from graflow.secret import revealed
from graflow_celery.broker.addresses import REDIS_SCHEMES, describe_broker, given_broker
from graflow_celery.broker.app import FLOW_TASK, RUN_TASK, GraflowCelery, app_for, runs_eagerly
from graflow_celery.broker.messages import finish_signature, messages_of, run_message
from graflow_celery.broker.transport import warn_of_ignored_priorities
from graflow_celery.errors import BrokerUnreachableError
from graflow_celery.record import GroupSpec
from graflow_celery.settings import Settings
from graflow_celery.wire.payload import VERSION

_SENT_AT_ONCE: Final = 100  # messages; workers begin with the first ones while the next are written


class MemberPublisher:
    """Sends members of groups to the broker of a deployment.

    Args:
        settings: Where the broker is, and under which names.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._identity = settings.identity()

    @property
    def app(self) -> GraflowCelery:
        return app_for(self.settings, identity=self._identity)

    @property
    def runs_eagerly(self) -> bool:
        """Whether nothing is sent, because Celery runs tasks in the process that sends them."""
        return runs_eagerly(self.app)

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
        if not indices or self.runs_eagerly:  # then whoever submits or waits runs them
            return 0
        parts = messages_of(spec, indices, slots=slots, weights=weights, singly=singly)
        self._send_members(spec, parts, then=then)
        return len(parts)

    def _send_members(self, spec: GroupSpec, parts: Sequence[Sequence[int]], *, then: bool) -> None:
        """Send a message for each of these parts, as a Celery group or as the header of a chord."""
        app = app_for(self.settings, results=True) if then else self.app
        keys = self.settings.keys
        messages = [run_message(spec, part, keys) for part in parts]
        with self.errors(), app.producer_or_acquire() as producer:
            if then:
                header = [app.signature(RUN_TASK, app=app, **message) for message in messages]
                chord(header, finish_signature(app, spec, keys), app=app).apply_async(producer=producer)
            else:
                _send_group(app, producer, messages)
            ranked = sorted({message["queue"] for message in messages if message.get("priority")})
            warn_of_ignored_priorities(producer.connection, [app.amqp.queues[name] for name in ranked])

    def publish_continuation(self, spec: GroupSpec) -> None:
        """Send the continuation of a group whose members are all recorded; twice is harmless."""
        if self.runs_eagerly:
            return
        with self.errors(), self.app.producer_or_acquire() as producer:
            finish_signature(self.app, spec, self.settings.keys).apply_async(producer=producer)

    def publish_flow(self, flow_id: str, *, hops: int = 0) -> None:
        """Send the message of a flow to the control queue; twice is harmless, since a claim decides.

        Args:
            flow_id: The flow, as its store knows it.
            hops: How many workers have passed the message on.

        Raises:
            BrokerUnreachableError: When the broker cannot be reached.
        """
        body = {"version": VERSION, "flow_id": flow_id, "hops": hops}
        with self.errors(), self.app.producer_or_acquire() as producer:
            self.app.send_task(FLOW_TASK, kwargs=body, queue=self.settings.flow_queue_name, producer=producer)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors of a broker that cannot be reached as ours, with its name and without secrets."""
        try:
            yield
        except (KombuError, AMQPError, OSError, redis.exceptions.RedisError) as error:
            raise BrokerUnreachableError(_why_unreachable(self.settings, error)) from error


def _why_unreachable(settings: Settings, error: BaseException) -> str:
    """Why a broker cannot be used; the texts of errors are left out, since they may repeat its URL."""
    while error.__cause__ is not None:
        error = error.__cause__
    what, broker = f"The broker of queue '{settings.queue_name}'", revealed(settings.broker_url or "")
    if not broker:
        return why_unreachable(what, settings.connection, error, settings.said)
    if urlsplit(broker).scheme in REDIS_SCHEMES:
        return why_unreachable(what, given_broker(broker), error, settings.broker_said)
    where, option = f"{what} at {describe_broker(broker)}", settings.said("broker_url")
    if isinstance(error, AccessRefused | NotAllowed):
        return f"{where} refuses the username, the password or the virtual host; correct {option}"
    return f"{where} does not answer: {fault_of_line(error) or type(error).__name__}; start it, or correct {option}"


_declared: Final[WeakKeyDictionary[Any, set[str]]] = WeakKeyDictionary()  # queues, by the channel that told the broker
_AS_IT_IS: Final[Mapping[str, Any]] = {"declare": []}


def _send_group(app: GraflowCelery, producer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    """Send messages as `celery.group` does, many in one round trip where the transport can.

    After a line that broke all of them are sent again, as they are hints, of which two do what one does.
    """
    group_id = uuid()

    def send() -> None:
        try:
            with producer.batch(_SENT_AT_ONCE):
                declared = _declared.setdefault(producer.channel, set())
                for index, message in enumerate(messages):
                    queue = message["queue"]
                    place = {"group_id": group_id, "group_index": index, **(_AS_IT_IS if queue in declared else {})}
                    app.send_task(RUN_TASK, producer=producer, retry=False, add_to_parent=False, **place, **message)
                    if app.amqp.queues[queue].can_cache_declaration:
                        declared.add(queue)
        except (BatchPublishError, OperationalError) as error:
            raise (error.__cause__ or error) from None  # the kinds of error that `ensure` connects again for

    policy = app.conf.task_publish_retry_policy
    producer.connection.transport_options.update(policy)  # what bounds connecting, as in `Producer.publish`
    producer.connection.ensure(producer, send, **policy)()
