"""Children that a member's code forks, and that come out of it: they are no second worker."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Any


class _Process:
    """Which process this is, told without a call of the system."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.mark: Any = object()


process = _Process()


def leave_copy(begun_in: object, error: BaseException | None) -> None:
    """End this process when it is a child that a member has forked, and that has come to the end of the member's code.

    What becomes of the member is for the process that began it to say; that of a script would end here as well.

    Args:
        begun_in: The mark of the process that began the member.
        error: What the child's code has raised.
    """
    if process.mark is begun_in:
        return
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    elif error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)
