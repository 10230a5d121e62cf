"""Listens to what members print and log while they run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any, Final

from graflow_celery.worker.running import running_member
from graflow_celery.worker.words import Words

_OWN: Final = ("amqp.", "billiard.", "celery.", "graflow.", "graflow_celery.", "kombu.")  # loggers that are no member's
_PRINTED, _TO_STDERR = "OUT", "ERR"


def hear_members() -> None:
    """Keep, from now on, what members print and log in this process; calling it again changes nothing."""
    if not isinstance(sys.stdout, HeardStream):
        sys.stdout = HeardStream(sys.stdout, _PRINTED)
    if not isinstance(sys.stderr, HeardStream):
        sys.stderr = HeardStream(sys.stderr, _TO_STDERR)
    root = logging.getLogger()
    if not any(isinstance(handler, HeardRecords) for handler in root.handlers):
        root.addHandler(HeardRecords())


def _words() -> Words | None:
    """Those of the member that the current thread runs, if it runs one."""
    member = running_member.get()
    if member is None:
        return None
    if member.words is None:
        member.words = Words()
    return member.words


class HeardStream:
    """A text stream that a member's words go through.

    Args:
        stream: Where they go.
        level: What they are kept as.
    """

    def __init__(self, stream: Any, level: str) -> None:
        self._stream = stream
        self._level = level

    def write(self, text: str) -> int:
        words = _words()
        if words is not None and isinstance(text, str):
            words.write(self._level, text)
        written: int = self._stream.write(text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class HeardRecords(logging.Handler):
    """Keeps log records of members, whatever else becomes of them; those of the engine are none of theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        if f"{record.name}.".startswith(_OWN):
            return
        words = _words()
        if words is not None:
            try:
                words.add(record.levelname, self.format(record))
            except Exception:  # noqa: BLE001 - arguments that do not fit their text, as every handler answers them
                self.handleError(record)
