"""The whole group record: opening, ending and sweeping of groups on top of reading and leases."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis

from graflow.exceptions import GroupConflictError, GroupNotFoundError, PayloadError
from graflow_celery.errors import RecordFullError
from graflow_celery.record.data import (
    FORMAT_VERSION,
    MAX_MEMBERS,
    GroupSpec,
    GroupState,
    Lease,
    Opened,
    RecordedOutcome,
    Republish,
    WorkerInfo,
)
from graflow_celery.record.leases import MemberLeases
from graflow_celery.record.owners import RunOwners
from graflow_celery.record.reading import RecordReader
from graflow_celery.record.replies import integers, parse_spec
from graflow_celery.record.scripts import Scripts
from graflow_celery.record.workers import LiveWorkers

CHUNK_MEMBERS = 2_000
CHUNK_BYTES = 4 * 1024 * 1024
STANDSTILL = 2.5
"""Sweep intervals without a look of any sweeper that mean that the server stood still."""


class GroupRecord(MemberLeases, RecordReader):
    """The records of all groups under one prefix.

    `client` is a synchronous `redis.Redis` that answers in bytes. The object is as safe across threads as its client;
    after a fork make a new one.

    Raises:
        ConfigError: the client decodes its answers.
    """

    def __init__(self, client: redis.Redis, prefix: str = "graflow", *, scripts: Scripts | None = None) -> None:
        super().__init__(client, prefix, scripts=scripts)
        self._workers = LiveWorkers(self._scripts, self.keys)
        self.owners = RunOwners(self._scripts, self.keys)

    def open(self, spec: GroupSpec, manifest: Sequence[bytes], shared: Mapping[str, bytes] | None = None) -> Opened:
        """Write a group before anything is published; the same digest again attaches to what is there.

        `manifest` has one envelope per member, and one more at the end when `spec.continuation`. `shared` are payloads
        that several envelopes name by content hash. A child of a cancelled parent is opened CANCELLED.

        Raises:
            GroupConflictError: the run id is taken by a group with another digest.
            RecordFullError: Redis is out of memory; nothing is kept.
            PayloadError: the manifest does not fit to `spec`.
        """
        _check_manifest(spec, manifest)
        payloads = shared or {}
        opener = secrets.token_hex(8)
        size = sum(map(len, manifest)) + sum(map(len, payloads.values()))
        try:
            status = b"GONE"
            while status == b"GONE":
                status, state, epoch, published = self._write(spec, opener, size, manifest, payloads)
        except redis.exceptions.OutOfMemoryError as error:
            self._run("delete", spec.run_id, [spec.run_id, opener])
            raise RecordFullError(spec.run_id, size) from error
        if status == b"CONFLICT":
            raise GroupConflictError(
                spec.run_id, f"Group run '{spec.run_id}' exists with other members or arguments: use another run id"
            )
        return Opened(
            created=status == b"CREATED",
            state=GroupState(state.decode()),
            epoch=epoch.decode(),
            published=int(published) == 1,
        )

    def _write(
        self, spec: GroupSpec, opener: str, size: int, manifest: Sequence[bytes], shared: Mapping[str, bytes]
    ) -> Any:
        """Send the group in chunks; ends early when another submitter of the same group was faster."""
        parents = [self.keys.run(spec.parent_run, name) for name in ("header", "children")] if spec.parent_run else []
        fields = _header_fields(spec, size, parents[0] if parents else "")
        payloads: list[str | bytes] = [part for item in shared.items() for part in item]
        fresh_epoch = secrets.token_hex(8)
        for first, chunk in _chunks(manifest):
            sent = [] if first else payloads
            head = [spec.digest, opener, fresh_epoch, first, len(fields), len(sent)]
            more_keys = [self.keys.deployment("epoch"), *parents]
            reply = self._run("open", spec.run_id, [*head, *fields, *sent, *chunk], *more_keys)
            if reply[0] != b"OPENING":
                break
        return reply

    def restore(self, run_id: str, outcomes: Sequence[RecordedOutcome]) -> list[int]:
        """Record outcomes that are known from elsewhere, so that their members do not run (again).

        Returns those that had none yet. When the last of a group with a continuation is among them, the sweeper
        publishes the continuation.
        """
        parts = [part for x in outcomes for part in (x.index, x.attempts, x.state.value, x.owner, x.payload)]
        return integers(self._run("restore", run_id, parts))

    def mark_published(self, run_id: str) -> None:
        """Note that the submitter has sent every member once."""
        self._run("published", run_id, [])

    def expedite(self, run_id: str) -> None:
        """Make every unclaimed member due at the next sweep: after a submitter that died while publishing."""
        self._run("expedite", run_id, [])

    def progress(self, lease: Lease, data: bytes) -> None:
        """Add a progress event of a running member to the capped stream; nothing happens when the run has ended."""
        self._run("progress", lease.run_id, [lease.index, lease.attempt, data])

    def cancel(self, run_id: str, reason: str = "") -> list[str]:
        """Record every open member as CANCELLED at once, in this run and in all runs that its members opened.

        Returns the runs that this call brought to an end; empty when all had ended before.

        Raises:
            GroupNotFoundError: no such run.
        """
        reply = self._run("cancel", run_id, [reason])
        if reply[0] is None:
            raise GroupNotFoundError(run_id)
        changed, children = reply
        return [*([run_id] if changed else []), *self._cancel_all(children, f"with {run_id}", {run_id})]

    def _cancel_all(self, children: Sequence[bytes], reason: str, seen: set[str]) -> list[str]:
        """Level by level. A child opened meanwhile finds its parent cut; what a crash leaves, the sweeper finishes."""
        ended: list[str] = []
        pending = [child.decode() for child in children]
        while pending:
            run_id = pending.pop()
            if run_id in seen:
                continue
            seen.add(run_id)
            reply = self._run("cancel", run_id, [reason])
            if reply[0] is not None:
                ended += [run_id] if reply[0] else []
                pending += [child.decode() for child in reply[1]]
        return ended

    def sweep(self, limit: int = 1000, *, interval: float = 1.0) -> list[Republish]:
        """Look at every run that is due and name up to `limit` members of each to publish again.

        Claimed and overdue: lost, next attempt, or LOST at `max_attempts`. Never claimed and overdue: the same attempt
        with doubled wait. Past the deadline of the group: TIMED_OUT. Any number of sweepers may run, each at about
        every `interval` seconds.
        """
        keys = [self.keys.deployment("open"), self.keys.deployment("clock")]
        due: list[bytes] = self._scripts.run("look", keys, [limit, round(interval * STANDSTILL * 1000)])
        found = (self._sweep_run(run_id.decode(), limit) for run_id in due)
        return [republish for republish in found if republish is not None]

    def _sweep_run(self, run_id: str, limit: int) -> Republish | None:
        reply = self._run("sweep", run_id, [limit, run_id], self.keys.deployment("clock"))
        if reply[0] is None:
            return None
        spec, lost, waiting, continuation, ended, children = reply
        self._cancel_all(children, f"with {run_id}", {run_id})
        if not (lost or waiting or continuation or ended):
            return None
        return Republish(
            run_id=run_id,
            spec=parse_spec(spec),
            lost=integers(lost),
            waiting=integers(waiting),
            continuation=continuation == 1,
            ended=ended == 1,
        )

    def open_groups(self) -> list[str]:
        """Run ids that are not closed, the next one due first."""
        found: Any = self.client.zrange(self.keys.deployment("open"), 0, -1)
        return [run_id.decode() for run_id in found]

    def groups(self) -> list[str]:
        """Run ids whose record is kept, ended ones included; looks at every key of the server."""
        first, last = self.keys.run("*", "header").encode().split(b"*")
        found: Any = self.client.scan_iter(self.keys.run("*", "header"), count=1000)
        return sorted({key.removeprefix(first).removesuffix(last).decode() for key in found})

    def delete(self, run_id: str) -> bool:
        """Remove every key of a run, whatever its state; False when there was none."""
        return bool(self._run("delete", run_id, [run_id, ""]))

    def register_worker(self, worker_id: str, info: Mapping[str, Any], *, ttl: float = 30.0) -> list[str]:
        """Beat of a worker process; `info` (slots, queues, modules, digest, …) is kept as JSON.

        Returns the workers that were silent for `ttl` seconds; they are dropped, and one beat alone is told of each.
        """
        return self._workers.beat(worker_id, info, ttl=ttl)

    def forget_worker(self, worker_id: str) -> None:
        self._workers.forget(worker_id)

    def live_workers(self, within: float = 30.0) -> list[WorkerInfo]:
        """Workers whose last beat is at most `within` seconds old, the most silent first."""
        return self._workers.seen(within)


def _check_manifest(spec: GroupSpec, manifest: Sequence[bytes]) -> None:
    expected = spec.n + int(spec.continuation)
    if len(manifest) != expected:
        raise PayloadError(f"Group run '{spec.run_id}' needs {expected} envelopes, its manifest has {len(manifest)}")
    if spec.n > MAX_MEMBERS:
        raise PayloadError(f"Group run '{spec.run_id}' has {spec.n} members: {MAX_MEMBERS} are the limit of one group")


def _header_fields(spec: GroupSpec, size: int, parent: str) -> list[str | int]:
    """The header as names and values; times in milliseconds, 0 where there is no limit."""
    fields: dict[str, str | int] = {
        "version": FORMAT_VERSION,
        "run": spec.run_id,
        "spec": spec.to_json(),
        "n": spec.n,
        "size": spec.n + int(spec.continuation),
        "continuation": int(spec.continuation),
        "lease": round(spec.lease * 1000),
        "queue_wait": round(spec.queue_wait * 1000),
        "max_attempts": spec.max_attempts,
        "max_in_flight": spec.max_in_flight or 0,
        "result_ttl": max(1, round(spec.result_ttl * 1000)),
        "timeout": 0 if spec.timeout is None else max(1, round(spec.timeout * 1000)),
        "min_success": spec.min_success,
        "critical": f",{','.join(map(str, spec.critical))}," if spec.critical else "",
        "parent": parent,
        "manifest_bytes": size,
    }
    if spec.attempts:
        fields["own_attempts"] = 1
        fields.update((f"attempts:{index}", attempts) for index, attempts in spec.attempts.items())
    return [part for item in fields.items() for part in item]


def _chunks(manifest: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The manifest in pieces of limited count and size, each with its first index; one empty piece when it is empty."""
    first, size = 0, 0
    for index, envelope in enumerate(manifest):
        if index > first and (index - first >= CHUNK_MEMBERS or size + len(envelope) > CHUNK_BYTES):
            yield first, manifest[first:index]
            first, size = index, 0
        size += len(envelope)
    yield first, manifest[first:]
