"""What Flower and `celery events` see of members that share a message: one task each, under its own name."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import KombuError

from graflow.codec import ErrorData, describe_error
from graflow.text.shown import get_logger
from graflow_celery.broker.messages import shadow_of
from graflow_celery.errors import FAILING, MemberFailedError
from graflow_celery.record import GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.wire.outcomes import remote_error_of
from graflow_celery.worker.member import RetryLater

_log = get_logger(__name__)
_SHOWN: Final = 200  # characters of an error


def failure_of(result: MemberReport) -> MemberFailedError:
    """Why a member did not succeed, as monitors show it."""
    error = remote_error_of(result.payload)
    return MemberFailedError(result.state.value) if error is None else _failure(error)


def failure_before_retry(member: RetryLater) -> MemberFailedError:
    """Why a member is tried again later, as monitors show it."""
    return MemberFailedError("") if member.error is None else _failure(describe_error(member.error))


def _failure(error: ErrorData) -> MemberFailedError:
    return MemberFailedError(f"{error.type}: {error.message}"[:_SHOWN], error.traceback)


def _shown(failure: MemberFailedError) -> dict[str, str]:
    return {"exception": str(failure), "traceback": failure.traceback}


def is_watched(eventer: Any) -> bool:
    """Whether somebody asked this worker for events of tasks; its heartbeats are events of their own group."""
    return bool(eventer and eventer.enabled and (not eventer.groups or "task" in eventer.groups))


class MemberEvents:
    """Sends Celery's task events for each member of a batch, in bundles.

    Args:
        app: The worker's application.
        spec: The group.
        request: The Celery request of the batch.
    """

    def __init__(self, app: Celery, spec: GroupSpec, request: Any) -> None:
        self._app = app
        self._spec = spec
        self._request = request
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._flushing = threading.Lock()

    def _id(self, index: int) -> str:
        # Members of inner groups run in the same request, and an id must not show what the run is called.
        return f"{self._request.id}-{crc32(self._spec.run_id.encode()):08x}-{index}"

    def started(self, member: GrantedMember) -> None:
        index, now = member.index, time.time()
        self._add(
            "task-received",
            index,
            timestamp=now,
            name=shadow_of(self._spec, index),
            args=f"(run_id={self._spec.run_id!r}, index={index})",
            kwargs="{}",
            retries=member.retries,
            eta=None,
            expires=None,
            root_id=self._request.root_id,
            parent_id=self._request.id,
        )
        self._add("task-started", index, timestamp=now)

    def finished(self, result: MemberReport, seconds: float) -> None:
        if result.state is MemberState.SUCCEEDED:
            self._add("task-succeeded", result.index, timestamp=time.time(), result="", runtime=seconds)
        else:
            failure = failure_of(result)
            self._add("task-failed", result.index, timestamp=time.time(), **_shown(failure))

    def retry_later(self, member: RetryLater) -> None:
        failure = failure_before_retry(member)
        self._add("task-retried", member.index, timestamp=time.time(), **_shown(failure))

    def _add(self, kind: str, index: int, **fields: Any) -> None:
        self._waiting.append((kind, {"uuid": self._id(index), **fields}))

    def flush(self) -> None:
        """Send what has been collected; a monitor is never worth a member, so failures are only logged."""
        with self._flushing:  # the threads that run and that pace members both come here, and events have an order
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._send(waiting)

    def _send(self, waiting: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        try:
            with (
                self._app.connection_for_write() as connection,
                self._app.events.Dispatcher(connection, hostname=self._request.hostname) as dispatcher,
            ):
                dispatcher.buffer_group = frozenset({"task"})
                dispatcher.buffer_limit = len(waiting) + 1
                for kind, fields in waiting:
                    dispatcher.send(kind, **fields)
                dispatcher.flush(errors=False)
        except (KombuError, AMQPError, *FAILING) as error:
            _log.debug("Events of %s members were not sent: %s", len(waiting), error)


class LoneMemberEvents(MemberEvents):
    """Adds to Celery's own events of a message with one member how often that member was retried before.

    Celery counts deliveries of a message, and each retry is a message of its own.
    """

    def _id(self, index: int) -> str:  # noqa: ARG002 - there is one member
        return str(self._request.id)

    def started(self, member: GrantedMember) -> None:
        if member.retries:
            self._add("task-started", member.index, timestamp=time.time(), retries=member.retries)

    def finished(self, result: MemberReport, seconds: float) -> None:
        """Celery tells it."""

    def retry_later(self, member: RetryLater) -> None:
        """Celery tells it."""
