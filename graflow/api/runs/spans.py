"""When many things ran, so that any stretch of time can be asked about without looking at each of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise


class Spans:
    """Starts and ends, sorted, with their sums; times are seconds since the epoch.

    Args:
        ran: Start, end (None while it runs) and whether it failed, of each; there is at least one.
    """

    def __init__(self, ran: Iterable[tuple[float, float | None, bool]]) -> None:
        told = list(ran)
        self._base = base = min(start for start, _, _ in told)  # sums of times since the epoch would lose their ends
        self._starts = sorted(start - base for start, _, _ in told)
        self._ends = sorted(end - base for _, end, _ in told if end is not None)
        self._failed = sorted(end - base for _, end, failed in told if failed and end is not None)
        self._started = list(accumulate(self._starts, initial=0.0))
        self._ended = list(accumulate(self._ends, initial=0.0))

    def count(self, begin: float, end: float) -> int:
        """How many ran at some time of a stretch."""
        return bisect_right(self._starts, end - self._base) - bisect_left(self._ends, begin - self._base)

    def busy(self, edges: list[float], now: float) -> list[float]:
        """How many ran on average between each two edges; what has no end runs until now."""
        worked = [self._worked(edge - self._base, now - self._base) for edge in edges]
        return [
            max(0.0, (after - before) / (end - begin))
            for (before, after), (begin, end) in zip(pairwise(worked), pairwise(edges), strict=True)
        ]

    def failed(self, edges: list[float]) -> list[int]:
        """How many failed between each two edges; the last one counts itself."""
        places = [bisect_left(self._failed, edge - self._base) for edge in edges[:-1]]
        places.append(bisect_right(self._failed, edges[-1] - self._base))
        return [after - before for before, after in pairwise(places)]

    def _worked(self, at: float, now: float) -> float:
        """Seconds for which all of them together had run."""
        started, ended = bisect_right(self._starts, at), bisect_right(self._ends, at)
        seconds = (started - ended) * at - self._started[started] + self._ended[ended]
        running = len(self._starts) - len(self._ends)
        return seconds - running * max(0.0, at - now)
