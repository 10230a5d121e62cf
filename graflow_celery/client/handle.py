"""A handle on a group that runs on Celery workers: wait for it, look at it, cancel it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Final

from graflow.core.handlers.group_policy import GroupExecutionPolicy, StrictGroupPolicy
from graflow.core.run.branch import BranchOutcome
from graflow.durations import checked_seconds
from graflow.exceptions import GroupTimeoutError
from graflow.runtime import Runtime
from graflow_celery.client.outcomes import (
    MemberOutcome,
    branch_outcome,
    group_timeout,
    judge,
    member_outcome,
    timed_out,
)
from graflow_celery.client.progress import MemberProgress, latest_progress
from graflow_celery.client.submission import Submission, policy_of
from graflow_celery.client.waiter import Waiter
from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupHeader, GroupSpec, GroupState, GroupStatus, MemberState, RecordedOutcome
from graflow_celery.wire.envelope import task_id_in
from graflow_celery.worker.member import running_member

_ASYNC_SLICE: Final = 0.5  # seconds after which a thread that waits for a coroutine looks whether it still should


class _Awaited(ABC):
    """A handle in a coroutine: `await` gives its results, which a thread waits for in slices.

    Attributes:
        _wanted: The one outcome that is waited for; None for those of all members.
    """

    _runtime: Runtime
    _waiter: Waiter
    _lock: AbstractContextManager[Any]
    _wanted: int | None = None

    @abstractmethod
    def results(self, timeout: float | None = None) -> list[Any]: ...

    def _deadline(self, timeout: float | None) -> float | None:
        """The end of a wait of so many seconds from now; None for no end."""
        seconds = checked_seconds("timeout", timeout)
        return None if seconds is None else self._runtime.monotonic() + seconds

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._results().__await__()

    async def _results(self) -> list[Any]:
        while not await asyncio.to_thread(self._take):
            pass
        return await asyncio.to_thread(self.results)

    def _take(self) -> bool:
        """Wait for more outcomes, not for long, since a thread cannot be told to stop; True when no more will come."""
        with self._lock:
            end = self._runtime.monotonic() + _ASYNC_SLICE
            fresh = next(self._waiter.until(end, wanted=self._wanted), None)
            is_over = self._waiter.is_complete if self._wanted is None else self._wanted in self._waiter.seen
            return is_over or (fresh is None and self._runtime.monotonic() < end)


class GroupHandle(_Awaited):
    """A group that was submitted, from this process or another one.

    Attributes:
        run_id: What `attach` takes; any process may.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        *,
        policy: GroupExecutionPolicy | None = None,
        task_ids: Sequence[str] | None = None,
        submission: Submission | None = None,
    ) -> None:
        self.run_id = spec.run_id
        self.group_id = spec.group_id
        self._deployment = deployment
        self._runtime = deployment.runtime
        self._spec = spec
        self._n = spec.n
        self._policy = policy or policy_of(spec)
        self._task_ids = list(task_ids) if task_ids is not None else None
        self._lock = self._runtime.lock()
        self._waiter = Waiter(deployment, self.run_id, self._n, submission, helping=running_member.get() is not None)

    @cached_property
    def _header(self) -> GroupHeader:
        return self._deployment.record.header(self.run_id)

    def __repr__(self) -> str:
        return f"GroupHandle({self.run_id!r}, {self.group_id!r}, {self._n} members)"

    # -- waiting ---------------------------------------------------------------------------------------------------

    def results(self, timeout: float | None = None) -> list[Any]:
        """Values in member order, None at failed places of a tolerant policy.

        Args:
            timeout: Seconds to wait; the group goes on after it.

        Raises:
            ParallelGroupError: When the policy refuses the results.
            GroupTimeoutError: (a `TimeoutError`) when the wait, or the time of the group itself, is over.
        """
        stored = self._wait(timeout)
        outcomes = self._branch_outcomes(stored)
        if timed_out(stored):
            raise group_timeout(self.group_id, self._spec, stored)
        judge(self.group_id, self._ids(), outcomes, self._policy)
        return [outcomes[index].value for index in range(self._n)]

    def outcomes(self, timeout: float | None = None) -> list[MemberOutcome]:
        """Every member's outcome in member order; raises for no member's failure."""
        stored, ids = self._wait(timeout), self._ids()
        return [member_outcome(stored[index], ids[index], self._header) for index in range(self._n)]

    def as_completed(self, timeout: float | None = None) -> Iterator[MemberOutcome]:
        """Outcomes as they are recorded, those that are there already first."""
        return self._arriving(self._deadline(timeout))

    def _arriving(self, deadline: float | None) -> Iterator[MemberOutcome]:
        ids = self._ids()
        with self._lock:
            known = [outcome for index, outcome in self._waiter.seen.items() if index < self._n]
        for outcome in known:
            yield member_outcome(outcome, ids[outcome.index], self._header)
        told = {outcome.index for outcome in known}
        while len(told) < self._n:
            with self._lock:
                self._advance(deadline)
                fresh = [
                    outcome for index, outcome in self._waiter.seen.items() if index < self._n and index not in told
                ]
            for outcome in fresh:
                told.add(outcome.index)
                yield member_outcome(outcome, ids[outcome.index], self._header)

    def _advance(self, deadline: float | None) -> None:
        """Read at least one more outcome, unless another reader of this handle was faster."""
        if next(self._waiter.until(deadline), None) is None and not self._waiter.is_complete:
            self._raise_timeout()

    def _wait(self, timeout: float | None) -> Mapping[int, RecordedOutcome]:
        deadline = self._deadline(timeout)
        with self._lock:
            for _ in self._waiter.until(deadline):
                pass
            if not self._waiter.is_complete:
                self._raise_timeout()
            return {index: outcome for index, outcome in self._waiter.seen.items() if index < self._n}

    def _raise_timeout(self) -> None:
        raise GroupTimeoutError(self.group_id, len(self._waiter.seen), self._n, run_id=self.run_id)

    def _branch_outcomes(self, stored: Mapping[int, RecordedOutcome]) -> dict[int, BranchOutcome]:
        ids, limit = self._ids(), self._spec.timeout
        return {index: branch_outcome(stored[index], ids[index], limit) for index in range(self._n)}

    def _ids(self) -> list[str]:
        """The members' ids, looked up in the record where they do not follow from the group's."""
        if self._task_ids is None:
            if self._spec.meta.get("regular"):
                self._task_ids = [f"{self.group_id}[{index}]" for index in range(self._n)]
            else:
                found = self._deployment.record.envelopes(self.run_id, range(self._n))
                self._task_ids = [
                    f"{self.group_id}[{index}]" if envelope is None else task_id_in(envelope)
                    for index, envelope in enumerate(found)
                ]
        return self._task_ids

    async def __aiter__(self) -> AsyncIterator[MemberOutcome]:
        ids, told, is_complete = await asyncio.to_thread(self._ids), set[int](), False
        while not is_complete:
            is_complete = await asyncio.to_thread(self._take)
            for index, stored in list(self._waiter.seen.items()):
                if index < self._n and index not in told:
                    told.add(index)
                    yield member_outcome(stored, ids[index], self._header)

    # -- the rest --------------------------------------------------------------------------------------------------

    def status(self) -> GroupStatus:
        """Members counted by where they are."""
        with self._deployment.errors():
            return self._deployment.record.status(self.run_id)

    def progress(self) -> dict[int, MemberProgress]:
        """What each member last told with `context.progress`, by index; those that told nothing are absent."""
        with self._deployment.errors():
            return latest_progress(self._deployment.record, self.run_id)

    def cancel(self, reason: str = "cancelled by its handle") -> bool:
        """Record every open member as CANCELLED, here and in groups that members opened; False when all had ended."""
        with self._deployment.errors():
            return bool(self._deployment.record.cancel(self.run_id, reason))

    def continuation(self) -> ContinuationHandle:
        """A handle of one, for the task that was given as `then`.

        Raises:
            ValueError: When the group was submitted without one.
        """
        if not self._spec.continuation:
            raise ValueError(f"Group '{self.group_id}' was submitted without then=")
        return ContinuationHandle(self._deployment, self._spec)


_COUNTED: Final = {MemberState.SUCCEEDED: "succeeded", MemberState.CANCELLED: "cancelled", MemberState.LOST: "lost"}


class ContinuationHandle(_Awaited):
    """The continuation of a group, as a handle of one member."""

    def __init__(self, deployment: Deployment, spec: GroupSpec) -> None:
        self.run_id = spec.run_id
        self.group_id = spec.group_id
        self._wanted = self._index = spec.n
        self._task_id = str(spec.meta.get("then_id", "continuation"))
        self._waiter = Waiter(deployment, self.run_id, self._index, helping=running_member.get() is not None)
        self._deployment = deployment
        self._runtime = deployment.runtime
        self._lock = self._runtime.lock()

    def __repr__(self) -> str:
        return f"ContinuationHandle({self.run_id!r}, {self._task_id!r})"

    def outcomes(self, timeout: float | None = None) -> list[MemberOutcome]:
        """Its outcome, in a list of one."""
        stored = self._stored(timeout)
        return [member_outcome(stored, self._task_id, self._deployment.record.header(self.run_id))]

    def results(self, timeout: float | None = None) -> list[Any]:
        """Its value, in a list of one.

        Raises:
            ParallelGroupError: When it failed, or did not run because the group failed.
            GroupTimeoutError: When the wait is over.
        """
        outcome = branch_outcome(self._stored(timeout), self._task_id, None)
        judge(self.group_id, [self._task_id], {0: outcome}, StrictGroupPolicy())
        return [outcome.value]

    def as_completed(self, timeout: float | None = None) -> Iterator[MemberOutcome]:
        """Its outcome, when there is one."""
        return self._arriving(self._deadline(timeout))

    def _arriving(self, deadline: float | None) -> Iterator[MemberOutcome]:
        left = None if deadline is None else deadline - self._runtime.monotonic()
        yield from self.outcomes(left)

    def status(self) -> GroupStatus:
        """The counts of a group of one: pending until it has ended."""
        waiter = Waiter(self._deployment, self.run_id, self._index)
        with self._deployment.errors():
            for _ in waiter.until(self._runtime.monotonic(), wanted=self._index):
                pass
        found = waiter.seen.get(self._index)
        counts = dict.fromkeys(("pending", "running", "succeeded", "failed", "cancelled", "lost"), 0)
        counts["pending" if found is None else _COUNTED.get(found.state, "failed")] = 1
        if found is None:
            state = GroupState.RUNNING
        elif found.state is MemberState.SUCCEEDED:
            state = GroupState.DONE
        else:
            state = GroupState.CANCELLED if found.state is MemberState.CANCELLED else GroupState.FAILED
        return GroupStatus(total=1, **counts, state=state)

    def cancel(self, reason: str = "cancelled by the handle of its continuation") -> bool:
        """Cancel the group with its continuation; False when it had ended."""
        with self._deployment.errors():
            return bool(self._deployment.record.cancel(self.run_id, reason))

    async def __aiter__(self) -> AsyncIterator[MemberOutcome]:
        while not await asyncio.to_thread(self._take):
            pass
        for outcome in await asyncio.to_thread(self.outcomes):
            yield outcome

    def _stored(self, timeout: float | None) -> RecordedOutcome:
        deadline = self._deadline(timeout)
        with self._lock:
            for _ in self._waiter.until(deadline, wanted=self._index):
                pass
            found = self._waiter.seen.get(self._index)
        if found is None:
            done = len(self._waiter.seen)
            raise GroupTimeoutError(self.group_id, done, self._index, run_id=self.run_id, task_id=self._task_id)
        return found
