"""`graflow serve` as a process: where it listens, what it refuses, and that it keeps nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import graflow.cli.serve
import graflow.cli.serving
from graflow.cli.serve import serve
from tests.support import wait_until

ROOT = Path(__file__).parents[2]


class Server:
    """A server that runs.

    Attributes:
        url: Its address.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        first = process.stdout.readline()
        found = re.search(r"at (http://\S+)/$", first.strip())
        assert found, f"{first}{process.stderr.read()}"
        self.url = found[1]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, *options: str, demo: bool = False, **variables: str) -> Iterator[Server]:
    own = ["--store", f"sqlite:///{folder}/flows.db", "--flows", "tests.api.served"]
    process = subprocess.Popen(
        [sys.executable, "-m", "graflow", "serve", "--port", "0", *(["--demo"] if demo else own), *options],
        cwd=ROOT,
        env={**os.environ, **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(100, process.kill)
    watchdog.start()
    try:
        yield Server(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_what_a_killed_server_ran_goes_on_in_the_next(tmp_path: Path) -> None:
    def ran() -> list[str]:
        file = tmp_path / "ran"
        return file.read_text().split() if file.exists() else []

    key = {"Idempotency-Key": "once"}
    body = {"inputs": {"folder": str(tmp_path)}}
    with serving(tmp_path) as first:
        answer = httpx.post(f"{first.url}/api/v1/served/execute-async", json=body, headers=key)
        assert answer.status_code == 202
        wait_until(lambda: ran() == ["first", "hold"], 60)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "go").touch()
    with serving(tmp_path) as second:
        again = httpx.post(f"{second.url}/api/v1/served/execute-async", json=body, headers=key)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        assert again.headers["location"] == answer.headers["location"]
        state = {}

        def is_done() -> bool:
            state.update(httpx.get(second.url + answer.headers["location"]).json())
            return state["status"] == "completed"

        wait_until(is_done, 60)
        assert (state["outputs"], state["epoch"] > 1) == ("held", True)
        assert ran() == ["first", "hold", "hold"]
        assert second.end(signal.SIGINT) == 0
        assert second.process.stderr.read().splitlines()[-1].startswith("Stopped")


def test_a_server_with_tokens_says_no_token(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("view view-0123456789abcdef\n")
    operate = "operate-0123456789abcdef"
    with serving(tmp_path, "--host", "0.0.0.0", "--token-file", str(tokens), GRAFLOW_API_TOKEN=operate) as server:
        assert httpx.get(f"{server.url}/api/v1/flows").status_code == 401
        answer = httpx.get(f"{server.url}/api/v1/flows", headers={"Authorization": f"Bearer {operate}"})
        assert [each["name"] for each in answer.json()["items"]] == ["served"]
        assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert operate not in server.process.stderr.read()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "GRAFLOW_API_TOKEN"),
        (["--host", "example.invalid"], "GRAFLOW_API_TOKEN"),
        (["--token-file", "/nowhere"], "/nowhere"),
        (["--demo", "--on-workers"], "--demo"),
        (["--flows", "no.such.module"], "no.such.module"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(options: list[str], told: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(serve, ["--store", f"sqlite:///{tmp_path}/f.db", *options], env={"GRAFLOW_FLOWS": ""})
    assert found.exit_code == 2
    assert told in found.output


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = CliRunner().invoke(serve, ["--store", f"sqlite:///{tmp_path}/f.db", "--port", port])
    assert found.exit_code == 2
    assert f"Port {port} of 127.0.0.1" in found.output


def test_the_second_part_of_an_answer_waits_for_no_acknowledgement() -> None:
    place = graflow.cli.serving.Place("127.0.0.1", 0, "", ())
    with place.listening(is_any_port_good=False) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graflow.cli.serve, "find_spec", lambda name: None)
    found = CliRunner().invoke(serve, [])
    assert found.exit_code == 2
    assert "pip install 'graflow-celery[api]'" in found.output


@pytest.mark.slow
@pytest.mark.redis
def test_the_demo_runs_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path, demo=True, TMPDIR=str(tmp_path)) as server:

        def is_under_way() -> bool:
            (row,) = httpx.get(f"{server.url}/api/v1/runs").json()["items"]
            assert row["status"] in {"queued", "running", "completed"}, row
            return any(step["step"] == "files" and step["done"] for step in row["now"]) or row["status"] == "completed"

        wait_until(is_under_way, 90)
        assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
    wait_until(lambda: not list(tmp_path.iterdir()), 60)
