"""Between what scripts take and answer, and the rows of flows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from graflow.exceptions import StoreError
from graflow.state.changes import FlowRecord, Journaled
from graflow.state.encoding import Stored, decode, decode_fields, from_text, is_small, to_text
from graflow.state.groups.blocks import KeptMembers, Row
from graflow.state.groups.strips import Strip, bucket_count
from graflow.state.models import FlowState
from graflow.state.reading import flow_state, listed_state, step_values
from graflow.state.requests import requests_from
from graflow.state.statuses import FlowStatus
from graflow.state.written import Written

COLUMNS: Final = (
    *("name", "status", "created", "version", "epoch", "generation", "owner", "beats", "digest", "requests"),
    *("fields", "counts", "seq"),
)
"""Fields of a flow's hash that make a record."""

_MEMBERS: Final = 500

Blob = Callable[[str], bytes]


def pairs(values: Sequence[bytes]) -> dict[str, bytes]:
    """A list of names and values as a dictionary."""
    return {name.decode(): value for name, value in zip(values[::2], values[1::2], strict=True)}


def written_arguments(
    written: Written, fields: Mapping[str, Any], cut: Sequence[tuple[str, int]] = ()
) -> list[Stored | int]:
    """What `write` of `lib.lua` takes."""
    made: list[Stored | int] = [len(written.blobs)]
    for digest, content in written.blobs.items():
        made += (digest, content)
    made.append(len(fields))
    for name, value in fields.items():
        text = written.texts[name] if name in written.texts else to_text(value)
        kind = "n" if value is None else "s" if is_small(text) else "l"
        made += (name, kind, text)
    made.append(len(cut))
    for step, visit in cut:
        made += (step, visit)
    made.append(len(written.entries))
    for line in written.entries:
        made += ["" if each is None else each for each in line]
    made.append(len(written.steps))
    for row in written.steps:
        made += ["" if each is None else each for each in row]
    made.append(len(written.blocks))
    for block in written.blocks:
        made += block
    made.append(len(written.members))
    for (step, visit), members in written.members.items():
        made += (step, visit, len(members))
        for member in members:
            made += ["" if each is None else each for each in member]
    return made


class RowReader:
    """The row of a flow.

    Args:
        flow_id: The flow.
        row: What `COLUMNS` names.
        values: Large fields, in their stored form.
        blob: Gives the content of a digest.
    """

    def __init__(self, flow_id: str, row: Mapping[str, bytes], values: Mapping[str, bytes], blob: Blob) -> None:
        self.flow_id = flow_id
        self._columns = row
        self._values = values
        self._blob = blob

    @property
    def created_at(self) -> float:
        return float(self._columns["created"])

    def record(self) -> FlowRecord:
        row = self._columns
        fields = _lines(row["fields"])
        for name, value in self._values.items():
            fields[name] = decode(value, self._blob)
        inputs = fields.pop("inputs", {})
        return FlowRecord(
            self.flow_id,
            row["name"].decode(),
            FlowStatus(row["status"].decode()),
            int(row["version"]),
            int(row["epoch"]),
            int(row["generation"]),
            (row.get("owner") or b"").decode() or None,
            int(row["beats"]),
            inputs,
            row["digest"].decode(),
            fields,
            requests_from(row.get("requests") or b"[]"),
            int(row["seq"]),
        )

    def listed(self) -> FlowState:
        """The flow as a list shows it."""
        row = self._columns
        return listed_state(
            {
                **_lines(row["fields"]),
                "flow_id": self.flow_id,
                "flow_name": row["name"].decode(),
                "status": row["status"].decode(),
                "version": int(row["version"]),
                "epoch": int(row["epoch"]),
                "generation": int(row["generation"]),
                "owner": (row.get("owner") or b"").decode() or None,
                "seq": int(row["seq"]),
                "counts": _lines(row["counts"]),
            }
        )

    def state(self, steps: Mapping[str, bytes]) -> FlowState:
        """The flow with the rows of its steps."""
        places = sorted((int(row), name) for name, row in steps.items() if name.startswith("@"))
        groups = _groups(steps)
        shown = [_step(name, steps[str(row)], groups.get(str(row))) for row, name in places]
        return flow_state(self.record(), shown, _lines(self._columns["counts"]))


def _lines(text: bytes) -> dict[str, Any]:
    """The lines of small fields, or of counts, as `lib.lua` writes them."""
    found: dict[str, Any] = from_text(b"{" + text[1:].replace(b"\n", b",") + b"}")
    return found


def strip_of(values: Mapping[str, bytes], size: int) -> Strip:
    """The strip of a group from its numbers by bucket and letter."""
    strip: Strip = [{} for _ in range(bucket_count(size))]
    for name, value in values.items():
        bucket, _, letter = name.partition(":")
        if int(value) > 0:
            strip[int(bucket)][letter] = int(value)
    return strip


def kept_members(
    texts_of: Callable[..., Sequence[bytes | None]], row: str, size: int, spans: str, blob: Blob
) -> KeptMembers:
    """The members of a group, given what gives the texts of some fields."""

    def fetch(start: int, end: int, states: Collection[str]) -> tuple[list[Row], int]:
        begins = tuple(f"{state}\n".encode() for state in states) or (b"",)
        stop = min(end, start + _MEMBERS)
        indices = range(start, min(stop, size))
        if not indices:
            return [], end
        texts = texts_of(*(f"{row}:{index}" for index in indices))
        found = zip(indices, texts, strict=True)
        return [(index, _member(text)) for index, text in found if text and text.startswith(begins)], stop

    def content(first: int) -> Any:
        (text,) = texts_of(f"{row}:b{first}")
        if text is None:
            raise StoreError(f"The store names a block of members from {first} on and does not have it")
        return decode(text, blob)

    blocks = sorted((range(*map(int, span.split("-"))) for span in spans.split(";")[:-1]), key=lambda span: span.start)
    return KeptMembers(fetch, blocks, content)


def _member(text: bytes) -> dict[str, Any]:
    status, _, fields = text.decode().partition("\n")
    return {**decode_fields(fields), "status": status}


def journaled(number: bytes, fields: Sequence[bytes], blob: Blob) -> Journaled:
    """One entry of the stream."""
    values = pairs(fields)

    def whole(name: str) -> int | None:
        return int(values[name]) if values[name] else None

    return Journaled(
        values["k"].decode(),
        values["s"].decode() or None,
        whole("v"),
        whole("i"),
        whole("a"),
        decode(values["d"], blob),
        seq=int(number.partition(b"-")[0]),
        at=float(values["t"]),
        epoch=int(values["e"]),
        generation=int(values["g"]),
    )


def _groups(steps: Mapping[str, bytes]) -> dict[str, dict[str, dict[str, bytes]]]:
    """Numbers of groups by row: sizes, counts and strips."""
    groups: dict[str, dict[str, dict[str, bytes]]] = {}
    for name, value in steps.items():
        row, colon, rest = name.partition(":")
        if colon and row.isdigit():
            kind, _, what = rest.partition(":")
            groups.setdefault(row, {}).setdefault(kind, {})[what] = value
    return groups


def _step(name: str, row: bytes, group: Mapping[str, Mapping[str, bytes]] | None) -> dict[str, Any]:
    step, _, visit = name[1:].rpartition("\n")
    status, _, fields = row.decode().partition("\n")
    shown = {**decode_fields(fields), "status": status}
    if group and "size" in group:
        size = int(from_text(group["size"][""]))
        shown["counts"] = {state: int(number) for state, number in group.get("c", {}).items() if int(number) > 0}
        shown["strip"] = strip_of(group.get("s", {}), size)
    return step_values(step, int(visit), shown)
