"""What workers claim, keep, report and release, and what came of members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from graflow.exceptions import SignatureError
from graflow_celery.record.data.groups import GroupSpec, GroupState


class MemberState(StrEnum):
    """How a member ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Lease:
    """One granted member: the right to run it until the lease ends.

    `(run_id, index, attempt)` is unique per execution; `owner` is unique per delivery of a message.
    """

    run_id: str
    index: int
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class GrantedMember:
    """A member to run: `losses` executions were lost before this one, `retries` failed and were retried.

    `envelope` is empty when the claim asked for none.
    """

    index: int
    attempt: int
    losses: int
    retries: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim got.

    Attributes:
        granted: run these, in this order, and complete, retry or release each.
        left: still claimable, but not now: claim them (with the same owner) after the granted ones are completed.
        refused: indices that are recorded, claimed by another, waiting for their retry, or out of range.
        blocked: indices that met `max_in_flight`; they come back in `Completion.ready` of whoever frees a slot.
        state: None when the record is gone; then `spec` is None and nothing is granted.
        remaining: seconds until the deadline of the group.
        distrust: why the specification is not believed; then `spec` is None, and what is granted must not run.
    """

    spec: GroupSpec | None
    state: GroupState | None
    granted: list[GrantedMember]
    left: list[int]
    refused: list[int]
    blocked: list[int]
    remaining: float | None
    distrust: SignatureError | None = None


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What a worker tells the record about one member that it claimed.

    `blobs` are the long values that the payload names, by name.
    """

    index: int
    attempt: int
    state: MemberState
    payload: bytes
    blobs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """What the record tells its readers about one member: the outcome that was recorded first.

    `payload` is what the worker reported; empty when the record itself ended the member (CANCELLED, TIMED_OUT, LOST);
    of one that was left out it says why. `blobs` are the long values that it names; one that is gone is absent.
    `attempts` counts executions; `owner` is empty when nobody ever claimed the member.
    """

    index: int
    state: MemberState
    attempts: int
    owner: str
    finished_at: float
    late: bool
    payload: bytes
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def worker(self) -> str | None:
        """The worker that claimed it, without what tells its claims apart; None when none did."""
        return self.owner.rpartition(":")[0] or None


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of reported results.

    Attributes:
        recorded: indices recorded by this call, or by an earlier call with the same lease whose answer got lost.
        late: those among them whose lease had already been lost.
        refused: indices that another outcome had already; these results are dropped.
        state: of the group after it; None when the record is gone.
        done: all members are recorded.
        continuation: the continuation is claimable now: publish it (publishing twice is harmless).
        ready: indices that may be published (or claimed) now because slots of `max_in_flight` got free.
        missing: those that are not recorded because their long values are gone.
        has_more: there are members that need not run any more and have to be left out.
    """

    recorded: list[int]
    late: list[int]
    refused: list[int]
    state: GroupState | None
    done: bool
    continuation: bool
    ready: list[int]
    missing: list[int] = field(default_factory=list)
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """Answer of `release` and `retry`: `released` were mine; `ready` may be published now because slots got free."""

    released: list[int]
    ready: list[int]


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """What a beat told.

    Attributes:
        lost: leases that are not mine any more; their results may still be reported and count as late.
        ended: runs that are final (or gone: None), whose members should stop.
        gone: by run, members of leased blocks that are not mine any more; see `lost`.
    """

    lost: list[Lease]
    ended: dict[str, GroupState | None]
    gone: dict[str, set[int]] = field(default_factory=dict)
