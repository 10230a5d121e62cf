"""The members of a block, one after another, on a worker.

Where a member is nothing but a call of a function with arguments that are here already, it is just that call, and its
value goes into the page. Whatever else comes of it, an error, a task that it adds, a value of a rare kind, makes a
branch of it, as of every member that runs by itself: see `graflow.core.remote.late`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from types import CoroutineType
from typing import Any, Final

from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import kept
from graflow.core.remote.branch import RemoteBranch
from graflow.core.remote.late import LateCalls, LateMember
from graflow.exceptions import GraflowError, PayloadError
from graflow.hearing.words import Words
from graflow.processes.forks import leave_copy, process
from graflow.values.blobs import LONG, TakenBlobs
from graflow_celery.deployment import Deployment
from graflow_celery.record import GrantedMember, GroupSpec, Lease, MemberReport, MemberState
from graflow_celery.wire.outcomes import result_pickles
from graflow_celery.wire.payload import as_text
from graflow_celery.worker.batches.holding import Holding, RunningBlock
from graflow_celery.worker.batches.plain import PlainChunk, plain_chunk
from graflow_celery.worker.batches.tally import Tally
from graflow_celery.worker.member import MemberRunner, RetryLater
from graflow_celery.worker.running import RunningMember, running_member

_LONG: Final = 4096  # characters; a longer text is looked at as values of other kinds are
_LONG_TEXT: Final = 65536  # characters of JSON; a longer value is none for a page
_LEAST, _MOST = -(2**63), 2**63

Execute = Callable[[GrantedMember], MemberReport | RetryLater]


class BlockLoop:
    """Runs the blocks that an owner holds.

    Args:
        deployment: Where their record is.
        spec: Their group.
        runner: Runs members.
        holding: What is held.
        tally: Is told what comes of each member.
        execute: Runs a member by itself.
        cancellation: Makes what tells a member whether it is cancelled.
        retry: Has a member tried again later; given the monotonic time.
        unburden: Is called when a member has come to long values.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        runner: MemberRunner,
        holding: Holding,
        tally: Tally,
        *,
        execute: Execute,
        cancellation: Callable[[GrantedMember], Callable[[], bool]],
        retry: Callable[[RetryLater, float], None],
        unburden: Callable[[], None],
    ) -> None:
        self._deployment = deployment
        self._spec = spec
        self._runner = runner
        self._holding = holding
        self._tally = tally
        self._execute = execute
        self._cancellation = cancellation
        self._retry = retry
        self._unburden = unburden
        self._runtime = deployment.runtime

    def run(self, running: RunningBlock) -> None:
        """Run the members of a block until it ends, or the group does."""
        plain = plain_chunk(self._deployment, self._spec, self._runner, running.block)
        if plain is None:
            self._run_singly(running)
        else:
            self._run_plain(running, plain)

    def _begins(self, running: RunningBlock, index: int) -> bool:
        """Whether a member begins now, rather than that the block ends before it."""
        with self._holding.lock:
            if index >= running.stop or self._holding.ended:
                return False
            running.at = index
            return True

    def _run_singly(self, running: RunningBlock) -> None:
        block, holding = running.block, self._holding
        for index in block.members:
            if not self._begins(running, index):
                return
            if index in holding.gone:
                running.page.add_report(None)
                continue
            member = GrantedMember(index, block.attempt, 0, 0, block.chunk)
            holding.begin(member)
            self._tally.started(member)
            self._take(running, self._execute(member))

    def _take(self, running: RunningBlock, result: MemberReport | RetryLater) -> None:
        now = self._tally.ended(result)
        if isinstance(result, RetryLater):
            self._retry(result, now)
        with self._holding.lock:
            self._holding.begun = None
            running.page.add_report(None if isinstance(result, RetryLater) else result)
        if isinstance(result, MemberReport) and result.blobs:
            self._unburden()

    def _run_plain(self, running: RunningBlock, plain: PlainChunk) -> None:
        around = running_member.set(None)
        try:
            with LateCalls() as calls:
                counted = self._call_all(running, plain, calls)
        finally:
            running_member.reset(around)
        if counted:
            self._tally.add(counted, MemberReport(running.at, running.block.attempt, MemberState.SUCCEEDED, b""))

    def _call_all(self, running: RunningBlock, plain: PlainChunk, calls: LateCalls) -> int:
        """Call the function for each member; returns how many of them nobody else has counted."""
        page, holding, deployment, call = running.page, self._holding, self._deployment, plain.call
        run_id, attempt, is_watched = self._spec.run_id, running.block.attempt, self._tally.is_watched
        clock, lock, packed = self._runtime.monotonic, holding.lock, running.block.chunk
        begun_in = process.mark
        since_epoch, make, counted = self._runtime.time() - clock(), partial(self._branch, plain, running), 0
        for index in running.block.members:
            with lock:
                if index >= running.stop or holding.ended:
                    break
                running.at = index
            if index in holding.gone:
                page.add_report(None)
                continue
            if is_watched:
                self._tally.started(GrantedMember(index, attempt, 0, 0, packed))
            try:
                given = plain.given(index)
            except GraflowError:  # by itself it fails with that
                self._take(running, self._execute(GrantedMember(index, attempt, 0, 0, packed)))
                continue
            late = calls.next(make, index, given)
            speaker = RunningMember(run_id, index, deployment)
            running_member.set(speaker)
            begun, value, failure = clock(), None, None
            try:
                value = call(given)
            except BaseException as error:  # noqa: BLE001 - users' tasks may raise anything
                failure = error
            if process.mark is not begun_in:
                leave_copy(begun_in, failure)
            ended = clock()
            text, words = None, speaker.words
            if failure is not None or words is not None or not (late.is_plain and is_at_hand(value)):
                text = None if failure is not None or words is not None else self._written(late, index, value)
                if text is None:
                    member = GrantedMember(index, attempt, 0, 0, packed)
                    self._take(running, self._branched(member, late, ended - begun, value, failure, words))
                    continue
            with lock:
                if text is None:
                    page.add_value(value, ended - begun, since_epoch + ended)
                else:
                    page.add_text(text, ended - begun, since_epoch + ended)
            if is_watched:
                self._tally.ended(MemberReport(index, attempt, MemberState.SUCCEEDED, b""))
            else:
                counted += 1
        return counted

    def _branch(self, plain: PlainChunk, running: RunningBlock, index: int, given: Mapping[str, Any]) -> RemoteBranch:
        member = GrantedMember(index, running.block.attempt, 0, 0, running.block.chunk)
        lease = Lease(self._spec.run_id, index, member.attempt, self._holding.owner)
        return plain.branch(lease, given, self._cancellation(member))

    def _written(self, late: LateMember, index: int, value: Any) -> str | None:
        """A value that may change, as JSON; None where it takes more than that."""
        is_long = isinstance(value, str | bytes) and len(value) >= LONG
        if not late.is_plain or type(value) is CoroutineType or is_long:
            return None
        pickles, blobs = result_pickles(self._runner.seal, index), TakenBlobs()
        try:
            text = as_text(kept(value, "", pickles, blobs=blobs))
        except (PayloadError, ValueError):
            return None
        return None if blobs.contents or len(text) > _LONG_TEXT else text

    def _branched(
        self,
        member: GrantedMember,
        late: LateMember,
        seconds: float,
        value: object,
        error: BaseException | None,
        words: Words | None,
    ) -> MemberReport | RetryLater:
        """What comes of a member whose function was called, by way of its branch."""

        def outcome() -> BranchOutcome:
            made = late.outcome(value, error)
            made.duration += seconds
            return made

        return self._runner.report(member, outcome, words)


def is_at_hand(value: Any) -> bool:
    """Whether a value cannot change, and JSON keeps it as it is."""
    kind = type(value)
    if kind is int:
        return bool(_LEAST <= value < _MOST)
    if kind is str:
        return len(value) <= _LONG
    if kind is float:
        return isfinite(value)
    return value is None or kind is bool
