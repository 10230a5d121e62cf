"""The group record: the one place that decides whether a member of a group is done.

A message of the broker is a hint; this record is the truth. Each member is executed at least once (at most once with
`max_attempts=1`), its outcome is recorded exactly once, and every opened group ends DONE, FAILED or CANCELLED.

Each method is one script that runs on the time of Redis and may be repeated after a lost answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graflow_celery.keys import Keys
from graflow_celery.record_types import (
    Batch,
    BeatAnswer,
    Claim,
    Completion,
    Cursor,
    GrantedMember,
    GroupHeader,
    GroupSpec,
    GroupState,
    GroupStatus,
    Lease,
    MemberResult,
    MemberState,
    Opened,
    RecordFullError,
    Released,
    Republish,
    StoredOutcome,
    WorkerInfo,
    manifest_digest,
)

__all__ = [
    "Batch",
    "BeatAnswer",
    "Claim",
    "Completion",
    "Cursor",
    "GrantedMember",
    "GroupHeader",
    "GroupRecord",
    "GroupSpec",
    "GroupState",
    "GroupStatus",
    "Keys",
    "Lease",
    "MemberResult",
    "MemberState",
    "Opened",
    "RecordFullError",
    "Released",
    "Republish",
    "StoredOutcome",
    "WorkerInfo",
    "check_server",
    "manifest_digest",
]


def check_server(client: Any) -> None:
    """Refuse a Redis that cannot hold the record.

    Raises:
        ConfigError: for a Redis Cluster, and for a server that evicts any key (`allkeys-*`).
    """
    raise NotImplementedError


class GroupRecord:
    """The records of all groups under one prefix.

    `client` is a synchronous `redis.Redis` that answers in bytes. The object is as safe across threads as its client;
    after a fork make a new one.
    """

    def __init__(self, client: Any, prefix: str = "graflow") -> None: ...

    # the submitter

    def open(self, spec: GroupSpec, manifest: Sequence[bytes], shared: Mapping[str, bytes] | None = None) -> Opened:
        """Write a group before anything is published; the same digest again attaches to what is there.

        `manifest` has one envelope per member, and one more at the end when `spec.continuation`. `shared` are payloads
        that several envelopes name by content hash. A child of a cancelled parent is opened CANCELLED.

        Raises:
            GroupConflictError: the run id is taken by a group with another digest.
            RecordFullError: Redis is out of memory; nothing is kept.
            PayloadError: the manifest does not fit to `spec`.
        """
        raise NotImplementedError

    def mark_published(self, run_id: str) -> None:
        """Note that the submitter has sent every member once."""
        raise NotImplementedError

    def hurry(self, run_id: str) -> None:
        """Let the next sweep publish every unclaimed member, whatever its queue wait: after a submitter that died while publishing."""
        raise NotImplementedError

    def read(self, run_id: str, cursor: Cursor | None = None, *, block: float = 0.0, count: int = 1000) -> Batch:
        """The outcomes recorded after the cursor; waits up to `block` seconds when there are none and the run is open.

        One call answers when anything is there, when the group is closed, when an event woke it, or when the time is up.

        Raises:
            GroupNotFoundError: no such run.
            GroupLostError: the run was there when the cursor began, and is not any more.
        """
        raise NotImplementedError

    def outcomes(self, run_id: str, start: int = 0, count: int | None = None) -> list[StoredOutcome]:
        """The recorded outcomes of members `start` to `start + count`, by index; open ones are absent, n is the continuation.

        Raises:
            GroupNotFoundError: no such run.
        """
        raise NotImplementedError

    def header(self, run_id: str) -> GroupHeader:
        """Specification, state and counts.

        Raises:
            GroupNotFoundError: no such run.
        """
        raise NotImplementedError

    def status(self, run_id: str) -> GroupStatus:
        """The counts alone.

        Raises:
            GroupNotFoundError: no such run.
        """
        raise NotImplementedError

    def progress(self, lease: Lease, data: bytes) -> None:
        """Append a progress event of a running member to the capped stream; never fails for a run that ended."""
        raise NotImplementedError

    def events(self, run_id: str, after: str = "0", *, count: int = 1000) -> list[tuple[str, dict[str, bytes]]]:
        """The events after a stream id: `kind` is open, claim, record, retry, lost, progress or end."""
        raise NotImplementedError

    def cancel(self, run_id: str, reason: str = "") -> list[str]:
        """Record every open member as CANCELLED at once, in this run and in all runs that its members opened.

        Returns the runs that this call brought to an end; empty when it had ended before.

        Raises:
            GroupNotFoundError: no such run.
        """
        raise NotImplementedError

    def raise_budget(self, run_id: str, attempts: int) -> bool:
        """Allow `attempts` more losses per member; False when the run is final or gone."""
        raise NotImplementedError

    def delete(self, run_id: str) -> bool:
        """Remove every key of a run; False when there was none."""
        raise NotImplementedError

    # the worker

    def claim(
        self, run_id: str, indices: Sequence[int], owner: str, *, limit: int | None = None, envelopes: bool = True
    ) -> Claim:
        """Take members to run; `owner` is unique per delivery of a message, so that a repeated call grants the same again.

        A member that was lost before is granted alone, and so is every one with `max_attempts=1`: the rest is in
        `Claim.left`. Never raises for a run that is gone: everything is refused and `state` is None.
        """
        raise NotImplementedError

    def claim_continuation(self, run_id: str, owner: str) -> Claim:
        """Take the continuation (index n), once all members are recorded."""
        raise NotImplementedError

    def envelopes(self, run_id: str, indices: Sequence[int]) -> list[bytes | None]:
        """Envelopes of the manifest, None where there is none."""
        raise NotImplementedError

    def shared(self, run_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """Shared payloads by content hash; those that are not there are absent."""
        raise NotImplementedError

    def beat(self, leases: Iterable[Lease]) -> BeatAnswer:
        """Extend the leases of members that run in this process."""
        raise NotImplementedError

    def complete(self, run_id: str, owner: str, results: Sequence[MemberResult]) -> Completion:
        """Report results; the first outcome of a member wins, the last one of a group ends it.

        Repeat after a lost answer. A redis `OutOfMemoryError` has recorded nothing of this call: keep and repeat.
        """
        raise NotImplementedError

    def retry(self, run_id: str, owner: str, index: int, attempt: int, delay: float) -> Released:
        """Hand back a member that failed, to be run again after `delay` seconds (the sweeper publishes it).

        Retries are counted apart from losses. `Released.released` is empty when the lease was lost.
        """
        raise NotImplementedError

    def release(self, run_id: str, owner: str, indices: Sequence[int]) -> Released:
        """Hand back members that were claimed and not started; the caller publishes them again.

        The attempt is not counted.
        """
        raise NotImplementedError

    # the sweeper

    def sweep(self, limit: int = 1000) -> list[Republish]:
        """Look at every run that is due and name up to `limit` members to publish again.

        Claimed and overdue: lost, next attempt, or LOST at `max_attempts`. Never claimed and overdue: the same attempt
        with doubled wait. Past the deadline of the group: TIMED_OUT. Any number of sweepers may run.
        """
        raise NotImplementedError

    def open_groups(self) -> list[str]:
        """Run ids that are not closed, the next one due first."""
        raise NotImplementedError

    # the worker processes

    def register_worker(self, worker_id: str, info: Mapping[str, Any], *, ttl: float = 30.0) -> None:
        """Beat of a worker process; `info` (slots, queues, modules, digest, …) is kept as JSON. Those silent for `ttl` seconds are dropped."""
        raise NotImplementedError

    def forget_worker(self, worker_id: str) -> None:
        raise NotImplementedError

    def live_workers(self, within: float = 30.0) -> list[WorkerInfo]:
        """Workers whose last beat is at most `within` seconds old."""
        raise NotImplementedError
