"""What changes in a run, told as differences between what it was and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.api.http.service import Service
from graflow.api.live.messages import Message, reset
from graflow.api.live.news import news_of
from graflow.api.runs.steps import graph_of, last_visits, row_of
from graflow.exceptions import FlowNotFoundError
from graflow.state.models import FlowState, FlowStepState
from graflow.text.shown import one_line

LARGEST: Final = 64 * 1024  # bytes of one event; instead of more the client reads all again
CATCHES_UP: Final = 300  # lines of a journal that one who comes back may have missed
_OF_GROUPS: Final = frozenset({"counts", "strip"})
_HEADLINE: Final = 200

Row = Mapping[str, Any]


class RunFeed:
    """One run as those who watch it know it.

    Args:
        service: Whose store and flows.
        flow_id: The run.
    """

    def __init__(self, service: Service, flow_id: str) -> None:
        self._service = service
        self._flow_id = flow_id
        self._rows: dict[str, Row] = {}
        self._run: Row = {}
        self._fingerprint = ""
        self._shape: object = None
        self.seq = 0
        self.is_ended = False
        self._take(self._read())

    def look(self) -> list[Message]:
        """What has changed since the last look; empty when nothing has.

        Raises:
            FlowNotFoundError: The run is gone.
        """
        rows, run, fingerprint, seq = self._rows, self._run, self._fingerprint, self.seq
        state = self._read()
        if state.seq <= seq:
            return []
        self._take(state)
        touched = [step for step in {**rows, **self._rows} if rows.get(step) != self._rows.get(step)]
        changed_run = {name: value for name, value in self._run.items() if run.get(name) != value}
        lines = self._service.store.events(self._flow_id, seq, CATCHES_UP)
        messages = news_of(line for line in lines if line.seq <= self.seq)
        messages.append(self._change(touched, rows, changed_run | {"status": state.status, "version": state.version}))
        if fingerprint != self._fingerprint:
            messages.append(Message.of("graph", {"seq": self.seq, "fingerprint": self._fingerprint}, self.seq))
        return messages + self.end()

    def end(self) -> list[Message]:
        """The last event of a run that has ended, else nothing."""
        return [Message.of("end", {"status": self._run["status"]})] if self.is_ended else []

    def missed(self, after: int) -> list[Message]:
        """What one who knows the run up to a position has to be told to be here.

        Args:
            after: The position.
        """
        if after == self.seq:
            return self.end()
        lines = self._service.store.events(self._flow_id, after, CATCHES_UP + 1) if after < self.seq else []
        if not lines or len(lines) > CATCHES_UP or lines[0].seq != after + 1:
            why = "the log does not have it any more" if after < self.seq else "the log ends before it"
            return [reset("too much has happened" if len(lines) > CATCHES_UP else why, self.seq), *self.end()]
        touched = dict.fromkeys(line.step for line in lines if line.step is not None)
        cut = {step for line in lines for step, _ in line.data.get("cut", ())}
        graph = Message.of("graph", {"seq": self.seq, "fingerprint": self._fingerprint}, self.seq)
        change = self._change([*touched, *(cut - touched.keys())], {}, self._run)
        return [*news_of(line for line in lines if line.seq <= self.seq), change, graph, *self.end()]

    # -- parts -----------------------------------------------------------------------------------------------------

    def _read(self) -> FlowState:
        state = self._service.store.get_flow_state(self._flow_id)
        if state is None:
            raise FlowNotFoundError(f"Flow {self._flow_id} not found")
        return state

    def _take(self, state: FlowState) -> None:
        last = last_visits(state)
        self._rows = {step: row_of(row) for step, row in last.items()}
        self._run = {
            "status": state.status.value,
            "version": state.version,
            "counts": state.counts,
            "started_at": state.started_at,
            "completed_at": state.completed_at,
            "wake_at": state.wake_at,
            "error": None if state.error is None else one_line(state.error)[:_HEADLINE],
        }
        self.seq, self.is_ended = state.seq, state.status.is_terminal
        shape = (state.epoch, len(last), sum(len(row.added or ()) for row in state.steps))
        if shape != self._shape:
            self._shape, self._fingerprint = shape, graph_of(self._service, state).fingerprint

    def _change(self, steps: Sequence[str], before: Mapping[str, Row], run: Row) -> Message:
        told, groups = [], {}
        for step in steps:
            row, known = self._rows.get(step), before.get(step, {})
            if row is None:
                told.append({"step": step, **row_of(FlowStepState(step_name=step))})
                continue
            fields = {name: value for name, value in row.items() if name not in _OF_GROUPS}
            if any(known.get(name) != value for name, value in fields.items()) or not known:
                told.append({"step": step, **fields})
            if row["counts"] is not None and any(known.get(name) != row[name] for name in _OF_GROUPS):
                groups[step] = _group(row, known)
        data: dict[str, Any] = {"seq": self.seq, "at": self._service.now(), "run": run, "steps": told}
        if groups:
            data["groups"] = groups
        message = Message.of("change", data, self.seq)
        return message if len(message.data) <= LARGEST else reset("too much has changed at once", self.seq)


def _group(row: Row, known: Row) -> dict[str, Any]:
    """Counts of a group, and those buckets of its strip that changed."""
    before = known.get("strip") or ()
    strip = {
        place: bucket
        for place, bucket in enumerate(row["strip"] or ())
        if place >= len(before) or before[place] != bucket
    }
    return {"size": row["size"], "counts": row["counts"], "strip": strip}
