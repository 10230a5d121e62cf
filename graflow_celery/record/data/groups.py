"""Groups in the record: what is submitted, and how they stand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from graflow.codec import parse_json
from graflow.encoding.shapes import (
    Shape,
    check_parts,
    check_shapes,
    is_count,
    is_flag,
    is_length,
    is_object,
    is_text,
    list_of,
    object_of,
    optional,
)
from graflow.exceptions import GraflowRuntimeError, PayloadError

FORMAT_VERSION = 2
MAX_MEMBERS = 1_000_000


class GroupState(StrEnum):
    """Where a group stands; every state but OPENING and RUNNING is final."""

    OPENING = "OPENING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return self not in {GroupState.OPENING, GroupState.RUNNING}


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """What is fixed when a group is opened; times are in seconds.

    Attributes:
        n: number of members, without the continuation.
        digest: of the manifest; the same run id with another digest is a conflict.
        nonce: what tells this submission from every other one; empty where nothing is signed.
        min_success: fewer succeeded members than this make the group FAILED (n for a strict policy, 0 for best effort).
        enough: succeeded members after which all others are CANCELLED; 0 is no such number.
        fail_fast: members that nobody runs are CANCELLED once one has failed.
        critical: indices whose failure makes the group FAILED.
        lease: seconds without a beat after which a claimed member counts as lost.
        queue_wait: seconds before a member that nobody claimed is published again; doubled each time.
        max_attempts: losses after which a member is LOST; one of which the first loss is the last is granted alone.
        attempts: the same for members that have a number of their own, by index as text.
        max_in_flight: members claimed at once over all workers; None is no limit.
        result_ttl: seconds that the record stays after the end.
        timeout: seconds for the whole group; open members are TIMED_OUT after it.
        continuation: the manifest has one entry more, at index n, claimable once all members are recorded.
        parent_run: run of the member that opened this group; cancelling it cancels this one.
        stride: members of one block, which share an entry of the manifest; 0: each member has an entry of its own.
        policy, options, meta: the caller's own data; must be representable in JSON.
    """

    run_id: str
    group_id: str
    n: int
    digest: str
    policy: Any = "strict"
    min_success: int = 0
    enough: int = 0
    fail_fast: bool = False
    critical: tuple[int, ...] = ()
    lease: float = 30.0
    queue_wait: float = 60.0
    max_attempts: int = 4
    attempts: Mapping[str, int] = field(default_factory=dict)
    max_in_flight: int | None = None
    result_ttl: float = 86400.0
    timeout: float | None = None
    queue: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    continuation: bool = False
    parent_run: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    stride: int = 0
    nonce: str = ""

    @property
    def blocks(self) -> int:
        """Number of blocks; 0 where members have entries of their own."""
        return -(-self.n // self.stride) if self.stride else 0

    def block(self, number: int) -> range:
        """The members of a block."""
        return range(number * self.stride, min((number + 1) * self.stride, self.n))

    def to_json(self) -> str:
        """JSON text, read by `from_json`; without the nonce, which is part of its signature."""
        data = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "nonce"}
        return json.dumps({"version": FORMAT_VERSION, **data}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> GroupSpec:
        """Read a specification back.

        What it is signed with is left out; verifying it is the record's affair.

        Raises:
            PayloadError: when it is no specification.
            GraflowRuntimeError: when it was written by an unknown version.
        """
        data = parse_json(text)
        version = data.pop("version", None) if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise GraflowRuntimeError(f"group record of version {version!r}, this program reads {FORMAT_VERSION}")
        data.pop("signature", None)
        what = "The specification of a group"
        check_parts(data, "run_id", "group_id", "n", "digest", what=what)
        check_shapes(data, _SHAPES, what)
        try:
            return cls(**{**data, "critical": tuple(data.get("critical", ()))})
        except TypeError as error:
            raise PayloadError(f"{what} has another form than this program reads: {error}") from None


def _are_options(value: Any) -> bool:
    return is_object(value) and is_object(value.get("common", {})) and object_of(is_object)(value.get("own", {}))


_SHAPES: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("run_id", "group_id", "digest", "queue", "nonce"), is_text),
    **dict.fromkeys(("n", "min_success", "enough", "max_attempts", "stride"), is_count),
    **dict.fromkeys(("lease", "queue_wait", "result_ttl"), is_length),
    **dict.fromkeys(("fail_fast", "continuation"), is_flag),
    "critical": list_of(is_count),
    "attempts": object_of(is_count),
    "max_in_flight": optional(is_count),
    "timeout": optional(is_length),
    "options": _are_options,
    "parent_run": optional(is_text),
    "meta": is_object,
}


def manifest_digest(manifest: Sequence[bytes], shared: Mapping[str, bytes]) -> str:
    """SHA-256 over the envelopes in order and the shared payloads by name, each framed by its length."""
    digest = hashlib.sha256()
    for part in (*manifest, *(piece for name in sorted(shared) for piece in (name.encode(), shared[name]))):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """Members counted by where they are; the continuation is not counted.

    `failed` includes `timed_out`, `pending` those that are `retrying`: not claimable until their retry is due.
    """

    total: int
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    lost: int
    state: GroupState
    timed_out: int = 0
    executions: int = 0
    losses: int = 0
    retries: int = 0
    late: int = 0
    refused: int = 0
    retrying: int = 0

    @property
    def recorded(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.lost


@dataclass(frozen=True, slots=True)
class GroupHeader:
    """A group as it stands in the record; times are Redis time in seconds since the epoch of Unix.

    Attributes:
        epoch: identity of the data set in which the group was opened.
        published: the submitter has sent every member once.
        closed: final, and the continuation (if any) is recorded as well.
        reason: why it was cancelled or ran out of time.
        manifest_bytes: size of all envelopes and shared payloads.
        outcome_bytes: size of all recorded payloads.
        now: Redis time at which this was read.
    """

    spec: GroupSpec
    state: GroupState
    status: GroupStatus
    epoch: str
    opened_at: float
    deadline: float | None
    finished_at: float | None
    published: bool
    closed: bool
    reason: str
    manifest_bytes: int
    outcome_bytes: int
    now: float


@dataclass(frozen=True, slots=True)
class Opened:
    """Answer of `open`.

    Attributes:
        created: False when the same run was there already.
        stride: members of each of its blocks, 0 without any; another submitter may have made other ones.
        event: after it comes what wakes a reader who waits for the end, of a group of few members that was created.
    """

    created: bool
    state: GroupState
    epoch: str
    published: bool
    stride: int
    event: bytes = b""


@dataclass(frozen=True, slots=True)
class Reopened:
    """Answer of `reopen`.

    Attributes:
        spec: of the group.
        members: those that run again.
        lost: those of them whose worker was lost: publish each in its own message.
        continuation: nothing but the continuation runs again: publish it.
    """

    spec: GroupSpec
    members: list[int]
    lost: list[int]
    continuation: bool
