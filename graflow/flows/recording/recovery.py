"""The loop that goes on with flows whose owners are gone, or whose time has come; one per store and process."""

from __future__ import annotations

import random
import threading
from typing import Final, Protocol

from graflow.exceptions import StoreError, StoreUnavailableError
from graflow.flows.recording.identity import Leases
from graflow.flows.recording.writing import Writer
from graflow.observing import Happening, observe, observers
from graflow.processes.forks import between_forks
from graflow.runtime import Runtime
from graflow.spells import is_news
from graflow.state.changes import FlowRecord
from graflow.state.statuses import FlowStatus
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two looks, more or less."""

_SPREAD: Final = (0.7, 1.5)  # of the pause; each look is two queries, and no flow is woken later than the longest
_PENDING_FOR: Final = 5.0  # seconds after which whoever made a flow has died before its claim


class Place(Protocol):
    """A store as this process uses it."""

    @property
    def store(self) -> StateStore: ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def leases(self) -> Leases[int]: ...

    @property
    def is_closing(self) -> bool: ...

    def recorder_of(self, flow_id: str) -> object | None:
        """What writes a flow down that runs here."""

    def is_free(self, record: FlowRecord) -> bool:
        """Whether a flow may be claimed now."""


class Player(Protocol):
    """Who can run flows of a store: a runner of this process."""

    def knows(self, flow_name: str) -> bool:
        """Whether a flow of that name can be run by it."""

    def begin(self, record: FlowRecord) -> None:
        """Have a flow run, which is free."""

    def sweep(self) -> None:
        """See to questions that are due."""


class Recovery:
    """Looks for flows of a store that nobody runs, and has the runners of this process run them.

    Args:
        home: The store, and what runs here.
    """

    def __init__(self, home: Place) -> None:
        self._home = home
        self._players: list[Player] = []
        self._chance = random.Random()  # noqa: S311 - only so that not all look at once; tasks have the module's own
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._told: set[str] = set()
        self._behind: list[Writer] = []
        self._is_quiet = False
        self.pause = INTERVAL
        """Seconds between two looks, more or less."""
        self.longest_pause = 0.0
        """The same while no flow is open, where that is longer."""

    def join(self, player: Player) -> None:
        """Look on behalf of a runner as well; the first one begins the loop."""
        with self._lock:
            if player not in self._players:
                self._players.append(player)
                if len(self._players) == 1:
                    self._woken.clear()
                    self._home.runtime.start(self._loop, "graflow-recovery")

    def leave(self, player: Player) -> None:
        """Look no more on behalf of a runner; the last one ends the loop."""
        with self._lock:
            if player in self._players:
                self._players.remove(player)
                if not self._players:
                    self._woken.set()

    @property
    def is_idle(self) -> bool:
        """Whether it looks on behalf of nobody, and has nothing to write."""
        return not self._players and not self._behind

    def catch_up(self, writer: Writer) -> None:
        """Write what a flow did without its store, when that is back."""
        self._behind.append(writer)

    def _goes_on(self) -> bool:
        return bool(self._players) and not self._home.is_closing

    def _loop(self) -> None:
        while self._goes_on():
            try:
                with between_forks():
                    self.look()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look is as necessary
                if not self._goes_on():  # and the store is closed by now, perhaps
                    return
                is_known = isinstance(error, StoreError | OSError)
                if observers and is_known:
                    observe(Happening.STORE_FAILED, 1.0, self._home.store.url.partition(":")[0])
                _log.warning("Flows are not looked after: %s: %s", type(error).__name__, error, exc_info=not is_known)
            pause = max(self.pause, self.longest_pause) if self._is_quiet else self.pause
            self._home.store.hints.wait(pause * self._chance.uniform(*_SPREAD), self._woken)

    def look(self) -> None:
        """Look once."""
        self._behind = [writer for writer in self._behind if not writer.has_caught_up()]
        now = self._home.runtime.time()
        self._is_quiet = False
        records = self._home.store.open_flows(at=now)
        self._is_quiet = not (records or self._behind)
        for record in records:
            try:
                self._look_at(record, now)
            except (StoreUnavailableError, OSError):
                raise
            except Exception:  # noqa: BLE001 - each flow on its own
                if is_news(("flow", record.flow_id)):
                    _log.exception("Flow %s cannot be looked after; the others are", record.flow_id)
        self._home.leases.forget_all_but({record.flow_id for record in records})
        for player in list(self._players):
            player.sweep()

    def _look_at(self, record: FlowRecord, now: float) -> None:
        player = next((player for player in list(self._players) if player.knows(record.flow_name)), None)
        if player is None:
            self._tell(record)
        elif self._is_left(record, now):
            player.begin(record)

    def _is_left(self, record: FlowRecord, now: float) -> bool:
        """Whether nobody runs a flow, or is about to."""
        if self._home.recorder_of(record.flow_id) is not None:
            return False
        if record.status is FlowStatus.PENDING:
            return bool(now - record.fields.get("created_at", now) > _PENDING_FOR)
        return self._home.is_free(record)

    def _tell(self, record: FlowRecord) -> None:
        if record.flow_id not in self._told:
            self._told.add(record.flow_id)
            _log.info(
                "Flow %s is %s, and '%s' is not registered in this process: it is left to others",
                *(record.flow_id, record.status.value, record.flow_name),
            )
