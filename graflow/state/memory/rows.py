"""Flows as Python objects, and copies of what goes in and out."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from graflow.state.blocks import BLOCK_STATUS, KeptMembers, Row
from graflow.state.changes import (
    Entry,
    FlowRecord,
    Journaled,
    Json,
    MemberBlock,
    MemberRow,
    NewFlow,
    Request,
    StepRow,
)
from graflow.state.encoding import is_small, to_text
from graflow.state.models import FlowState
from graflow.state.reading import (
    listed_state,
    searched_text,
)
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.strips import begun, count, move_members

_PENDING: Final = StepStatus.PENDING.value
_MEMBERS: Final = 500  # that are copied at once
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def copied(value: Any) -> Any:
    """A copy of plain JSON that shares nothing with it.

    Raises:
        TypeError: It is no plain JSON.
    """
    kind = type(value)
    if kind is dict:
        made = value.copy()
        for key, item in value.items():
            if type(item) not in _SCALARS:
                made[key] = copied(item)
        return made
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else copied(item) for item in value]
    if isinstance(value, Mapping):
        return copied(dict(value))
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"A {kind.__qualname__} is no plain JSON and cannot be recorded")


Told = tuple[str, str | None, int | None, int | None, int | None, dict[str, Any]]
"""Kind, step, visit, index, attempt and data of a line."""

Line = tuple[str, str | None, int | None, int | None, int | None, dict[str, Any], float, int, int]
"""The same, and the time, epoch and generation in which it was written."""


class Written(NamedTuple):
    """Copies of what a change writes, made before anything is changed."""

    lines: Sequence[Told]
    steps: Sequence[tuple[tuple[str, int], dict[str, Any]]]
    members: Sequence[tuple[MemberRow, dict[str, Any]]]
    fields: dict[str, Any]
    blocks: Sequence[MemberBlock]


def written(
    entries: Iterable[Entry],
    steps: Iterable[StepRow],
    members: Iterable[MemberRow],
    fields: Mapping[str, Json] | None,
    blocks: Iterable[MemberBlock] = (),
) -> Written:
    """Copies of what is to be written.

    Raises:
        TypeError: Something is no plain JSON.
    """
    return Written(
        [(each.kind, each.step, each.visit, each.index, each.attempt, copied(each.data)) for each in entries],
        [((row.step, row.visit), copied(row.fields)) for row in steps] if steps else (),
        [(row, copied(row.fields)) for row in members] if members else (),
        copied(fields) if fields else {},
        [MemberBlock(block.step, block.visit, copied(block.content)) for block in blocks] if blocks else (),
    )


class Group:
    """Members by index, and how far they are."""

    __slots__ = ("blocks", "counts", "members", "size", "strip")

    def __init__(self, size: int) -> None:
        self.size = size
        self.counts, self.strip = begun(size)
        self.members: dict[int, dict[str, Any]] = {}
        self.blocks: list[MemberBlock] = []  # in the order of their members

    def set_member(self, index: int, fields: dict[str, Any]) -> None:
        member = self.members.get(index)
        if member is None:
            is_in_block = any(index in block.members for block in self.blocks)
            member = self.members[index] = {"status": BLOCK_STATUS if is_in_block else _PENDING}
        old = member["status"]
        member.update(fields)
        move_members(self.counts, self.strip, self.size, range(index, index + 1), old, member["status"])

    def set_block(self, block: MemberBlock) -> None:
        insort(self.blocks, block, key=lambda each: each.members.start)
        move_members(self.counts, self.strip, self.size, block.members, _PENDING, BLOCK_STATUS)


class StoredRow:
    """One visit of a step, with its members where it is a group."""

    __slots__ = ("fields", "group")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.group: Group | None = None

    def shown(self) -> dict[str, Any]:
        if self.group is None or not self.group.size:
            return self.fields
        return {**self.fields, "counts": self.group.counts, "strip": self.group.strip}


class Flow:
    __slots__ = (
        *("beats", "counts", "created_at", "epoch", "fields", "flow_id", "flow_name", "generation", "input_digest"),
        *("inputs", "journal", "owner", "requests", "rows", "searched", "shows_inputs", "status", "version"),
    )

    def __init__(self, new: NewFlow) -> None:
        self.flow_id, self.flow_name, self.status = new.flow_id, new.flow_name, FlowStatus(new.status)
        self.version, self.epoch, self.generation, self.beats = 1, 0, 0, 0
        self.owner: str | None = None
        self.inputs, self.input_digest = copied(new.inputs), new.input_digest
        self.created_at = new.at
        self.searched = searched_text(new.flow_id, new.flow_name, self.inputs)
        self.shows_inputs = is_small(to_text(self.inputs))
        self.fields: dict[str, Any] = {}
        self.requests: tuple[Request, ...] = ()
        self.journal: list[Line] = []
        self.rows: dict[tuple[str, int], StoredRow] = {}
        self.counts: dict[str, int] = {}

    def record(self) -> FlowRecord:
        return FlowRecord(
            self.flow_id,
            self.flow_name,
            self.status,
            self.version,
            self.epoch,
            self.generation,
            self.owner,
            self.beats,
            copied(self.inputs),
            self.input_digest,
            copied(self.fields),
            self.requests,
            len(self.journal),
        )

    def listed(self) -> FlowState:
        return listed_state(
            {
                **copied(self.fields),
                "flow_id": self.flow_id,
                "flow_name": self.flow_name,
                "status": self.status,
                "version": self.version,
                "epoch": self.epoch,
                "generation": self.generation,
                "owner": self.owner,
                "seq": len(self.journal),
                "inputs": copied(self.inputs) if self.shows_inputs else {},
                "counts": dict(self.counts),
            }
        )

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        present = self.fields
        for name, value in fields.items():
            if name == "generation":
                self.generation = value
            elif value is None:
                present.pop(name, None)
            else:
                present[name] = value

    def note(self, entry: Entry, at: float) -> None:
        self.write(written((entry,), (), (), None), at, self.epoch)

    def write(self, made: Written, at: float, epoch: int) -> None:
        generation = self.generation
        self.journal += [(*told, at, epoch, generation) for told in made.lines]
        for key, fields in made.steps:
            self.set_row(key, fields)
        for block in made.blocks:
            self._group_of((block.step, block.visit)).set_block(block)
        for member, fields in made.members:
            self._group_of((member.step, member.visit)).set_member(member.index, fields)

    def set_row(self, key: tuple[str, int], fields: dict[str, Any]) -> StoredRow:
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = StoredRow(fields)
            new = fields.setdefault("status", _PENDING)
            self.counts[new] = self.counts.get(new, 0) + 1
        else:
            present = row.fields
            old = present["status"]
            present.update(fields)
            new = present["status"]
            if new != old:
                count(self.counts, old, new)
        size = fields.get("size")
        if size and (row.group is None or not row.group.size):
            earlier, row.group = row.group, Group(size)
            if earlier is not None:
                row.group.members, row.group.blocks = earlier.members, earlier.blocks
        return row

    def _group_of(self, key: tuple[str, int]) -> Group:
        row = self.rows.get(key) or self.set_row(key, {})
        if row.group is None:
            row.group = Group(0)
        return row.group

    def cut(self, key: tuple[str, int]) -> None:
        row = self.rows.pop(key, None)
        if row is not None:
            count(self.counts, row.fields["status"], None)


def sleeps(flow: Flow, at: float) -> bool:
    return flow.status is FlowStatus.QUEUED and (flow.fields.get("wake_at") or 0.0) > at


def journaled(seq: int, line: Line) -> Journaled:
    kind, step, visit, index, attempt, data, at, epoch, generation = line
    return Journaled(
        kind, step, visit, index, attempt, copied(data), seq=seq, at=at, epoch=epoch, generation=generation
    )


def kept_members(group: Group) -> KeptMembers:
    members, order = group.members, sorted(group.members)

    def rows(start: int, end: int, _states: Collection[str]) -> tuple[list[Row], int]:
        first = bisect_left(order, start)
        chosen = order[first : min(bisect_left(order, end, lo=first), first + _MEMBERS)]
        stop = chosen[-1] + 1 if len(chosen) == _MEMBERS else end
        return [(index, copied(members[index])) for index in chosen], stop

    blocks = {block.members.start: block.content for block in group.blocks}
    return KeptMembers(rows, [block.members for block in group.blocks], lambda first: copied(blocks[first]))
