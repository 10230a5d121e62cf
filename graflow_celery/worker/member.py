"""One member on a worker: from its packed envelope to its packed outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from celery.exceptions import SoftTimeLimitExceeded

from graflow.channels.base import Channel
from graflow.channels.memory_channel import MemoryChannel
from graflow.codec import from_jsonable
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.engine import WorkflowEngine
from graflow.core.envelopes.shared_code import ReceivedCode
from graflow.core.nodes.arguments import RESULT_SUFFIX, free_parameters
from graflow.core.nodes.executable import Executable
from graflow.core.remote.branch import RemoteBranch
from graflow.core.serialization import signed_pickles
from graflow.encoding.errors_as_data import message_of
from graflow.exceptions import PayloadError, SignatureError, TaskResolutionError, TaskTimeoutError, UnknownTaskError
from graflow.hearing.words import Line, Words
from graflow.processes.forks import leave_copy, process
from graflow.redis.refusals import in_a_word
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow.text.told import progress_data
from graflow.values.blobs import GivenBlobs, TakenBlobs
from graflow_celery.broker.messages import member_name
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING
from graflow_celery.record import GrantedMember, GroupSpec, Lease, MemberReport, MemberState
from graflow_celery.wire.chunks import CHUNK_MARK, Chunk
from graflow_celery.wire.envelope import Envelope, SharedPayload
from graflow_celery.wire.outcomes import pack_failure, pack_outcome, report_of, result_pickles
from graflow_celery.wire.payload import unpack
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.message_limits import limits_of
from graflow_celery.worker.others import OtherWorkers, name_in_table
from graflow_celery.worker.overlay import ChannelWithGaps, OverlaidChannel
from graflow_celery.worker.running import RunningMember, running_member
from graflow_celery.worker.soft_limits import SoftLimit

_log = get_logger(__name__)
_SIGNAL_EXITS: Final = range(-255, -191)  # billiard exits with the signal's number less 256
LONGEST_WAIT: Final = 1.0  # seconds between two tries of a member that its slot is held for


class WorkerMember:
    """What a member on a worker may ask about its own execution.

    Attributes:
        run_id: The run of its group.
        index: Its place in the group.
        attempt: 1 for the first execution.
    """

    def __init__(self, deployment: Deployment, lease: Lease, is_cancelled: Callable[[], bool]) -> None:
        self.run_id = lease.run_id
        self.index = lease.index
        self.attempt = lease.attempt
        self._deployment = deployment
        self._lease = lease
        self._is_cancelled = is_cancelled

    def is_cancelled(self) -> bool:
        return self._is_cancelled()

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell whoever waits how far this member is; what is no number, or cannot be told, ends nothing."""
        told = progress_data(done, total, message)
        try:
            self._deployment.record.progress(self._lease, json.dumps(told).encode())
        except FAILING as error:
            if is_news(("progress", self.run_id)):
                _log.warning(
                    "Run %s: the progress of member %s is not told: %s", self.run_id, self.index, in_a_word(error)
                )


@dataclass(frozen=True)
class RetryLater:
    """A member that failed and is to be tried again later, here or elsewhere.

    Attributes:
        index: Its place in the group.
        attempt: The execution that failed.
        delay: Seconds until the next one.
        made: Retries that this execution made itself before.
        error: Why it failed.
        is_unrun: Whether this worker cannot run it, and others may.
    """

    index: int
    attempt: int
    delay: float
    made: int
    error: BaseException | None
    is_unrun: bool = False


class MemberRunner:
    """Runs members of one group run, one at a time.

    Args:
        deployment: Where record and keys are.
        spec: The group.
        worker: The name of this worker, for messages.
    """

    def __init__(self, deployment: Deployment, spec: GroupSpec, worker: str) -> None:
        self._deployment = deployment
        self._spec = spec
        self._worker = worker
        self.seal = RunSeal(deployment.keys, spec)
        self._engine = WorkflowEngine()
        self._channels: dict[str, Channel] = {}
        self._resolver = cache(deployment.resolver)
        shared = deployment.shared_payloads
        self._blobs = GivenBlobs(lambda kind, name: shared.blob(spec.run_id, kind, name))
        self._chunk: tuple[bytes, Chunk] | None = None
        self._code = ReceivedCode(
            deployment.keys,
            (spec.run_id, spec.group_id),
            lambda name: unpack(shared.content(spec.run_id, name)),
            self._blobs,
        )
        self.soft_limit = SoftLimit(deployment.runtime)
        self._others = OtherWorkers(deployment, spec, worker)

    def close(self) -> None:
        """Let go of what members ran with; values of channels may be large."""
        self._engine.close()
        self._channels.clear()

    def run(self, granted: GrantedMember, owner: str, is_cancelled: Callable[[], bool]) -> MemberReport | RetryLater:
        """Run one member; its own failure, and whatever is wrong with its envelope, is part of the result."""
        lease = Lease(self._spec.run_id, granted.index, granted.attempt, owner)
        return self.report(granted, lambda: self._outcome(granted, lease, is_cancelled))

    def run_continuation(
        self, granted: GrantedMember, owner: str, is_cancelled: Callable[[], bool], values: list[Any]
    ) -> MemberReport | RetryLater:
        """Run the continuation with the list of the members' values, in the same way."""
        lease = Lease(self._spec.run_id, granted.index, granted.attempt, owner)
        return self.report(granted, lambda: self._continuation(granted, lease, is_cancelled, values))

    def report(
        self, granted: GrantedMember, call: Callable[[], BranchOutcome], words: Words | None = None
    ) -> MemberReport | RetryLater:
        """What comes of a member, for the record.

        Args:
            granted: The member.
            call: Runs its branch, within the time limits that it has.
            words: What it has printed and logged before.
        """
        hard, limit = limits_of(self._deployment, self._spec, granted.index)
        member = RunningMember(self._spec.run_id, granted.index, self._deployment, words)
        around, begun_in = running_member.set(member), process.mark
        blobs, contents = TakenBlobs(), dict[str, bytes]()
        try:
            outcome = self.soft_limit.within(limit, call)
            leave_copy(begun_in, outcome.error)
            _name_soft_limit(outcome, limit)
            leave_if_told(outcome.error)
            if outcome.retry_in is not None:
                return _retry_later(granted, outcome, outcome.retry_in)
            outcome.losses, outcome.said = granted.losses, _said(member)
            state = state_of(outcome)
            payload = pack_outcome(outcome, result_pickles(self.seal, granted.index), blobs)
            contents = blobs.contents
            if outcome.requests.waiting:
                _log.info("Run %s: %s waits for people", self._spec.run_id, outcome.task_id)
            elif outcome.error is not None:
                self._log(outcome.task_id, outcome.error)
        except SoftTimeLimitExceeded:
            state = MemberState.TIMED_OUT
            over = TaskTimeoutError(member_name(self._spec, granted.index), limit or 0.0)
            self._log(over.task_id, over)
            payload = pack_failure(over, time.time(), granted.losses, _said(member))
        except UnknownTaskError as error:
            try:
                delay = self._others.wait_for(error)
            except TaskResolutionError as unknown_to_all:
                state, payload = MemberState.FAILED, pack_failure(unknown_to_all, time.time(), granted.losses)
                self._log(member_name(self._spec, granted.index), unknown_to_all)
            else:
                return RetryLater(granted.index, granted.attempt, delay, 0, error, is_unrun=True)
        except BaseException as error:  # noqa: BLE001 - users' tasks may raise anything; signals are the worker's own
            leave_copy(begun_in, error)
            leave_if_told(error)
            state, failure = self._failure(granted, error, hard)
            payload = pack_failure(failure, time.time(), granted.losses, _said(member))
        finally:
            running_member.reset(around)
        return report_of(self.seal, granted, state, payload, contents)

    def _failure(
        self, granted: GrantedMember, error: BaseException, hard: float | None
    ) -> tuple[MemberState, BaseException]:
        """What a member ended with, whose branch raised what is no failure of one task."""
        name = member_name(self._spec, granted.index)
        if hard is not None and _is_of_green_pool(error):
            return MemberState.TIMED_OUT, TaskTimeoutError(name, hard)
        self._log(name, error)
        return MemberState.FAILED, error

    def _log(self, name: str, error: BaseException) -> None:
        """One line for the operator; the outcome has the traceback."""
        _log.warning("Run %s: %s failed: %s: %.500s", self._spec.run_id, name, type(error).__name__, message_of(error))

    def _outcome(self, granted: GrantedMember, lease: Lease, is_cancelled: Callable[[], bool]) -> BranchOutcome:
        envelope = self._envelope(granted)
        shared = self._deployment.shared_payloads.get(self._spec.run_id, envelope.shared)
        tasks = self._tasks(envelope)
        branch = RemoteBranch(
            tasks[envelope.task_id],
            tasks,
            [(source, target) for source, target in envelope.edges],
            shared,
            channel=self._channel(envelope.shared, shared),
            cycle_counts=envelope.cycle_counts,
            info=WorkerMember(self._deployment, lease, is_cancelled),
            engine=self._engine,
            retries=granted.retries,
            longest_wait=LONGEST_WAIT,
        )
        return branch.run()

    def branch_of(
        self, task: Executable, name: str, shared: SharedPayload, lease: Lease, is_cancelled: Callable[[], bool]
    ) -> RemoteBranch:
        """The branch of a member that is at hand as a task, and drags nothing along.

        Args:
            task: The member.
            name: The hash of what it has in common with the others.
            shared: That itself.
            lease: The right to run it.
            is_cancelled: Whether it is cancelled.
        """
        return RemoteBranch(
            task,
            {task.task_id: task},
            (),
            shared,
            channel=self._channel(name, shared),
            info=WorkerMember(self._deployment, lease, is_cancelled),
            engine=self._engine,
            longest_wait=LONGEST_WAIT,
        )

    def chunk(self, packed: bytes, index: int) -> Chunk:
        """The chunk that a member is in; that of the last one is kept.

        Raises:
            SignatureError: As `Chunk.unpack`.
            PayloadError: As `Chunk.unpack`.
        """
        if self._chunk is None or self._chunk[0] is not packed or index not in self._chunk[1].members:
            spec, keys = self._spec, self._deployment.keys
            found = Chunk.unpack(packed, run_id=spec.run_id, group_id=spec.group_id, index=index, keys=keys)
            if found.inline is not None:
                self._deployment.shared_payloads.get(spec.run_id, found.shared, found.inline.encode())
            self._chunk = packed, found
        return self._chunk[1]

    def resolved(self, chunk: Chunk) -> Any:
        """What the members of a chunk are instances of.

        Raises:
            TaskResolutionError: When it cannot be found, or made, here.
        """
        resolver = self._resolver(str(chunk.task.get("resolver_id", "default")))
        return resolver.resolve(chunk.task, bound_to=(chunk.run_id, chunk.group_id, ""), code=self._code)

    def _envelope(self, granted: GrantedMember) -> Envelope:
        """The envelope of a member, out of its chunk when it is in one."""
        spec = self._spec
        if granted.envelope.startswith(CHUNK_MARK):
            return self.chunk(granted.envelope, granted.index).envelope(granted.index)
        if not granted.envelope:
            raise PayloadError(
                f"Member {granted.index} is not in the record of group run '{spec.run_id}' any more: its server has "
                "lost or evicted a part of it"
            )
        keys, index = self._deployment.keys, granted.index
        return Envelope.unpack(granted.envelope, run_id=spec.run_id, group_id=spec.group_id, index=index, keys=keys)

    def _tasks(self, envelope: Envelope) -> dict[str, Any]:
        """The tasks of the branch, resolved; failures name the worker."""
        found: dict[str, Any] = {}
        resolver_id = "default"
        try:
            for data in envelope.tasks:
                resolver_id = str(data.get("resolver_id", "default"))
                task = self._resolver(resolver_id).resolve(data, bound_to=envelope.binding, code=self._code)
                found[task.task_id] = task
        except UnknownTaskError as error:
            raise UnknownTaskError(
                f"Worker '{self._worker}' cannot run '{envelope.task_id}': {error}",
                name_in_table(error.reference, resolver_id),
            ) from error
        except (TaskResolutionError, SignatureError) as error:
            raise TaskResolutionError(
                f"Worker '{self._worker}' cannot run '{envelope.task_id}': {error}", error
            ) from error
        if envelope.task_id not in found:
            raise TaskResolutionError(f"The envelope of '{envelope.task_id}' does not hold that task")
        return found

    def _channel(self, name: str, shared: SharedPayload) -> Channel:
        """What the members see as their parent's channel."""
        channel = self._channels.get(name)
        if channel is None:
            if shared.channel:
                root = ChannelWithGaps(shared, self._deployment)
                channel = OverlaidChannel(root, shared.overlay) if shared.overlay else root
            else:
                channel = MemoryChannel(shared.session_id)
                pickles = signed_pickles(self._deployment.keys, "seed", shared.session_id)
                for key, value in shared.seeds.items():
                    channel.set(key, from_jsonable(value, pickles=pickles, blobs=self._blobs))
            self._channels[name] = channel
        return channel

    def _continuation(
        self, granted: GrantedMember, lease: Lease, is_cancelled: Callable[[], bool], values: list[Any]
    ) -> BranchOutcome:
        spec, deployment = self._spec, self._deployment
        envelope = self._envelope(granted)
        task = self._tasks(envelope)[envelope.task_id]
        shared = deployment.shared_payloads.get(spec.run_id, envelope.shared)
        channel = MemoryChannel(spec.run_id)
        channel.set(spec.group_id + RESULT_SUFFIX, values)
        free = free_parameters(task.func, inject_context=task.inject_context, bound=task.bound_arguments)
        taken = {free[0]: values} if free else {}
        branch = RemoteBranch(
            task.instance(task.task_id, {**task.bound_arguments, **taken}),
            {},
            [],
            shared,
            channel=channel,
            info=WorkerMember(deployment, lease, is_cancelled),
            engine=self._engine,
        )
        return branch.run()


def _said(member: RunningMember) -> list[Line]:
    return [] if member.words is None else member.words.lines()


def leave_if_told(error: BaseException | None) -> None:
    """Go on leaving when a signal ends this pool child, which is no failure of the member that happened to run."""
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code in _SIGNAL_EXITS:
        raise error


def _name_soft_limit(outcome: BranchOutcome, limit: float | None) -> None:
    """Say of a member whose soft time limit ended it what every other limit says."""
    raised = outcome.error
    if isinstance(raised, SoftTimeLimitExceeded):
        outcome.error = TaskTimeoutError(outcome.task_id, limit or 0.0)
        outcome.results = [
            (name, outcome.error if isinstance(value, SoftTimeLimitExceeded) else value)
            for name, value in outcome.results
        ]


def _is_of_green_pool(error: BaseException) -> bool:
    """Whether a pool of gevent, which cannot kill a process, has raised it because a hard time limit is over."""
    return type(error).__module__ in {"gevent.timeout", "eventlet.timeout"}


def _retry_later(granted: GrantedMember, outcome: BranchOutcome, delay: float) -> RetryLater:
    made = outcome.retry_counts[outcome.task_id] - granted.retries - 1
    return RetryLater(granted.index, granted.attempt, delay, made, outcome.error)


def state_of(outcome: BranchOutcome) -> MemberState:
    if outcome.canceled:
        return MemberState.FAILED
    if outcome.success:
        return MemberState.SUCCEEDED
    return MemberState.TIMED_OUT if isinstance(outcome.error, TaskTimeoutError) else MemberState.FAILED
