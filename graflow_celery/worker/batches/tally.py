"""What came of the members of a batch, for the log, for monitors and for the message that brought them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from graflow.observing import Happening, observe, observers
from graflow.runtime import Runtime
from graflow_celery.broker.messages import shadow_of, shown_name
from graflow_celery.record import GrantedMember, GroupSpec, MemberReport, MemberState
from graflow_celery.worker.member import RetryLater

_RETRY: Final = "RETRY"
_IN_ORDER: Final = (*(state.value for state in MemberState), _RETRY)


class MemberListener(Protocol):
    """Is told about each member of a batch, for monitors."""

    def started(self, member: GrantedMember) -> None: ...

    def finished(self, result: MemberReport, seconds: float) -> None: ...

    def retry_later(self, member: RetryLater) -> None: ...

    def flush(self) -> None: ...


Listening = Callable[[GroupSpec], MemberListener | None]
"""Makes what is told about the members of a group; None when nobody listens."""


class Tally:
    """Counts what members come to, and tells a listener of each.

    Attributes:
        last: What came of the last member; None before the first has ended.
    """

    def __init__(self, runtime: Runtime, spec: GroupSpec, listener: MemberListener | None) -> None:
        self.last: MemberReport | RetryLater | None = None
        self._runtime = runtime
        self._spec = spec
        self._listener = listener
        self._began = self._since = runtime.monotonic()
        self._counts: Counter[str] = Counter()

    @property
    def is_watched(self) -> bool:
        """Whether somebody is told of each member."""
        return self._listener is not None

    @property
    def done(self) -> int:
        """How many have ended; not those that are to be tried again."""
        return self._counts.total() - self._counts[_RETRY]

    def add(self, succeeded: int, last: MemberReport) -> None:
        """Count members that have succeeded, of whom nobody has been told."""
        self.last = last
        self._counts[MemberState.SUCCEEDED.value] += succeeded

    def started(self, member: GrantedMember) -> None:
        self._since = self._runtime.monotonic()
        if self._listener is not None:
            self._listener.started(member)

    def ended(self, result: MemberReport | RetryLater) -> float:
        """Count a member that has ended now; returns the monotonic time."""
        now = self._runtime.monotonic()
        self.last = replace(result, blobs={}) if isinstance(result, MemberReport) and result.blobs else result
        if isinstance(result, RetryLater):
            self._counts[_RETRY] += 1
            if self._listener is not None:
                self._listener.retry_later(result)
        else:
            self._counts[result.state.value] += 1
            if self._listener is not None:
                self._listener.finished(result, now - self._since)
        return now

    def flush(self) -> None:
        """Send to the listener's monitors what it has collected."""
        if self._listener is not None:
            self._listener.flush()

    def tell(self) -> None:
        """Have counted what the members came to, once, when all have ended."""
        if observers:
            observe(Happening.BATCH_ENDED, self._runtime.monotonic() - self._began)
            for state, number in self._counts.items():
                observe(Happening.MEMBERS_ENDED, number, state.lower())

    def __str__(self) -> str:
        """In one line for the log, such as `Run r: 10 of double in 0.12 s: 9 SUCCEEDED, 1 FAILED`."""
        ran = self._counts.total()
        seconds = self._runtime.monotonic() - self._began
        come_to = ", ".join(f"{self._counts[what]} {what}" for what in _IN_ORDER if self._counts[what])
        if ran == 1 and self.last is not None:
            name, come_to = shown_name(self._spec, self.last.index), next(iter(self._counts))
        else:
            name = f"{ran} of {shadow_of(self._spec)}"
        return f"Run {self._spec.run_id}: {name} in {seconds:.2f} s: {come_to}"
