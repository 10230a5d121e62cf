"""A TCP proxy whose lines can be cut: reset, black hole, delay, another target, replies that never come."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(eq=False)
class _Line:
    """One connection through the proxy."""

    near: socket.socket
    far: socket.socket
    loses_reply: bool = False

    def reset(self) -> None:
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Forwards a port of loopback to another address until it is told otherwise.

    Attributes:
        port: Where it listens.
        lost_replies: Replies that it has swallowed.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.lost_replies = 0
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._never = threading.Event()
        self._refuse = False
        self._delay = 0.0
        self._to_lose = 0
        self._pattern = b""
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Break every connection with a reset and refuse new ones."""
        self._refuse = True
        self._drop_lines()

    def black_hole(self) -> None:
        """Take bytes and pass nothing on, in either direction; connections stay."""
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for a while."""
        self._delay = seconds

    def lose_replies(self, count: int, pattern: bytes) -> None:
        """Pass on the next `count` requests that contain the pattern, and reset their lines instead of the reply."""
        with self._lock:
            self._to_lose, self._pattern = count, pattern

    def lead_to(self, host: str, port: int) -> None:
        """Break every connection; new ones lead to another server."""
        self._target = (host, port)
        self._drop_lines()

    def heal(self) -> None:
        """Forward again, without delay."""
        self._refuse = False
        self._delay = 0.0
        self._open.set()

    def close(self) -> None:
        self._closed = True
        self._open.set()
        self._listener.close()
        self._drop_lines()

    def _drop_lines(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            line.reset()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(near, far)
            with self._lock:
                self._lines.add(line)
            threading.Thread(target=self._pump, args=(line, near, far), daemon=True).start()
            threading.Thread(target=self._pump, args=(line, far, near), daemon=True).start()

    def _pump(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if self._delay:
                    self._never.wait(self._delay)
                if source is line.near:
                    self._mark(line, data)
                elif line.loses_reply:
                    self.lost_replies += 1
                    break
                sink.sendall(data)
        with self._lock:
            self._lines.discard(line)
        line.reset()

    def _mark(self, line: _Line, request: bytes) -> None:
        with self._lock:
            if self._to_lose and self._pattern in request:
                self._to_lose -= 1
                line.loses_reply = True


@contextlib.contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """A proxy for the length of a `with` block."""
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
