"""The journal of a flow as it is read back: what holds after retries, and how often each step was begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from graflow.encoding.member_blocks import told_members
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
        reset: Visits that have not begun since a retry took them back, or since they failed for good.
        alone: The visit that runs again alone; its first outcome holds until that has ended.
        anew: Lines of its members that have ended since.
        asked_since: The generation of the flow from which on the questions of a visit hold, where not all of them do.
        seq: The last line.
    """

    lines: list[Journaled] = field(default_factory=list)
    attempts: dict[Visit, list[dict[str, Any]]] = field(default_factory=dict)
    calls: list[Journaled] = field(default_factory=list)
    retried: set[Visit] = field(default_factory=set)
    reset: set[Visit] = field(default_factory=set)
    alone: Visit | None = None
    anew: list[Journaled] = field(default_factory=list)
    asked_since: dict[Visit, int] = field(default_factory=dict)
    seq: int = 0

    def before(self, visit: Visit, members: Sequence[int]) -> list[Journaled]:
        """The lines before the outcome of a visit that runs again, with those of members that need not.

        Args:
            visit: The visit.
            members: Those of a group that run again; all of them when there are none.
        """
        place = _place_of(self.lines, visit)
        if place is None:
            return self.lines
        gone = {"members": [[*visit, index] for index in members]} if members else {"cut": [visit]}
        return [*without(self.lines[:place], gone), *self.anew]

    def completed_nodes(self) -> set[str]:
        """Nodes with a visit whose outcome holds."""
        return {line.data["node"] for line in self.lines if line.kind == "step.completed"}


def past_of(lines: Iterable[Journaled]) -> Past:
    """The lines that hold: what a retry reset is gone, and a step that was given up is as if it had not begun."""
    past = Past()
    for line in lines:
        past.seq = line.seq
        visit = (line.step or "", line.visit or 0)
        if line.kind == RETRIED:
            past.lines = without(past.lines, line.data)
            _reset(past, line.data)
            if line.step is not None:
                past.retried.add(visit)
                past.asked_since[visit] = line.data.get("asked_since", past.asked_since.get(visit, 0))
        elif line.kind in READ_BACK and visit == past.alone:
            _take_alone(past, line)
        elif line.kind == "step.failed" and line.data["retry_at"] is None:
            past.lines = [given for each in past.lines if (given := _given_up(each, visit)) is not None]
            past.reset.add(visit)
        elif line.kind in READ_BACK:
            past.lines.append(line)
        elif line.kind == CALLED:
            past.calls.append(line)
        if line.kind == "step.started":
            past.reset.discard(visit)
        if line.step is not None and line.visit is not None:
            _count(past.attempts, visit, line)
    for line in past.lines:
        if line.kind == "step.completed" and (line.step, line.visit) != past.alone:
            past.attempts.pop((line.step or "", line.visit or 0), None)
    return past


def _reset(past: Past, retried: Any) -> None:
    """Take note of what a retry resets."""
    cut = {(step, visit) for step, visit in retried.get("cut", ())}
    alone = tuple(retried["alone"]) if "alone" in retried else None
    again = cut if alone is None else cut | {alone}
    past.calls = [call for call in past.calls if (call.step, call.visit) not in again]
    past.reset |= again | {(step, visit) for step, visit, _ in retried.get("members", ())}
    past.alone, past.anew = alone, []
    if alone is not None and _place_of(past.lines, alone) is None:  # no outcome that could hold meanwhile
        members = [[*alone, index] for index in retried.get("alone_members", ())]
        past.alone, past.lines = None, without(past.lines, {"members": members} if members else {"cut": [alone]})


def _take_alone(past: Past, line: Journaled) -> None:
    """What came of a visit that runs again alone; its end stands where its first one stood, and members likewise."""
    visit = (line.step or "", line.visit or 0)
    if line.kind == "group.members":
        past.anew.append(line)
        return
    if line.kind == "step.failed":
        past.anew = [given for each in past.anew if (given := _given_up(each, visit)) is not None]
        return
    members = [[*visit, told["index"]] for each in past.anew for told in told_members(each.data)]
    place = _place_of(past.lines, visit) or 0
    past.lines = [*without(past.lines[:place], {"members": members}), *past.anew, line, *past.lines[place + 1 :]]
    past.alone, past.anew = None, []


def _place_of(lines: Sequence[Journaled], visit: Visit) -> int | None:
    """Where the outcome of a visit stands."""
    for place, line in enumerate(lines):
        if line.kind == "step.completed" and (line.step, line.visit) == visit:
            return place
    return None


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
            outcomes = [each for each in told_members(line.data) if each["index"] not in gone]
            kept.append(replace(line, data={**line.data, "outcomes": outcomes, "blocks": ()}))
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
