"""What a change writes, encoded before anything is locked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graflow.state.changes import Entry, Json, MemberBlock, MemberRow, StepRow
from graflow.state.encoding import COMPRESSED_FROM, Blobs, Stored, encode, encode_fields, stored_form, to_text
from graflow.state.groups.blocks import stored_block


class WrittenEntry(NamedTuple):
    kind: str
    step: str | None
    visit: int | None
    member: int | None
    attempt: int | None
    data: Stored


class WrittenStep(NamedTuple):
    """A row to change; `status` and `size` are None where they stay what they are."""

    step: str
    visit: int
    status: str | None
    size: int | None
    fields: str


class WrittenMember(NamedTuple):
    member: int
    status: str | None
    fields: str


class WrittenBlock(NamedTuple):
    """Members from `first` up to the one before `end`."""

    step: str
    visit: int
    first: int
    end: int
    content: Stored


@dataclass(slots=True)
class Written:
    """All of a change in its stored form.

    Attributes:
        entries: Lines of the journal.
        steps: Rows of steps.
        members: Rows of members by their group, which is a step and its visit.
        blocks: Members in blocks.
        fields: Fields of the flow, as given.
        texts: The same fields, encoded.
        blobs: What of all these is kept by its content.
    """

    entries: list[WrittenEntry] = field(default_factory=list)
    steps: list[WrittenStep] = field(default_factory=list)
    members: dict[tuple[str, int], list[WrittenMember]] = field(default_factory=dict)
    blocks: list[WrittenBlock] = field(default_factory=list)
    fields: Mapping[str, Any] = field(default_factory=dict)
    texts: dict[str, Stored] = field(default_factory=dict)
    blobs: Blobs = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        entries: Iterable[Entry] = (),
        steps: Iterable[StepRow] = (),
        members: Iterable[MemberRow] = (),
        fields: Mapping[str, Json] | None = None,
        member_blocks: Iterable[MemberBlock] = (),
    ) -> Written:
        """Encode.

        Raises:
            TypeError: Something is no plain JSON.
            PayloadError: Something is too large; the text names step and field.
        """
        entries_made: list[WrittenEntry] = []
        steps_made: list[WrittenStep] = []
        blobs: Blobs = {}
        for entry in entries:
            text = to_text(entry.data) if entry.data else "{}"
            data: Stored = text
            if len(text) >= COMPRESSED_FROM:
                where = f"line '{entry.kind}' of step '{entry.step}'" if entry.step else f"line '{entry.kind}'"
                data = stored_form(text, blobs, where)
            entries_made.append(WrittenEntry(entry.kind, entry.step, entry.visit, entry.index, entry.attempt, data))
        for row in steps:
            others = dict(row.fields)
            status = others.pop("status", None)
            text = encode_fields(others, blobs, f"step '{row.step}'")
            status = None if status is None else str(status)
            steps_made.append(WrittenStep(row.step, row.visit, status, others.get("size"), text))
        made = cls(entries_made, steps_made, blobs=blobs)
        for member in members:
            text = encode_fields(member.fields, blobs, f"member {member.index} of step '{member.step}'")
            rows = made.members.setdefault((member.step, member.visit), [])
            rows.append(WrittenMember(member.index, _status(member.fields), text))
        for block in member_blocks:
            made.blocks.append(_written_block(block, blobs))
        if fields:
            made.fields = fields
            made.texts = {name: encode(value, blobs, f"'{name}' of the flow") for name, value in fields.items()}
        return made


def _written_block(block: MemberBlock, blobs: Blobs) -> WrittenBlock:
    members = block.members
    where = f"members {members.start} to {members.stop - 1} of step '{block.step}'"
    return WrittenBlock(
        block.step, block.visit, members.start, members.stop, encode(stored_block(block.content), blobs, where)
    )


def _status(fields: Mapping[str, Any]) -> str | None:
    status = fields.get("status")
    return None if status is None else str(status)
