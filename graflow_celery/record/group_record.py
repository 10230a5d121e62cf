"""The whole group record: opening, ending and sweeping of groups on top of reading and leases."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from graflow.exceptions import GroupConflictError
from graflow.signing import SigningKeys
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.errors import RecordFullError
from graflow_celery.record.base import MORE, REPORTS, slices
from graflow_celery.record.data.groups import GroupSpec, GroupState, Opened, Reopened
from graflow_celery.record.data.members import Lease, RecordedOutcome
from graflow_celery.record.data.sweeps import Look, Republish, Since, WorkerInfo
from graflow_celery.record.leases import MemberLeases
from graflow_celery.record.manifests import Manifests, check_manifest, size_of
from graflow_celery.record.owners import RunOwners
from graflow_celery.record.reading import SLICE, RecordReader
from graflow_celery.record.replies import integers, opened_of, reopened_of
from graflow_celery.record.scripts import Scripts
from graflow_celery.record.workers import LiveWorkers

_log = get_logger(__name__)

STANDSTILL = 2.5
"""Sweep intervals without a look of any sweeper that mean that the server stood still."""


class GroupRecord(MemberLeases, RecordReader):
    """The records of all groups under one prefix.

    `client` is a synchronous `redis.Redis` that answers in bytes. The object is as safe across threads as its client;
    after a fork make a new one.

    With `signing_keys` the specification of every group is signed, and none is believed that is not.

    Raises:
        ConfigError: the client decodes its answers.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str = "graflow",
        *,
        scripts: Scripts | None = None,
        signing_keys: SigningKeys | None = None,
    ) -> None:
        super().__init__(client, prefix, scripts=scripts, signing_keys=signing_keys)
        self.manifests = Manifests(client, prefix, scripts=self._scripts, signing_keys=signing_keys)
        self.workers = LiveWorkers(self._scripts, self.keys)
        self.owners = RunOwners(self._scripts, self.keys)

    def open(
        self,
        spec: GroupSpec,
        manifest: Sequence[bytes],
        shared: Mapping[str, bytes] | None = None,
        blobs: Mapping[str, bytes] | None = None,
    ) -> Opened:
        """Write a group before anything is published; the same digest again attaches to what is there.

        `manifest` has one envelope per member, or with `spec.stride` one chunk per block, and one envelope more at
        the end when `spec.continuation`. `shared` are payloads that they name by content hash, `blobs` long arguments.
        A child of a cancelled parent is opened CANCELLED.

        Raises:
            GroupConflictError: the run id is taken by a group with another digest.
            RecordFullError: Redis is out of memory; nothing is kept.
            PayloadError: the manifest does not fit to `spec`.
        """
        check_manifest(spec, manifest)
        payloads, blobs = shared or {}, blobs or {}
        opener = secrets.token_hex(8)
        try:
            while (reply := self.manifests.write(spec, opener, manifest, payloads, blobs))[0] == b"GONE":
                pass
        except redis.exceptions.OutOfMemoryError as error:
            self._run("delete", spec.run_id, [spec.run_id, opener])
            raise RecordFullError(spec.run_id, size_of(manifest, payloads, blobs)) from error
        if reply[0] == b"CONFLICT":
            raise GroupConflictError(
                spec.run_id, f"Group run '{spec.run_id}' exists with other members or arguments: use another run id"
            )
        if reply[1] == b"ENDING":  # with the run around it
            self._cancelled(spec.run_id, "")
            reply[1] = GroupState.CANCELLED.value.encode()
        return opened_of(reply)

    def restore(self, run_id: str, outcomes: Sequence[RecordedOutcome]) -> list[int]:
        """Record outcomes that are known from elsewhere, so that their members do not run (again).

        Returns those that had none yet. When the last of a group with a continuation is among them, the sweeper
        publishes the continuation.
        """
        recorded: list[bytes] = []
        for some in slices(outcomes, REPORTS):
            rows = ((x.index, x.attempts, x.state.value, x.owner, self._restored(run_id, x)) for x in some)
            found, has_more = self._run("restore", run_id, [part for row in rows for part in row])
            recorded += found
            if has_more:
                self._leave_out(run_id, publishes=False)
        return integers(recorded)

    def _restored(self, run_id: str, outcome: RecordedOutcome) -> bytes:
        return self.blobs.take(run_id, (outcome.index, outcome.attempts, outcome.owner), outcome.payload, outcome.blobs)

    def reopen(self, run_id: str, token: str, index: int | None = None) -> Reopened:
        """Have what failed in a group that has ended run again, or one member, and the continuation after it.

        What succeeded stays. Attempts go on counting, and what earlier ones still report is refused; losses and retries
        count anew, and the time of the group begins anew. Repeat it with the same token after a lost answer. The caller
        publishes the members, and after that calls `mark_published`.

        Raises:
            GroupNotFoundError: no such run, or a part of its record is missing.
            RetryRefusedError: it has not ended, was cancelled, is part of another run, or has nothing that failed.
        """
        members, lost, at = list[bytes](), list[bytes](), b""
        workers, wanted = self.keys.deployment("workers"), "" if index is None else index
        while (reply := self._run("reopen", run_id, [token, wanted, at], workers))[0] == MORE:
            _, at, more, more_lost = reply
            members, lost = members + more, lost + more_lost
        if reply[0] in {b"GONE", b"PARTIAL"}:
            raise self.not_found(run_id)
        again = reopened_of(reply, run_id, index, self._specs)
        while self._run("forget", run_id, [])[0] == MORE:  # what a crash leaves, the sweeper finishes
            pass
        return replace(again, members=integers(members) + again.members, lost=integers(lost) + again.lost)

    def mark_published(self, run_id: str) -> None:
        """Note that the submitter has sent every member once."""
        self._run("published", run_id, [])

    def tell_published(self, run_id: str) -> None:
        """`mark_published` without waiting for it; where it is lost, who attaches has open members sent once more."""
        self._scripts.tell("published", [self.keys.stem(run_id), self.keys.deployment("open")], [])

    def expedite(self, run_id: str) -> None:
        """Make every unclaimed member due at the next sweep: after a submitter that died while publishing."""
        left = 0
        while left >= 0:  # no script keeps the server from others for long
            left = self._run("expedite", run_id, [left, SLICE])

    def progress(self, lease: Lease, data: bytes) -> None:
        """Add a progress event of a running member to the capped stream; nothing happens when the run has ended."""
        self._run("progress", lease.run_id, [lease.index, lease.attempt, data])

    def cancel(self, run_id: str, reason: str = "") -> list[str]:
        """Record every open member as CANCELLED at once, in this run and in all runs that its members opened.

        Returns the runs that this call brought to an end; empty when all had ended before.

        Raises:
            GroupNotFoundError: no such run.
        """
        found = self._cancelled(run_id, reason)
        if found is None:
            raise self.not_found(run_id)
        changed, children = found
        return [*([run_id] if changed else []), *self._cancel_inside(run_id, children)]

    def _cancelled(self, run_id: str, reason: str) -> tuple[bool, list[bytes]] | None:
        """Cancel one run, a slice of its members at a time; whether this ended anything, and the runs inside it."""
        has_begun = False
        while (reply := self._run("cancel", run_id, [reason]))[0] == MORE:
            has_begun = True
        return None if reply[0] is None else (has_begun or bool(reply[0]), reply[1])

    def _cancel_inside(self, run_id: str, children: Sequence[bytes]) -> list[str]:
        """Level by level. A child opened meanwhile finds its parent cut; what a crash leaves, the sweeper finishes."""
        ended: list[str] = []
        seen, pending = {run_id}, [child.decode() for child in children]
        while pending:
            child = pending.pop()
            if child not in seen:
                seen.add(child)
                changed, further = self._cancelled(child, f"with {run_id}") or (False, [])
                ended += [child] if changed else []
                pending += [name.decode() for name in further]
        return ended

    def look(self, limit: int = 1000, *, interval: float = 1.0, since: Since | None = None) -> Look:
        """The runs that a sweeper has to look at now; any number may ask, each about every `interval` seconds.

        `since` tells of the caller's last look. Who has none sees nothing where nobody has looked for long: others, or
        it at its next look, can tell whether the server stood still or its clock was set.
        """
        keys = [self.keys.deployment("runs"), self.keys.deployment("clock")]
        call: list[Any] = [
            limit,
            round(interval * STANDSTILL * 1000),
            *([0, 0, 0, ""] if since is None else since.told),
        ]
        time, pause, step, due, asks = self._scripts.run("look", keys, call)
        runs = [run_id for entry in due if (run_id := self._readable(entry)) is not None]
        return Look(runs, time / 1000, pause / 1000, step / 1000, asks == 1)

    def settle_step(self) -> None:
        """Tell no further look of a step of the server's clock: every open group was expedited after it."""
        self.client.hdel(self.keys.deployment("clock"), "unsettled")

    def sweep(self, run_id: str, token: str, limit: int = 1000) -> Republish | None:
        """Name up to `limit` members of a run to publish again; None when there is nothing to do.

        Claimed and overdue: lost, next attempt, or LOST at `max_attempts`. Never claimed and overdue: the same attempt
        with doubled wait. Past the deadline of the group: TIMED_OUT. The token is another one for each call.

        Raises:
            redis.exceptions.ConnectionError: it was found, and the answer that told it got lost: `expedite` the run.
            SignatureError: whoever opened the run has other keys, and may sweep it.
            RecordDamagedError: something in the record of the run is not what it should be.
            RecordVersionError: it has another format.
        """
        while (reply := self._run("sweep", run_id, [limit, run_id, token]))[0] == MORE:
            pass
        if reply[0] is None:
            return None
        if reply[0] == b"AGAIN":  # the client has repeated the call
            raise redis.exceptions.ConnectionError("The answer to a sweep got lost")
        text, lost, waiting, continuation, ended, children, given_up, blocks, has_more = reply
        if has_more:
            _, ended, continuation = self._leave_out(run_id)
        self._cancel_inside(run_id, children)
        if not (lost or waiting or blocks or continuation or ended or given_up):
            return None
        spec = self._specs.read(text, run_id)
        return Republish(
            run_id=run_id,
            spec=spec,
            lost=integers(lost),
            waiting=sorted({*integers(waiting), *(i for number in blocks for i in spec.block(number))}),
            continuation=continuation == 1,
            ended=ended == 1,
            given_up=integers(given_up),
        )

    def set_aside(self, run_id: str | bytes, why: str, seconds: float = 60.0) -> None:
        """Have sweepers look at a run that is damaged only after a while, and tell those who wait for it why."""
        name = run_id if isinstance(run_id, str) else run_id.decode(errors="backslashreplace")
        keys = [self.keys.deployment("runs"), self.keys.run(name, "header"), self.keys.deployment("clock")]
        self._scripts.run("aside", keys, [run_id, round(seconds * 1000), why])

    def _readable(self, entry: bytes) -> str | None:
        """The run of an entry among those that are open; None for one that nobody here has made, which is set aside."""
        try:
            return entry.decode()
        except UnicodeDecodeError:
            if is_news(("no run", entry)):
                _log.warning("%r is no id of a group run, and is among those that are open: left alone", entry)
            self.set_aside(entry, "")
            return None

    def open_groups(self) -> list[str]:
        """Run ids that are not closed, the next one due first."""
        found: Any = self.client.zrange(self.keys.deployment("runs"), 0, -1)
        return [run_id.decode(errors="backslashreplace") for run_id in found]

    def groups(self) -> list[str]:
        """Run ids whose record is kept, ended ones included; looks at every key of the server."""
        first, last = self.keys.run("*", "header").encode().split(b"*")
        found: Any = self.client.scan_iter(self.keys.run("*", "header"), count=1000)
        names = {key.removeprefix(first).removesuffix(last).decode(errors="backslashreplace") for key in found}
        return sorted(run_id for run_id in names if self._is_of_ours(run_id))

    def _is_of_ours(self, run_id: str) -> bool:
        """Whether a run is not one of a deployment whose prefix goes on where ours ends."""
        if ":" not in run_id:
            return True
        text: Any = self.client.hget(self.keys.run(run_id, "header"), "spec")
        try:
            return bool(json.loads(text or b"{}").get("run_id", run_id) == run_id)
        except (ValueError, AttributeError, RecursionError):  # it is damaged, which whoever reads it says
            return True

    def delete(self, run_id: str) -> bool:
        """Remove every key of a run, whatever its state; False when there was none."""
        return bool(self._run("delete", run_id, [run_id, ""]))

    def live_workers(self, within: float = 30.0) -> list[WorkerInfo]:
        """Workers whose last beat is at most `within` seconds old, the most silent first."""
        return self.workers.seen(within)
