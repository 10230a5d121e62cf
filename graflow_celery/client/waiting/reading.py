"""How far a run has been read."""

from __future__ import annotations

from graflow_celery.client.waiting.seen import Seen
from graflow_celery.deployment import Deployment
from graflow_celery.record import Cursor, GroupSpec, OutcomePage
from graflow_celery.wire.seal import RunSeal


class Reading:
    """How far one run has been read, by all threads of this process together.

    Attributes:
        seen: Outcomes that were read, by index.
        cursor: After it comes what was not read yet.
        last_event: After it comes what wakes a reader.
        is_closed: Whether the record has nothing more to tell, though not all outcomes are there.
        is_overdue: Whether the time of the whole group was over, since what failed ran again where it did.

    Args:
        deployment: Where the record is.
        spec: The group.
    """

    def __init__(self, deployment: Deployment, spec: GroupSpec) -> None:
        self.seen = Seen(RunSeal(deployment.keys, spec), spec.stride)
        self.cursor = Cursor()
        self.last_event = b"0-0"
        self.is_closed = self.is_overdue = False
        self._n = spec.n
        self._round: int | None = None
        self._lock = deployment.runtime.lock()  # never held while anything is waited for

    @property
    def ended(self) -> int:
        """Members whose outcome has been read; the continuation is none."""
        return len(self.seen) - (self._n in self.seen)

    @property
    def is_complete(self) -> bool:
        """Whether every member's outcome has been read."""
        return self.ended >= self._n

    @property
    def may_be_outdated(self) -> bool:
        """Whether something failed that may have been run again since it was read."""
        return self._round is not None and not self.seen.have_succeeded

    def take(self, page: OutcomePage, since: Cursor) -> None:
        """Take in what was read after a cursor."""
        with self._lock:
            self.last_event = page.last_event
            self.seen.add(page.outcomes, page.blocks)
            if page.round == self._round:
                self.is_overdue = page.overdue
            if self.cursor is since:  # else another thread has read on, or begun anew
                self.cursor = page.cursor

    def begin_anew(self) -> None:
        """Read everything once more."""
        self.cursor = Cursor()

    def begin_round(self, number: int) -> bool:
        """Forget what may have run again since this was read, when the run is in another round; whether it is."""
        with self._lock:
            known, self._round = self._round, number
            if known in {None, number}:
                return False
            self._forget_failures()
        return True

    def forget_failures(self) -> None:
        """What failed runs again: whoever waits from here on waits for that, also while the server does not answer."""
        with self._lock:
            self._round = None
            self._forget_failures()

    def _forget_failures(self) -> None:
        self.seen.forget_failures(self._n)
        self.cursor, self.is_closed, self.is_overdue = Cursor(), False, False
