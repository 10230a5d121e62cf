"""Members in blocks: what is claimed, kept, reported and read for a whole block of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graflow.exceptions import SignatureError
from graflow_celery.record.data.groups import GroupSpec, GroupState
from graflow_celery.record.data.members import MemberState


@dataclass(frozen=True, slots=True)
class BlockLease:
    """One granted block: the right to run its members until the lease ends, or until the block is thawed."""

    run_id: str
    number: int
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class GrantedBlock:
    """All members of a block, to run in order: none of them was lost or tried again before.

    `chunk` is the entry of the manifest that they share.
    """

    number: int
    attempt: int
    members: range
    chunk: bytes


@dataclass(frozen=True, slots=True)
class BlockClaim:
    """What a claim of whole blocks got.

    Attributes:
        spec: None when the record is gone; then nothing is granted or left.
        state: of the group; None when the record is gone.
        granted: run these, in this order; report each whole, or its members one by one, or release it.
        left: members that are to be claimed one by one.
        remaining: seconds until the deadline of the group.
        distrust: why the specification is not believed; then `spec` is None, and what is granted must not run.
    """

    spec: GroupSpec | None
    state: GroupState | None
    granted: list[GrantedBlock]
    left: list[int]
    remaining: float | None
    distrust: SignatureError | None = None


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What a worker tells the record about all members of a block that it claimed.

    Attributes:
        failures: members that are FAILED or TIMED_OUT, by index.
        page: outcomes of all members; the record does not look into it.
    """

    number: int
    attempt: int
    failures: Mapping[int, MemberState]
    page: bytes


@dataclass(frozen=True, slots=True)
class BlockCompletion:
    """What became of reported blocks.

    Attributes:
        recorded: blocks recorded by this call, or by an earlier call with the same lease whose answer got lost.
        split: blocks whose members have to be reported one by one, since something happened to some of them.
        state: of the group after it; None when the record is gone.
        done: all members are recorded.
        continuation: the continuation is claimable now: publish it.
    """

    recorded: list[int]
    split: list[int]
    state: GroupState | None
    done: bool
    continuation: bool
