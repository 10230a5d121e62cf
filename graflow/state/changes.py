"""What is written: one `Change` is one transition, applied whole or not at all.

Everything in it is plain JSON. A store keeps what is large (256 KiB as text) elsewhere, by content, and gives it back
where a caller reads journals; no caller sees the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from graflow.state.statuses import FlowStatus, Move

Json = Any  # None, bool, int, float, str, list and dict with text keys


@dataclass(slots=True)
class Entry:
    """One line of the journal.

    Attributes:
        kind: What happened, such as `"step.completed"`.
        step: The step, where it is about one.
        visit: Its visit.
        index: The member, where it is about one.
        attempt: The attempt, where it is about one.
        data: What changed: plain JSON.
    """

    kind: str
    step: str | None = None
    visit: int | None = None
    index: int | None = None
    attempt: int | None = None
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Journaled(Entry):
    """A line as it is read back.

    Attributes:
        seq: Its place in the journal of its flow, from 1, without gaps.
        at: When it was written, seconds since the epoch.
        epoch: The owner's epoch then; that of the flow for a verb's.
        generation: The flow's generation then.
    """

    seq: int = 0
    at: float = 0.0
    epoch: int = 0
    generation: int = 0


@dataclass(slots=True)
class StepRow:
    """Fields to set in the row of one visit of a step; the row is made when it is not there.

    `fields` has names of `FlowStepState`; times are seconds since the epoch, `status` is text.
    """

    step: str
    visit: int
    fields: Mapping[str, Json]


@dataclass(slots=True)
class MemberRow:
    """Fields to set in the row of one member, as in `StepRow`."""

    step: str
    visit: int
    index: int
    fields: Mapping[str, Json]


@dataclass(slots=True)
class MemberBlock:
    """Members in a row that have completed, and about which nothing was written before; `MemberRow` may follow.

    Attributes:
        step: The group.
        visit: Its visit.
        content: What came of them, as `graflow.encoding.member_blocks` has it.
    """

    step: str
    visit: int
    content: Mapping[str, Json]

    @property
    def members(self) -> range:
        """Their indices."""
        first: int = self.content["first"]
        return range(first, first + len(self.content["values"]))


@dataclass(slots=True)
class Change:
    """One transition of one flow.

    Attributes:
        flow_id: The flow.
        move: Which row of `MOVES` it is; decides the guard and the state afterwards.
        guard: The owner's epoch or the version that a verb has read, as the move's rule says.
        at: Now, seconds since the epoch.
        entries: Lines for the journal, in order.
        steps: Rows of steps to change, in order.
        members: Rows of members to change.
        blocks: Members that have completed in blocks.
        flow: Further fields of the flow to set: names of `FlowState` (not `status`, `version`, `epoch`), and
            `fingerprint`, `retry_from`, `awaits`, `asks`, `deadline`, `traceparent`; times are seconds since the epoch.
        cut: For retry: rows of steps (step, visit) that are taken out again together with their members; their lines
            stay in the journal.
        is_own: Whether lines and rows of steps were made for it alone, of what cannot change and is plain JSON for
            certain, so that a store which keeps objects needs neither a look nor a copy.
        token: Names the change, so that a store to which it comes again, because an answer was lost, makes it once.
            A store sets it where it needs one.
    """

    flow_id: str
    move: Move
    guard: int
    at: float
    entries: Sequence[Entry] = ()
    steps: Sequence[StepRow] = ()
    members: Sequence[MemberRow] = ()
    flow: Mapping[str, Json] = field(default_factory=dict)
    cut: Sequence[tuple[str, int]] = ()
    blocks: Sequence[MemberBlock] = ()
    is_own: bool = False
    token: str = ""


class RequestKind(StrEnum):
    """What an owner may be asked for while it runs a flow."""

    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked the owner for; outside of the flow's version.

    Attributes:
        kind: What.
        by: Who asked: `"python"`, `"cli"`, `"http"`, with a name where there is one.
        reason: Their words.
        at: When, seconds since the epoch.
    """

    kind: RequestKind
    by: str
    reason: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow that is to be recorded.

    Attributes:
        flow_id: Its id.
        flow_name: The name of its function.
        status: PENDING, or QUEUED.
        inputs: Plain JSON.
        input_digest: Tells the same inputs from others.
        at: Now, seconds since the epoch.
        durability: `"required"` or `"best_effort"`.
        metadata: As the caller gave it.
        parent_flow_id: For a fork or child.
        parent_step: The step there.
        entries: The journal that it begins with: a fork's references to its parent's outcomes.
        steps: The rows that it begins with.
        members: The same for members.
        flow: Further fields, as in `Change`.
    """

    flow_id: str
    flow_name: str
    status: FlowStatus
    inputs: Mapping[str, Json]
    input_digest: str
    at: float
    durability: str = "best_effort"
    metadata: Mapping[str, Json] = field(default_factory=dict)
    parent_flow_id: str | None = None
    parent_step: str | None = None
    entries: Sequence[Entry] = ()
    steps: Sequence[StepRow] = ()
    members: Sequence[MemberRow] = ()
    flow: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class FlowRecord:
    """The row of a flow as its runner needs it; cheap to read.

    Attributes:
        beats: Counts the owner's signs of life.
        fields: Every further field by name, as in `Change.flow`; those that are None are left out.
        requests: What the owner is asked for and has not answered.
        seq: The place of the last line of its journal.
    """

    flow_id: str
    flow_name: str
    status: FlowStatus
    version: int
    epoch: int
    generation: int
    owner: str | None
    beats: int
    inputs: Mapping[str, Json]
    input_digest: str
    fields: Mapping[str, Json] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to `StateStore.create`: the record that is there now, and whether it is the new one."""

    record: FlowRecord
    is_new: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim: the new epoch, or None when the flow was not as it was seen; the record either way.

    `is_full` tells that nothing was claimed because as many flows of this name run as may.
    """

    epoch: int | None
    record: FlowRecord
    is_full: bool = False


class Appended(NamedTuple):
    """The answer to a transition.

    Attributes:
        seq: The place of its last line in the journal.
        version: The flow's version now.
        epoch: The flow's epoch now.
        requests: What the owner is asked for.
    """

    seq: int
    version: int
    epoch: int
    requests: tuple[Request, ...] = ()


class FlowChange(NamedTuple):
    """A flow that has changed.

    Attributes:
        number: When, in the order of all changes of the store.
        flow_id: The flow.
        flow_name: Its name.
        status: Where it is now.
        version: Its version now.
        seq: The place of the last line of its journal.
    """

    number: int
    flow_id: str
    flow_name: str
    status: FlowStatus
    version: int
    seq: int


class FlowChanges(NamedTuple):
    """What is new across the flows of a store.

    Attributes:
        last: The number of the last change there was.
        flows: Those that changed behind the number that was asked about, each once, in the order of their last change.
    """

    last: int
    flows: tuple[FlowChange, ...] = ()
