"""`StateStore`: the one interface behind which flows are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from graflow.state.cache import CacheStore
from graflow.state.changes import (
    Appended,
    Change,
    Claimed,
    Created,
    Entry,
    FlowChanges,
    FlowRecord,
    Journaled,
    Json,
    NewFlow,
    Request,
    StepRow,
)
from graflow.state.groups.members import MemberFacts
from graflow.state.hints import Hints
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.questions import QuestionStore
from graflow.state.statuses import FlowStatus, StepStatus


class StateStore(QuestionStore):
    """Keeps flows: rows, an append-only journal for each, blobs, and questions. Knows nothing of graphs.

    All calls may come from several threads and several processes at once. Nothing reads or writes a whole state.
    Calls raise `StoreUnavailableError` when the store does not answer, `PayloadError` for a value of more than 64 MiB
    as text, and `TypeError` for one that is no plain JSON; nothing is changed then.

    What a move itself changes: an end sets `completed_at`; RESUME and RETRY take `completed_at`, `error`, `error_data`
    and `outputs` out again; the first claim sets `started_at`, each one clears `wake_at`; a flow that does not run has
    no owner. What `Change.flow` says goes over that. Requests are answered, and gone, when the flow ends, is paused,
    resumed or retried. The store keeps `counts` and `strip` of groups itself, from the rows of members.

    Attributes:
        url: Where it is, without a password.
        is_shared: Whether processes on other machines may reach it.
        is_persistent: Whether it survives its own server; `durability="required"` refuses one that does not.
        cache: Values that are kept to be given again; None where the store keeps none.
        hints: By which its processes tell each other that a flow is free.
        news: Hints that any flow has changed; None where to look at `changed_flows` costs as little as to wait for one.
    """

    url: str
    is_shared: bool = False
    is_persistent: bool = True
    cache: CacheStore | None = None
    hints: Hints = Hints()
    news: Hints | None = None

    @abstractmethod
    def initialize(self) -> None:
        """Connect, check the format, make what is missing; called by the first use otherwise.

        Raises:
            StoreError: When it is of a newer format, or must not be used for this.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a later call connects again."""

    def size(self) -> int | None:
        """Bytes that it takes: of its file, or of all that its server has in memory; None where nobody knows."""
        return None

    # -- writing ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def create(self, flow: NewFlow) -> Created:
        """Record a flow unless its id is taken; then nothing changes, and the caller compares the digests."""

    @abstractmethod
    def claim(
        self,
        flow_id: str,
        owner: str,
        *,
        seen: FlowRecord,
        at: float,
        entries: Sequence[Entry] = (),
        steps: Sequence[StepRow] = (),
        flow: Mapping[str, Json] | None = None,
        limit: int | None = None,
    ) -> Claimed:
        """Become the owner by one compare-and-set, if status, epoch and beats are as they were seen.

        Whoever calls has made sure that a lease is over. `RUNNING` afterwards, or CANCELLING when it was that.
        `entries`, `steps` and `flow` are written with it, as those of a `Change`. One that has no owner is left where
        it is when `limit` flows of its name have one.

        Raises:
            MoveRefusedError: It is as it was seen, in a state that cannot be claimed.
            FlowNotFoundError: There is no such flow.
        """

    @abstractmethod
    def append(self, change: Change) -> Appended:
        """Apply one transition, or nothing. An owner's is a sign of life as well.

        Raises:
            StaleEpochError: The guard is an epoch and not the flow's; a line `"refused"` in the journal has the move,
                the epoch and the kinds of the lines that were refused.
            VersionConflictError: The guard is a version and not the flow's.
            MoveRefusedError: The flow's state does not allow the move.
            FlowNotFoundError: There is no such flow.
        """

    @abstractmethod
    def beat(self, flow_id: str, epoch: int) -> tuple[Request, ...]:
        """A sign of life of the owner; what it is asked for. Nothing happens to a flow that does not run any more.

        Raises:
            StaleEpochError: Another owner has it.
            FlowNotFoundError: There is no such flow.
        """

    @abstractmethod
    def request(self, flow_id: str, request: Request) -> FlowRecord:
        """Ask the owner of a flow; the record afterwards. A cancel makes RUNNING CANCELLING at once.

        Asking twice for the same is asking once. The journal has it as `"request.pause"` or `"request.cancel"`.

        Raises:
            FlowNotFoundError: There is no such flow.
            MoveRefusedError: It is not RUNNING (or CANCELLING, for a cancel).
        """

    @abstractmethod
    def delete(self, flow_id: str) -> bool:
        """Remove a flow that has ended with everything that belongs to it; whether it was there.

        Raises:
            MoveRefusedError: It has not ended.
        """

    @abstractmethod
    def cleanup(self, *, older_than: float, keep: int, at: float) -> int:
        """Remove flows that ended `older_than` seconds before `at`, and the oldest that ended beyond `keep`.

        Also blobs that nothing names any more, and kept values that have expired. Returns how many flows were removed.
        """

    # -- reading ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def get_record(self, flow_id: str) -> FlowRecord | None:
        """The row of a flow, without steps."""

    @abstractmethod
    def get_flow_state(self, flow_id: str) -> FlowState | None:
        """A flow with the rows of its steps; large values of these stay where they are, and are None here."""

    @abstractmethod
    def list_flows(
        self,
        *,
        flow_name: str | None = None,
        status: Sequence[FlowStatus] = (),
        search: str | None = None,
        since: float | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> FlowPage:
        """Flows, newest first, without steps, outputs and large inputs.

        Args:
            flow_name: Of this name.
            status: In one of these states.
            search: Whose id, name or small inputs contain this text, whatever its case.
            since: Created at this time (seconds since the epoch) or later.
            cursor: `next_cursor` of the page before.
            limit: At most so many.

        Raises:
            InvalidCursorError: The cursor is none of this store's.
        """

    @abstractmethod
    def list_members(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int | None = None,
        status: Sequence[StepStatus] = (),
        cursor: str | None = None,
        limit: int = 100,
    ) -> MemberPage:
        """Members of a group in order, also those that nothing has been written about; of its last visit when None.

        Raises:
            FlowNotFoundError: There is no such flow.
            InvalidCursorError: The cursor is none of this store's.
        """

    @abstractmethod
    def member_facts(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int,
        first: int = 0,
        end: int | None = None,
        status: Sequence[StepStatus] = (),
    ) -> list[MemberFacts]:
        """Light rows of the members from an index up to another one, in order, also those that nothing is known of.

        With states only those that are in one of them, for which others are not decoded.

        Raises:
            FlowNotFoundError: There is no such flow.
        """

    @abstractmethod
    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        """Lines of the journal behind `after`, in order."""

    @abstractmethod
    def changed_flows(self, after: int | None = None, limit: int = 500) -> FlowChanges:
        """Flows that transitions and requests changed behind a number; cheap, also where nothing did.

        Args:
            after: `last`, or the number of a change, of an answer before; None asks only for the last number.
            limit: At most so many, those that changed first.
        """

    @abstractmethod
    def open_flows(self, *, at: float) -> list[FlowRecord]:
        """What recovery looks at, oldest first; large fields and large inputs are left out.

        These are RUNNING and CANCELLING flows, PENDING ones, whose maker may have died before its claim, and QUEUED
        ones that have no wake-up time, or one that is not after `at`.
        """
