"""The journal of a flow as it is read back: what holds after retries, and how often each step was begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from graflow.state.changes import Journaled

RETRIED: Final = "flow.retried"
READ_BACK: Final = frozenset({"step.completed", "step.failed", "group.members"})
"""Lines that the engine takes over; the executions that were cut short are counted here."""

CALLED: Final = "step.called"
"""A step asked for something, in its place; `data` has what, and what came of it so far."""

PROGRESS: Final = "step.progress"
"""A step told how far it is; `data` has that."""

Visit = tuple[str, int]
"""A step and its visit."""


def session_of(flow_id: str, generation: int = 0) -> str:
    """The session id of a flow's run in a generation."""
    return f"{flow_id}.{generation}"


@dataclass
class Past:
    """What has been recorded of a flow.

    Attributes:
        lines: Lines that the engine takes over, in order.
        attempts: The executions of each visit that has not ended well, with those before a retry.
        calls: Lines of what steps asked for that hold.
        retried: Visits that somebody asked to run again.
        asked_since: The generation of the flow from which on the questions of a visit hold, where not all of them do.
        seq: The last line.
    """

    lines: list[Journaled] = field(default_factory=list)
    attempts: dict[Visit, list[dict[str, Any]]] = field(default_factory=dict)
    calls: list[Journaled] = field(default_factory=list)
    retried: set[Visit] = field(default_factory=set)
    asked_since: dict[Visit, int] = field(default_factory=dict)
    seq: int = 0

    def before(self, visit: Visit) -> list[Journaled]:
        """The lines before the outcome of a visit; all of them when there is none."""
        for place, line in enumerate(self.lines):
            if line.kind == "step.completed" and (line.step, line.visit) == visit:
                return [each for each in self.lines[:place] if (each.step, each.visit) != visit]
        return [each for each in self.lines if (each.step, each.visit) != visit]

    def completed_nodes(self) -> set[str]:
        """Nodes with a visit whose outcome holds."""
        return {line.data["node"] for line in self.lines if line.kind == "step.completed"}


def past_of(lines: Iterable[Journaled]) -> Past:
    """The lines that hold: what a retry reset is gone, and a step that was given up is as if it had not begun."""
    past, alone = Past(), None
    for line in lines:
        past.seq = line.seq
        visit = (line.step or "", line.visit or 0)
        if line.kind == RETRIED:
            past.lines = without(past.lines, line.data)
            alone = line.data.get("alone")
            if line.step is not None:
                past.retried.add(visit)
                past.asked_since[visit] = line.data.get("asked_since", past.asked_since.get(visit, 0))
            reset = {(step, number) for step, number in [*line.data.get("cut", ()), *([alone] if alone else ())]}
            past.calls = [call for call in past.calls if (call.step, call.visit) not in reset]
        elif line.kind == "step.failed" and line.data["retry_at"] is None:
            past.lines = [given for each in past.lines if (given := _given_up(each, visit)) is not None]
        elif line.kind in READ_BACK:
            past.lines = _with(past.lines, line, is_alone=alone == [*visit])
        elif line.kind == CALLED:
            past.calls.append(line)
        if line.step is not None and line.visit is not None:
            _count(past.attempts, visit, line)
    for line in past.lines:
        if line.kind == "step.completed":
            past.attempts.pop((line.step or "", line.visit or 0), None)
    return past


def _with(lines: list[Journaled], line: Journaled, *, is_alone: bool) -> list[Journaled]:
    """The lines with one more; what a step gave that was run again alone stands where its first outcome stood."""
    if is_alone:
        places = [place for place, each in enumerate(lines) if _same_end(each, line)]
        if places:
            return [*lines[: places[0]], line, *lines[places[0] + 1 :]]
        if any(each.kind == "step.completed" and (each.step, each.visit) == (line.step, line.visit) for each in lines):
            return lines  # of an execution that has not ended yet: the first outcome holds
    lines.append(line)
    return lines


def _same_end(one: Journaled, other: Journaled) -> bool:
    return one.kind == other.kind == "step.completed" and (one.step, one.visit) == (other.step, other.visit)


def _given_up(line: Journaled, visit: Visit) -> Journaled | None:
    """What is left of a line when this visit failed for good: members that succeeded need not run again."""
    if (line.step, line.visit) != visit or line.kind == "step.completed":
        return line
    if line.kind != "group.members":
        return None
    return replace(line, data={**line.data, "outcomes": [each for each in line.data["outcomes"] if each["success"]]})


def without(lines: Sequence[Journaled], retried: Any) -> list[Journaled]:
    """The lines that are left when visits, or single members of groups, are reset."""
    cut = {(step, visit) for step, visit in retried.get("cut", ())}
    members: dict[Visit, set[int]] = {}
    for step, visit, index in retried.get("members", ()):
        members.setdefault((step, visit), set()).add(index)
    kept = []
    for line in lines:
        key = (line.step or "", line.visit or 0)
        if key in cut:
            continue
        gone = members.get(key)
        if gone is None:
            kept.append(line)
        elif line.kind == "group.members":
            outcomes = [each for each in line.data["outcomes"] if each["index"] not in gone]
            kept.append(replace(line, data={**line.data, "outcomes": outcomes}))
    return kept


def _count(attempts: dict[Visit, list[dict[str, Any]]], visit: Visit, line: Journaled) -> None:
    known = attempts.setdefault(visit, [])
    if line.kind == "step.started":
        known.append({"number": len(known) + 1, "started_at": line.at, "ended_at": None, "error": None})
    elif line.kind in {"step.withdrawn", "step.suspended"} and known:
        known.pop()
    elif line.kind in {"step.failed", "step.completed"} and known:
        error = line.data.get("error")
        known[-1]["ended_at"] = line.at
        known[-1]["error"] = None if not error else f"{error.get('type')}: {error.get('message')}"
