"""The page in a real browser: runs are started, seen, repaired, paused, forked and cancelled on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.page.e2e.conftest import Server
from tests.support import wait_until


def state_of(page: Any) -> str:
    return str(page.locator("header.head .badge").first.inner_text()).strip()


def becomes(page: Any, state: str) -> None:
    wait_until(lambda: state in state_of(page), 60, interval=0.1, message=f"{state}, not {state_of(page)}")


def act(page: Any, button: str, confirm: str) -> None:
    """An act with its plan."""
    page.get_by_role("button", name=f"{button}…", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=confirm).click()
    dialog.wait_for(state="hidden")


def test_a_run_is_started_from_the_form_fails_is_looked_into_and_repaired(
    server: Server, page: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Start a run").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("broken").fill(str(broken))
    dialog.get_by_role("button", name="Start").last.click()
    page.wait_for_url("**/runs/*")
    becomes(page, "failed")
    flow_id = page.url.rpartition("/")[2]

    page.goto(f"{page.url}?step=publish")
    drawer = page.locator("aside.drawer")
    drawer.get_by_text("Traceback", exact=True).wait_for()
    assert "page 17 has no text layer <script>" in drawer.inner_text()
    assert page.evaluate("window.stolen") is None, "a message is text"

    broken.unlink()
    act(page, "Retry this step", "Run 1 step again")
    becomes(page, "completed")
    assert server.status("analysis", flow_id) == "completed"


def test_a_run_is_paused_resumed_and_seen_to_its_end_without_a_reload(
    server: Server, page: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    page.goto(server.run("analysis", "paused-1", gate=str(gate)))
    becomes(page, "running")
    act(page, "Pause", "Pause the run")
    gate.touch()
    becomes(page, "paused")
    act(page, "Resume", "Go on")
    becomes(page, "completed")


def test_a_run_is_cancelled_and_another_forked_from_its_beginning(server: Server, page: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    page.goto(server.run("analysis", "cancelled-1", gate=str(gate)))
    becomes(page, "running")
    act(page, "Cancel", "Cancel the run")
    gate.touch()
    becomes(page, "cancelled")
    page.get_by_role("button", name="Fork…", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Start the fork").click()
    page.wait_for_url(lambda url: "cancelled-1" not in url)
    page.get_by_role("link", name=re.compile("^cancelle .* load$")).wait_for()
    becomes(page, "completed")


def test_the_page_finds_a_server_again_that_was_killed(
    browser: Any, page: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    server, gate = Server(tmp_path_factory.mktemp("killed")), tmp_path / "gate"
    server.start()
    try:
        page.goto(server.run("chain", "killed-1", length=3, gate=str(gate)))
        becomes(page, "running")
        page.get_by_role("link", name="Steps").click()
        page.get_by_role("cell", name="wait").wait_for()
        server.kill()
        server.start()
        gate.touch()
        becomes(page, "completed")
        wait_until(lambda: server.status("chain", "killed-1") == "completed", 60)
    finally:
        server.kill()


def test_ten_thousand_members_are_a_table_of_those_in_sight(server: Server, page: Any) -> None:
    page.goto(server.run("pages", "many-1", count=10_000))
    becomes(page, "completed")
    page.goto(f"{page.url}?step=pages&tab=members")
    table = page.get_by_role("table", name="Members")
    table.get_by_text("completed").first.wait_for()
    rows = table.get_by_role("row")
    assert rows.count() <= 80
    page.get_by_placeholder("go to #").fill("9017")
    page.keyboard.press("Enter")
    table.get_by_text("9017").wait_for()
    page.locator("aside.drawer").get_by_role("button", name="failed").click()
    wait_until(lambda: table.get_by_text("completed").count() == 0, 60, interval=0.1)
    wait_until(lambda: table.get_by_text("failed").count() == 10, 60, interval=0.1)


def test_it_is_walked_through_with_the_keyboard(server: Server, page: Any) -> None:
    page.goto(server.run("analysis", "keys-1"))
    becomes(page, "completed")
    page.locator("body").press("s")
    page.wait_for_url("**view=steps**")
    page.locator("body").press("e")
    page.wait_for_url("**view=events**")
    page.locator("body").press("g")
    page.wait_for_url(lambda url: "view=" not in url)
    page.locator("body").press("/")
    assert page.evaluate("document.activeElement.placeholder").startswith("Find a step")
    page.keyboard.type("publish")
    page.keyboard.press("Enter")
    page.wait_for_url("**step=publish**")
