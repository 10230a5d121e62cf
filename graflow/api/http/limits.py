"""How often somebody may do something."""

from __future__ import annotations

from collections import deque
from typing import Final

from graflow.api.http.problems import ProblemError

_KNOWN: Final = 10_000  # of whom it is remembered at once


class RateLimit:
    """Lets each do something so often within a minute.

    Args:
        most: How often.
        what: What it is, as the refusal says: "logins failed".
    """

    WINDOW: Final = 60.0  # seconds

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._times: dict[str, deque[float]] = {}

    def check(self, who: str, now: float) -> None:
        """Refuse once more, without counting it.

        Raises:
            ProblemError: It was as often as it may be within a minute.
        """
        times = self._times.get(who, deque())
        while times and now - times[0] >= self.WINDOW:
            times.popleft()
        if len(times) >= self._most:
            left = str(int(self.WINDOW - (now - times[0])) + 1)
            raise ProblemError(
                *(429, "too-many-requests", f"{self._most} {self._what} within a minute; try again in {left} s"),
                headers={"Retry-After": left},
            )

    def note(self, who: str, now: float) -> None:
        """Count one."""
        if len(self._times) >= _KNOWN:
            self._times = {each: times for each, times in self._times.items() if now - times[-1] < self.WINDOW}
        self._times.setdefault(who, deque(maxlen=self._most)).append(now)

    def take(self, who: str, now: float) -> None:
        """Count one more, if that may be.

        Raises:
            ProblemError: As `check`.
        """
        self.check(who, now)
        self.note(who, now)
