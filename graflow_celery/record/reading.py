"""Reading a group: outcomes as they come, counts, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import redis

from graflow.exceptions import GroupLostError, GroupNotFoundError
from graflow_celery.errors import RecordDamagedError, RecordVersionError
from graflow_celery.record.base import RecordBase
from graflow_celery.record.blobs import BESIDE
from graflow_celery.record.data.groups import FORMAT_VERSION, GroupHeader, GroupStatus
from graflow_celery.record.data.members import RecordedOutcome
from graflow_celery.record.data.pages import ClaimedMember, Cursor, OutcomePage, RecordedBlock
from graflow_celery.record.keys import RUN_KEYS
from graflow_celery.record.replies import COUNTS, block_of, claimed_of, header_of, outcome_of, page_of, status_of
from graflow_celery.record.server.damage import naming_damage
from graflow_celery.record.server.waits import shared_waits

READ_BYTES = 8 * 1024 * 1024
"""An answer of `read` ends after the outcome that reaches this size."""
SLICE = 1000


class RecordReader(RecordBase):
    def read(self, run_id: str, cursor: Cursor | None = None, *, block: float = 0.0, count: int = SLICE) -> OutcomePage:
        """The outcomes recorded after the cursor; waits up to `block` seconds when there are none and the run is open.

        Answers when anything is there, when the group is closed, when an event woke it, or when the time is up.

        Raises:
            GroupNotFoundError: no such run, or a part of its record is missing.
            GroupLostError: the server was wiped since the cursor began.
            RecordDamagedError: something in the record is not what it should be.
        """
        page = self._read(run_id, cursor or Cursor(), count)
        if page.outcomes or page.blocks or page.closed or block <= 0:
            return page
        # An event wakes, nothing more: what counts is read again from the record.
        self.wait({run_id: page.last_event}, block)
        return self._read(run_id, page.cursor, count)

    def wait(self, after: Mapping[str, bytes], block: float) -> set[str]:
        """The runs, of any number, that have an event after the one named; waits up to `block` seconds for one."""
        names = {self.keys.run(run_id, "events"): event for run_id, event in after.items()}
        woken = shared_waits(self.client).wait(self.client, names, self._within_patience(block))
        return {run_id for run_id, name in zip(after, names, strict=True) if name in woken}

    def _within_patience(self, block: float) -> float:
        """Seconds that the client waits for an answer without taking the server for dead."""
        limit = self.client.get_connection_kwargs().get("socket_timeout")
        return block if limit is None else min(block, limit / 2)

    def _read(self, run_id: str, cursor: Cursor, count: int) -> OutcomePage:
        reply = self._run("read", run_id, [cursor.position, max(1, count), READ_BYTES])
        if reply[0] in {None, b"PARTIAL"}:
            if cursor.epoch not in {"", self.epoch()}:
                raise GroupLostError(run_id, f"Group run '{run_id}' is gone: Redis was wiped")
            raise self.not_found(run_id)
        if reply[0] == b"DAMAGED":
            raise RecordDamagedError(run_id, reply[1].decode(errors="replace"))
        with naming_damage(run_id):
            page = page_of(reply, cursor.position)
            outcomes = [self._whole(run_id, outcome) for outcome in page.outcomes]
        if any(one.payload.startswith(BESIDE) for one in page.outcomes) and not self._is_as(run_id, page):
            return self._read(run_id, cursor, count)  # what was beside it may be gone with the run, or with its round
        page = replace(page, outcomes=outcomes)
        if cursor.epoch not in {"", page.cursor.epoch}:
            raise GroupLostError(run_id, f"Group run '{run_id}' was opened anew: Redis was wiped in between")
        return page

    def outcomes(self, run_id: str, start: int = 0, count: int | None = None) -> list[RecordedOutcome]:
        """The outcomes of `count` members from `start` that were recorded one by one, by index; n is the continuation.

        Open members are absent, and so are those whose outcome is in one of the `blocks`.

        Raises:
            GroupNotFoundError: no such run.
        """
        fields = ["size", "recorded", "in_blocks"]
        with naming_damage(run_id):
            call, place = self._scripts.execute, self.keys.run(run_id, "outcomes")
            size, recorded, in_blocks = call("HMGET", self.keys.run(run_id, "header"), *fields)
            is_kept = int(recorded or 0) <= int(in_blocks or 0) or call("EXISTS", place)
            if size is None or not is_kept:
                raise self.not_found(run_id)
            stop = int(size) if count is None else min(int(size), start + count)
            found: list[RecordedOutcome] = []
            for first in range(start, stop, SLICE):
                indices = [str(index) for index in range(first, min(first + SLICE, stop))]
                texts: Any = call("HMGET", place, *indices)
                known = (outcome_of(first + i, text) for i, text in enumerate(texts) if text is not None)
                found += [self._whole(run_id, outcome) for outcome in known]
            return found

    def _is_as(self, run_id: str, page: OutcomePage) -> bool:
        """Whether the run is still the one of a page, in the same round."""
        epoch, round_ = self._scripts.execute("HMGET", self.keys.run(run_id, "header"), "epoch", "round")
        return epoch is not None and (epoch.decode(), int(round_ or 0)) == (page.cursor.epoch, page.round)

    def _whole(self, run_id: str, outcome: RecordedOutcome) -> RecordedOutcome:
        """An outcome with its long values, wherever they are."""
        if not outcome.payload.startswith(BESIDE):
            return outcome
        payload, blobs = self.blobs.fetched(run_id, outcome.payload)
        return replace(outcome, payload=payload, blobs=blobs)

    def blocks(self, run_id: str, start: int = 0, count: int | None = None) -> list[RecordedBlock]:
        """The blocks that were recorded whole and have some of `count` members from `start`, by number.

        Raises:
            GroupNotFoundError: no such run.
        """
        found: list[RecordedBlock] = []
        stop = -1 if count is None else start + count
        while start >= 0:
            reply: Any = self._run("pages", run_id, [start, stop, READ_BYTES])
            if reply[0] is None:
                raise self.not_found(run_id)
            stride, n, pairs, start = reply
            found += [block_of(int(pairs[i]), pairs[i + 1], stride, n) for i in range(0, len(pairs), 2)]
        return found

    def claimed(self, run_id: str) -> list[ClaimedMember]:
        """The members that somebody runs, by index; empty when there is no such run."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hmget(self.keys.run(run_id, "header"), "n", "stride", "opened")
        pipeline.hgetall(self.keys.run(run_id, "claims"))
        pipeline.hgetall(self.keys.run(run_id, "blocks"))
        (n, stride, opened), claims, blocks = pipeline.execute()
        return claimed_of(int(n or 0), int(stride or 0), int(opened or 0), claims, blocks)

    def header(self, run_id: str) -> GroupHeader:
        """Specification, state and counts.

        Raises:
            GroupNotFoundError: no such run.
            SignatureError: this process has keys, and the specification is not signed with one of them.
        """
        with naming_damage(run_id):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.hgetall(self.keys.run(run_id, "header"))
            pipeline.time()
            pipeline.hget(self.keys.deployment("clock"), "offset")
            fields, (whole, micros), offset = pipeline.execute()
            if b"state" not in fields:
                raise self.not_found(run_id)
            if (version := fields[b"version"].decode()) != str(FORMAT_VERSION):
                raise RecordVersionError(run_id, version)
            if b"damaged" in fields:
                raise RecordDamagedError(run_id, fields[b"damaged"].decode(errors="replace"))
            return header_of(
                fields, self._specs.read(fields[b"spec"], run_id), whole + micros / 1e6 + int(offset or 0) / 1000
            )

    def status(self, run_id: str) -> GroupStatus:
        """The counts alone.

        Raises:
            GroupNotFoundError: no such run.
            RecordDamagedError: something in the record is not what it should be.
        """
        with naming_damage(run_id):
            fields: Any = self._scripts.execute("HMGET", self.keys.run(run_id, "header"), "state", *COUNTS)
            if fields[0] is None:
                raise self.not_found(run_id)
            return status_of(fields[0], fields[1:])

    def is_over(self, run_id: str) -> bool:
        """Whether a run is closed, or there is none."""
        state, closed = self._scripts.execute("HMGET", self.keys.run(run_id, "header"), "state", "closed")
        return state is None or closed == b"1"

    def events(self, run_id: str, after: str = "", *, count: int = SLICE) -> list[tuple[str, dict[str, bytes]]]:
        """The events after a stream id: `kind` is open, record, retry, lost, progress, end or continuation."""
        found: Any = self.client.xrange(self.keys.run(run_id, "events"), f"({after}" if after else "-", count=count)
        return [(event.decode(), {name.decode(): value for name, value in data.items()}) for event, data in found]

    def now(self) -> float:
        """The time in which outcomes are recorded, in seconds since the epoch of Unix."""
        return float(self._scripts.run("now", [self.keys.deployment("clock")], [])) / 1000

    # -- absence ---------------------------------------------------------------------------------------------------

    def epoch(self) -> str:
        """Identity of the data set that the server has now; empty when it has never held a group."""
        found: Any = self._scripts.execute("GET", self.keys.deployment("epoch"))
        return "" if found is None else str(found.decode())

    def server_id(self) -> str:
        """Identity of the running server: one that was started anew, or took over, has another; empty when not told."""
        try:
            found: Mapping[str, Any] = self._scripts.execute("INFO", "server")
        except redis.exceptions.NoPermissionError:
            return ""
        return str(found["run_id"])

    def evictions(self) -> int:
        """Keys that the running server has evicted to save memory; 0 when it does not tell this user."""
        try:
            found: Mapping[str, Any] = self.client.info("stats")
        except redis.exceptions.NoPermissionError:
            return 0
        return int(found["evicted_keys"])

    def not_found(self, run_id: str) -> GroupNotFoundError:
        """What to raise for a run without its header, or with other keys missing."""
        left = [name for name in RUN_KEYS if self.client.exists(self.keys.run(run_id, name))]
        if not left:
            return GroupNotFoundError(run_id)
        by = f"; the server has evicted {count} keys to save memory" if (count := self.evictions()) else ""
        return GroupNotFoundError(run_id, f"only a part of its record is left ({', '.join(left)}){by}")
