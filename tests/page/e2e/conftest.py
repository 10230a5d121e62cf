"""A server of its own for each module, and one Chromium for all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[3]
_AXE = (Path(__file__).parents[1] / "axe.min.js").read_text(encoding="utf-8")
_FINDINGS = "axe.run().then((all) => all.violations.map((each) => `${each.id}: ${each.nodes[0].html}`))"
_SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def _missing(what: str) -> None:
    """A browser that is missing is a failure where all tests have to run, and told everywhere else."""
    if os.environ.get("CI") or os.environ.get("PAGE_TESTS"):
        pytest.fail(f"THE PAGE IS NOT TESTED HERE: {what}")
    pytest.skip(f"THE PAGE IS NOT TESTED HERE: {what}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if os.environ.get("PAGE_TESTS"):
            raise
        pytest.skip("THE PAGE IS NOT TESTED HERE: make page-test installs what it takes")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        _missing("no Chromium (Debian: apt-get install chromium, else name it in CHROMIUM)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=list(_SWITCHES))
        yield found
        found.close()


class Server:
    """`graflow serve` over a store in a folder, on a port that it keeps when it is started again.

    Args:
        folder: Where its store is.
        prefix: The path under which a proxy shows it.
        token: What it wants of whoever asks; nothing when empty.
        role: What the token may do.
        flows: The module of its flows.
        variables: Of its environment, besides those of the tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        prefix: str = "",
        token: str = "",
        role: str = "operate",
        flows: str = "tests.page.flows",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._role = role
        self._flows, self._variables = flows, variables or {}
        self._prefix, self._token = prefix, token
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        self._headers = {"X-Graflow": "1", **bearer}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--flows", self._flows, "--store", f"sqlite:///{self.folder}/flows.db"]
        if self._prefix:
            options += ["--root-path", self._prefix]
        if self._token:
            (self.folder / "tokens").write_text(f"{self._role} {self._token}\n")
            options += ["--token-file", str(self.folder / "tokens")]
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "graflow", "serve", "--port", str(self.port), *options],
                cwd=ROOT,
                env={**os.environ, **self._variables},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, 100, interval=0.1)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "out").read_text()
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def call(self, method: str, path: str, **about: Any) -> httpx.Response:
        """Ask the API for something, as a program with the server's token."""
        return httpx.request(method, f"{self.url}/api/v1/{path}", headers=self._headers, timeout=60, **about)

    def run(self, flow: str, flow_id: str, **inputs: object) -> str:
        """Start a run; returns the address of its page."""
        answer = self.call(
            "POST",
            f"{flow}/execute-async",
            json={"inputs": inputs, "flow_id": flow_id},
        )
        assert answer.status_code in {200, 202}, answer.text
        return f"{self.url}/runs/{flow_id}"

    def question(self, flow_id: str) -> str:
        """The id of the question that a run asks, once it does."""

        def found() -> list[dict[str, str]]:
            listed: list[dict[str, str]] = self.call("GET", "questions", params={"flow": flow_id}).json()["items"]
            return listed

        wait_until(found, 60)
        return found()[0]["id"]

    def outputs(self, flow: str, flow_id: str) -> object:
        """What a run gave, once it has completed."""
        wait_until(lambda: self.status(flow, flow_id) == "completed", 60)
        return self.call("GET", f"{flow}/status/{flow_id}").json()["outputs"]

    def status(self, flow: str, flow_id: str) -> str:
        """The state that the store has of a run."""
        found: str = self.call("GET", f"{flow}/status/{flow_id}").json()["status"]
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("page"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab; whatever the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 860}, timezone_id="Asia/Kolkata")
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(f"{error}"))
    tab.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
    yield tab
    context.close()
    assert not complaints


def found_by_axe(page: Any) -> list[str]:
    """What axe-core complains of; through the protocol, so that the policy of the page stays as it is."""
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": _AXE})
    found = session.send("Runtime.evaluate", {"expression": _FINDINGS, "awaitPromise": True, "returnByValue": True})
    violations: list[str] = found["result"]["value"]
    return violations


def pictured(page: Any, name: str) -> None:
    """Keep a picture for whoever wants to look."""
    if os.environ.get("PAGE_PICTURES"):
        page.screenshot(path=f"{os.environ['PAGE_PICTURES']}/{name}.png")


def _is_complaint(said: Any) -> bool:
    """Errors of scripts and of the policy; that a server was away, or refused something, is a test's own doing."""
    expected = (
        "ERR_CONNECTION",
        "ERR_INCOMPLETE",
        "ERR_EMPTY_RESPONSE",
        "ERR_NETWORK",
        "412 (",
        "409 (",
        "422 (",
        "401 (",
    )
    return said.type == "error" and not any(text in said.text for text in expected)
