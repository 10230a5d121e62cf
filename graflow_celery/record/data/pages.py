"""What a reader of a group gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from graflow_celery.record.data.groups import GroupStatus
from graflow_celery.record.data.members import MemberState, RecordedOutcome


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """What the record tells its readers about a block that was recorded whole.

    Attributes:
        members: Indices of its members.
        again: Those that run again since: their outcomes are read one by one, and not here.
        state: What all members came to when the record itself ended them (CANCELLED, TIMED_OUT); None when a worker
            reported them: then the page says what each came to.
        page: Outcomes as the worker reported them; where the record ended the block, what is said of each member.
        attempts, owner, finished_at: As in `RecordedOutcome`, the same for all members.
    """

    number: int
    members: range
    attempts: int
    owner: str
    finished_at: float
    page: bytes
    state: MemberState | None = None
    again: frozenset[int] = field(default_factory=frozenset)

    @property
    def worker(self) -> str | None:
        """As in `RecordedOutcome`."""
        return self.owner.rpartition(":")[0] or None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader stands: position in the order of recording, and the data set in which it started."""

    position: int = 0
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """One read: outcomes in the order of recording (the continuation has index n), the next cursor, the counts.

    `blocks` are those of members that were recorded together, and are in no order to the `outcomes` of single members.
    `more` tells that outcomes are waiting already; `closed` that none will come unless the run is reopened, which makes
    another `round` of it; `overdue` that the time of the group was over in this round. After `last_event` comes what
    wakes a reader, see `GroupRecord.wait`.
    """

    outcomes: list[RecordedOutcome]
    cursor: Cursor
    last_event: bytes
    status: GroupStatus
    more: bool
    closed: bool
    round: int
    overdue: bool
    blocks: list[RecordedBlock] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ClaimedMember:
    """A member that somebody runs; times are Redis time in seconds since the epoch of Unix.

    Attributes:
        queued_at: since when it had waited to be claimed.
        claimed_at: when it was claimed.
    """

    index: int
    attempt: int
    owner: str
    queued_at: float
    claimed_at: float
