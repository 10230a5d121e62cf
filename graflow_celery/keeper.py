"""The process that keeps the Redis of a `LocalCluster`, and clears up however the program ends, also by SIGKILL.

Run by its path, with an order in JSON as the first line of its input (see `LocalCluster`). It answers with a line when
the server takes connections, and ends when it does not start. Each further line of input is the process id of a
worker, or `end`. It imports nothing but the standard library before that, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

_LOOK: Final = 0.2  # seconds between looks for the program and the server
_WORKERS_END: Final = 12.0  # seconds that workers have after the program is gone; they end by themselves in less
_SERVER_ENDS: Final = 3.0
_STARTS: Final = 10.0  # seconds that the server has until it answers
_BACK_DOOR: Final = "redis.sock"  # in the folder that this process and the server run in, which is this user's alone


class _Watch:
    """The program, as far as it can be seen from here."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._workers: set[int] = set()
        self._hung_up = threading.Event()
        self.was_told = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "end":
                self.was_told = True
                break
            self._workers.add(int(line))
        self._hung_up.set()

    def wait_for_the_end(self, server: subprocess.Popen[bytes] | None) -> None:
        """Return when the program has told so, is gone, or the server is."""
        while not self._hung_up.wait(_LOOK):
            # Children that the program forked hold its end of the pipe open.
            if os.getppid() != self._parent or (server is not None and server.poll() is not None):
                return

    def wait_for_workers(self) -> None:
        end = time.monotonic() + _WORKERS_END
        while time.monotonic() < end and any(_runs(worker) for worker in self._workers):
            time.sleep(_LOOK)


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except OSError:
        return False
    try:
        with open(f"/proc/{process_id}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - nothing but what is needed
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # not on this system
        return True


def _start(order: dict[str, Any]) -> subprocess.Popen[bytes] | None:
    if order["server"] is None:
        return None
    server = subprocess.Popen(  # noqa: S603 - the program looked the server up
        [order["server"], "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=order["folder"],
    )
    # The password goes in over stdin: arguments can be read by every user of the machine.
    if server.stdin is not None:
        with suppress(OSError), server.stdin as stream:
            stream.write(f"{order['configuration']}unixsocket {_BACK_DOOR}\nunixsocketperm 600\n".encode())
    return server


def _has_its_port(server: subprocess.Popen[bytes]) -> bool:
    """Whether the server itself listens, asked over a socket that nobody else can have made, without the password.

    A server that does not get its port ends before it opens that socket. What answers at the port could be anybody.
    """
    end = time.monotonic() + _STARTS
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_STARTS)
            line.connect(_BACK_DOOR)
            line.sendall(b"PING\r\n")
            return line.recv(1) in {b"+", b"-"} and server.poll() is None
        time.sleep(0.01)
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_SERVER_ENDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _remove_keys(order: dict[str, Any]) -> None:
    sys.path[:] = order["path"]
    from graflow.redis.config import create_redis_client  # noqa: PLC0415 - only a Redis that is shared has to be cleaned

    with suppress(OSError, ValueError, RuntimeError), create_redis_client({"url": order["redis"]}) as client:
        for key in client.scan_iter(f"{order['prefix']}:*", count=1000):
            client.unlink(key)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # it ends when its work is done
    order = json.loads(sys.stdin.readline())
    server = _start(order)
    if server is None or _has_its_port(server):
        print("ready", flush=True)  # noqa: T201 - to the program
        watch = _Watch(order["parent"])
        watch.wait_for_the_end(server)
        if not watch.was_told:
            watch.wait_for_workers()
    if server is not None:
        _stop(server)
    else:
        _remove_keys(order)
    shutil.rmtree(order["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
