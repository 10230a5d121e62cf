"""A handle on a group that runs on Celery workers: wait for it, look at it, cancel it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Final, Generic, NoReturn, TypeVar

from graflow.core.handlers.group_policy import GroupExecutionPolicy, StrictGroupPolicy
from graflow.core.nodes.mapped import R
from graflow.durations import checked_seconds
from graflow.exceptions import GroupNotFoundError, GroupTimeoutError
from graflow_celery.client.outcomes import (
    MemberOutcome,
    branch_outcome,
    group_timeout,
    judge,
    member_outcome,
)
from graflow_celery.client.progress import MemberProgress, latest_progress
from graflow_celery.client.repair import retry_members
from graflow_celery.client.submission import Submission
from graflow_celery.client.terms import policy_of
from graflow_celery.client.waiting.awaiting import awaited_runs
from graflow_celery.client.waiting.seen import Seen
from graflow_celery.client.waiting.sighting import Sighting
from graflow_celery.client.waiting.waiter import Waiter
from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupSpec, GroupState, GroupStatus, MemberState, RecordedOutcome
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.chunks import Chunk
from graflow_celery.wire.envelope import Envelope
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.running import running_member

_T = TypeVar("_T")

_ASYNC_SLICE: Final = 0.5  # seconds after which a thread that waits for a coroutine looks whether it still should


class _Handle(ABC, Generic[R]):
    """Some of the outcomes of one run: waited for in a thread or, in slices, in a coroutine.

    Args:
        deployment: Where the record is.
        spec: The group.
        options: How it is waited for.
        places: The indices of the outcomes.
        policy: What the outcomes have to satisfy.
        epoch: Of the data set in which the run was seen.
        submission: What was submitted; None in other processes.
        event: What `record.open` gave, where nobody has looked at the run before.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        options: GroupOptions,
        *,
        places: range,
        policy: GroupExecutionPolicy,
        epoch: str = "",
        submission: Submission | None = None,
        event: bytes = b"",
    ) -> None:
        self.run_id = spec.run_id
        self.group_id = spec.group_id
        self._deployment = deployment
        self._runtime = deployment.runtime
        self._spec = spec
        self._seal = RunSeal(deployment.keys, spec)
        self._options = options
        self._places = places
        self._kind = "" if submission is None else submission.kind
        self._policy = policy
        self._is_helping = running_member.get() is not None or deployment.runs_eagerly
        self._sighting = Sighting(deployment, self.run_id, epoch, spec.result_ttl)
        self._waiter = Waiter(
            *(deployment, spec, options, submission),
            sighting=self._sighting,
            helping=self._is_helping,
            event=event,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A handle stays in its process; send its run_id, and there attach({self.run_id!r})")

    @abstractmethod
    def _find_ids(self) -> Sequence[str]:
        """Whose outcomes they are, in the order of the places."""

    @abstractmethod
    def _timeout(self) -> GroupTimeoutError:
        """What a wait ends with whose time is over."""

    @property
    def _wanted(self) -> int | None:
        """The one outcome that is waited for; None for those of all members."""
        return self._places.start if self._places.start == self._spec.n and self._places else None

    @property
    def _is_over(self) -> bool:
        return self._waiter.reading.is_complete if self._wanted is None else self._wanted in self._waiter.seen

    @cached_property
    def _task_ids(self) -> Sequence[str]:
        return self._find_ids()

    # -- waiting ---------------------------------------------------------------------------------------------------

    def results(self, timeout: float | None = None) -> list[R]:
        """Values in member order, None at failed places of a tolerant policy.

        Args:
            timeout: Seconds to wait; the group goes on after it.

        Raises:
            ParallelGroupError: When the policy refuses the results.
            GroupTimeoutError: (a `TimeoutError`) when the wait, or the time of the group itself, is over.
        """
        return self._values(self._wait(timeout))

    def _values(self, stored: Seen) -> list[R]:
        values = self._values_of_pages(stored)
        if values is not None:
            return values
        ids = self._task_ids
        spec, seal = self._spec, self._seal
        outcomes = {index: branch_outcome(stored[index], name, spec, seal) for index, name in self._named(ids)}
        self._deployment.paces.note(self._kind, (outcome.duration for outcome in outcomes.values()))
        judge(spec, ids, outcomes, self._policy)
        return [outcomes[index].value for index in self._places]

    def _values_of_pages(self, stored: Seen) -> list[R] | None:
        """The values as they stand in pages, where there is nothing to judge."""
        if self._wanted is not None or type(self._policy) is not StrictGroupPolicy or not stored.have_succeeded:
            return None
        values = list[R]()
        for page in stored.pages_of(len(self._places)):
            values += page.values
            if self._kind:
                self._deployment.paces.note(self._kind, page.durations)
            page.close()
        return values if len(values) == len(self._places) else None

    def _named(self, ids: Sequence[str]) -> Iterator[tuple[int, str]]:
        return zip(self._places, ids, strict=True)

    def outcomes(self, timeout: float | None = None) -> list[MemberOutcome]:
        """Every outcome in member order; raises for no member's failure."""
        stored, ids = self._wait(timeout), self._task_ids
        return [self._outcome(stored[index], name) for index, name in self._named(ids)]

    def as_completed(self, timeout: float | None = None) -> Iterator[MemberOutcome]:
        """Outcomes as they are recorded, those that are there already first."""
        return self._arriving(self._deadline(timeout))

    def _arriving(self, deadline: float | None) -> Iterator[MemberOutcome]:
        for arrived in self._waiter.until(deadline, wanted=self._wanted, known=0):
            yield from self._tell([outcome for outcome in arrived if outcome.index in self._places])
        if not self._is_over:
            raise self._timeout()

    def _tell(self, arrived: Sequence[RecordedOutcome]) -> Iterator[MemberOutcome]:
        ids = self._task_ids
        for outcome in arrived:
            yield self._outcome(outcome, ids[outcome.index - self._places.start])

    def _outcome(self, stored: RecordedOutcome, task_id: str) -> MemberOutcome:
        return member_outcome(stored, task_id, self._waiter.header(), self._seal)

    def _deadline(self, timeout: float | None) -> float | None:
        """The end of a wait of so many seconds from now; None for no end."""
        seconds = checked_seconds("timeout", timeout)
        return None if seconds is None else self._runtime.monotonic() + seconds

    def _wait(self, timeout: float | None) -> Seen:
        deadline = self._deadline(timeout)
        for _ in self._waiter.until(deadline, wanted=self._wanted, as_whole=self._wanted is None):
            pass
        if not self._is_over:
            raise self._timeout()
        return self._waiter.seen

    # -- waiting in a coroutine ------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._results().__await__()

    async def _results(self) -> list[R]:
        return await self._taken(self._take_results)

    async def __aiter__(self) -> AsyncIterator[MemberOutcome]:
        known = 0
        while True:
            arrived, told = await self._taken(partial(self._take_arrived, known))
            for outcome in told:
                yield outcome
            if not arrived:
                return
            known += arrived

    async def _taken(self, take: Callable[[float], _T | None]) -> _T:
        """What comes first of a call that waits for so many seconds and may give None."""
        if not self._is_helping:
            return await awaited_runs(self._deployment).take(self._waiter, partial(take, 0.0))
        # Members that are run meanwhile need a thread of their own, which cannot be told to stop.
        while (found := await asyncio.to_thread(take, _ASYNC_SLICE)) is None:
            pass
        return found

    def _take_results(self, seconds: float) -> list[R] | None:
        for _ in self._waiter.until(self._runtime.monotonic() + seconds, wanted=self._wanted):
            pass
        return self.results() if self._is_over or self._waiter.reading.is_closed else None

    def _take_arrived(self, known: int, seconds: float) -> tuple[int, list[MemberOutcome]] | None:
        """How many outcomes came after so many, and those that are told; none when no more will come."""
        end = self._runtime.monotonic() + seconds
        arrived = next(self._waiter.until(end, wanted=self._wanted, known=known), None)
        if arrived is None:
            return (0, []) if self._is_over or self._waiter.reading.is_closed else None
        return len(arrived), list(self._tell([outcome for outcome in arrived if outcome.index in self._places]))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the record as ours; a run that is absent with what became of it."""
        try:
            with self._deployment.errors():
                yield
        except GroupNotFoundError as error:
            told = self._sighting.explain(error)
            if not isinstance(told, GroupNotFoundError):
                told = GroupNotFoundError(self.run_id, "Redis was wiped")
            raise told from None

    def _cancel(self, reason: str) -> bool:
        with self._asking():
            return bool(self._deployment.record.cancel(self.run_id, reason))


class GroupHandle(_Handle[R]):
    """A group that was submitted, from this process or another one.

    Attributes:
        run_id: What `attach` takes; any process may.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        options: GroupOptions,
        *,
        policy: GroupExecutionPolicy | None = None,
        task_ids: Sequence[str] | None = None,
        epoch: str = "",
        submission: Submission | None = None,
        event: bytes = b"",
    ) -> None:
        super().__init__(
            *(deployment, spec, options),
            places=range(spec.n),
            policy=policy or policy_of(spec),
            epoch=epoch,
            submission=submission,
            event=event,
        )
        self._known_ids = task_ids

    def __repr__(self) -> str:
        return f"GroupHandle({self.run_id!r}, {self.group_id!r}, {self._spec.n} members)"

    def _values(self, stored: Seen) -> list[R]:
        if self._waiter.reading.is_overdue:
            raise group_timeout(self.group_id, self._spec, stored)
        return super()._values(stored)

    def _find_ids(self) -> Sequence[str]:
        """The members' ids, looked up in the record where they do not follow from the group's."""
        if self._known_ids is not None:
            return self._known_ids
        if self._spec.meta.get("regular"):
            return [f"{self.group_id}[{index}]" for index in self._places]
        manifests, spec = self._deployment.record.manifests, self._spec
        if spec.stride:
            firsts: Sequence[int] = [spec.block(number).start for number in range(spec.blocks)]
            found = manifests.chunks(self.run_id, range(spec.blocks))
        else:
            firsts, found = self._places, manifests.envelopes(self.run_id, self._places)
        return [name for first, packed in zip(firsts, found, strict=True) for name in self._ids_in(packed, first)]

    def _ids_in(self, packed: bytes | None, first: int) -> list[str]:
        """The ids of the members of an entry of the manifest, of which this is the first one."""
        spec, keys = self._spec, self._deployment.keys  # policies name members by these, so they are verified
        members = spec.block(first // spec.stride) if spec.stride else (first,)
        if packed is None:
            return [f"{self.group_id}[{index}]" for index in members]
        place: dict[str, Any] = {"run_id": self.run_id, "group_id": self.group_id, "index": first, "keys": keys}
        if not spec.stride:
            return [Envelope.unpack(packed, **place).task_id]
        chunk = Chunk.unpack(packed, **place)
        return [chunk.task_id(index) for index in members]

    def _timeout(self) -> GroupTimeoutError:
        return GroupTimeoutError(self.group_id, len(self._waiter.seen), self._spec.n, run_id=self.run_id)

    def status(self) -> GroupStatus:
        """Members counted by where they are."""
        with self._asking():
            return self._deployment.record.status(self.run_id)

    def progress(self) -> dict[int, MemberProgress]:
        """What each member last told with `context.progress`, by index; those that told nothing are absent."""
        with self._asking():
            return latest_progress(self._deployment.record, self.run_id)

    def cancel(self, reason: str = "cancelled by its handle") -> bool:
        """Record every open member as CANCELLED, here and in groups that members opened; False when all had ended."""
        return self._cancel(reason)

    def retry(self, index: int | None = None) -> list[int]:
        """Have what failed run again, once the group has ended; what succeeded stays, and `then` follows once.

        Waiting goes on as if the group had been submitted again: `results()` waits for the members that run again.

        Args:
            index: The one member to run again; all that did not succeed when None. Where only the continuation failed,
                it alone runs again.

        Returns:
            The indices of the members that run again.

        Raises:
            GroupNotFoundError: When there is no such run any more.
            RetryRefusedError: When the group has not ended, was cancelled, or nothing of it failed.
        """
        with self._asking():
            again = retry_members(self._deployment, self.run_id, index)
        self._waiter.reading.forget_failures()
        return again

    def continuation(self) -> ContinuationHandle:
        """A handle of one, for the task that was given as `then`.

        Raises:
            ValueError: When the group was submitted without one.
        """
        if not self._spec.continuation:
            raise ValueError(f"Group '{self.group_id}' was submitted without then=")
        return ContinuationHandle(self._deployment, self._spec, self._options, self._sighting.epoch)


_COUNTED: Final = {MemberState.SUCCEEDED: "succeeded", MemberState.CANCELLED: "cancelled", MemberState.LOST: "lost"}


class ContinuationHandle(_Handle[Any]):
    """The continuation of a group, as a handle of one member."""

    def __init__(self, deployment: Deployment, spec: GroupSpec, options: GroupOptions, epoch: str) -> None:
        places = range(spec.n, spec.n + 1)
        super().__init__(deployment, spec, options, places=places, policy=StrictGroupPolicy(), epoch=epoch)
        self._task_id = str(spec.meta.get("then_id", "continuation"))

    def __repr__(self) -> str:
        return f"ContinuationHandle({self.run_id!r}, {self._task_id!r})"

    def _find_ids(self) -> Sequence[str]:
        return [self._task_id]

    def _timeout(self) -> GroupTimeoutError:
        done = len(self._waiter.seen)
        return GroupTimeoutError(self.group_id, done, self._spec.n, run_id=self.run_id, task_id=self._task_id)

    def status(self) -> GroupStatus:
        """The counts of a group of one: pending until it has ended."""
        with self._asking():
            found = self._deployment.record.outcomes(self.run_id, self._spec.n)
        outcome = found[0] if found else None
        counts = dict.fromkeys(("pending", "running", "succeeded", "failed", "cancelled", "lost"), 0)
        counts["pending" if outcome is None else _COUNTED.get(outcome.state, "failed")] = 1
        if outcome is None:
            state = GroupState.RUNNING
        elif outcome.state is MemberState.SUCCEEDED:
            state = GroupState.DONE
        else:
            state = GroupState.CANCELLED if outcome.state is MemberState.CANCELLED else GroupState.FAILED
        return GroupStatus(total=1, **counts, state=state)

    def cancel(self, reason: str = "cancelled by the handle of its continuation") -> bool:
        """Cancel the group with its continuation; False when it had ended."""
        return self._cancel(reason)
