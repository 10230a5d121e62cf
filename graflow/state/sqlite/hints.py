"""Hints between processes that have a store in one file: named pipes in a folder beside it, one for each that waits."""

from __future__ import annotations

import os
import secrets
import select
import threading
from contextlib import suppress
from errno import ENXIO
from functools import partial
from pathlib import Path

from graflow.processes.per_process import PerProcess
from graflow.state.hints import Hints, until_heard

_MANY = 4096  # bytes that are read at once: each is a hint


class _Pipe:
    """The end that this process listens to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        made = folder / f".{self.path.name}"
        os.mkfifo(made, 0o600)
        try:
            # For both ways, so that it does not end with the first who tells; before others can take it for a dead one.
            self.end = os.open(made, os.O_RDWR | os.O_NONBLOCK)
        finally:
            made.rename(self.path)
        self._poll = select.poll()  # `select` ends at the 1,024th open file of a process
        self._poll.register(self.end, select.POLLIN)

    def heard(self, seconds: float) -> bool:
        if not self._poll.poll(seconds * 1000):
            return False
        with suppress(BlockingIOError):
            os.read(self.end, _MANY)
        return True

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.end)


class PipeHints(Hints):
    """Hints by pipes. Where there are none, on Windows or on a disk that cannot have them, nobody is told.

    Args:
        folder: Where they are; made by the first who listens.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipes: PerProcess[None, _Pipe] = PerProcess()
        self._listening: PerProcess[None, threading.Lock] = PerProcess()

    def tell(self) -> None:
        with suppress(OSError):
            for path in self._folder.iterdir():
                if not path.name.startswith("."):
                    _write(path)

    def wait(self, seconds: float, is_over: threading.Event) -> None:
        try:
            until_heard(seconds, is_over, self._heard)
        except (OSError, AttributeError):  # AttributeError: Windows has no such pipes
            is_over.wait(seconds)

    def close(self) -> None:
        for pipe in self._pipes.all():
            with suppress(OSError):
                os.write(pipe.end, b".")  # whoever listens lets go
        with self._lock():
            for pipe in self._pipes.take_all():
                pipe.close()

    def _heard(self, seconds: float, is_over: threading.Event) -> bool:
        with self._lock():
            if is_over.is_set():  # and the store perhaps closed, and its folder gone
                return False
            return self._pipes.get(None, partial(_Pipe, self._folder)).heard(seconds)

    def _lock(self) -> threading.Lock:
        """Held while somebody listens, so that nobody closes what is listened to."""
        return self._listening.get(None, threading.Lock)


def _write(path: Path) -> None:
    try:
        end = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == ENXIO:  # nobody listens any more: its process was killed
            path.unlink(missing_ok=True)
        return
    try:
        with suppress(OSError):  # full: it has enough hints
            os.write(end, b".")
    finally:
        os.close(end)
