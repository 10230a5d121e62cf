"""What the next transition of a flow writes, as it comes together."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from graflow.state.changes import Change, Entry, MemberBlock, MemberRow, StepRow
from graflow.state.statuses import Move

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Draft:
    """The parts of the next transition.

    Attributes:
        entries: Lines for the journal.
        steps: Rows of steps.
        members: Rows of members.
        blocks: Members in blocks.
        flow: Fields of the flow.
        own: How many of the lines, each with a row, are of values that cannot change.
    """

    __slots__ = ("blocks", "entries", "flow", "members", "own", "steps")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.steps: list[StepRow] = []
        self.members: list[MemberRow] = []
        self.blocks: list[MemberBlock] = []
        self.flow: dict[str, Any] = {}
        self.own = 0

    def taken(self, flow_id: str, move: Move, now: float) -> Change:
        """The transition; nothing is left of it here."""
        entries, steps = self.entries, self.steps
        change = Change(flow_id, move, 0, now, entries, steps, self.members or (), self.flow or _NOTHING)
        change.is_own = self.own == len(entries) == len(steps)
        self.entries, self.steps, self.own = [], [], 0
        if self.members:
            self.members = []
        if self.blocks:
            change.blocks, self.blocks = self.blocks, []
        if self.flow:
            self.flow = {}
        return change
