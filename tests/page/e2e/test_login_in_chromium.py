"""The page behind a proxy that shows it below a path, on a server that wants a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.e2e.conftest import Server
from tests.support import wait_until

TOKEN = "a-token-of-sixteen-and-more"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("guarded"), prefix="/x/y", token=TOKEN)
    made.start()
    yield made
    made.kill()


def test_a_token_is_given_once_and_everything_works_below_the_prefix(guarded: Server, page: Any) -> None:
    guarded.run("asks", "behind", kind="approval")
    question = guarded.question("behind")
    page.goto(f"{guarded.url}/runs/behind?step=ask")
    page.wait_for_url("**/x/y/login?next=**")
    token = page.get_by_label("Token")
    token.fill("not-the-token-of-it")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    token.fill(TOKEN)
    page.get_by_role("button", name="Log in").click()

    page.wait_for_url("**/x/y/runs/behind?step=ask")
    drawer = page.locator("aside.drawer")
    drawer.get_by_role("button", name="Approve").wait_for()
    assert drawer.get_by_label("Your name").count() == 0, "who answers is known"
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/x/y")
    kept = page.evaluate("JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie])")
    assert TOKEN not in kept + cookie["value"]

    drawer.get_by_role("button", name="Approve").click()
    header = page.locator("header.head .badge").first
    wait_until(lambda: "completed" in header.inner_text(), 60, interval=0.1)
    for view, place in (("Feedback", "feedback"), ("Workers", "workers"), ("Stats", "stats"), ("Runs", "runs")):
        page.get_by_role("navigation", name="Views", exact=True).get_by_role("link", name=view).click()
        page.wait_for_url(f"**/x/y/{place}")
        page.get_by_role("heading", name=view, exact=True).wait_for()
    asked = guarded.call("GET", f"questions/{question}").json()
    assert [(vote["via"], vote["verified"]) for vote in asked["votes"]] == [("page", True)]

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/x/y/login")
    page.goto(f"{guarded.url}/runs")
    page.wait_for_url("**/x/y/login?next=runs")


def test_the_way_in_without_scripts(guarded: Server, browser: Any) -> None:
    guarded.run("asks", "plainly", kind="approval")
    question = guarded.question("plainly")
    context = browser.new_context(java_script_enabled=False)
    try:
        tab = context.new_page()
        tab.goto(f"{guarded.url}/plain/feedback")
        tab.wait_for_url("**/x/y/plain/login")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Log in").click()
        tab.wait_for_url("**/x/y/plain/feedback")
        tab.locator(f"a[href$='{question}']").click()
        tab.get_by_role("button", name="Reject").click()
        tab.get_by_text("rejected").first.wait_for()
        tab.get_by_role("button", name="Log out").click()
        tab.wait_for_url("**/x/y/plain/login")
    finally:
        context.close()
    assert guarded.outputs("asks", "plainly") is False


def test_who_may_only_view_is_told_so_where_something_could_be_started(
    tmp_path_factory: pytest.TempPathFactory, page: Any
) -> None:
    server = Server(tmp_path_factory.mktemp("viewed"), token=TOKEN, role="view")
    server.start()
    try:
        page.goto(f"{server.url}/flows/analysis")
        page.wait_for_url("**/login?next=**")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        for view in ("flows/analysis", "runs"):
            page.goto(f"{server.url}/{view}")
            start = page.locator("button[disabled]", has_text="Start a run")
            start.wait_for()
            assert start.get_attribute("title") == "This login may view and change nothing"
    finally:
        server.kill()
