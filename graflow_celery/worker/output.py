"""What members print and log, shown where the program runs that started their worker, with run and index in front."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from graflow.core.building.entering import running_frame
from graflow.text.shown import one_line
from graflow_celery.worker.running import running_member

OUTPUT_VARIABLE: Final = "GRAFLOW_MEMBER_OUTPUT"
_QUIET: Final = "quiet"
_STDOUT, _STDERR = 1, 2
_OF_THE_ENGINE: Final = ("amqp", "billiard", "celery", "kombu")  # loggers that would tell of each message


@contextmanager
def described_output(*, quiet: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Where a worker's members are to print and from which level they log, as text for its environment.

    Yields:
        The text, and the file descriptors that the worker has to inherit.
    """
    try:
        descriptor = -1 if quiet else os.dup(_STDOUT)
    except OSError:  # this process has no output
        descriptor = -1
    if descriptor < 0:
        yield _QUIET, ()
        return
    try:
        yield f"{descriptor}:{logging.getLogger().level}", (descriptor,)
    finally:
        os.close(descriptor)


def show_members() -> None:
    """Have the members of this pool child print and log where its worker was told to; once, when the child begins."""
    described = os.environ.pop(OUTPUT_VARIABLE, None)
    if described is None:
        return  # a worker that was started by hand logs as Celery does
    if described == _QUIET:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        return
    descriptor, level = map(int, described.split(":"))
    os.dup2(descriptor, _STDOUT)
    os.close(descriptor)
    sys.stdout = _named(_STDOUT)
    sys.stderr = _named(_STDERR)
    _log_from(level)


def _named(descriptor: int) -> Any:
    stream = open(descriptor, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - a descriptor, for good
    return NamedLines(stream)


def _log_from(level: int) -> None:
    """Log to the named lines, from the level on that the program logs from."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setStream(sys.stderr)
    if logging.NOTSET < level < root.level:
        root.setLevel(level)
        for name in _OF_THE_ENGINE:
            logging.getLogger(name).setLevel(logging.WARNING)


class NamedLines:
    """A text stream whose lines begin with run, index and task of the member that wrote them, each in one piece.

    Args:
        stream: Where they go. That it takes no more, as a pipe that was closed, ends no member.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()

    def write(self, text: str) -> int:
        """Write the lines that are complete, and keep the rest until there is more, or `flush`."""
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        if lines:
            self._emit(lines)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        begun, self._begun.text = getattr(self._begun, "text", ""), ""
        if begun:
            self._emit([begun])

    def _emit(self, lines: list[str]) -> None:
        frame, member = running_frame.get(), running_member.get()
        name = "" if frame is None else f"{one_line(frame.task_id)}: "
        if member is not None:
            name = f"{one_line(member.run_id)}[{member.index}] {name}"
        with suppress(OSError, ValueError):
            self._stream.write("".join(f"{name}{line}\n" for line in lines))
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
