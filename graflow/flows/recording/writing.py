"""Transitions of a flow that this process owns, on their way to the store, which may be away for a while."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from graflow.exceptions import MoveRefusedError, PayloadError, StaleEpochError, StoreUnavailableError
from graflow.flows.recording.identity import this_owner
from graflow.flows.recording.stopping import FlowStopped, Stop
from graflow.observing import Happening, observe, observers
from graflow.processes.forks import leave_copy, process
from graflow.runtime import Runtime
from graflow.state.changes import Appended, Change, Entry, FlowRecord, Request
from graflow.state.statuses import Move
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

REQUIRED_PATIENCE: Final = 60.0
"""Seconds that a flow which must be recorded waits for its store."""

_REFUSALS: Final = (StaleEpochError, MoveRefusedError, PayloadError, TypeError)  # the last two: what no store can hold
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_TRY_EVERY: Final = 1.0  # seconds between looks for a store that is lost


class Writer:
    """Claims a flow and appends its owner's transitions, each once.

    Args:
        store: Where to.
        record: The flow as it was seen, free to be claimed.
        runtime: Whose time passes.
        patience: Seconds that a write waits for a store that does not answer.
        is_required: Whether the execution stops when they are over; else it goes on unrecorded, and what it did is
            written in one transition when the store is back.

    Attributes:
        epoch: The owner's; None before the claim, which the first transition is written with.
        degraded: Whether something ran without being recorded at the time.
        is_interrupted: Whether to wait no longer for the store.
    """

    def __init__(
        self,
        store: StateStore,
        record: FlowRecord,
        runtime: Runtime,
        *,
        patience: float,
        is_required: bool,
        limit: int | None = None,
    ) -> None:
        self.epoch: int | None = None
        self.degraded = bool(record.fields.get("degraded"))
        self.is_interrupted = False
        self._store = store
        self._record = record
        self._process = process.mark
        self._flow_id = record.flow_id
        self._runtime = runtime
        self._patience = patience
        self._is_required = is_required
        self._limit = limit
        self._seq = 0  # the last line that is known
        self._claimed_with = 0  # lines of this epoch that were written with the claim
        self._kept: Change | None = None
        self._tried = 0.0

    def claim(self, at: float) -> tuple[Request, ...]:
        """Become the flow's owner, unless that is done; returns what the owner is asked for.

        Raises:
            FlowStopped: When the flow is not as it was seen.
        """
        if self.epoch is not None:
            return ()
        return self._claim(Change(self._flow_id, Move.STEP, 0, at)).requests

    def _claim(self, first: Change) -> Appended:
        begun = Entry("flow.claimed", data={"owner": this_owner()})
        try:
            claimed = self._store.claim(
                *(self._flow_id, this_owner()),
                seen=self._record,
                at=first.at,
                entries=[begun, *first.entries],
                steps=first.steps,
                flow=first.flow,
                limit=self._limit,
            )
        except MoveRefusedError as error:
            raise FlowStopped(Stop.NOT_OURS, str(error)) from error
        except StoreUnavailableError as error:
            self._note_store()
            raise FlowStopped(Stop.STORE_LOST, str(error)) from error
        if claimed.is_full:
            text = f"{self._limit} flows of the name '{self._record.flow_name}' run already, as many as may"
            raise FlowStopped(Stop.FULL, text)
        if claimed.epoch is None:
            raise FlowStopped(Stop.NOT_OURS, f"Flow '{self._flow_id}' was claimed by {claimed.record.owner}")
        if observers and self.epoch is None and not self._record.epoch:
            waited = max(0.0, first.at - self._record.fields.get("created_at", first.at))
            observe(Happening.FLOW_WAITED, waited, self._record.flow_name)
        self.epoch, self._claimed_with = claimed.epoch, 1 + len(first.entries)
        return Appended(0, claimed.record.version, claimed.epoch, claimed.record.requests)

    def append(self, change: Change) -> Appended | None:
        """Write a transition; None when it is kept for later.

        Raises:
            FlowStopped: When the flow is not this owner's any more, or the store is lost and required.
        """
        if process.mark is not self._process:  # a child that a step forked, and that came out of it
            leave_copy(self._process, sys.exception())
        if self.epoch is None:
            if change.move is Move.STEP:
                return self._claim(change)
            self.claim(change.at)
        change.guard = self.epoch or 0
        if self._kept is not None:
            return self._catch_up(change)
        try:
            appended = self._store.append(change)
        except StoreUnavailableError as error:
            return self._wait(change, error)
        except _REFUSALS as error:
            raise self._stopped(error) from error
        self._seq = appended.seq
        return appended

    def has_caught_up(self) -> bool:
        """Try to write what is kept; whether there is nothing left to try."""
        kept, self._tried = self._kept, 0.0
        if kept is not None:
            try:
                self._catch_up(replace(kept, entries=(), steps=(), members=(), blocks=(), flow={}))
            except FlowStopped as stopped:
                _log.warning("Flow %s: what ran without its store is not recorded: %s", self._flow_id, stopped.text)
                self._kept = None
        return self._kept is None

    @property
    def kept(self) -> Change | None:
        """What the store does not have."""
        return self._kept

    def _written(self, change: Change) -> Appended:
        try:
            appended = self._store.append(change)
        except _REFUSALS as error:
            raise self._stopped(error) from error
        self._seq = appended.seq
        return appended

    def _stopped(self, error: Exception) -> FlowStopped:
        """What a refusal means to the execution."""
        if isinstance(error, PayloadError | TypeError):
            return FlowStopped(Stop.BROKEN, str(error))
        if observers and isinstance(error, StaleEpochError):
            observe(Happening.LEASE_LOST, 1.0, "flow")
        return FlowStopped(Stop.NOT_OURS, str(error))

    def _wait(self, change: Change, error: StoreUnavailableError) -> Appended | None:
        """Try again until the patience is over."""
        self._note_store()
        _log.warning("Flow %s: the store does not answer (%s); trying again", self._flow_id, error)
        end, pauses = self._runtime.monotonic() + self._patience, iter(_PAUSES)
        while not self.is_interrupted and self._runtime.monotonic() < end:
            self._runtime.sleep(next(pauses, _PAUSES[-1]))
            try:
                return self._written_once(change)
            except StoreUnavailableError as again:
                self._note_store()
                error = again
        if self._is_required or self.is_interrupted:
            self._kept, self._tried = change, self._runtime.monotonic()
            raise FlowStopped(Stop.STORE_LOST, f"The store was lost for {self._patience:g} s: {error}")
        _log.error(
            "Flow %s: the store is lost; the flow goes on in memory, DEGRADED: another process may run its steps too",
            self._flow_id,
        )
        self.degraded = True
        self._kept, self._tried = change, self._runtime.monotonic()
        return None

    def _note_store(self) -> None:
        if observers:
            observe(Happening.STORE_FAILED, 1.0, self._store.url.partition(":")[0])

    def _written_once(self, change: Change) -> Appended:
        """Write a transition of which it is not known how much was written already: an answer may have got lost."""
        lines = [line for line in self._store.events(self._flow_id, self._seq) if line.epoch == self.epoch]
        written, lines = 0, lines if self._seq else lines[self._claimed_with :]
        for line, entry in zip(lines, change.entries, strict=False):
            if (line.kind, line.step, line.visit) != (entry.kind, entry.step, entry.visit):
                break
            self._seq, written = line.seq, written + 1
        if written and written == len(change.entries):
            return Appended(self._seq, 0, self.epoch or 0)
        return self._written(replace(change, entries=change.entries[written:]))

    def _catch_up(self, change: Change) -> Appended | None:
        """Lay a transition over those that are kept, and write them all when the store is back."""
        kept, now = self._kept, self._runtime.monotonic()
        assert kept is not None  # noqa: S101 - the caller has looked
        self._kept = merged = replace(
            change,
            entries=[*kept.entries, *change.entries],
            steps=[*kept.steps, *change.steps],
            members=[*kept.members, *change.members],
            blocks=[*kept.blocks, *change.blocks],
            flow={**kept.flow, **change.flow, **({"degraded": True} if self.degraded else {})},
            is_own=kept.is_own and change.is_own,
        )
        if now - self._tried < _TRY_EVERY and change.move is kept.move:
            return None
        self._tried = now
        try:
            appended = self._written_once(merged)
        except StoreUnavailableError:
            return None
        _log.warning("Flow %s: the store is back; what ran meanwhile is recorded", self._flow_id)
        self._kept = None
        return appended
