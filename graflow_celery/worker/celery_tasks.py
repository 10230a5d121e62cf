"""The Celery tasks: run members of a group, run a continuation, run a task on its own."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from billiard.exceptions import WorkerLostError
from celery import Task, current_task
from celery.exceptions import Retry
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy
from celery.worker.strategy import logger as strategy_log

from graflow.exceptions import GraflowRuntimeError, PayloadError
from graflow.foreign import attempt
from graflow.observing import Happening, observe, observers
from graflow.runtime import persistently
from graflow.text.shown import get_logger
from graflow_celery.broker import messages
from graflow_celery.broker.app import ENTRY_TASK, FINISH_TASK, FLOW_TASK, RUN_TASK, GraflowCelery, app
from graflow_celery.broker.messages import are_limits_signed, indices_of
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.errors import FAILING, MemberFailedError, NothingToRunError
from graflow_celery.record import GroupSpec, MemberReport, MemberState
from graflow_celery.wire.payload import VERSION
from graflow_celery.worker.batches.batch import listening, run_members
from graflow_celery.worker.continuation import run_continuation
from graflow_celery.worker.done import members_done
from graflow_celery.worker.events import LoneMemberEvents, MemberEvents, failure_before_retry, failure_of, is_watched
from graflow_celery.worker.flows import run_flow
from graflow_celery.worker.lost_children import cancel_members, how_it_died, record_timeout, requeue_lost
from graflow_celery.worker.member import RetryLater
from graflow_celery.worker.message_limits import counts_messages, send_singly

_log = get_logger(__name__)
_LEFT: Final = "The members of message %s, whose child is lost, are left to their lease"


def deployment_for(of: GraflowCelery) -> Deployment:
    """The deployment of an application's workers, with their own registry."""
    pid, found = getattr(of, "_deployment", (0, None))
    if found is None or pid != os.getpid():
        settings = of.graflow_settings
        found = deployment_of(settings)
        if found.registry is not of.registry:
            found = Deployment(settings, of.registry)
        found.limits = of.limits
        of._deployment = (os.getpid(), found)
    deployment: Deployment = found
    return deployment


_undone: Final[deque[Callable[[], None]]] = deque(maxlen=10_000)
"""What this worker's main loop, which may not wait, could not tell a record that did not answer."""


def catch_up() -> None:
    """Try once more to tell the record what it could not be told before."""
    for _ in range(len(_undone)):
        _undone.popleft()()


class MemberRequest(Request):
    """A message with members in the worker's main process, which outlives the child that runs them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._take_signed_limits()
        # Each delivery is an owner of its own, so that a doubled message is never granted what the first one runs.
        self.graflow_owner = f"{self.hostname or socket.gethostname()}:{uuid.uuid4().hex[:12]}"
        self._request_dict["graflow_owner"] = self.graflow_owner
        self._request_dict["graflow_events"] = is_watched(self._eventer)
        self._request_dict["graflow_singly"] = counts_messages(self.task, self.app.pool_options)

    def _take_signed_limits(self) -> None:
        """Pass over time limits that no holder of the key has given: the pool kills by them, whatever the record says.

        Tasks on their own and flows have none.
        """
        limits = self._request_dict.get("timelimit")
        keys = deployment_for(self.app).keys
        if keys is None or not limits or limits == [None, None]:
            return
        if self.task.name in {RUN_TASK, FINISH_TASK} and are_limits_signed(self.kwargs, limits, keys):
            return
        _log.warning("Time limits of message %s are passed over: they are not signed", self.id)
        self.time_limits = self._request_dict["timelimit"] = (None, None)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = getattr(exc_info, "exception", None)
        error = getattr(error, "exc", error)
        if isinstance(error, WorkerLostError):
            exc_info.exception = error  # which monitors show, unlike what it is wrapped in
            self._requeue(how_it_died(error))
        _show_members_own(exc_info, error)
        if isinstance(error, NothingToRunError):
            self.send_event("task-revoked", terminated=False, signum=None, expired=False)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        if not soft:
            self._with_members(
                lambda deployment, run_id, indices: record_timeout(
                    deployment, run_id, indices, self.graflow_owner, timeout
                ),
                _LEFT,
            )

    def keep_members(self) -> float:
        """Extend the leases of what the child holds; returns their seconds, infinite when it holds nothing of ours."""
        found = self._members()
        lease = None
        if found is not None:
            deployment, run_id, indices = found
            lease = deployment.record.keep(run_id, self.graflow_owner, indices)
        return inf if lease is None else lease

    def terminate(self, pool: Any, signal: Any = None) -> None:
        self._cancel_members()  # before their process is gone, which would have them run elsewhere
        try:
            super().terminate(pool, signal)
        except NotImplementedError:
            _log.warning("This pool cannot end %s, whose members are CANCELLED; what they come to is dropped", self.id)
            self._announce_revoked("terminated", True, None, False)

    def _announce_revoked(self, reason: str, *args: Any) -> None:
        if reason == "revoked":  # before it began
            self._cancel_members()
        super()._announce_revoked(reason, *args)

    def _cancel_members(self) -> None:
        """An operator does not want this message: what it holds, or would have taken, is recorded as CANCELLED."""
        self._with_members(
            lambda deployment, run_id, indices: cancel_members(deployment, run_id, indices, self.graflow_owner),
            "The members of message %s could not be recorded as CANCELLED",
        )

    def _with_members(self, use: Callable[[Deployment, str, list[int]], object], failed: str) -> None:
        """Do something with what this message is about; the worker's main loop lives on, whatever comes of it."""

        def call() -> None:
            found = self._members()
            if found is not None:
                use(*found)

        def note(error: Exception) -> None:
            if isinstance(error, FAILING):
                _log.warning("Tried again: %s", failed % self.id)
                _undone.append(again)
            else:
                _log.error(failed, self.id, exc_info=error)

        def again() -> None:
            attempt(call, note)

        again()

    def _members(self) -> tuple[Deployment, str, list[int]] | None:
        """What this message is about; None for a task that was queued on its own."""
        if self.task.name not in {RUN_TASK, FINISH_TASK}:
            return None
        deployment, run_id = deployment_for(self.app), self.kwargs["run_id"]
        if self.task.name == RUN_TASK:
            return deployment, run_id, indices_of(self.kwargs["ranges"])
        return deployment, run_id, [deployment.record.header(run_id).spec.n]

    def _requeue(self, how: str) -> None:
        """The child has died in this way: have its members run again."""
        interval = self.app.graflow_settings.sweep_interval

        def requeue(deployment: Deployment, run_id: str, indices: list[int]) -> None:
            members_done.add_lost(requeue_lost(deployment, run_id, indices, self.graflow_owner, interval, how=how))

        self._with_members(requeue, _LEFT)


def _show_members_own(exc_info: Any, error: object) -> None:
    """Have monitors show the traceback of the member, not of what tells them that it failed."""
    told = error.exc if isinstance(error, Retry) else error
    if isinstance(told, MemberFailedError):
        exc_info.traceback = told.traceback


def quiet_strategy(task: Task, app: Any, consumer: Any) -> Any:
    """How a worker takes messages: it logs what came of them, not that they came."""
    return default_strategy(task, app, consumer, info=strategy_log.debug)


class MemberTask(Task):
    """What the tasks below have in common."""

    abstract = True
    Strategy = "graflow_celery.worker.celery_tasks:quiet_strategy"
    Request = "graflow_celery.worker.celery_tasks:MemberRequest"
    ignore_result = True
    throws = (MemberFailedError,)
    typing = False


def _check(hint: Mapping[str, object], *versions: int) -> None:
    if hint.get("version") not in versions:
        name = hint.get("run_id", hint.get("flow_id"))
        raise GraflowRuntimeError(
            f"Message version {hint.get('version')!r} of {name} is unknown; this worker reads version {versions[-1]}, "
            "and leaves it to others"
        )


def _run(self: Any, **hint: object) -> None:
    """Claim the members that a message names and run those that are granted."""
    _check(hint, *messages.READ)
    indices = indices_of(hint.get("ranges"))
    deployment = deployment_for(self.app)
    sent = hint.get("sent")
    if observers and isinstance(sent, float):
        observe(Happening.MESSAGE_WAITED, max(0.0, deployment.runtime.time() - sent))
    request = self.request
    worker = str(request.hostname or socket.gethostname())
    owner = getattr(request, "graflow_owner", None) or f"{worker}:{uuid.uuid4().hex[:12]}"

    def events(spec: GroupSpec, made: type[MemberEvents] = MemberEvents) -> MemberEvents | None:
        return made(self.app, spec, request) if getattr(request, "graflow_events", False) else None

    def events_of_one(spec: GroupSpec) -> MemberEvents | None:
        return events(spec, LoneMemberEvents)

    alone = len(indices) == 1  # then Celery's own events show the member
    if getattr(request, "graflow_singly", False):
        indices, others = indices[:1], indices[1:]
        send_singly(deployment, str(hint.get("run_id")), others)
    token = listening.set(events)
    try:
        tally = run_members(
            deployment,
            str(hint.get("run_id")),
            indices,
            owner=owner,
            worker=worker,
            in_blocks=hint.get("blocks") is True and len(indices) > 1,
            listener=events_of_one if alone else events,
        )
    finally:
        listening.reset(token)
    if tally is not None:
        members_done.add(str((request.delivery_info or {}).get("routing_key")), tally.done)
        _log.info("%s", tally)
    if request.chord:
        return  # a chord counts its messages
    if tally is None:
        raise NothingToRunError
    if alone:
        _show_failure(tally.last)


def _finish(self: Any, *_results: object, **hint: object) -> None:
    """Run the continuation of a group, once."""
    _check(hint, *messages.READ)
    worker = str(self.request.hostname or socket.gethostname())
    owner = getattr(self.request, "graflow_owner", None)
    tally = run_continuation(deployment_for(self.app), str(hint.get("run_id")), worker, owner=owner)
    if tally is None:
        raise NothingToRunError
    _log.info("%s", tally)
    _show_failure(tally.last)


def _show_failure(last: MemberReport | RetryLater | None) -> None:
    """Have monitors show a message as its only member."""
    if isinstance(last, RetryLater):
        # Another message, which the sweeper sends, makes the retry.
        raise Retry(exc=failure_before_retry(last), when=round(last.delay, 1))
    if last is not None and last.state is not MemberState.SUCCEEDED:
        raise failure_of(last)


def _entry(self: Any, **body: Any) -> Any:
    """Run a task that was queued on its own."""
    deployment = deployment_for(self.app)
    queue, taker = deployment.queue, uuid.uuid4().hex
    spec = queue.task_spec(body)
    if not persistently(deployment.runtime, lambda: queue.take(body, taker), patience=deployment.patience.member):
        _log.warning("Task %s is refused: it was taken before, and a signed task runs once", spec.task_id)
        raise NothingToRunError
    return repr(spec.executable.run())


def _flow(self: Any, **hint: object) -> None:
    """Run a flow on, in this slot, as far as it goes."""
    _check(hint, VERSION)
    flow_id, hops = hint.get("flow_id"), hint.get("hops")
    if not isinstance(flow_id, str) or not isinstance(hops, int):
        raise PayloadError("The message of a flow must hold 'flow_id' and 'hops'")
    run_flow(deployment_for(self.app), flow_id, hops)


class _SaidOtherwise(logging.Filter):
    """Keeps what Celery says of how a message of ours ended, unless it is an error: a line of ours has said more."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or getattr(current_task, "name", None) not in {RUN_TASK, FINISH_TASK}


get_logger("celery.app.trace").addFilter(_SaidOtherwise())
for _name in ("strategy", "request", "consumer.consumer", "control"):  # where Celery's worker tells of messages
    get_logger(f"celery.worker.{_name}")


def install(into: GraflowCelery) -> None:
    """Register the tasks with an application."""
    into.task(name=RUN_TASK, bind=True, base=MemberTask, shared=False)(_run)
    into.task(name=FINISH_TASK, bind=True, base=MemberTask, shared=False)(_finish)
    into.task(name=FLOW_TASK, bind=True, base=MemberTask, shared=False)(_flow)
    into.task(name=ENTRY_TASK, bind=True, base=MemberTask, shared=False)(_entry)


install(app)
