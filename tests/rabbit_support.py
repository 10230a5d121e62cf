"""A RabbitMQ of our own, where its program is installed (Debian: rabbitmq-server)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import free_port, wait_until

# The program in PATH changes to a user of its own; the one behind it does not.
PROGRAM = next((found for found in map(shutil.which, ("/usr/lib/rabbitmq/bin/rabbitmq-server",)) if found), None)


class PrivateRabbit:
    """One node with data in a folder of its own, which outlive `kill` and `start`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="graflow-rabbit-"))
        self.port = free_port()
        self._others = {"RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(free_port())}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        assert PROGRAM is not None
        log = self._folder / "out"
        log.unlink(missing_ok=True)
        environment = {
            **os.environ,
            **self._others,
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": f"graflow{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [PROGRAM],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(lambda: b"completed with" in log.read_bytes(), 60, "RabbitMQ starts", interval=0.1)

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def stop(self) -> None:
        self.kill()
        epmd = shutil.which("epmd")
        if epmd is not None:
            # The name server of Erlang stays behind otherwise; this one has a port of its own. It ends when it has seen
            # that its node is gone, and no sooner.
            command = [epmd, "-port", self._others["ERL_EPMD_PORT"], "-kill"]
            wait_until(
                lambda: (
                    b"not allowed" not in subprocess.run(command, check=False, capture_output=True, timeout=10).stdout
                ),
                10,
                "the name server of Erlang ends",
                interval=0.1,
            )
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[PrivateRabbit]:
    """A node for the tests of one module; they are skipped where the program is missing."""
    if PROGRAM is None:
        pytest.skip("RABBITMQ IS NOT TESTED HERE: it is not on this machine (Debian: apt-get install rabbitmq-server)")
    server = PrivateRabbit()
    try:
        server.start()
        yield server
    finally:
        server.stop()
