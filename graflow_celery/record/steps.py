"""Telling a server's clock that was set from time that has passed."""

from __future__ import annotations

from typing import Final

from graflow_celery.record.data import Look

_SLACK: Final = 1.0  # seconds that clocks may differ by in any case,
_DRIFT: Final = 0.001  # and in each second that passes


class ClockWatch:
    """Compares the times of looks with a steady clock here, for one sweeper or several that take turns."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    @property
    def is_new(self) -> bool:
        """Whether there is nothing yet to compare with."""
        return self._last is None

    def step(self, look: Look, sent: float, received: float) -> float:
        """Seconds by which the server's clock was set ahead since the last look, back when negative; 0 when it was not.

        Args:
            look: What came of a look.
            sent: When it was asked for, on the steady clock.
            received: When it was answered.
        """
        step = self._step(look, sent, received)
        self._last = (sent, received, look.time - step)
        return step

    def _step(self, look: Look, sent: float, received: float) -> float:
        if self._last is None:
            return look.pause if look.pause < -_SLACK else 0.0
        sent_before, received_before, time_before = self._last
        passed, least, most = look.time - time_before, sent - received_before, received - sent_before
        slack = _SLACK + _DRIFT * most
        if passed < least - slack:
            return passed - least
        # Others that looked all the while have seen no step; then it was this process that stood still.
        if passed > most + slack and look.pause > slack:
            return min(passed - most, look.pause)
        return 0.0
