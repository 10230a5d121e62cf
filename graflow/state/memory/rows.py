"""Flows of the store in memory; nothing of them is shared with whoever gave it or reads it.

Lines of journals are packed, and read seldom: they take a fraction of the memory then, and the garbage collector does
not look through them again and again. The format is that of `marshal`, since it never leaves this process.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from marshal import dumps, loads
from typing import Any, Final, NamedTuple

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
from graflow.state.groups.blocks import BLOCK_STATUS, KeptMembers, Row, span_behind, stored_block
from graflow.state.groups.strips import begun, count, move_members
from graflow.state.models import FlowState
from graflow.state.reading import (
    listed_state,
    searched_text,
    step_values,
)
from graflow.state.statuses import FlowStatus, StepStatus

_PENDING: Final = StepStatus.PENDING.value
_MEMBERS: Final = 500  # that are copied at once
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NESTED: Final = frozenset({"inputs", "outputs", "error_data", "source", "cache", "progress"})
_FORMAT: Final = 2  # the one that looks for nothing that is there twice


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


def packed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a flow as they are kept: what has parts is bytes, of which plain JSON has none.

    Raises:
        TypeError: Something is no plain JSON.
    """
    return {name: value if type(value) in _SCALARS else dumps(copied(value), _FORMAT) for name, value in fields.items()}


def unpacked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of fields that are kept."""
    return {
        name: loads(value) if type(value) is bytes else value  # noqa: S302 - what was packed here
        for name, value in fields.items()
    }


ToldRow = tuple[str, int, dict[str, Any]]
"""Step, visit and the fields of it that are set."""

Told = tuple[str, str | None, int | None, int | None, int | None, dict[str, Any]]
"""Kind, step, visit, index, attempt and data of a line."""


class Written(NamedTuple):
    """What a change writes, made before anything is changed.

    Attributes:
        lines: How many lines.
        packed: The lines, each a `Told`, for `loads`.
        steps: Rows of steps.
        members: Rows of members.
        fields: The flow's fields, packed.
        blocks: Members in blocks.
    """

    lines: int
    packed: bytes
    steps: Sequence[ToldRow]
    members: Sequence[tuple[MemberRow, dict[str, Any]]]
    fields: dict[str, Any]
    blocks: Sequence[MemberBlock]


def written(
    entries: Sequence[Entry],
    steps: Sequence[StepRow],
    members: Iterable[MemberRow],
    fields: Mapping[str, Json] | None,
    blocks: Iterable[MemberBlock] = (),
    *,
    is_own: bool = False,
) -> Written:
    """What is to be written, of which nobody else has a part; with `is_own` that is so of lines and steps already.

    Raises:
        TypeError: Something is no plain JSON.
    """
    lines: Any = [(each.kind, each.step, each.visit, each.index, each.attempt, each.data) for each in entries]
    rows: Any = [(row.step, row.visit, row.fields) for row in steps]
    if not is_own:
        lines, rows = copied(lines), copied(rows)
    try:
        as_bytes = dumps(lines, _FORMAT)
    except ValueError:  # an id of a class of somebody's own
        as_bytes = dumps(copied(lines), _FORMAT)
    return Written(
        len(lines),
        as_bytes,
        rows,
        [(row, copied(row.fields)) for row in members] if members else (),
        packed(fields) if fields else {},
        [MemberBlock(block.step, block.visit, copied(stored_block(block.content))) for block in blocks]
        if blocks
        else (),
    )


class Group:
    """Members by index, and how far they are."""

    __slots__ = ("blocks", "counts", "members", "size", "spans", "strip")

    def __init__(self, size: int) -> None:
        self.size = size
        self.counts, self.strip = begun(size)
        self.members: dict[int, dict[str, Any]] = {}
        self.spans: list[range] = []  # of blocks, in order
        self.blocks: dict[int, Mapping[str, Any]] = {}  # by their first members

    def set_member(self, index: int, fields: dict[str, Any]) -> None:
        member = self.members.get(index)
        if member is None:
            is_in_block = index in span_behind(self.spans, index)
            member = self.members[index] = {"status": BLOCK_STATUS if is_in_block else _PENDING}
        old = member["status"]
        member.update(fields)
        move_members(self.counts, self.strip, self.size, range(index, index + 1), old, member["status"])

    def set_block(self, block: MemberBlock) -> None:
        insort(self.spans, block.members, key=lambda span: span.start)
        self.blocks[block.members.start] = block.content
        move_members(self.counts, self.strip, self.size, block.members, _PENDING, BLOCK_STATUS)


class Rows:
    """The rows of the steps of a flow; what is written of them is laid in when somebody asks."""

    __slots__ = ("_counts", "_groups", "_rows", "_written")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}
        self._groups: dict[tuple[str, int], Group] = {}
        self._counts: dict[str, int] = {}
        self._written: list[ToldRow] = []

    def write(self, made: Written) -> None:
        self._written += made.steps
        if made.blocks or made.members:
            for block in made.blocks:
                self._group_of((block.step, block.visit)).set_block(block)
            for member, fields in made.members:
                self._group_of((member.step, member.visit)).set_member(member.index, fields)

    def by_visit(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Fields by step and visit, in the order in which they began; not to be written to."""
        if self._written:
            for step, visit, fields in self._written:
                self._set((step, visit), fields)
            self._written.clear()
        return self._rows

    def shown(self) -> list[dict[str, Any]]:
        """What models are made from; copied as far as these make no copies themselves."""
        found = []
        for key, present in self.by_visit().items():
            fields = step_values(*key, present.copy())
            for name in _NESTED & fields.keys():
                if type(fields[name]) not in _SCALARS:
                    fields[name] = copied(fields[name])
            group = self._groups.get(key)
            if group is not None and group.size:
                fields["counts"], fields["strip"] = group.counts, group.strip
            found.append(fields)
        return found

    def counts(self) -> dict[str, int]:
        """A copy of how many there are by state."""
        self.by_visit()
        return self._counts.copy()

    def group(self, step: str, visit: int) -> Group | None:
        """The members of a visit."""
        self.by_visit()
        return self._groups.get((step, visit))

    def cut(self, visits: Iterable[tuple[str, int]]) -> None:
        rows = self.by_visit()
        for step, visit in visits:
            fields = rows.pop((step, visit), None)
            self._groups.pop((step, visit), None)
            if fields is not None:
                count(self._counts, fields["status"], None)

    def _set(self, key: tuple[str, int], fields: dict[str, Any]) -> None:
        present = self._rows.get(key)
        if present is None:
            self._rows[key] = fields
            new = fields.setdefault("status", _PENDING)
            self._counts[new] = self._counts.get(new, 0) + 1
        else:
            old = present["status"]
            present.update(fields)
            new = present["status"]
            if new != old:
                count(self._counts, old, new)
        size = fields.get("size")
        if size:
            earlier = self._groups.get(key)
            if earlier is None or not earlier.size:
                group = self._groups[key] = Group(size)
                if earlier is not None:
                    group.members, group.spans, group.blocks = earlier.members, earlier.spans, earlier.blocks

    def _group_of(self, key: tuple[str, int]) -> Group:
        """The members of a row, which is made a group where it is none."""
        if key not in self.by_visit():
            self._set(key, {})
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(0)
        return group


class Journal:
    """The lines of a flow, as they were written together.

    Attributes:
        seq: How many there are.
    """

    __slots__ = ("_before", "_written", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self._before: list[int] = []  # how many lines there were before each of those that were written together
        self._written: list[tuple[bytes, float, int, int]] = []

    def write(self, made: Written, at: float, epoch: int, generation: int) -> None:
        if made.lines:
            self._before.append(self.seq)
            self._written.append((made.packed, at, epoch, generation))
            self.seq += made.lines

    def read(self, after: int, limit: int | None) -> Iterator[Journaled]:
        """The lines behind a place, at most so many."""
        first = max(0, bisect_right(self._before, after) - 1)
        left = self.seq if limit is None else limit
        for before, (packed, at, epoch, generation) in zip(self._before[first:], self._written[first:], strict=True):
            told: list[Told] = loads(packed)  # noqa: S302 - what was packed here
            for seq, (kind, step, visit, index, attempt, data) in enumerate(told, before + 1):
                if seq > after and left > 0:
                    left -= 1
                    yield Journaled(
                        kind, step, visit, index, attempt, data, seq=seq, at=at, epoch=epoch, generation=generation
                    )
            if left <= 0:
                return


class Flow:
    __slots__ = (
        *("beats", "created_at", "epoch", "fields", "flow_id", "flow_name", "generation", "input_digest"),
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
        self.fields: dict[str, Any] = {}  # packed
        self.requests: tuple[Request, ...] = ()
        self.journal = Journal()
        self.rows = Rows()

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
            unpacked(self.fields),
            self.requests,
            self.journal.seq,
        )

    def listed(self) -> FlowState:
        return listed_state(
            {
                **unpacked(self.fields),
                "flow_id": self.flow_id,
                "flow_name": self.flow_name,
                "status": self.status,
                "version": self.version,
                "epoch": self.epoch,
                "generation": self.generation,
                "owner": self.owner,
                "seq": self.journal.seq,
                "inputs": copied(self.inputs) if self.shows_inputs else {},
                "counts": self.rows.counts(),
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
        self.journal.write(made, at, epoch, self.generation)
        self.rows.write(made)


def sleeps(flow: Flow, at: float) -> bool:
    return flow.status is FlowStatus.QUEUED and (flow.fields.get("wake_at") or 0.0) > at


def kept_members(group: Group) -> KeptMembers:
    members, order = group.members, sorted(group.members)

    def rows(start: int, end: int, _states: Collection[str]) -> tuple[list[Row], int]:
        first = bisect_left(order, start)
        chosen = order[first : min(bisect_left(order, end, lo=first), first + _MEMBERS)]
        stop = chosen[-1] + 1 if len(chosen) == _MEMBERS else end
        return [(index, copied(members[index])) for index in chosen], stop

    return KeptMembers(rows, group.spans, group.blocks.__getitem__, copied)
