"""The owner of a flow while it runs: its signs of life, what it is asked for, and how it lets go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graflow.exceptions import FlowNotFoundError, MoveRefusedError, StaleEpochError, StoreError
from graflow.flows.recording.stopping import Stop
from graflow.flows.recording.writing import Writer
from graflow.runtime import Runtime
from graflow.state.changes import Change, Entry, Request, RequestKind
from graflow.state.statuses import Move
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

GRACE: Final = 1.0
"""Seconds that a running step gets to end before its flow is handed over."""


class Owner:
    """Owns one flow, beats for it, and hears what it is asked for.

    Args:
        store: Where the flow is.
        flow_id: The flow.
        writer: Has its epoch.
        runtime: Whose time passes.
        beat_every: Seconds between signs of life.

    Attributes:
        name: For logs.
        stop: Why the execution ends at the next transition, once that is known.
        why: The same in words.
    """

    def __init__(self, store: StateStore, flow_id: str, writer: Writer, runtime: Runtime, beat_every: float) -> None:
        self.flow_id = flow_id
        self.name = f"Flow {flow_id}"
        self.writer = writer
        self.stop: Stop | None = None
        self.why = ""
        self._store = store
        self._runtime = runtime
        self._beat_every = beat_every
        self._beaten = runtime.monotonic()
        self._left_since: float | None = None
        self._is_given_back = False

    def hear(self, requests: Sequence[Request]) -> None:
        """Take note of what the owner is asked for; a cancel is stronger than a pause."""
        for request in requests:
            if request.kind is RequestKind.CANCEL:
                self.end(Stop.CANCEL, request.reason)
            elif self.stop is None:
                self.end(Stop.PAUSE, request.reason)

    def end(self, why: Stop, text: str = "") -> None:
        """Go no further than the next transition, or than the wait that the run is in."""
        if self.stop is None or self.stop is Stop.PAUSE:
            self.stop, self.why = why, text

    def tick(self, now: float) -> None:
        """Beat when it is time; the pacer of the process calls this."""
        if self._runtime.is_stopping():
            self._leave(now)
        if self.writer.epoch is not None and now - self._beaten >= self._beat_every:
            self._beaten = now
            self.listen()

    def listen(self) -> None:
        """Give a sign of life, and hear what the owner is asked for."""
        epoch = self.writer.epoch
        if epoch is None:
            return
        try:
            self.hear(self._store.beat(self.flow_id, epoch))
        except StaleEpochError as error:
            self.end(Stop.NOT_OURS, str(error))
        except StoreError:
            return  # whoever writes next sees to it

    def _leave(self, now: float) -> None:
        """This worker shuts down: its flow goes on elsewhere, at the latest when a running step has had its time."""
        if self._left_since is None:
            self._left_since = now
            self.end(Stop.HAND_OVER, "its worker shuts down")
        elif now - self._left_since >= GRACE:
            self.give_back()

    def give_back(self) -> None:
        """Give the claim up although a step still runs; its end will be refused."""
        epoch = self.writer.epoch
        if epoch is None or self._is_given_back:
            return
        self._is_given_back = True
        entry = Entry("flow.handed_over", data={"cut_short": True})
        try:
            self._store.append(Change(self.flow_id, Move.HAND_OVER, epoch, self._runtime.time(), [entry]))
        except (StaleEpochError, MoveRefusedError, FlowNotFoundError):
            return
        except StoreError as error:
            _log.warning("Flow %s goes on elsewhere when its lease is over: %s", self.flow_id, error)
