"""Listens to what tasks print and log while they run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from graflow.foreign import attempt
from graflow.hearing.words import Words

_OWN: Final = ("amqp.", "billiard.", "celery.", "graflow.", "graflow_celery.", "kombu.")  # loggers that are no task's
_PRINTED, _TO_STDERR = "OUT", "ERR"

Find = Callable[[], Words | None]
"""The words of whoever runs in the current thread; None when nobody does whose words are kept."""

_finders: list[Find] = []


def hear(find: Find) -> None:
    """Keep, from now on, what is printed and logged in this process; calling it again changes nothing.

    Args:
        find: Gives the words that it belongs to.
    """
    if find not in _finders:
        _finders.append(find)
    if not isinstance(sys.stdout, HeardStream):
        sys.stdout = HeardStream(sys.stdout, _PRINTED)
    if not isinstance(sys.stderr, HeardStream):
        sys.stderr = HeardStream(sys.stderr, _TO_STDERR)
    root = logging.getLogger()
    if not any(isinstance(handler, HeardRecords) for handler in root.handlers):
        root.addHandler(HeardRecords())


def _found() -> Iterator[Words]:
    return (words for find in _finders if (words := find()) is not None)


class HeardStream:
    """A text stream that the words of tasks go through.

    Args:
        stream: Where they go.
        level: What they are kept as.
    """

    def __init__(self, stream: Any, level: str) -> None:
        self._stream = stream
        self._level = level

    def write(self, text: str) -> int:
        for words in _found() if isinstance(text, str) else ():
            words.write(self._level, text)
        written: int = self._stream.write(text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class HeardRecords(logging.Handler):
    """Keeps log records of tasks, whatever else becomes of them; those of the engine are none of theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        if f"{record.name}.".startswith(_OWN):
            return
        for words in _found():
            attempt(partial(self._add, record, words), lambda _: self.handleError(record))

    def _add(self, record: logging.LogRecord, words: Words) -> None:
        words.add(record.levelname, self.format(record))  # whose arguments may not fit its text
