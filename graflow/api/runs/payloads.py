"""What steps and members were given, returned and failed with: a preview that is small, or all of it.

`GET …/steps/{step}/payload/{inputs|outputs|error}?index=&visit=`::

    {"preview": {"pages": [1, 2, …]}, "size": 18231, "truncated": false}     size in bytes as JSON; null: not known

`preview` is plain JSON; values under keys that look secret are masked. Of what is larger than 64 KiB it has the
beginning: texts, lists and mappings are cut, and `truncated` is true. Outputs are read from the journal, which has them
whole; of large inputs only what the row of the step has is kept. With `?download=1` all of it is sent as a file, masked
as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from graflow.api.http.columns import FILE_TYPE, NOT_MODIFIED, answer, file_headers
from graflow.api.http.etags import is_known, not_modified, tag_of
from graflow.api.http.problems import described
from graflow.api.http.service import Served, Service
from graflow.api.runs.listing import record_of, record_tag
from graflow.api.runs.members import member_at
from graflow.api.runs.steps import Visit, graph_of, visit_of
from graflow.encoding.member_blocks import told_members
from graflow.flows.recording.rows import value_of_outcome
from graflow.secret import masked
from graflow.state.changes import FlowRecord, Journaled
from graflow.state.models import FlowStepState

router = APIRouter(tags=["payloads"])

LARGEST: Final = 64 * 1024
_AT_ONCE: Final = 200  # lines of a journal
_MOST: Final = 200  # entries of a list or mapping, where all is too much
_LONGEST: Final = 2_000  # characters of a text there
_DEEPEST: Final = 6

Part = Literal["inputs", "outputs", "error"]


class Payload(BaseModel):
    """A part of a step.

    Attributes:
        preview: Plain JSON; the beginning of it where `truncated`.
        size: Bytes of all of it, as JSON; None where it is not known.
        truncated: Whether there is more.
    """

    preview: Any
    size: int | None
    truncated: bool


@router.get(
    "/{flow}/flows/{flow_id}/steps/{step:path}/payload/{part}",
    response_model=Payload,
    responses={**NOT_MODIFIED, **described(404)},
)
def payload(
    flow: str,
    flow_id: str,
    step: str,
    part: Part,
    request: Request,
    service: Served,
    index: Annotated[int | None, Query(ge=0, lt=2**31, description="A member of the group.")] = None,
    visit: Visit = None,
    download: Annotated[bool, Query(description="Send all of it as a file.")] = False,
) -> Response:
    """What a step or member was given, returned or failed with."""
    record = record_of(service, flow, flow_id)
    tag = tag_of(record_tag(record), step, visit, index, part, download)
    if is_known(request, tag):
        return not_modified(tag)
    value, size = _value(service, record, _row(service, record, step, visit, index), part)
    shown = masked(value)
    if download:
        return Response(
            json.dumps(shown, ensure_ascii=False, indent=1).encode("utf-8", "replace"),
            media_type=FILE_TYPE,
            headers={"ETag": tag, **file_headers(f"{part}.json")},
        )
    size = _size(shown) if size is None and shown is not None else size
    preview = shown if (size or 0) <= LARGEST else _cut(shown, LARGEST)
    return answer(request, tag, {"preview": preview, "size": size, "truncated": (size or 0) > LARGEST})


def _row(service: Service, record: FlowRecord, step: str, visit: int | None, index: int | None) -> FlowStepState:
    if index is not None:
        return member_at(service, record, step, visit, index)
    state = service.runner.get_flow_state(record.flow_id)
    return visit_of(state, graph_of(service, state), step, visit)


def _value(service: Service, record: FlowRecord, row: FlowStepState, part: Part) -> tuple[Any, int | None]:
    """A part, and its size where that is known."""
    if part == "inputs":
        return row.inputs, None
    if part == "error":
        return row.error_data or row.error, None
    if row.outputs is not None or row.output_size is None or row.output_size <= len("null"):
        return row.outputs, row.output_size
    source = row.source or {}
    flow_id = source.get("flow_id", record.flow_id)
    found = None
    for line in _lines(service, flow_id):
        if (line.step, line.visit) == (row.step_name, row.visit):
            given = _given(line, row.index)
            found = found if given is None else given
    return found, row.output_size


def _given(line: Journaled, index: int | None) -> Any:
    """What a line says that a step, or member, returned."""
    if index is None:
        return value_of_outcome(line.data["outcome"], line.data["node"]) if line.kind == "step.completed" else None
    if line.kind != "group.members":
        return None
    outcomes: list[Mapping[str, Any]] = [each for each in told_members(line.data) if each["index"] == index]
    return (outcomes[-1].get("outcome") or {}).get("value") if outcomes else None


def _lines(service: Service, flow_id: str) -> Iterator[Journaled]:
    after = 0
    while True:
        page = service.store.events(flow_id, after, _AT_ONCE)
        yield from page
        if len(page) < _AT_ONCE:
            return
        after = page[-1].seq


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _cut(value: Any, room: int) -> Any:
    """The beginning of a value that takes no more than so many bytes."""
    most, longest = _MOST, _LONGEST
    while True:
        found = _shortened(value, most, longest, 0)
        if _size(found) <= room:
            return found
        most, longest = max(1, most // 2), max(20, longest // 2)
        if (most, longest) == (1, 20):
            return _shortened(value, most, longest, _DEEPEST - 1)


def _shortened(value: Any, most: int, longest: int, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[:longest]}…"
    if isinstance(value, dict):
        if depth >= _DEEPEST:
            return f"{{{len(value)} entries}}"
        items = list(value.items())[:most]
        return {name[:longest]: _shortened(item, most, longest, depth + 1) for name, item in items}
    if isinstance(value, list):
        if depth >= _DEEPEST:
            return f"[{len(value)} entries]"
        return [_shortened(item, most, longest, depth + 1) for item in value[:most]]
    return value
