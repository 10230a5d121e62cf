"""How many members a worker has ended and lost: pool children tell its main process through a pipe."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Final

_READ: Final = 64 * 1024  # bytes, as many as a pipe holds


class MembersDone:
    """Counts by queue, from all processes of one worker.

    What a child has said survives its death, and nobody waits for anybody: a pipe that is full takes a number later.
    """

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._untold: Counter[str] = Counter()  # in a process that runs members
        self._told: Counter[str] = Counter()  # in the main process, as all that follows
        self._rest = b""
        self._lost = 0

    def begin(self) -> None:
        """Count from here on; to be called before the children are forked. A worker that is started again goes on."""
        if self._ends is None:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)

    def add(self, queue: str, number: int) -> None:
        """Members of a message from a queue have ended in this process, however they did."""
        if self._ends is None or not number:
            return
        with self._lock:
            self._untold[queue] += number
            for name, untold in list(self._untold.items()):
                try:
                    os.write(self._ends[1], f"{untold} {name}\n".encode())
                except BlockingIOError:
                    return
                del self._untold[name]

    def add_lost(self, number: int) -> None:
        """Members were running in a child that has died."""
        self._lost += number

    def counts(self) -> tuple[dict[str, int], int]:
        """Members that have ended by queue, and those that were lost, since this worker has been there."""
        while self._ends is not None:
            try:
                found = os.read(self._ends[0], _READ)
            except BlockingIOError:
                break
            *lines, self._rest = (self._rest + found).split(b"\n")
            for line in lines:
                number, _, queue = line.decode().partition(" ")
                self._told[queue] += int(number)
        return dict(self._told), self._lost


members_done: Final = MembersDone()
"""Of this worker."""
