"""The last of what a task printed and logged, which is kept with what came of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

Line = tuple[float, str, str]
"""When, seconds since the epoch; the level, `OUT` or `ERR` for what was printed; the text."""

MOST: Final = 64 * 1024
"""Bytes of UTF-8 that are kept of a task, the last ones."""
_OF_A_LINE: Final = 40  # bytes that a line takes beside its text
_CUT: Final = "[…]"


class Words:
    """Lines with their times and levels, and no more than `MOST` of them."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._size = 0
        self._begun: dict[str, str] = {}
        self._lock = threading.Lock()  # a task may have threads that were given its context

    def add(self, level: str, text: str) -> None:
        """Add a message, which may have several lines."""
        with self._lock:
            self._append(time.time(), level, text)

    def write(self, level: str, text: str) -> None:
        """Add the lines that are complete now, and keep the rest until there is more."""
        with self._lock:
            *lines, rest = (self._begun.get(level, "") + text).split("\n")
            self._begun[level] = rest[-MOST:]
            for line in lines:
                self._append(time.time(), level, line)

    def lines(self) -> list[Line]:
        """What is kept, the oldest first."""
        with self._lock:
            rest = [(round(time.time(), 3), level, _end_of(begun)) for level, begun in self._begun.items() if begun]
            return [*self._lines, *rest]

    def _append(self, at: float, level: str, text: str) -> None:
        kept = _end_of(text)
        self._lines.append((round(at, 3), level, kept))
        self._size += len(kept.encode()) + _OF_A_LINE
        while self._size > MOST and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()[2].encode()) + _OF_A_LINE


def _end_of(text: str) -> str:
    """A line that UTF-8 can write, or the end of it."""
    encoded = text.encode(errors="backslashreplace")
    if len(encoded) <= MOST:
        return encoded.decode()
    return _CUT + encoded[len(_CUT.encode()) - MOST :].decode(errors="ignore")
