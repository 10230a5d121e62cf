"""A server on loopback that speaks as much of Redis as a test needs, and refuses what it is told to refuse."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What a connection begins with.
_FREE = {"HELLO": b"%1\r\n+proto\r\n:3\r\n", "PING": b"+PONG\r\n", **dict.fromkeys(("CLIENT", "SELECT"), b"+OK\r\n")}


class RefusingServer(socketserver.ThreadingTCPServer):
    """Answers each command with `answer(name, parts)`, or with an error while there are any to give.

    Attributes:
        errors: Error answers that the next commands get instead, one each, the first first.
        seen: The commands that came, without those that open a connection.
        most: Connections that were open at once.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, answer: Callable[[str, list[bytes]], bytes] = lambda name, parts: b"+OK\r\n") -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.answer = answer
        self.errors: list[str] = []
        self.seen: list[str] = []
        self.open = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"

    def reply(self, parts: list[bytes]) -> bytes:
        name = parts[0].decode().upper()
        if name in _FREE:
            return _FREE[name]
        with self.lock:
            self.seen.append(name)
            error = self.errors.pop(0) if self.errors else None
        return f"-{error}\r\n".encode() if error is not None else self.answer(name, parts)


class _Line(socketserver.StreamRequestHandler):
    server: RefusingServer

    def handle(self) -> None:
        with self.server.lock:
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
        try:
            while head := self.rfile.readline():
                parts = [self._part() for _ in range(int(head[1:]))]
                self.wfile.write(self.server.reply(parts))
        except OSError:
            pass
        finally:
            with self.server.lock:
                self.server.open -= 1

    def _part(self) -> bytes:
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2]


@contextmanager
def refusing_server(**options: Any) -> Iterator[RefusingServer]:
    with RefusingServer(**options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.002}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
