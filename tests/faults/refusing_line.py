"""A line to a Redis on which commands are refused for a while, as the server would refuse them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import hiredis

from tests.faults.proxy import Proxy, _Line

_FREE = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING", b"INFO"}  # what a connection begins with
_STREAMS = {b"SUBSCRIBE", b"PSUBSCRIBE"}  # what makes one whose answers belong to no request


class _State:
    """What is known of one line: answers that are still to come, and whether they can be counted."""

    def __init__(self) -> None:
        self.left = b""
        self.expected = 0
        self.is_counted = True
        self.answers = hiredis.Reader(notEnoughData=Ellipsis)


class RefusingProxy(Proxy):
    """A proxy that can also answer commands itself, with an error.

    Attributes:
        code: The error that commands get instead of being passed on; None passes all of them on.
        refused: How many were refused.
    """

    def __init__(self, host: str, port: int) -> None:
        self.code: str | None = None
        self.refused = 0
        self._states: dict[_Line, _State] = {}
        super().__init__(host, port)

    def heal(self) -> None:
        self.code = None
        super().heal()

    def _pump(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        with self._lock:
            state = self._states.setdefault(line, _State())
        with contextlib.suppress(OSError, hiredis.ProtocolError):
            while data := source.recv(65536):
                self._open.wait()
                if source is line.near:
                    self._mark(line, data)
                    data = self._passed_on(state, data, source)
                elif line.loses_reply:
                    self.lost_replies += 1
                    break
                elif state.is_counted:
                    state.answers.feed(data)
                    while state.answers.gets() is not Ellipsis:
                        state.expected -= 1
                if data:
                    sink.sendall(data)
        with self._lock:
            self._lines.discard(line)
            self._states.pop(line, None)
        line.reset()

    def _passed_on(self, state: _State, data: bytes, source: socket.socket) -> bytes:
        """What of these requests the server gets; only between answers can another one be put in."""
        commands, state.left = _split(state.left + data)
        code, kept = self.code, []
        for name, text in commands:
            if name in _STREAMS:
                state.is_counted = False
            if code is None or name in _FREE or state.expected or not state.is_counted:
                state.expected += 1
                kept.append(text)
            else:
                self.refused += 1
                source.sendall(f"-{code} refused by a test\r\n".encode())
        return b"".join(kept)


def _split(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Whole commands, each with its name, and what is left of one that is not whole yet."""
    found, begin = [], 0
    while (end := _end_of_command(data, begin)) is not None:
        name = data[begin:end].split(b"\r\n", 3)[2].upper()
        found.append((name, data[begin:end]))
        begin = end
    return found, data[begin:]


def _end_of_command(data: bytes, begin: int) -> int | None:
    at = data.find(b"\r\n", begin)
    if at < 0:
        return None
    parts, at = int(data[begin + 1 : at]), at + 2
    for _ in range(parts):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        at = end + 2 + int(data[at + 1 : end]) + 2
        if at > len(data):
            return None
    return at


@contextlib.contextmanager
def refusing_line_to(host: str, port: int) -> Iterator[RefusingProxy]:
    """Such a proxy for the length of a `with` block."""
    proxy = RefusingProxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
