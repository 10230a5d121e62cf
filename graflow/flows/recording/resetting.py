"""What a retry takes back, and what a fork takes along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from graflow.core.run.recorded.added_tasks import made_over
from graflow.encoding.member_blocks import told_members
from graflow.flows.recording.journal import RETRIED, Visit, session_of
from graflow.state.changes import Change, Entry, FlowRecord, Journaled, MemberRow, StepRow
from graflow.state.models import FlowState
from graflow.state.statuses import Move, StepStatus

OnChange = Literal["refuse", "reuse"]
"""What to do when the code of completed steps changed."""

Downstream = Literal["none", "failed", "all"]
"""Which steps behind a step that is retried run again."""

_FRESH: Final = dict.fromkeys(
    (
        *("completed_at", "error", "error_data", "outputs", "output_size", "output_digest", "execution_time", "source"),
        *("cache", "input_digest"),
    )
)


class Reset:
    """What a retry takes back."""

    def __init__(
        self,
        step: str,
        visit: int,
        members: list[int],
        reasons: dict[Visit, str],
        *,
        alone: bool,
        ask_again: bool,
    ) -> None:
        self.step = step
        self.visit = visit
        self.asks_again = ask_again
        self.reasons = reasons
        self._members = members
        self._alone = alone

    def _cut(self) -> list[Visit]:
        key = (self.step, self.visit)
        return [visit for visit in self.reasons if not (visit == key and (self._members or self._alone))]

    def data(self) -> dict[str, Any]:
        """What the journal says of it."""
        key = (self.step, self.visit)
        cut = [list(visit) for visit in self._cut()]
        if self._alone:
            return {"cut": cut, "members": [], "alone": list(key), "alone_members": self._members}
        return {"cut": cut, "members": [[*key, index] for index in self._members]}

    def change(self, record: FlowRecord, now: float) -> Change:
        """The transition."""
        key = (self.step, self.visit)
        kept = [StepRow(*key, {"status": "ready", **_FRESH})] if self._members or self._alone else []
        rows = [MemberRow(*key, index, {"status": "pending", **_FRESH}) for index in self._members]
        generation = record.generation + 1
        since = {"asked_since": generation} if self.asks_again else {}
        fields = {
            "generation": generation,
            "takeovers": 0,
            "retry_from": self._alone_at(record) if self._alone else None,
        }
        return Change(
            record.flow_id,
            Move.RETRY,
            record.version,
            now,
            [Entry(RETRIED, self.step, self.visit, data={**self.data(), **since})],
            kept,
            rows,
            fields,
            self._cut(),
        )

    def _alone_at(self, record: FlowRecord) -> dict[str, Any]:
        was, outputs = record.status.value, record.fields.get("outputs")
        return {"step": self.step, "visit": self.visit, "members": self._members, "was": was, "outputs": outputs}


def lines_taken(flow_id: str, lines: Sequence[Journaled], session_id: str) -> list[Entry]:
    """Lines of a flow as another one takes them along.

    Args:
        flow_id: The flow that wrote them.
        lines: They.
        session_id: The run that takes them.

    Raises:
        TaskResolutionError: A task that one of the steps added cannot be had again, so that it is not signed anew.
    """
    return [
        Entry(line.kind, line.step, line.visit, line.index, line.attempt, _data_taken(flow_id, line, session_id))
        for line in lines
    ]


def _data_taken(flow_id: str, line: Journaled, session_id: str) -> Mapping[str, Any]:
    if "nodes" not in line.data.get("outcome", ()):
        return line.data
    outcome = made_over(line.data["outcome"], session_of(flow_id), session_id, str(line.step))
    return {**line.data, "outcome": outcome}


def reused_steps(
    flow_id: str,
    lines: Sequence[Journaled],
    state: FlowState,
    status: StepStatus = StepStatus.REUSED,
    why: str = "fork",
) -> list[StepRow]:
    """Rows of the steps that a fork, or a flow whose outcome was kept, takes from another."""
    rows = {(row.step_name, row.visit): row for row in state.steps}
    found = []
    for line in lines:
        row = rows.get((line.step or "", line.visit or 1))
        if line.kind != "step.completed" or row is None:
            continue
        fields = row.model_dump(
            mode="json", exclude={"step_name", "visit", "index", "counts", "strip"}, exclude_none=True
        )
        for name in ("queued_at", "started_at", "completed_at"):
            moment = getattr(row, name)
            if moment is not None:
                fields[name] = moment.timestamp()
        fields.pop("attempt_history", None)
        source = row.source or {"flow_id": flow_id, "step": row.step_name, "visit": row.visit, "why": why}
        found.append(StepRow(row.step_name, row.visit, {**fields, "status": status.value, "source": source}))
    return found


def reused_members(
    flow_id: str, lines: Sequence[Journaled], status: StepStatus = StepStatus.REUSED, why: str = "fork"
) -> list[MemberRow]:
    """Rows of the members of these steps."""
    return [
        MemberRow(
            line.step or "",
            line.visit or 1,
            told["index"],
            {
                "status": status.value if told["success"] else "failed",
                "source": {
                    "flow_id": flow_id,
                    "step": line.step,
                    "visit": line.visit,
                    "index": told["index"],
                    "why": why,
                },
            },
        )
        for line in lines
        if line.kind == "group.members"
        for told in told_members(line.data)
    ]
