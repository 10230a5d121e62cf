"""`StateStore`: the one interface behind which flows are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from graflow.state.changes import Appended, Change, Claimed, Created, Entry, FlowRecord, Journaled, NewFlow, Request
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.statuses import FlowStatus, StepStatus


class StateStore(ABC):
    """Keeps flows: rows, an append-only journal for each, and blobs. Knows nothing of graphs.

    All calls may come from several threads and several processes at once. Nothing reads or writes a whole state.
    Calls raise `StoreUnavailableError` when the store does not answer.

    Attributes:
        url: Where it is, without a password.
        is_shared: Whether processes on other machines may reach it.
    """

    url: str
    is_shared: bool = False

    @abstractmethod
    def initialize(self) -> None:
        """Connect, check the format, make what is missing; called by the first use otherwise.

        Raises:
            StoreError: When it is of a newer format, or must not be used for this.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a later call connects again."""

    # -- writing ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def create(self, flow: NewFlow) -> Created:
        """Record a flow unless its id is taken; then nothing changes, and the caller compares the digests."""

    @abstractmethod
    def claim(self, flow_id: str, owner: str, *, seen: FlowRecord, at: float, entries: Sequence[Entry] = ()) -> Claimed:
        """Become the owner by one compare-and-set, if status, epoch and beats are as they were seen.

        Whoever calls has made sure that a lease is over. `RUNNING` afterwards, or CANCELLING when it was that.
        """

    @abstractmethod
    def append(self, change: Change) -> Appended:
        """Apply one transition, or nothing.

        Raises:
            StaleEpochError: The guard is an epoch and not the flow's; a line in the journal says what was refused.
            VersionConflictError: The guard is a version and not the flow's.
            MoveRefusedError: The flow's state does not allow the move.
            FlowNotFoundError: There is no such flow.
        """

    @abstractmethod
    def beat(self, flow_id: str, epoch: int) -> tuple[Request, ...]:
        """A sign of life of the owner; what it is asked for.

        Raises:
            StaleEpochError: Another owner has it.
        """

    @abstractmethod
    def request(self, flow_id: str, request: Request) -> FlowRecord:
        """Ask the owner of a flow; the record afterwards. A cancel makes RUNNING CANCELLING at once.

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

        Also blobs that nothing names any more. Returns how many flows were removed.
        """

    # -- reading ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def get_record(self, flow_id: str) -> FlowRecord | None:
        """The row of a flow, without steps."""

    @abstractmethod
    def get_flow_state(self, flow_id: str) -> FlowState | None:
        """A flow with the rows of its steps; large payloads stay where they are."""

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
        """Flows, newest first, without steps and outputs; `search` looks into ids, names and small inputs."""

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
        """Members of a group in order; of its last visit when None."""

    @abstractmethod
    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        """Lines of the journal behind `after`, in order."""

    @abstractmethod
    def open_flows(self) -> list[FlowRecord]:
        """RUNNING and CANCELLING flows, and QUEUED ones whose wake-up time may have come: what recovery looks at."""
