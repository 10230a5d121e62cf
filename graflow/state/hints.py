"""Hints between the processes of a store: a flow is free to go on, before anybody looks for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

_SLICE: Final = 0.25  # seconds after which whoever listens looks whether it still has to
_GATHER: Final = 0.02  # seconds in which hints that come together are one


class Hints:
    """What tells others, and waits to be told. A hint may get lost: whoever waits looks by itself as well.

    This one is for a store that no other process has: there is nobody to tell.
    """

    def tell(self) -> None:
        """Hint that a flow is free that nobody here runs."""

    def wait(self, seconds: float, is_over: threading.Event) -> None:
        """Wait so long, or until there was a hint since the last call, or until it `is_over`; costs no query."""
        is_over.wait(seconds)

    def close(self) -> None:
        """Let go of what is listened to; a later call listens again."""


def until_heard(seconds: float, is_over: threading.Event, heard: Callable[[float, threading.Event], bool]) -> None:
    """Listen in short slices; `heard` waits for up to so many seconds, and not at all once it is over."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0 and not is_over.is_set():
        if heard(min(left, _SLICE), is_over):
            is_over.wait(_GATHER)
            return
